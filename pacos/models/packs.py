"""Rows of ids -> packs: no padding, each row once, the tokens that a pack's rows begin with computed once.

    rows --first fit, longest first--> groups of at most `size` tokens --> Pack(ids, layout, sources, targets)

Sharing is exact: no row sees another, and the prefix sees only itself, so its hidden states are the same for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pacos.models.attention import Packed
from pacos.models.network import Network

PACK_TOKENS = 2048
"""Tokens computed at once; more gain nothing, and cost memory."""
SHORTEST_PREFIX = 4
"""Below this many common tokens, sharing costs more than it saves."""

Ids = Sequence[int]


class Row(Protocol):
    """Token ids, and which of them carry loss; `prompts.Rendered` is one."""

    @property
    def ids(self) -> Ids: ...
    @property
    def loss_mask(self) -> Sequence[bool]: ...


@dataclass(frozen=True)
class Pack:
    """Several rows in one sequence of T tokens. Hidden state `sources[i]` predicts token `targets[i]`, N in all.

    `counts` says how many of the targets belong to each row, in the order of the rows.
    """

    ids: Tensor
    layout: Packed
    sources: Tensor
    targets: Tensor
    counts: tuple[int, ...]

    @property
    def num_tokens(self) -> int:
        return len(self.ids)

    @property
    def num_targets(self) -> int:
        return len(self.targets)

    def hidden(self, network: Network) -> Tensor:
        """The hidden states that predict the targets, (N, C)."""
        positions = self.layout.positions()[None].to(network.device)
        return network.hidden(self.ids[None].to(network.device), positions, self.layout)[
            0, self.sources.to(network.device)
        ]


def make_packs(rows: Sequence[Row], size: int = PACK_TOKENS) -> list[Pack]:
    """Packs that hold each row exactly once; a row longer than `size` gets one of its own."""
    return [build_pack([rows[i] for i in group]) for group in first_fit([len(row.ids) for row in rows], size)]


def build_pack(rows: Sequence[Row]) -> Pack:
    """One pack of all the rows. The first token of a row is predicted by nothing, so it is no target."""
    everything = [row.ids for row in rows]
    prefix = shared_prefix(everything)
    ids, shifts = join(everything, prefix)
    wanted = [[at for at in range(1, len(row.ids)) if row.loss_mask[at]] for row in rows]
    # the token before place `at` lies in the prefix, or in the row's own part behind it
    sources = [
        at - 1 + (shift if at > prefix else 0) for shift, places in zip(shifts, wanted, strict=True) for at in places
    ]
    targets = [row.ids[at] for row, places in zip(rows, wanted, strict=True) for at in places]
    return Pack(
        torch.tensor(ids),
        Packed([len(row.ids) - prefix for row in rows], prefix),
        torch.tensor(sources, dtype=torch.long),
        torch.tensor(targets, dtype=torch.long),
        tuple(len(places) for places in wanted),
    )


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
