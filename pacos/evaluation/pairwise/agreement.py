"""Do raters agree with each other, and with themselves, by more than chance?

    kappa = (agreement - agreement by chance) / (1 - agreement by chance)

Cohen's for two raters (Cohen 1960), Fleiss's for all of them on the questions that all have answered (Fleiss 1971). The
categories are: the one is better, a tie (both bad among them), the other is better. Intervals are bootstrapped over prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from pacos.evaluation.pairwise.records import Ballot
from pacos.evaluation.statistics import (
    Interval,
    cluster_sums,
    resample_sums,
    resampled_interval,
    wilson,
)

Key = tuple[int, int, int]
"""A prompt and a pair of contestants."""


@dataclass(frozen=True)
class Agreement:
    """`share` of `num_items` on which all of `raters` say the same. `kappa` is None where everyone always says one thing."""

    raters: tuple[str, ...]
    kind: str
    num_items: int
    share: float
    kappa: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Consistency:
    """How often a rater says the same again: of `repeats` with sides swapped, or of a judge's two orders."""

    rater: str
    kind: str
    num_items: int
    same: int
    interval: Interval


def category(score: float) -> int:
    """0 lost, 1 tie, 2 won."""
    return int(np.sign(score - 0.5)) + 1


def agreements(said: Mapping[str, Mapping[Key, float]], *, rng: np.random.Generator, resamples: int) -> list[Agreement]:
    """Cohen's kappa of every two raters that share a question, and Fleiss's of all where they are more than two."""
    found = []
    for pair in combinations(said, 2):
        keys = sorted(said[pair[0]].keys() & said[pair[1]].keys())
        if keys:
            table = np.array([[category(said[rater][key]) for rater in pair] for key in keys])
            found.append(_agreement(pair, "Cohen", table, keys, cohen_counts(table), cohen, rng, resamples))
    keys = sorted(set.intersection(*(set(each) for each in said.values()))) if len(said) > 2 else []
    if keys:
        table = np.array([[category(each[key]) for each in said.values()] for key in keys])
        counts, raters = fleiss_counts(table), len(said)
        found.append(
            _agreement(tuple(said), "Fleiss", table, keys, counts, lambda s: fleiss(s, raters), rng, resamples)
        )
    return found


def consistencies(ballots: Sequence[Ballot], judges: Sequence[str]) -> list[Consistency]:
    """Of every rater that was asked something twice."""
    found = []
    for rater in dict.fromkeys(ballot.rater for ballot in ballots):
        twice: dict[Key, list[float]] = {}
        for ballot in ballots:
            if ballot.rater == rater and ballot.score is not None and ballot.choice != "same":
                twice.setdefault((ballot.item, *ballot.pair), []).append(ballot.score)
        pairs = [scores for scores in twice.values() if len(scores) > 1]
        if pairs:
            same = sum(category(first) == category(second) for first, second, *_ in pairs)
            kind = "both orders" if rater in judges else "hidden repeats"
            found.append(Consistency(rater, kind, len(pairs), same, wilson(same, len(pairs))))
    return found


def cohen_counts(table: np.ndarray) -> np.ndarray:
    """Categories (N, 2) -> (N, 9): which cell of the 3 x 3 table each item falls into."""
    return np.eye(9)[table[:, 0] * 3 + table[:, 1]]


def cohen(sums: np.ndarray) -> np.ndarray:
    """Kappa of summed cells (..., 9); not a number where chance agrees wholly."""
    cells = sums.reshape(*sums.shape[:-1], 3, 3)
    total = cells.sum(axis=(-2, -1))
    seen = np.trace(cells, axis1=-2, axis2=-1) / total
    chance = (cells.sum(axis=-1) * cells.sum(axis=-2)).sum(axis=-1) / total**2
    return _kappa(seen, chance)


def fleiss_counts(table: np.ndarray) -> np.ndarray:
    """Categories (N, raters) -> (N, 5): raters for each category, the sum of their squares, 1."""
    each = np.stack([(table == c).sum(axis=1) for c in range(3)], axis=1)
    return np.column_stack([each, (each**2).sum(axis=1), np.ones(len(table))])


def fleiss(sums: np.ndarray, raters: int) -> np.ndarray:
    """Kappa of summed counts (..., 5) as `fleiss_counts` makes them."""
    items = sums[..., 4]
    seen = (sums[..., 3] - items * raters) / (items * raters * (raters - 1))
    chance = ((sums[..., :3] / (items * raters)[..., None]) ** 2).sum(axis=-1)
    return _kappa(seen, chance)


def _kappa(seen: np.ndarray, chance: np.ndarray) -> np.ndarray:
    room = 1 - chance
    return np.where(room > 1e-12, (seen - chance) / np.where(room > 1e-12, room, 1), np.nan)


def _agreement(
    raters: tuple[str, ...],
    kind: str,
    table: np.ndarray,
    keys: Sequence[Key],
    counts: np.ndarray,
    value: Callable[[np.ndarray], np.ndarray],
    rng: np.random.Generator,
    resamples: int,
) -> Agreement:
    sums = cluster_sums(counts, [str(key[0]) for key in keys])
    figure = float(value(sums.sum(axis=0)))
    share = float((table == table[:, :1]).all(axis=1).mean())
    if np.isnan(figure) or len(sums) < 2:
        return Agreement(raters, kind, len(keys), share, None if np.isnan(figure) else figure, None)
    # In a resample in which everyone says one thing, nothing beyond chance can be seen: 0.
    resampled = np.nan_to_num(value(resample_sums(sums, rng, resamples)))
    left_out = np.nan_to_num(value(sums.sum(axis=0) - sums))
    interval = resampled_interval(figure, resampled, left_out)
    return Agreement(raters, kind, len(keys), share, figure, interval)
