"""Student's t with whole degrees of freedom, in closed form (Abramowitz and Stegun, 26.7.3 and 26.7.4).

With few rows the normal quantile is too small, and an interval made with it too narrow; t's is right for normal data.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np

NORMAL_FROM = 10_000
"""Degrees of freedom beyond which the normal quantile agrees to four digits."""


@lru_cache(maxsize=256)
def t_quantile(share: float, freedom: int) -> float:
    """The t below which `share` of the distribution lies. share in (0, 1), freedom >= 1."""
    assert freedom >= 1
    assert 0 < share < 1
    if freedom > NORMAL_FROM:
        return NormalDist().inv_cdf(share)
    if share < 0.5:
        return -t_quantile(1 - share, freedom)
    low, high = 0.0, 1.0
    while _central(high, freedom) < 2 * share - 1:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _central(middle, freedom) < 2 * share - 1 else (low, middle)
    return (low + high) / 2


def _central(t: float, freedom: int) -> float:
    """P(|T| < t): a finite sum of powers of cos(theta), theta = atan(t / sqrt(freedom))."""
    theta = math.atan(t / math.sqrt(freedom))
    cosine, sine = math.cos(theta), math.sin(theta)
    odd = freedom % 2
    steps = np.arange(1, (freedom - 1 - odd) // 2 + 1) * 2.0
    terms = np.cumprod(np.concatenate([[1.0], (steps - 1 + odd) / (steps + odd) * cosine**2]))
    total = float(terms.sum())
    if not odd:
        return sine * total
    return 2 / math.pi * (theta + (sine * cosine * total if freedom > 1 else 0.0))
