"""Texts as numbers, in the forms in which `rouge.py` compares them quickly.

    words        the  cat  saw  the  dog
    sequence      0    1    2    0    3       order counts: for the longest common subsequence
    marks         0    1    2    3    4       a word with its how-manieth: the second "the" is another mark than the first,
                                              so what two sets of marks share is what two bags of words share
    signature    64 bits, one a mark, joined by xor: two texts differ in at least as many marks as bits

`Column` is a numpy array that grows at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CODE_POINTS = 0x110000
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: its multiples have their top bits evenly spread (Knuth 3, 6.4)
ONES = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8)).reshape(-1, 16).sum(axis=1, dtype=np.uint8)

WordSequence = str | tuple[int, ...]


def pack(numbers: Sequence[int]) -> WordSequence:
    """Word numbers as one string, which rapidfuzz reads three times as fast; past the last code point as they are."""
    return "".join(map(chr, numbers)) if max(numbers, default=0) < CODE_POINTS else tuple(numbers)


@dataclass(frozen=True, slots=True)
class Marked:
    """One text as numbers."""

    sequence: WordSequence
    marks: list[int]
    signature: int


class Marker:
    """Turns words into numbers, and remembers those it has seen: equal words have equal numbers."""

    def __init__(self) -> None:
        self._words: dict[str, int] = {}
        self._marks: dict[tuple[int, int], int] = {}

    def mark(self, words: Sequence[str]) -> Marked:
        numbers = [self._words.setdefault(word, len(self._words)) for word in words]
        times: dict[int, int] = {}
        marks, signature = [], 0
        for word in numbers:
            times[word] = time = times.get(word, 0) + 1
            mark = self._marks.setdefault((word, time), len(self._marks))
            marks.append(mark)
            signature ^= 1 << (mark * GOLDEN >> 58 & 63)
        return Marked(pack(numbers), marks, signature)


def count_ones(bits: np.ndarray) -> np.ndarray:
    """How many bits are set. (N,) uint64 -> (N,) uint8; numpy 2 has it as `bitwise_count`."""
    quarters = ONES.take(bits.view(np.uint16))
    halves = quarters[::2] + quarters[1::2]
    return halves[::2] + halves[1::2]


class Column:
    """Numbers, one after the other: `values` are those appended so far."""

    def __init__(self, dtype: type):
        self._room: np.ndarray = np.zeros(1024, dtype)
        self._size = 0

    @property
    def values(self) -> np.ndarray:
        return self._room[: self._size]

    def append(self, value: int) -> None:
        if self._size == len(self._room):
            self._room = np.concatenate([self._room, np.zeros_like(self._room)])
        self._room[self._size] = value
        self._size += 1
