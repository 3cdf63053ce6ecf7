"""How sure a difference is: two models on the same rows, so that what is hard about a row cancels out.

    weights (R, N) @ [base counts | tuned counts] (N, 2K) -> sums (R, 2K) -> base*, tuned*, tuned* - base*

Where all resamples are equal the interval has no width: the rows do not vary, which is not the same as being sure, so
a verdict also asks for `FEWEST_ROWS` rows on which the two models differ; with fewer it is "too few rows", however far
the interval is from zero. Of one row there is no interval, and the verdict is "cannot tell".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from pacos.evaluation.statistics.bootstrap import LEVEL, Interval, resample_sums
from pacos.evaluation.statistics.intervals import resampled_interval

Verdict = Literal["better", "worse", "changed", "no difference shown", "too few rows", "cannot tell"]

FEWEST_ROWS = 6
"""With n rows that differ, the smallest two-sided p of a sign-flip test is 2^(1-n): 5 rows cannot reach 5 %."""


@dataclass(frozen=True)
class Comparison:
    """Two figures, their difference (tuned - base), and the interval of each."""

    base: float
    base_interval: Interval
    tuned: float
    tuned_interval: Interval
    difference: float
    interval: Interval
    rows_that_differ: int


def compare(
    base_counts: np.ndarray,
    tuned_counts: np.ndarray,
    value: Callable[[np.ndarray], np.ndarray],
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
    level: float = LEVEL,
) -> Comparison:
    """Paired bootstrap of one figure. Counts (N, K) each, row i of both of one example; value: (..., K) -> (...).

    Where rows are related, give the sums of each cluster in place of rows (`clusters.cluster_sums`).
    """
    base_counts, tuned_counts = np.asarray(base_counts, float), np.asarray(tuned_counts, float)
    assert base_counts.shape == tuned_counts.shape
    assert base_counts.ndim == 2
    assert len(base_counts)
    both = np.hstack([base_counts, tuned_counts])
    total = both.sum(axis=0)
    point, left_out = _figures(total, value), _figures(_leave_one_out(both, total), value)
    resampled = _figures(resample_sums(both, rng, resamples), value)
    base, tuned, difference = (
        resampled_interval(*column, level=level) for column in zip(point, resampled, left_out, strict=True)
    )
    return Comparison(
        base=float(point[0]),
        base_interval=base,
        tuned=float(point[1]),
        tuned_interval=tuned,
        difference=float(point[2]),
        interval=difference,
        rows_that_differ=int((base_counts != tuned_counts).any(axis=1).sum()),
    )


class Differs(Protocol):
    """What a verdict is told from."""

    @property
    def interval(self) -> Interval: ...
    @property
    def rows_that_differ(self) -> int: ...


def verdict(found: Differs, direction: Literal["higher", "lower", "neither"], p: float = 0.0) -> Verdict:
    """What may be said: a side only where the interval is clear of zero, enough rows differ, and the p of the permutation
    test is small. Give it corrected where several are told at once."""
    low, high = found.interval
    if not found.interval.told:
        return "cannot tell"
    if low <= 0 <= high:
        return "no difference shown"
    if found.rows_that_differ < FEWEST_ROWS:
        return "too few rows"
    if p > 1 - LEVEL:
        return "no difference shown"
    if direction == "neither":
        return "changed"
    return "better" if (low > 0) == (direction == "higher") else "worse"


def _figures(sums: np.ndarray, value: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Sums (..., 2K) of both models side by side -> (3, ...): base, tuned, tuned - base."""
    half = sums.shape[-1] // 2
    base, tuned = value(sums[..., :half]), value(sums[..., half:])
    return np.stack([base, tuned, tuned - base])


def _leave_one_out(counts: np.ndarray, total: np.ndarray) -> np.ndarray:
    return total - counts if len(counts) > 1 else counts
