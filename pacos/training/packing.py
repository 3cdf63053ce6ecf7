"""Rows -> packs: no padding, each row once, the tokens that all rows begin with computed once.

    batch of rows --first fit, longest first--> groups of at most `pack_tokens` --> Pack(ids, layout, targets)

Sharing is exact: no row sees another, and the prefix sees only itself, so its hidden states are the same for all of them.
A prefix ends before the last token that any row predicts its first target from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pacos.models.attention import Packed
from pacos.prompts import Rendered

SHORTEST_PREFIX = 4
"""Below this many common tokens, sharing costs more than it saves."""


@dataclass(frozen=True)
class Pack:
    """Several rows in one sequence of T tokens. Hidden state `sources[i]` predicts token `targets[i]`; N targets carry loss."""

    ids: Tensor
    positions: Tensor
    layout: Packed
    sources: Tensor
    targets: Tensor

    @property
    def num_tokens(self) -> int:
        return len(self.ids)

    @property
    def num_targets(self) -> int:
        return len(self.targets)


def make_packs(rows: Sequence[Rendered], pack_tokens: int) -> list[Pack]:
    """Packs that hold each row exactly once; a row longer than `pack_tokens` gets one of its own."""
    return [build_pack([rows[i] for i in group]) for group in group_rows([len(row.ids) for row in rows], pack_tokens)]


def group_rows(lengths: Sequence[int], pack_tokens: int) -> list[list[int]]:
    """First fit, longest first: indices of the rows of each pack."""
    groups: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        place = next((g for g, free in enumerate(room) if free >= lengths[i]), None)
        if place is None:
            groups.append([])
            room.append(pack_tokens)
            place = len(groups) - 1
        groups[place].append(i)
        room[place] -= lengths[i]
    return groups


def build_pack(rows: Sequence[Rendered]) -> Pack:
    prefix = shared_prefix(rows)
    ids = list(rows[0].ids[:prefix])
    sources: list[int] = []
    targets: list[int] = []
    for row in rows:
        shift = len(ids) - prefix
        wanted = [at for at in range(1, len(row.ids)) if row.loss_mask[at]]
        sources += [at - 1 + shift for at in wanted]
        targets += [row.ids[at] for at in wanted]
        ids += row.ids[prefix:]
    layout = Packed([len(row.ids) - prefix for row in rows], prefix)
    return Pack(torch.tensor(ids), layout.positions(), layout, torch.tensor(sources), torch.tensor(targets))


def shared_prefix(rows: Sequence[Rendered]) -> int:
    """How many tokens all rows begin with, short of the token that predicts any row's first target."""
    if len(rows) < 2:
        return 0
    limit = min(first_target(row) for row in rows) - 1
    first, last = min(row.ids for row in rows), max(row.ids for row in rows)
    common = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    common = min(common, limit)
    return common if common >= SHORTEST_PREFIX else 0


def first_target(row: Rendered) -> int:
    """Position of the first token that carries loss; the row's length where none does."""
    return next((at for at in range(1, len(row.ids)) if row.loss_mask[at]), len(row.ids))


def num_targets(row: Rendered) -> int:
    """Tokens of the row that carry loss. The first token of a row is predicted by nothing."""
    return sum(row.loss_mask[1:])


def epoch_order(num_rows: int, seed: int, epoch: int) -> list[int]:
    """The order of the rows in one epoch: a permutation that depends on seed and epoch alone."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(num_rows, generator=generator).tolist()


def steps_per_epoch(num_rows: int, batch_size: int) -> int:
    return -(-num_rows // batch_size)


def batch_of_step(step: int, num_rows: int, batch_size: int, seed: int) -> list[int]:
    """Indices of the rows of optimizer step `step`, counted from 0 over all epochs. Each epoch covers each row once."""
    epoch, place = divmod(step, steps_per_epoch(num_rows, batch_size))
    return epoch_order(num_rows, seed, epoch)[place * batch_size : (place + 1) * batch_size]


def longest_batch(lengths: Sequence[int], batch_size: int, seed: int, steps: int) -> list[int]:
    """Among the batches of a run, the one that holds the most tokens in its longest row, then in all."""
    batches: Iterator[list[int]] = (batch_of_step(s, len(lengths), batch_size, seed) for s in range(steps))
    return max(batches, key=lambda batch: (max(lengths[i] for i in batch), sum(lengths[i] for i in batch)))
