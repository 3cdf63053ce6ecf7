"""Rows of ids -> packs: no padding, each row once, and what rows of a pack begin with computed once.

    rows --best fit--> even groups of at most `size` tokens --> a trie of their ids --> Pack(ids, layout, sources, targets)

Sharing is exact: a segment sees only what it continues, so its hidden states are the same for every row that goes through
it. It is found in the ids: a template's preamble, a system prompt, several answers to one prompt, or all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from pacos.models.attention import Packed, chain_of
from pacos.models.binpack import best_fit, level
from pacos.models.network import Network

PACK_TOKENS = 2048
"""Tokens computed at once; more gain nothing, and cost memory."""
SHORTEST_PREFIX = 4
"""Fewer common tokens than this are not shared: it would cost more than it saves."""

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
    lengths = [len(row.ids) for row in rows]
    return [build_pack([rows[i] for i in group]) for group in level(lengths, best_fit(lengths, size))]


def build_pack(rows: Sequence[Row]) -> Pack:
    """One pack of all the rows. The first token of a row is predicted by nothing, so it is no target."""
    trie = share([row.ids for row in rows])
    wanted = [[at for at in range(1, len(row.ids)) if row.loss_mask[at]] for row in rows]
    places = [trie.places(i) for i in range(len(rows))]
    sources = [place[at - 1] for place, ats in zip(places, wanted, strict=True) for at in ats]
    targets = [row.ids[at] for row, ats in zip(rows, wanted, strict=True) for at in ats]
    return Pack(
        torch.tensor(trie.ids),
        Packed(trie.lengths, trie.parents),
        torch.tensor(sources, dtype=torch.long),
        torch.tensor(targets, dtype=torch.long),
        tuple(len(ats) for ats in wanted),
    )


@dataclass
class Trie:
    """Rows as segments end to end: what several of them begin with is one segment, which the others continue.

    `lengths` and `parents` are those of `Packed`; `starts[i]` is where segment i begins in `ids`, `ends[i]` the last segment
    of row i.
    """

    ids: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)

    def add(self, ids: Ids, parent: int) -> int:
        self.starts.append(len(self.ids))
        self.ids += ids
        self.lengths.append(len(ids))
        self.parents.append(parent)
        return len(self.lengths) - 1

    def segments(self, row: int) -> list[int]:
        """The segments of a row, from its beginning to its end."""
        return chain_of(self.parents, self.ends[row])

    def places(self, row: int) -> list[int]:
        """Where each token of a row lies in `ids`."""
        runs = ((self.starts[i], self.lengths[i]) for i in self.segments(row))
        return [at for start, length in runs for at in range(start, start + length)]


def share(rows: Sequence[Ids]) -> Trie:
    """The rows as a trie. Each keeps at least one token of its own, and order of rows does not matter to what is shared."""
    trie = Trie()
    order = sorted(range(len(rows)), key=lambda i: tuple(rows[i]))
    # (group of rows, from which token on they are to be added, how many tokens are known to be the same, parent); a list of
    # what is left to do, and no recursion, for rows that continue each other may be thousands of levels deep
    left: list[tuple[Sequence[int], int, int, int]] = [(order, 0, 0, -1)]
    while left:
        group, depth, scan, parent = left.pop()
        if len(group) == 1:
            trie.ends[group[0]] = trie.add(rows[group[0]][depth:], parent)
            continue
        common = common_tokens(rows[group[0]], rows[group[-1]], scan)
        if common - depth >= SHORTEST_PREFIX:
            parent, depth = trie.add(rows[group[0]][depth:common], parent), common
        branches = [(branch, depth, common + 1, parent) for branch in _branches(rows, group, common)]
        left += reversed(branches)
    return trie


def _branches(rows: Sequence[Ids], group: Sequence[int], at: int) -> Iterator[list[int]]:
    """Runs of rows with the same token at `at`; a row that ends there is alone."""
    branch: list[int] = []
    for i in group:
        if branch and (rows[branch[-1]][at] != rows[i][at] or at == len(rows[branch[-1]]) - 1):
            yield branch
            branch = []
        branch.append(i)
    yield branch


def common_tokens(first: Ids, last: Ids, known: int = 0) -> int:
    """How many tokens the rows from `first` to `last` in order begin with, all of them; each keeps one of its own.

    What these two begin with, all between them begin with, and none of those is shorter than it or as short.
    """
    limit = min(len(first), len(last)) - 1
    at = min(known, limit)
    while at < limit and first[at] == last[at]:
        at += 1
    return at
