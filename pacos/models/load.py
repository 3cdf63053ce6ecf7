"""A base model by whatever names it: hub id, folder, GGUF file, or a name that pacos knows.

    load_tokenizer(name)   -> the fast tokenizer, with exactly the pipeline of its tokenizer.json
    load_model(name, ...)  -> LoadedModel   frozen, in eval mode, plain or in NF4
    load_shape(name, ...)  -> the same model without its weights, to count and plan with

safetensors alone, no pickle, no code from the model's repository. What is missing or broken in the files is said before
anything is loaded; weights that the checkpoint does not fill, or that the model has no place for, are errors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from pacos.errors import DataError, ResourceError, UsageError, is_out_of_memory
from pacos.models.catalog import Progress, cache_folder
from pacos.models.host_memory import give_back_memory, off_file, trim
from pacos.models.identity import ModelIdentity, weight_files, weights_sha256
from pacos.models.quantize import SKIP, bitsandbytes, count_parameters, quantized_linears, steady
from pacos.models.quiet import quiet
from pacos.models.source import Source, resolve, tokenizer_of

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
LEFT_OVER = re.compile(r"rotary_emb\.inv_freq$|\.attn\.(masked_)?bias$")
"""Tensors that older checkpoints carry and that models compute today."""


@dataclass(frozen=True)
class LoadedModel:
    """A frozen model in eval mode, and how to know it again. `compute_dtype` is that of its activations."""

    model: Any
    tokenizer: Any
    identity: ModelIdentity
    compute_dtype: torch.dtype
    device: torch.device


def load_model(
    name: str,
    *,
    revision: str = "",
    dtype: str = "auto",
    device: str = "auto",
    quantization: str = "none",
    double_quant: bool = True,
    progress: Progress | None = None,
) -> LoadedModel:
    """Load a base. `dtype` auto, bf16, fp32; `device` auto, cpu, cuda, cuda:N; `quantization` none, nf4 (not the head).

    Raises UsageError (no such model, asked wrongly), DataError (broken files), ResourceError (out of memory or disk).
    """
    place = pick_device(device)
    compute_dtype = pick_dtype(dtype, place)
    if quantization not in ("none", "nf4"):
        raise UsageError(f"quantization '{quantization}' is not known; known: none, nf4")
    source = resolve(name, revision, progress=progress)
    files = weight_files(source.folder)
    config = read_config(source)
    if quantization == "nf4" and place.type == "cpu":
        give_back_memory()
    with _explained(source):
        nf4 = nf4_config(double_quant, compute_dtype, head_of(config)) if quantization == "nf4" else None
        model = _from_files(source, config, compute_dtype, place, nf4)
    if nf4 is not None and place.type == "cpu":
        off_file(p for p in model.parameters() if p.is_floating_point())
    trim()
    for linear in quantized_linears(model).values():
        steady(linear)
    identity = ModelIdentity(
        name=name,
        revision=source.revision,
        weights_sha256=weights_sha256(files, cache_folder() / "hashes.json"),
        architecture=type(model).__name__,
        num_parameters=count_parameters(model),
    )
    return LoadedModel(model.eval().requires_grad_(False), tokenizer_of(source), identity, compute_dtype, place)


def load_tokenizer(name: str, revision: str = "", *, progress: Progress | None = None) -> Any:
    """The fast tokenizer of a model, or of any folder that holds tokenizer files. The weights are not downloaded."""
    return tokenizer_of(resolve(name, revision, weights=False, progress=progress))


def load_shape(name: str, revision: str = "", dtype: str = "auto", device: str = "auto") -> tuple[Any, int]:
    """The model without its weights, on the meta device, and the bytes that one of them would take."""
    from transformers import AutoModelForCausalLM

    source = resolve(name, revision, weights=False)
    kind = pick_dtype(dtype, pick_device(device))
    config = read_config(source)
    with _explained(source), quiet(), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=kind), kind.itemsize


def pick_device(device: str) -> torch.device:
    """Raises UsageError where there is no such device on this machine."""
    refuse_unknown_device(device)
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    place = torch.device(device)
    count = torch.cuda.device_count()
    if place.type == "cuda" and (place.index or 0) >= count:
        found = f"{count} CUDA device{'s'[: count != 1]}"
        raise UsageError(f"model.device: '{device}' is not there; PyTorch sees {found} on this machine")
    return place


def refuse_unknown_device(device: str) -> None:
    """Raises UsageError for what is no device's name on any machine."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UsageError(f"model.device: '{device}' is not known; known: auto, cpu, cuda, cuda:N")


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """auto is bf16 where the machine multiplies it natively; elsewhere it is emulated, far slower than fp32."""
    if dtype == "auto":
        return torch.bfloat16 if has_native_bf16(device) else torch.float32
    if dtype not in DTYPES:
        raise UsageError(f"model.dtype: '{dtype}' is not known; known: auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def has_native_bf16(device: torch.device) -> bool:
    """CUDA from Ampere on; CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def read_config(source: Source) -> Any:
    """The transformers config of a folder. Raises UsageError for what is no causal language model that is known."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as KNOWN

    tree = read_config_json(source)
    kind = tree.get("model_type")
    if tree.get("is_encoder_decoder"):
        raise UsageError(f"{source.name}: model type '{kind}' is an encoder-decoder; pacos trains decoders alone")
    if kind not in KNOWN:
        own = "it brings its own code, which pacos never runs, and " if "auto_map" in tree else ""
        raise UsageError(f"{source.name}: {own}model type '{kind}' is not a language model that transformers knows")
    if "quantization_config" in tree:
        method = dict(tree["quantization_config"] or {}).get("quant_method", "unknown")
        raise UsageError(f"{source.name}: its weights are already quantized ({method}); take the unquantized model")
    with _explained(source), quiet():
        return AutoConfig.from_pretrained(source.folder, local_files_only=True, trust_remote_code=False)


def read_config_json(source: Source) -> dict[str, Any]:
    path = source.folder / "config.json"
    if not path.is_file():
        adapter = (source.folder / "adapter_config.json").is_file()
        what = (
            "holds an adapter, not a base model; name its base, or use --adapter-path"
            if adapter
            else "has no config.json"
        )
        raise UsageError(f"{source.name}: {what}")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(tree, dict):
        raise DataError(f"{path}: not a model's config: a JSON object is expected")
    return tree


def head_of(config: Any) -> str:
    """The name of a family's head, which is not always lm_head (RWKV: head, BioGPT: output_projection)."""
    from transformers import AutoModelForCausalLM

    with quiet(), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    return next((name for name, module in model.named_modules() if module is head), SKIP[0])


def nf4_config(double_quant: bool, compute_dtype: torch.dtype, head: str) -> Any:
    """transformers quantizes each tensor as it comes from the file, so the whole is never in memory at 16 bits."""
    from transformers import BitsAndBytesConfig

    bitsandbytes()
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=double_quant,
        bnb_4bit_compute_dtype=compute_dtype,
        llm_int8_skip_modules=[*SKIP, head],
    )


def _from_files(source: Source, config: Any, dtype: torch.dtype, device: torch.device, nf4: Any) -> Any:
    from transformers import AutoModelForCausalLM

    placed = {"device_map": {"": device}} if nf4 is not None or device.type != "cpu" else {}
    with quiet():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source.folder,
            config=config,
            dtype=dtype,
            quantization_config=nf4,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below, all of them
            **placed,
        )
    model, told = loaded
    if problems := list(_misfits(told)):
        raise DataError(f"{source.folder}: its weights do not fit its config.json", problems)
    return model


def _misfits(told: dict[str, Any]) -> Iterator[str]:
    """Weights that would be random, of another shape, or dropped, a line each."""
    yield from (f"{name} is not in the files" for name in sorted(told["missing_keys"]))
    for name, found, wanted in sorted(told["mismatched_keys"], key=str):
        yield f"{name} is {list(found)} in the files, {list(wanted)} by config.json"
    unused = sorted(name for name in told["unexpected_keys"] if not LEFT_OVER.search(name))
    yield from (f"{name} is in the files, and the model has no place for it" for name in unused)
    yield from (" ".join(str(message).split()) for message in told.get("error_msgs", ()))


@contextmanager
def _explained(source: Source) -> Iterator[None]:
    """What transformers and torch raise while loading, as something to mend."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        raise ResourceError(_too_large(source)) from None
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise ResourceError(_too_large(source)) from None
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{source.name}: cannot be loaded: {' '.join(str(error).split())[:300]}") from None


def _too_large(source: Source) -> str:
    return (
        f"{source.name}: does not fit in memory; use method qlora (4-bit weights), a smaller base, or a larger machine"
    )
