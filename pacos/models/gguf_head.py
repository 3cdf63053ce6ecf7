"""The head of a GGUF file: its metadata and what tensors follow, without the tensors.

    "GGUF"  version u32  tensors u64  pairs u64
    pairs   key, type u32, value        a string is u64 length + UTF-8; an array is type u32, count u64, elements
    tensors name, dims u32, dims x u64, type u32, offset u64

The gguf package reads this too, one numpy view an element: seconds for a vocabulary, where this takes a tenth of one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pacos.errors import DataError

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
MOST = 1 << 24
DENSE = {0: "F32", 1: "F16", 28: "F64"}


@dataclass(frozen=True)
class Head:
    """`values` has scalars and strings by key, and for an array its number of elements."""

    values: dict[str, Any]
    tensors: tuple[tuple[str, tuple[int, ...], str], ...]
    """Name, dimensions and type (F32, F16, F64, or `packed` for the rest: bf16 and the quantized ones)."""

    @property
    def has_dense_matrices(self) -> bool:
        """Whether bf16 would lose digits: some matrix is kept in F16 or wider."""
        return any(len(shape) > 1 and kind != "packed" for _, shape, kind in self.tensors)


def read_head(path: Path) -> Head:
    """Raises DataError where the file is no GGUF of version 2 or 3, or ends too early."""
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise DataError(f"{path}: not a GGUF file")
            version = _scalar(file, "I")
            if version not in (2, 3):
                raise DataError(f"{path}: GGUF version {version} is not supported; supported: 2, 3")
            num_tensors, num_pairs = _count(file), _count(file)
            values = dict(_pair(file) for _ in range(num_pairs))
            return Head(values, tuple(_tensor(file) for _ in range(num_tensors)))
    except (struct.error, ValueError, KeyError):
        raise DataError(f"{path}: cut short or damaged: its head cannot be read; get the file again") from None


def _scalar(file: BinaryIO, code: str) -> Any:
    return struct.unpack(f"<{code}", file.read(struct.calcsize(f"<{code}")))[0]


def _count(file: BinaryIO) -> int:
    count = _scalar(file, "Q")
    if count > MOST:
        raise ValueError(count)
    return count


def _string(file: BinaryIO) -> str:
    length = _count(file)
    data = file.read(length)
    if len(data) < length:
        raise ValueError(length)
    return data.decode("utf-8", "replace")


def _pair(file: BinaryIO) -> tuple[str, Any]:
    return _string(file), _value(file, _scalar(file, "I"))


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == STRING:
        return _string(file)
    if kind != ARRAY:
        return _scalar(file, SCALARS[kind])
    element, count = _scalar(file, "I"), _count(file)
    if element in SCALARS:
        file.seek(count * struct.calcsize(f"<{SCALARS[element]}"), 1)
    else:
        for _ in range(count):
            _value(file, element)
    return count


def _tensor(file: BinaryIO) -> tuple[str, tuple[int, ...], str]:
    name = _string(file)
    shape = tuple(_scalar(file, "Q") for _ in range(_scalar(file, "I")))
    kind = DENSE.get(_scalar(file, "I"), "packed")
    _scalar(file, "Q")
    return name, shape, kind
