"""The bootstrap, for any figure that is a function of summed row counts: rows drawn with replacement, and their percentiles.

    weights (R, N) @ counts (N, K) -> sums (R, K) -> figures (R,)

BCa (Efron 1987, "Better bootstrap confidence intervals"): the percentiles of the resampled figures, moved
for bias z0 (where the figure itself stands among them) and for skew a (from the jackknife: each row left out once),
taken at a level a little above the stated one, as Student's t is wider than the normal (`expanded_level`; Hesterberg
2015, "What Teachers Should Know About the Bootstrap"): percentiles alone are too narrow with few rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf, isfinite, sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from pacos.evaluation.statistics.student import t_quantile

LEVEL = 0.95
CHUNK_NUMBERS = 4_000_000  # weights held at once: 32 MB

_NORMAL = NormalDist()


class Interval(NamedTuple):
    low: float
    high: float

    @property
    def told(self) -> bool:
        """False where nothing can be told: it has no end."""
        return isfinite(self.low) and isfinite(self.high)


UNTOLD = Interval(-inf, inf)
"""Of one row: it says nothing of how rows vary."""


def expanded_level(level: float, rows: int) -> float:
    """The level at which percentiles of `rows` rows are as wide as a t interval at `level`."""
    if rows < 2:
        return level
    wider = sqrt(rows / (rows - 1)) * t_quantile((1 + level) / 2, rows - 1)
    return min(2 * _NORMAL.cdf(wider) - 1, 1 - 1e-9)  # two rows: t is so wide that all resamples are in


def resample_sums(counts: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """Column sums of `resamples` draws of N rows out of N, with replacement. (N, K) -> (R, K)."""
    size = len(counts)
    return np.concatenate([_weights(rng, many, size) @ counts for many in _chunks(resamples, size)])


def bca_interval(figure: float, resampled: np.ndarray, left_out: np.ndarray, *, level: float = LEVEL) -> Interval:
    """BCa interval of a figure from its resamples (R,) and its jackknife values (N,). No width where nothing varies, and
    no end with one row."""
    if len(left_out) < 2:
        return UNTOLD
    spread = np.ptp(resampled)
    if not spread > 1e-12 * max(1.0, abs(figure)):  # rounding apart, every resample is the same
        return Interval(float(figure), float(figure))
    bias, skew = _bias(figure, resampled), _skew(left_out)
    low, high = (_moved_share((1 + sign * level) / 2, bias, skew) for sign in (-1, 1))
    return Interval(*(float(q) for q in np.quantile(resampled, [low, high])))


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
