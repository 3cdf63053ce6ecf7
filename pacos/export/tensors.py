"""Tensors in safetensors files, one at a time: read by name, written in shards, never the whole model in memory.

    files = TensorFiles(folder)          names, shapes and dtypes from the headers
    files.read(name) -> Tensor           its bytes alone, read, not mapped: what is read counts once
    write_shards(folder, plan, read)     the header first, then each tensor as `read` gives it

So a merge of a 7B model holds one matrix and its update.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from pacos.errors import DataError
from pacos.models.identity import INDEX, SINGLE, weight_files

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
CODES = {dtype: code for code, dtype in DTYPES.items()}
SHARD_BYTES = 5_000_000_000


@dataclass(frozen=True)
class Slot:
    """A tensor that is there, or is to be written."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


class Weights(Protocol):
    """Named tensors, in the order of their files."""

    slots: dict[str, Slot]

    def read(self, name: str) -> Tensor: ...


class TensorFiles:
    """The tensors of a model's folder. Raises UsageError (no safetensors) or DataError (not whole)."""

    def __init__(self, folder: Path, files: Sequence[Path] = ()):
        self.folder = folder
        self.slots: dict[str, Slot] = {}
        self._places: dict[str, tuple[Path, int]] = {}
        for path in files or weight_files(folder):
            self._add(path)

    def _add(self, path: Path) -> None:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entries = json.loads(file.read(length))
        entries.pop("__metadata__", None)
        unknown = [f"{path.name}: {name} is {e['dtype']}" for name, e in entries.items() if e["dtype"] not in DTYPES]
        if unknown:
            raise DataError(f"{self.folder}: tensors of kinds that are not read here ({', '.join(DTYPES)})", unknown)
        for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
            self.slots[name] = Slot(name, DTYPES[entry["dtype"]], tuple(entry["shape"]))
            self._places[name] = (path, 8 + length + entry["data_offsets"][0])

    def read(self, name: str) -> Tensor:
        return self._at(name, 0, self.slots[name].shape)

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Rows [start, stop) of a tensor, without reading the others."""
        slot = self.slots[name]
        size = slot.nbytes // max(1, slot.shape[0])
        return self._at(name, start * size, (stop - start, *slot.shape[1:]))

    def _at(self, name: str, offset: int, shape: tuple[int, ...]) -> Tensor:
        path, start = self._places[name]
        tensor = torch.empty(shape, dtype=self.slots[name].dtype)
        with path.open("rb") as file:
            file.seek(start + offset)
            if tensor.numel() and file.readinto(raw(tensor)) < tensor.nbytes:
                raise DataError(f"{path}: cut short: {name} is not whole; get the file again")
        return tensor


def write_shards(
    folder: Path, plan: Iterable[Slot], read: Callable[[str], Tensor], shard_bytes: int = SHARD_BYTES
) -> list[Path]:
    """Write each planned tensor as `read` gives it, into one file or several with an index. Returns the files."""
    shards = _divided(list(plan), shard_bytes)
    names = [SINGLE] if len(shards) == 1 else [_shard_name(i, len(shards)) for i in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        _write_file(folder / name, shard, read)
    if len(shards) > 1:
        where = {slot.name: name for name, shard in zip(names, shards, strict=True) for slot in shard}
        total = sum(slot.nbytes for shard in shards for slot in shard)
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return [folder / name for name in names]


def _shard_name(index: int, count: int) -> str:
    return f"model-{index + 1:05}-of-{count:05}.safetensors"


def _divided(slots: list[Slot], shard_bytes: int) -> list[list[Slot]]:
    shards: list[list[Slot]] = [[]]
    for slot in slots:
        if shards[-1] and sum(s.nbytes for s in shards[-1]) + slot.nbytes > shard_bytes:
            shards.append([])
        shards[-1].append(slot)
    return shards


def _write_file(path: Path, slots: Sequence[Slot], read: Callable[[str], Tensor]) -> None:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for slot in slots:
        shape, span = list(slot.shape), [at, at + slot.nbytes]
        entries[slot.name] = {"dtype": CODES[slot.dtype], "shape": shape, "data_offsets": span}
        at += slot.nbytes
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for slot in slots:
            tensor = read(slot.name)
            assert (tensor.dtype, tuple(tensor.shape)) == (slot.dtype, slot.shape), slot.name
            file.write(raw(tensor))


def raw(tensor: Tensor) -> Any:
    """A tensor's bytes, in the order of its elements."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def tensors_sha256(weights: Weights, read: Callable[[str], Tensor] | None = None) -> str:
    """One hash over every tensor's name, kind, shape and bytes, however they are divided into files."""
    whole = hashlib.sha256()
    for name in sorted(weights.slots):
        slot = weights.slots[name]
        whole.update(f"{name} {CODES[slot.dtype]} {list(slot.shape)}\n".encode())
        whole.update(raw((read or weights.read)(name)))
    return whole.hexdigest()
