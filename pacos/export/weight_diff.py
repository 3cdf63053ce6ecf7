"""A tuned model as its difference to a base, and back, bit for bit: for licences that forbid sharing the weights.

Stanford released Alpaca so, as differences of floats, which rounding keeps from coming back exactly. Here the bits are
taken as whole numbers:   diff = tuned - base   and   tuned = diff + base   (mod 2^16, or 2^32)

Where the base has fewer rows (an embedding that grew), the missing ones count as zero; a tensor that the base does not
have is kept as it is. `diff.json` has the hash of the base and one over every tensor of the tuned model: recovery that
does not give the same is refused.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pacos.errors import DataError, GateError, UsageError
from pacos.export.card import export_card
from pacos.export.folder import new_folder
from pacos.export.origin import EXPORT, read_export
from pacos.export.tensors import SHARD_BYTES, Slot, TensorFiles, tensors_sha256, write_shards
from pacos.models.artifact import MANIFEST, verify
from pacos.models.identity import INDEX
from pacos.models.source import resolve

FILE = "diff.json"
WHOLE = {2: torch.int16, 4: torch.int32, 8: torch.int64, 1: torch.uint8}
"""Bytes of an element -> the whole numbers that its bits are taken as."""


def write_diff(tuned: Path, base: str, out: Path, shard_bytes: int = SHARD_BYTES) -> dict[str, Any]:
    """Write the difference of a tuned folder to its base. Returns diff.json. Raises UserError, nothing kept."""
    if not tuned.is_dir():
        raise UsageError(f"{tuned}: no such folder; give a merged model: pacos export merge RUN")
    source, model = TensorFiles(resolve(base).folder), TensorFiles(tuned)
    shared = [name for name in model.slots if _comparable(name, model, source)]
    if not shared:
        raise UsageError(f"{base}: shares no tensor with {tuned}; it is not its base")
    with new_folder(out) as draft:
        plan = [Slot(n, WHOLE[s.dtype.itemsize] if n in shared else s.dtype, s.shape) for n, s in model.slots.items()]
        write_shards(draft, plan, lambda name: _apart(name, model, source, shared), shard_bytes)
        _copy_rest(tuned, draft)
        _write_card(draft, "diff")
        tree = {
            "format": 1,
            "base": base,
            "base_sha256": tensors_sha256(source),
            "tuned_sha256": tensors_sha256(model),
            "dtypes": {name: str(slot.dtype).removeprefix("torch.") for name, slot in model.slots.items()},
            "whole": sorted(set(model.slots) - set(shared)),
        }
        (draft / FILE).write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
        if tensors_sha256(_Sum(draft, tree, source)) != tree["tuned_sha256"]:
            raise GateError(f"{out}: the difference does not give the model back; nothing was kept")
    return tree


def recover(diff: Path, base: str, out: Path, shard_bytes: int = SHARD_BYTES) -> dict[str, Any]:
    """Make the tuned model from a difference and its base. Raises GateError for another base or other bits."""
    tree = read_diff(diff)
    name = base or str(tree["base"])
    source = TensorFiles(resolve(name).folder)
    if (found := tensors_sha256(source)) != tree["base_sha256"]:
        raise GateError(
            f"{name}: not the base of this difference (sha256 {found[:16]} here, {str(tree['base_sha256'])[:16]} there)"
        )
    with new_folder(out) as draft:
        both = _Sum(diff, tree, source)
        write_shards(draft, both.slots.values(), both.read, shard_bytes)
        _copy_rest(diff, draft)
        _write_card(draft, "merged")
        if (found := tensors_sha256(TensorFiles(draft))) != tree["tuned_sha256"]:
            raise GateError(f"{out}: sha256 {found[:16]}, not {str(tree['tuned_sha256'])[:16]}; nothing was kept")
    return tree


def read_diff(folder: Path) -> dict[str, Any]:
    """diff.json of a folder that is whole. Raises UsageError, DataError."""
    path = folder / FILE
    if not path.is_file():
        raise UsageError(f"{folder}: no weight difference here ({FILE} is missing)")
    verify(folder)
    try:
        tree = dict(json.loads(path.read_text(encoding="utf-8")))
        for key in ("base", "base_sha256", "tuned_sha256", "dtypes", "whole"):
            tree[key]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a difference that this version reads: {error}") from None
    return tree


def _comparable(name: str, model: TensorFiles, base: TensorFiles) -> bool:
    """A tensor that the base has too: of the same width, with at most as many rows."""
    mine, theirs = model.slots[name], base.slots.get(name)
    if theirs is None or mine.dtype.itemsize not in WHOLE or len(mine.shape) != len(theirs.shape) or not mine.shape:
        return False
    return mine.shape[1:] == theirs.shape[1:] and mine.shape[0] >= theirs.shape[0]


def _bits(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.uint8 else tensor.view(WHOLE[tensor.dtype.itemsize])


def _of_base(name: str, slot: Slot, dtype: torch.dtype, base: TensorFiles) -> Tensor:
    """The base's tensor as bits, in the model's kind, filled up with zeros."""
    bits = _bits(base.read(name).to(dtype))
    missing = slot.shape[0] - bits.shape[0]
    return torch.cat([bits, bits.new_zeros(missing, *bits.shape[1:])]) if missing else bits


def _apart(name: str, model: TensorFiles, base: TensorFiles, shared: list[str]) -> Tensor:
    tensor = model.read(name)
    if name not in shared:
        return tensor
    return _bits(tensor) - _of_base(name, model.slots[name], tensor.dtype, base)


class _Sum:
    """Base and difference added: the tuned model's weights, read one by one."""

    def __init__(self, folder: Path, tree: dict[str, Any], base: TensorFiles):
        self._diff, self._base, self._whole = TensorFiles(folder), base, set(tree["whole"])
        self.slots = {
            name: Slot(name, getattr(torch, tree["dtypes"][name]), slot.shape)
            for name, slot in self._diff.slots.items()
        }

    def read(self, name: str) -> Tensor:
        part, slot = self._diff.read(name), self.slots[name]
        if name in self._whole:
            return part
        bits = part + _of_base(name, slot, slot.dtype, self._base)
        return bits if slot.dtype == torch.uint8 else bits.view(slot.dtype)


def _write_card(folder: Path, kind: str) -> None:
    """The card of a model that was exported here, as what it is now."""
    if (folder / EXPORT).is_file():
        (folder / "README.md").write_text(export_card(read_export(folder) | {"kind": kind}), encoding="utf-8")


def _copy_rest(source: Path, target: Path) -> None:
    """Everything but the weights: config, tokenizer, card."""
    for path in sorted(source.iterdir()):
        if path.is_file() and path.suffix != ".safetensors" and path.name not in (INDEX, MANIFEST, FILE):
            shutil.copyfile(path, target / path.name)
