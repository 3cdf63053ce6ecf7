"""Rendered rows: one, and many of them in a compact table.

    ids     3 9 4 2 | 3 7 2 | ...      int32, all rows behind one another
    mask    . . x x | . x x | ...      bool, the tokens that carry loss
    starts  0         4       7 ...    row i is [starts[i], starts[i + 1])

Alpaca's 5.8 million tokens take 30 MB so; as Python tuples they take 300. A table is a sequence of `Rendered`, each made
when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import overload

import numpy as np


@dataclass(frozen=True, slots=True)
class Rendered:
    """Token ids of a row, and which of them carry loss: the answers and the stop token behind each."""

    ids: tuple[int, ...]
    loss_mask: tuple[bool, ...]
    cut: int = 0
    """Tokens removed from the end to keep within max_length; the stop token is still last."""
    fits: bool = True
    """False where max_length leaves no room for a token of the answer and its stop; ids are then whole."""


@dataclass(frozen=True, eq=False)
class RowTable(Sequence[Rendered]):
    """N rows of T tokens in all. Arrays: ids and mask (T,), starts (N + 1,), cut and fits (N,)."""

    ids: np.ndarray
    mask: np.ndarray
    starts: np.ndarray
    cut: np.ndarray
    fits: np.ndarray

    def __len__(self) -> int:
        return len(self.cut)

    @overload
    def __getitem__(self, at: int) -> Rendered: ...
    @overload
    def __getitem__(self, at: slice) -> RowTable: ...
    def __getitem__(self, at: int | slice) -> Rendered | RowTable:
        if isinstance(at, slice):
            return self.take(np.arange(len(self))[at])
        row = range(len(self))[at]
        part = slice(self.starts[row], self.starts[row + 1])
        ids, mask = self.ids[part].tolist(), self.mask[part].tolist()
        return Rendered(tuple(ids), tuple(mask), int(self.cut[row]), bool(self.fits[row]))

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, (N,)."""
        return np.diff(self.starts)

    @property
    def num_targets(self) -> np.ndarray:
        """Tokens of each row that carry loss, (N,). The first token of a row is predicted by nothing."""
        before = np.concatenate([[0], np.cumsum(self.mask, dtype=np.int64)])
        behind_first = np.minimum(self.starts[:-1] + 1, self.starts[1:])
        return before[self.starts[1:]] - before[behind_first]

    def take(self, rows: np.ndarray) -> RowTable:
        """The rows at these places, in this order."""
        lengths, cut, fits = self.lengths[rows], self.cut[rows], self.fits[rows]
        starts = starts_of(lengths)
        at = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], lengths)
        return RowTable(self.ids[at], self.mask[at], starts, cut, fits)


def starts_of(lengths: np.ndarray) -> np.ndarray:
    """Where each row starts, and at last where all end, (N + 1,)."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def lengths_of(rows: Sequence[Rendered]) -> list[int]:
    """Tokens of each row."""
    return rows.lengths.tolist() if isinstance(rows, RowTable) else [len(row.ids) for row in rows]


def table_of(rows: Sequence[Rendered]) -> RowTable:
    """The rows in a table; `list(table_of(rows)) == rows`."""
    return RowTable(
        np.fromiter((id for row in rows for id in row.ids), dtype=np.int32),
        np.fromiter((loss for row in rows for loss in row.loss_mask), dtype=np.bool_),
        starts_of(np.fromiter((len(row.ids) for row in rows), dtype=np.int64)),
        np.fromiter((row.cut for row in rows), dtype=np.int32),
        np.fromiter((row.fits for row in rows), dtype=np.bool_),
    )


def join_tables(tables: Iterable[RowTable]) -> RowTable:
    """All rows of the tables, in order."""
    parts = [table_of([]), *tables]
    joined = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(RowTable)}
    lengths = np.concatenate([part.lengths for part in parts])
    return RowTable(**(joined | {"starts": starts_of(lengths)}))
