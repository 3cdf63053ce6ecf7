"""Which rows an optimizer step takes: a function of the rows' lengths, the seed and the step, so a resumed run takes the same.

batch_size      epoch's rows --shuffled, cut--------------> a step is one group of so many rows
batch_tokens    epoch's rows --best fit--> packs, shuffled > a step is as many full packs as hold so many tokens
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pacos.models.binpack import best_fit, fill

Group = list[int]
"""Indices of rows that are packed together."""
EPOCHS_LOOKED_AT = 10
"""Among which the longest batch is sought: each epoch holds every row, so later ones differ in its neighbours alone."""


def epoch_order(number: int, seed: int, epoch: int) -> list[int]:
    """The order of rows (or packs) in one epoch: a permutation that depends on seed and epoch alone."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(number, generator=generator).tolist()


class Batches:
    """The batches of a run. `lengths` of its rows in tokens; `batch_tokens` 0 takes `batch_size` rows a step.

    Each epoch holds each row exactly once. Only the epoch at hand is kept.
    """

    def __init__(self, lengths: Sequence[int], *, batch_size: int, batch_tokens: int, pack_tokens: int, seed: int):
        self.lengths = lengths
        self.batch_size, self.pack_tokens, self.seed = batch_size, pack_tokens, seed
        self.packs_per_step = batch_tokens // pack_tokens
        self._epoch = 0
        self._groups = self._draw(0)
        # the same in every epoch: the order of equal lengths changes, how many packs they need does not
        self.steps_per_epoch = -(-len(self._groups) // (self.packs_per_step or 1))

    def of_step(self, step: int) -> list[Group]:
        """The groups of optimizer step `step`, counted from 0 over all epochs. A group of `batch_size` rows may need
        several packs, one of `batch_tokens` is one pack."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._groups = epoch, self._draw(epoch)
        each = self.packs_per_step or 1
        return self._groups[place * each : (place + 1) * each]

    def longest(self, steps: int) -> list[Group]:
        """Among the first `steps` batches, of ten epochs at most, the one with the most tokens in its longest row, then in
        all; longest first."""
        looked_at = min(steps, EPOCHS_LOOKED_AT * self.steps_per_epoch)
        groups = max((self.of_step(step) for step in range(looked_at)), key=self._weight)
        return sorted(groups, key=lambda group: self._weight([group]), reverse=True)

    @property
    def fill(self) -> float:
        """Share of the room of an epoch's packs that rows take. The rest is no padding: it is not computed."""
        packs = [
            [group[place] for place in pack]
            for group in self._groups
            for pack in best_fit([self.lengths[i] for i in group], self.pack_tokens)
        ]
        return fill(self.lengths, packs, self.pack_tokens)

    def _draw(self, epoch: int) -> list[Group]:
        order = epoch_order(len(self.lengths), self.seed, epoch)
        if not self.packs_per_step:
            return [order[at : at + self.batch_size] for at in range(0, len(order), self.batch_size)]
        packs = best_fit([self.lengths[i] for i in order], self.pack_tokens)
        return [[order[place] for place in packs[i]] for i in epoch_order(len(packs), self.seed, epoch)]

    def _weight(self, groups: Sequence[Group]) -> tuple[int, int]:
        lengths = [self.lengths[i] for group in groups for i in group]
        return max(lengths), sum(lengths)
