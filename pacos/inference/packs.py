"""Rows of ids -> packs: no padding, each row once, the tokens that a pack's rows begin with computed once."""

from __future__ import annotations

from collections.abc import Sequence

PACK_TOKENS = 2048
"""Tokens computed at once; more gain nothing, and cost memory."""
SHORTEST_PREFIX = 4
"""Below this many common tokens, sharing costs more than it saves."""

Ids = Sequence[int]


def first_fit(lengths: Sequence[int], size: int = PACK_TOKENS) -> list[list[int]]:
    """Indices of the rows of each pack, longest first; a row longer than `size` gets a pack of its own."""
    packs: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        place = next((p for p, free in enumerate(room) if free >= lengths[i]), len(packs))
        if place == len(packs):
            packs.append([])
            room.append(size)
        packs[place].append(i)
        room[place] -= lengths[i]
    return packs


def shared_prefix(rows: Sequence[Ids]) -> int:
    """How many tokens all rows begin with, where sharing them pays; each row keeps at least one token of its own."""
    if len(rows) < 2:
        return 0
    # what the first and the last in order begin with, all between them begin with
    first, last = min(rows, key=tuple), max(rows, key=tuple)
    common = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    common = min(common, min(map(len, rows)) - 1)
    return common if common >= SHORTEST_PREFIX else 0


def join(rows: Sequence[Ids], prefix: int) -> tuple[list[int], list[int]]:
    """The ids of a pack, and for each row how far its own tokens lie behind their places in the row."""
    ids = list(rows[0][:prefix])
    shifts = []
    for row in rows:
        shifts.append(len(ids) - prefix)
        ids += row[prefix:]
    return ids, shifts
