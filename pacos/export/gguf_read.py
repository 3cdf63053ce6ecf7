"""A GGUF file read back: what its head says, each tensor as the model's own, and the whole as a model to run.

Running goes through transformers' reader and pacos' own (models/read_gguf.py); what neither takes from the metadata, the
soft caps and windows, is added to the config, so that the model that runs is the one that the file describes.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pacos.errors import DataError, UserError
from pacos.export.gguf_metadata import config_facts
from pacos.export.gguf_names import Names, ordered
from pacos.export.gguf_rope import rope_facts
from pacos.export.gguf_write import CONTRACT
from pacos.export.tensors import Slot
from pacos.export.updates import Merged
from pacos.models.gguf_head import Head, read_head
from pacos.models.load import load_model
from pacos.models.network import Network
from pacos.models.read_gguf import convert_gguf
from pacos.models.source import Source, tokenizer_of
from pacos.prompts import Renderer
from pacos.prompts.contract import differing_probes
from pacos.prompts.templates import template_from_tree

PHI3_KEEPS = ("<unk>", "<s>", "<|endoftext|>")


@contextmanager
def as_model(path: Path) -> Iterator[tuple[Network, Any]]:
    """The file as a network and a tokenizer, converted beside it, or in /tmp, for as long as the block lasts."""
    head = read_head(path)
    beside = path.parent if os.access(path.parent, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix=".gguf-", dir=beside) as folder:
        _convert(path, head, Path(folder))
        _cut_as_llama_cpp(head, Path(folder) / "tokenizer.json")
        tokenizer = tokenizer_of(Source(path.name, Path(folder)))
        yield Network(load_model(folder, dtype="fp32").model), tokenizer


def _convert(path: Path, head: Head, folder: Path) -> None:
    """As `convert_gguf`; a full disk is an OSError here too, where safetensors has an error of its own."""
    from safetensors import SafetensorError

    try:
        tensors = GgufTensors(path)
        facts = config_facts(head.values) | rope_facts(head.values, tensors.names, tensors.read)
        convert_gguf(path, folder, config=facts, exact=True)
    except SafetensorError as error:
        if "os error 28" in str(error):
            raise OSError(errno.ENOSPC, str(error)) from None
        raise


def _cut_as_llama_cpp(head: Head, path: Path) -> None:
    """What llama.cpp does with text and GGUF has no place for, put into the tokenizer.json that transformers' reader made.

    A SentencePiece vocabulary with `add_space_prefix` gets a space before every text, behind control tokens too; control
    tokens of a file that calls itself phi-3 swallow the white space behind them.
    """
    tree = json.loads(path.read_text(encoding="utf-8"))
    if head.values.get("tokenizer.ggml.model") == "llama" and head.values.get("tokenizer.ggml.add_space_prefix", True):
        space = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
        tree["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, space]}
        tree["pre_tokenizer"] = None
    name = str(head.values.get("general.name", "")).lower()
    if "phi-3" in name or "phi3" in name:
        for token in tree["added_tokens"]:
            token["rstrip"] = token["content"] not in PHI3_KEEPS
    path.write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")


def contract_in(head: Head) -> dict[str, Any] | None:
    """The template contract that the file carries, where pacos wrote it."""
    text = head.values.get(CONTRACT)
    try:
        return dict(json.loads(text)) if isinstance(text, str) else None
    except ValueError:
        raise DataError(f"{CONTRACT}: not valid JSON; the file is damaged") from None


def probes_that_differ(contract: Mapping[str, Any], tokenizer: Any) -> list[str]:
    """Names of the probe conversations that the file's tokenizer renders to other ids than the contract's."""
    renderer = Renderer(tokenizer, template_from_tree(dict(contract["template"])), contract["system"])
    return differing_probes(contract, renderer)


class GgufTensors:
    """The tensors of a file, each dequantized when it is read; `slots` as they are then."""

    def __init__(self, path: Path):
        try:
            import gguf
        except ImportError:
            raise UserError(f"{path}: GGUF files need the gguf package: pip install gguf") from None
        try:
            self._reader = gguf.GGUFReader(path)
        except (ValueError, IndexError, KeyError) as error:
            raise DataError(f"{path}: cut short or damaged: {error}; get the file again") from None
        self._dequantize = gguf.quants.dequantize
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self.slots = {
            name: Slot(name, torch.float32, tuple(int(n) for n in reversed(tensor.shape)))
            for name, tensor in self._tensors.items()
        }

    @property
    def names(self) -> list[str]:
        return ordered(list(self._tensors))

    def type(self, name: str) -> str:
        return str(self._tensors[name].tensor_type.name)

    def read(self, name: str) -> Tensor:
        """In fp32, in GGUF's order of rows."""
        tensor = self._tensors[name]
        return torch.from_numpy(np.array(self._dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))


ALLOWED = {
    "F32": 0.0,
    "F16": 2**-10,
    "BF16": 2**-7,
    "Q8_0": 0.012,
    "Q6_K": 0.05,
    "Q5_1": 0.06,
    "Q5_0": 0.08,
    "Q5_K": 0.08,
    "Q4_1": 0.12,
    "Q4_0": 0.16,
    "Q4_K": 0.16,
    "Q3_K": 0.30,
    "Q2_K": 0.60,
}
"""How far a tensor may be from what was quantized, as a share of its norm, by type."""


def first_difference(path: Path, config: Mapping[str, Any], weights: Merged) -> str:
    """The first tensor that is further from the model's than its type explains; else the one that is furthest."""
    names, read = Names(config), GgufTensors(path)
    sources = {gguf_name: source for source, gguf_name in names.all(weights.slots).items()}
    furthest, most = "", 0.0
    for name in ordered(list(sources)):
        if name not in read.names:
            return f"{name} is missing"
        off = distance(names.to_gguf(name, weights.exact(sources[name]).float()), read.read(name))
        if not off <= ALLOWED.get(read.type(name), 1.0):
            return f"{name} ({read.type(name)}), by {off:.2%} of its norm"
        if off > most:
            furthest, most = name, off
    return f"none beyond its type; {furthest} most, by {most:.2%} of its norm" if furthest else "none"


def distance(expected: Tensor, found: Tensor) -> float:
    """|found - expected| as a share of |expected|; infinite where the shapes differ."""
    if expected.shape != found.shape:
        return float("inf")
    return float((found - expected).norm() / expected.norm().clamp_min(1e-12))
