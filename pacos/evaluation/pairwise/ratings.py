"""Three or more contestants on one scale: Bradley-Terry ratings, with intervals.

    P(i beats j) = sigmoid(s_i - s_j)        rating = 1000 + 400 / ln 10 * (s - mean of s)

The strengths are the most likely ones for the wins that were counted, a tie as half a win to each (Bradley and Terry
1952), by Newton's method. Half a tie is added to every pair, so that one who lost everything has a finite rating. 400
points are odds of 10 to 1. Intervals are BCa over prompts, or over groups of related ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pacos.evaluation.statistics import Interval, cluster_sums, resample_sums, resampled_interval

SCALE = 400 / math.log(10)
CENTRE = 1000.0
ADDED = 0.25
"""Of a win, to each side of each pair."""
MOST_STEPS = 100
LONGEST_STEP = 2.0


@dataclass(frozen=True)
class Rating:
    """A contestant on the scale."""

    contestant: int
    rating: float
    interval: Interval


def rate(wins: np.ndarray, clusters: Sequence[str], *, rng: np.random.Generator, resamples: int = 2000) -> list[Rating]:
    """The best first. `wins` (N, K, K): on prompt n, contestant i over j."""
    many, size = wins.shape[0], wins.shape[1]
    sums = cluster_sums(wins.reshape(many, size * size), clusters)
    total = sums.sum(axis=0)
    figure = ratings_of(total.reshape(size, size))
    resampled = ratings_of(resample_sums(sums, rng, resamples).reshape(-1, size, size))
    left_out = ratings_of((total - sums).reshape(-1, size, size))
    found = [
        Rating(i, float(figure[i]), resampled_interval(float(figure[i]), resampled[:, i], left_out[:, i]))
        for i in range(size)
    ]
    return sorted(found, key=lambda one: -one.rating)


def ratings_of(wins: np.ndarray) -> np.ndarray:
    """Wins (..., K, K) of i over j -> ratings (..., K)."""
    size = wins.shape[-1]
    wins = wins + ADDED * (1 - np.eye(size))
    games = wins + np.swapaxes(wins, -1, -2)
    s = np.zeros(wins.shape[:-1])
    for _ in range(MOST_STEPS):
        p = 1 / (1 + np.exp(s[..., None, :] - s[..., :, None]))  # of i over j
        pull = (wins - games * p).sum(axis=-1)
        weights = games * p * (1 - p)
        # The Laplacian has no inverse along "all alike", where the pull is zero too: ones fill it without moving anything.
        laplacian = np.eye(size) * weights.sum(axis=-1)[..., None] - weights + 1 / size
        step = np.linalg.solve(laplacian, pull[..., None])[..., 0]
        s = s + np.clip(step, -LONGEST_STEP, LONGEST_STEP)
        if np.abs(step).max() < 1e-9:
            break
    return CENTRE + SCALE * (s - s.mean(axis=-1, keepdims=True))
