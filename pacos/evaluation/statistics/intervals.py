"""The interval of a figure, from its resamples and its jackknife: wide enough for few rows, and for lopsided ones.

    BCa                 percentiles of the resampled figures, moved for bias and skew (`bootstrap.bca_interval`), at a level
                        a little above the stated one, as Student's t is wider than the normal (`expanded_level`)
    Student's t         figure +- t se, se from the jackknife: right for rows that vary alike on both sides
    Hall's t            the same on a scale on which skew is gone (Hall 1992, "On the Removal of Skewness by Transformation"):
                        g(T) = T + b T^2 + b^2 T^3 / 3 + c,  b = skew / (3 sqrt n),  c = skew / (6 sqrt n)

With 20 to 80 rows each of the three is too short for some kind of rows (BCa covers 90 % of skewed ones), so with fewer than
`FEW` the interval reaches as far as the farthest of them, and no farther than any resample did: benchmarks/intervals.py
measures what that covers. The skew of a sample is too small by (n - 2) / sqrt(n (n - 1)); it is corrected for that.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from pacos.evaluation.statistics.bootstrap import LEVEL, UNTOLD, Interval, bca_interval, expanded_level
from pacos.evaluation.statistics.student import t_quantile

FEW = 100
"""Units from which on BCa alone covers 93 to 97 % of all kinds of rows that were tried."""
FEWEST_FOR_SKEW = 3


def resampled_interval(figure: float, resampled: np.ndarray, left_out: np.ndarray, *, level: float = LEVEL) -> Interval:
    """The interval of `figure` from its resamples (R,) and jackknife values (N,), one for each unit left out. No end with
    one unit, no width where nothing varies."""
    if len(left_out) < 2:
        return UNTOLD
    bca = bca_interval(figure, resampled, left_out, level=expanded_level(level, len(left_out)))
    if len(left_out) >= FEW or bca.low == bca.high or not np.isfinite(left_out).all():
        return bca
    reached = [bca, *t_intervals(figure, left_out, level)]
    farthest = float(np.min(resampled)), float(np.max(resampled))
    low = max(min(each.low for each in reached), min(farthest[0], bca.low))
    high = min(max(each.high for each in reached), max(farthest[1], bca.high))
    return Interval(low, high)


def t_intervals(figure: float, left_out: np.ndarray, level: float) -> tuple[Interval, ...]:
    """Student's t and Hall's, from jackknife values (N,), N >= 2. None where no unit matters."""
    many = len(left_out)
    pull = (many - 1) * (left_out.mean() - left_out)
    squares = float((pull**2).mean())
    if squares <= 0:
        return ()
    error, t = sqrt(squares / (many - 1)), t_quantile((1 + level) / 2, many - 1)
    plain = Interval(figure - t * error, figure + t * error)
    if many < FEWEST_FOR_SKEW:
        return (plain,)
    skew = float((pull**3).mean()) / squares**1.5 * sqrt(many * (many - 1)) / (many - 2)
    return (plain, Interval(figure - _back(t, skew, many) * error, figure - _back(-t, skew, many) * error))


def _back(x: float, skew: float, many: int) -> float:
    """The T whose transformed value is x."""
    b, c = skew / (3 * sqrt(many)), skew / (6 * sqrt(many))
    if abs(b) < 1e-9:
        return x - c
    return float(np.cbrt(1 + 3 * b * (x - c)) - 1) / b
