"""A GGUF file as a model folder: weights dequantized once into safetensors, config and tokenizer from its metadata.

transformers knows the architectures and their tensors. How text is cut before merging it knows for some families only;
others get llama.cpp's rule here, or are refused, because a wrong cut gives other ids without a word.

    llama.cpp 'smollm': each digit alone, then GPT-2's pattern      "\\n\\n1." -> ĊĊ 1 .   not   Ċ Ċ 1 .
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from pacos.errors import DataError, UserError
from pacos.models.gguf_head import Head, read_head

EACH_DIGIT = ("smollm", "starcoder", "refact", "command-r", "codeshell")
"""Pre-tokenizers of llama.cpp that split digits off one by one."""
AS_GPT2 = ("gpt-2", "phi-2", "olmo", "jais", "mpt", "roberta-bpe")
NO_FACT_OF_THE_MODEL = ("_name_or_path", "_model_name_or_path", "unk_token_id")
NO_FACT_OF_THE_TOKENIZER = ("backend", "is_local", "local_files_only", "name_or_path")


def convert_gguf(
    path: Path, folder: Path, *, config: Mapping[str, Any] | None = None, exact: bool = False, progress: Any = None
) -> None:
    """Write `path` as a model folder: bf16 safetensors, or fp32 where it has matrices in F16 or F32, or `exact` asks.

    Raises DataError.

    `config` overrides what the metadata says; its `model_max_length` goes to the tokenizer.
    """
    from pacos.models.quiet import quiet

    tell = progress or (lambda *_: None)
    head, extra = read_head(path), dict(config or {})
    try:
        with quiet(), redirect_stderr(io.StringIO()), _read_once():  # its bar asks nobody
            tell("reading the vocabulary", 0, 0)
            _write_tokenizer(path, head, folder, extra.pop("model_max_length", None))
            tell("dequantizing", 0, 0)
            _write_model(path, head.has_dense_matrices or exact, folder, extra)
    except ImportError:
        raise UserError(f"{path}: GGUF files need the gguf package: pip install gguf") from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: this GGUF file cannot be read: {reason}; give the model's folder or hub id") from None


@contextmanager
def _read_once() -> Iterator[None]:
    """transformers parses the file for each of its questions, and gguf's table of names for each module: once will do."""
    import gguf

    plain = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    for name, function in plain.items():
        setattr(gguf, name, functools.cache(function))
    try:
        yield
    finally:
        for name, function in plain.items():
            setattr(gguf, name, function)


def _write_tokenizer(path: Path, head: Head, folder: Path, max_length: int | None) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    _set_cut(tokenizer, path, head)
    if max_length:
        tokenizer.model_max_length = max_length
    tokenizer.save_pretrained(folder)
    # The class that every version of transformers has, for a tokenizer that is nothing but its tokenizer.json.
    _edit(folder / "tokenizer_config.json", NO_FACT_OF_THE_TOKENIZER, {"tokenizer_class": "PreTrainedTokenizerFast"})


def _set_cut(tokenizer: Any, path: Path, head: Head) -> None:
    """Give a byte-level vocabulary the cut that it was trained with. Raises UserError where that is not known."""
    from tokenizers import pre_tokenizers

    cut = head.values.get("tokenizer.ggml.pre", "default")
    if head.values.get("tokenizer.ggml.model") != "gpt2":
        return
    if cut in EACH_DIGIT:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    elif cut not in AS_GPT2 and "Split" not in repr(tokenizer.backend_tokenizer.pre_tokenizer):
        raise UserError(
            f"{path}: how its tokenizer cuts text ('{cut}') is not known here; give the model's folder or hub id"
        )


def _write_model(path: Path, in_fp32: bool, folder: Path, overrides: Mapping[str, Any]) -> None:
    import torch
    import transformers

    # Newer versions keep the blocks packed unless told not to; older ones know nothing else.
    unpacked = (
        {"quantization_config": transformers.GgufConfig(dequantize=True)} if hasattr(transformers, "GgufConfig") else {}
    )
    loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        dtype=torch.float32 if in_fp32 else torch.bfloat16,
        output_loading_info=True,
        **unpacked,
    )
    model, told = loaded
    if told["missing_keys"]:
        raise ValueError(f"it lacks {', '.join(sorted(told['missing_keys'])[:3])}")
    model.config.update(dict(overrides))
    model.save_pretrained(folder)
    _edit(folder / "config.json", NO_FACT_OF_THE_MODEL, {})


def _edit(path: Path, drop: Sequence[str], put: Mapping[str, Any]) -> None:
    """Leave keys out of a JSON file, and set others: the same model should give the same folder anywhere."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    kept = {key: value for key, value in tree.items() if key not in drop} | dict(put)
    path.write_text(json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
