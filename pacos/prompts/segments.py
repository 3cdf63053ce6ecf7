"""Segments of a row -> the row: joined, with its mask, and cut to the length that is wanted.

prompt segment | answer segment (loss) | stop (loss) | prompt segment | answer ...
                                                     ^ a row may end here, behind a stop, or a token before one
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pacos.prompts.table import Rendered, RowTable, join_tables, table_of


class Segment(NamedTuple):
    """A stretch of a row: token ids where they are known, else text to encode."""

    text: str
    prefixed: bool
    """Encoded as at a start, where SentencePiece puts a space."""
    loss: bool = False
    ids: list[int] | None = None


class Chunk(NamedTuple):
    """Text of a form between two control tokens, encoded at once; slots are written `%(user)s`."""

    text: str
    prefixed: bool

    def filled(self, values: dict[str, str]) -> Segment:
        """Its slots filled: the text in them stays text, whatever it says."""
        return Segment(self.text % values, self.prefixed)


def join(segments: Sequence[Segment], ids: Sequence[list[int]]) -> tuple[tuple[int, ...], tuple[bool, ...], list[int]]:
    """Ids and mask of a row, and where each answer ends, its stop included."""
    joined: list[int] = []
    mask: list[bool] = []
    ends: list[int] = []
    for segment, part in zip(segments, ids, strict=True):
        joined += part
        mask += [segment.loss] * len(part)
        if segment.loss and segment.ids:
            ends.append(len(joined))
    return tuple(joined), tuple(mask), ends


def table_from(encoded: Sequence[tuple[Sequence[Segment], Sequence[list[int]]]]) -> RowTable:
    """The whole rows, uncut."""
    ids: list[int] = []
    sizes: list[int] = []
    starts = [0]
    for _, parts in encoded:
        for part in parts:
            ids += part
            sizes.append(len(part))
        starts.append(len(ids))
    loss = np.array([segment.loss for segments, _ in encoded for segment in segments], dtype=np.bool_)
    rows = len(encoded)
    return RowTable(
        np.array(ids, dtype=np.int32),
        np.repeat(loss, sizes),
        np.array(starts, dtype=np.int64),
        np.zeros(rows, dtype=np.int32),
        np.ones(rows, dtype=np.bool_),
    )


def replaced(table: RowTable, others: dict[int, Rendered]) -> RowTable:
    """The table with other rows in these places, which ascend."""
    if not others:
        return table
    pieces, at = [], 0
    for place, row in others.items():
        pieces += [table[at:place], table_of([row])]
        at = place + 1
    return join_tables([*pieces, table[at:]])


def cut_to(ids: tuple[int, ...], mask: tuple[bool, ...], ends: list[int], max_length: int) -> Rendered:
    """The row within max_length: later turns that have no room go, the last answer left is cut, its stop is kept."""
    for end in reversed(ends):
        if end <= max_length:
            return Rendered(ids[:end], mask[:end], cut=len(ids) - end)
        # ids[max_length - 2] in the answer: at least one token of it stays before the stop
        if max_length >= 2 and all(mask[max_length - 2 : end]):
            kept = (*ids[: max_length - 1], ids[end - 1])
            return Rendered(kept, (*mask[: max_length - 1], True), cut=len(ids) - max_length)
    return Rendered(ids, mask, cut=len(ids) - max_length, fits=False)
