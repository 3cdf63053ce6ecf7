"""How sure a difference is: the paired bootstrap, for any figure that is a function of summed row counts.

Rows are drawn with replacement, the same rows for both models, so what is hard about a row cancels out:

    weights (R, N) @ [base counts | tuned counts] (N, 2K) -> sums (R, 2K) -> base*, tuned*, tuned* - base*

Intervals are BCa (Efron 1987, "Better bootstrap confidence intervals"): the percentiles of the resampled figures, moved
for bias z0 (where the figure itself stands among them) and for skew a (from the jackknife: each row left out once),
taken at a level a little above the stated one, as Student's t is wider than the normal (`expanded_level`; Hesterberg
2015, "What Teachers Should Know About the Bootstrap"): percentiles alone are too narrow with few rows.
Where all resamples are equal the interval has no width: the rows do not vary, which is not the same as being sure, so
a verdict also asks for `FEWEST_ROWS` rows on which the two models differ; with fewer it is "too few rows", however far
the interval is from zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Literal, NamedTuple, Protocol

import numpy as np

from pacos.evaluation.statistics.student import t_quantile

Verdict = Literal["better", "worse", "changed", "no difference shown", "too few rows"]

LEVEL = 0.95
FEWEST_ROWS = 6
"""With n rows that differ, the smallest two-sided p of a sign-flip test is 2^(1-n): 5 rows cannot reach 5 %."""
CHUNK_NUMBERS = 4_000_000  # weights held at once: 32 MB

_NORMAL = NormalDist()


class Interval(NamedTuple):
    low: float
    high: float


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
        bca_interval(*column, level=expanded_level(level, len(both)))
        for column in zip(point, resampled, left_out, strict=True)
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


def expanded_level(level: float, rows: int) -> float:
    """The level at which percentiles of `rows` rows are as wide as a t interval at `level`."""
    if rows < 2:
        return level
    wider = sqrt(rows / (rows - 1)) * t_quantile((1 + level) / 2, rows - 1)
    return min(2 * _NORMAL.cdf(wider) - 1, 1 - 1e-9)  # two rows: t is so wide that all resamples are in


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
    if low <= 0 <= high:
        return "no difference shown"
    if found.rows_that_differ < FEWEST_ROWS:
        return "too few rows"
    if p > 1 - LEVEL:
        return "no difference shown"
    if direction == "neither":
        return "changed"
    return "better" if (low > 0) == (direction == "higher") else "worse"


def resample_sums(counts: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """Column sums of `resamples` draws of N rows out of N, with replacement. (N, K) -> (R, K)."""
    size = len(counts)
    return np.concatenate([_weights(rng, many, size) @ counts for many in _chunks(resamples, size)])


def bca_interval(figure: float, resampled: np.ndarray, left_out: np.ndarray, *, level: float = LEVEL) -> Interval:
    """BCa interval of a figure from its resamples (R,) and its jackknife values (N,). No width where nothing varies."""
    spread = np.ptp(resampled)
    if not spread > 1e-12 * max(1.0, abs(figure)):  # rounding apart, every resample is the same
        return Interval(float(figure), float(figure))
    bias, skew = _bias(figure, resampled), _skew(left_out)
    low, high = (_moved_share((1 + sign * level) / 2, bias, skew) for sign in (-1, 1))
    return Interval(*(float(q) for q in np.quantile(resampled, [low, high])))


def _figures(sums: np.ndarray, value: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Sums (..., 2K) of both models side by side -> (3, ...): base, tuned, tuned - base."""
    half = sums.shape[-1] // 2
    base, tuned = value(sums[..., :half]), value(sums[..., half:])
    return np.stack([base, tuned, tuned - base])


def _leave_one_out(counts: np.ndarray, total: np.ndarray) -> np.ndarray:
    return total - counts if len(counts) > 1 else counts


def _weights(rng: np.random.Generator, resamples: int, size: int) -> np.ndarray:
    """How often each row was drawn, (R, N)."""
    drawn = rng.integers(0, size, (resamples, size)) + np.arange(resamples)[:, None] * size
    return np.bincount(drawn.ravel(), minlength=resamples * size).reshape(resamples, size).astype(float)


def _chunks(resamples: int, size: int) -> Iterator[int]:
    most = max(1, CHUNK_NUMBERS // size)
    while resamples > 0:
        yield min(most, resamples)
        resamples -= most


def _bias(figure: float, resampled: np.ndarray) -> float:
    """z0: the normal quantile of the share of resamples below the figure, ties counted half."""
    share = ((resampled < figure).mean() + (resampled <= figure).mean()) / 2
    edge = 0.5 / len(resampled)  # a figure beyond all its resamples still has a finite z0
    return _NORMAL.inv_cdf(float(np.clip(share, edge, 1 - edge)))


def _skew(left_out: np.ndarray) -> float:
    """a: a sixth of the skewness of the jackknife's influence values."""
    pull = left_out.mean() - left_out
    squares = (pull**2).sum()
    return float((pull**3).sum() / (6 * squares**1.5)) if squares > 0 else 0.0


def _moved_share(share: float, bias: float, skew: float) -> float:
    """Where BCa looks up `share` among the resamples: Phi(z0 + (z0 + z) / (1 - a (z0 + z)))."""
    z = bias + _NORMAL.inv_cdf(share)
    return _NORMAL.cdf(bias + z / max(1 - skew * z, 1e-9))  # past the formula's pole lies the outermost resample
