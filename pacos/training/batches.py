"""Which rows an optimizer step takes: a function of seed and step alone, so that a resumed run takes the same ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from pacos.models.packs import Row


def num_targets(row: Row) -> int:
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
