"""Is a difference more than the names of the models? The paired permutation test.

If the two models were the same, each prompt's two results could as well have been the other way round. So the sides of
prompts are swapped at random, and p is the share of swaps whose difference is as large as the one that was seen:

    flips (R, M) of 0 and 1,  d = tuned - base (M, K) where they differ
    base* = base + flips @ d,  tuned* = tuned - flips @ d

All 2^M swaps where M units differ and M <= EXACT_UNITS, which makes p exact; else `draws` of them, and p = (1 + hits) /
(1 + draws), which is never zero and never too small (Phipson and Smyth 2010). Works for every figure of summed counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

EXACT_UNITS = 13
DRAWS = 10_000
CHUNK_NUMBERS = 4_000_000
_ROUNDING = 1e-9


def permutation_p(
    base_counts: np.ndarray,
    tuned_counts: np.ndarray,
    value: Callable[[np.ndarray], np.ndarray],
    *,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> float:
    """Two-sided p of "the models are the same". Counts (N, K) each, row i of both of one unit (prompt or cluster)."""
    base_counts, tuned_counts = np.asarray(base_counts, float), np.asarray(tuned_counts, float)
    differ = (base_counts != tuned_counts).any(axis=1)
    base, tuned = base_counts.sum(axis=0), tuned_counts.sum(axis=0)
    change = (tuned_counts - base_counts)[differ]
    units = len(change)
    if units == 0:
        return 1.0
    seen = abs(float(value(tuned) - value(base)))
    exact = units <= EXACT_UNITS
    hits = 0
    for flips in _all_flips(units) if exact else _random_flips(units, rng, draws):
        moved = flips @ change
        swapped = np.abs(value(tuned - moved) - value(base + moved))
        hits += int((swapped >= seen - _ROUNDING * max(1.0, seen)).sum())
    return hits / 2**units if exact else (1 + hits) / (1 + draws)


def _all_flips(units: int) -> Iterator[np.ndarray]:
    """Every choice of sides, (2^M, M)."""
    yield (np.arange(2**units)[:, None] >> np.arange(units) & 1).astype(float)


def _random_flips(units: int, rng: np.random.Generator, draws: int) -> Iterator[np.ndarray]:
    most = max(1, CHUNK_NUMBERS // units)
    for done in range(0, draws, most):
        yield rng.integers(0, 2, (min(most, draws - done), units), dtype=np.int8).astype(float)
