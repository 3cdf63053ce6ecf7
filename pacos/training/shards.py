"""Tensors of a checkpoint in files by process, to be read by any number of processes.

    weights.safetensors                                      whole: written by one process
    weights-0-of-2.safetensors  weights-1-of-2.safetensors   by two: each holds its rows of every divided tensor

FSDP cuts along the first dimension into equal runs of rows, the last one shorter or empty. Process r of N therefore wants
rows [a, b) of a tensor, and takes them from whichever files hold them, reading no more. torch.distributed.checkpoint would
do the same, with a pickle among its files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

Shape = list[int]
Rows = tuple[int, int]
"""[start, stop) along the first dimension."""


def part_name(stem: str, part: int, parts: int) -> str:
    return f"{stem}.safetensors" if parts == 1 else f"{stem}-{part}-of-{parts}.safetensors"


def rows_of(num_rows: int, part: int, parts: int) -> Rows:
    """The rows that one of `parts` processes holds, as torch.chunk cuts them."""
    each = -(-num_rows // parts)
    return min(part * each, num_rows), min((part + 1) * each, num_rows)


class Parts:
    """The files of one `stem` in a checkpoint folder. `shapes`: the whole shape of each tensor that is divided, by name."""

    def __init__(self, folder: Path, stem: str, parts: int, shapes: Mapping[str, Shape]):
        from safetensors import safe_open

        self.files = [safe_open(folder / part_name(stem, i, parts), framework="pt") for i in range(parts)]
        self.shapes = shapes

    def read(self, wanted: Callable[[str, Shape], Rows | None], own: int = 0) -> dict[str, Tensor]:
        """Every tensor by name: the rows `wanted(name, whole shape)` of it, all where that is None. What was kept by each
        process for itself is taken from file `own`."""
        names = sorted(self.files[own].keys())
        return {name: self._read_one(name, wanted, own) for name in names}

    def _read_one(self, name: str, wanted: Callable[[str, Shape], Rows | None], own: int) -> Tensor:
        divided = name in self.shapes
        whole = self.shapes[name] if divided else self.files[own].get_slice(name).get_shape()
        rows = wanted(name, whole)
        if not divided and rows is None:
            return self.files[own].get_tensor(name)
        start, stop = rows or (0, whole[0])
        files = self.files if divided else [self.files[own]]
        pieces = []
        for i, file in enumerate(files):
            first, last = rows_of(whole[0], i, len(files))
            low = min(max(start, first), last)
            pieces.append(file.get_slice(name)[low - first : max(low, min(stop, last)) - first])
        return torch.cat(pieces)
