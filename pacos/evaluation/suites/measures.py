"""What each suite measures. As `evaluation.metrics`: a row's addends, and a figure of their sums.

    share       sum x / sum 1                        of the rows that the measure is about
    quantile    of times, from their histogram       bins 2 % wide: a figure is within 1 % of the time it stands for

A histogram is a sum over rows too, so that the bootstrap, the permutation and the gates need no second way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pacos.evaluation.metrics import Direction, Metric, Unit, Value, ratio

FASTEST_SECONDS, SLOWEST_SECONDS, BIN_WIDTH = 1e-4, 1e2, 0.02
"""Times beyond either end count as the end."""
NUM_BINS = int(np.ceil(np.log(SLOWEST_SECONDS / FASTEST_SECONDS) / BIN_WIDTH))
_MIDDLES = FASTEST_SECONDS * np.exp((np.arange(NUM_BINS) + 0.5) * BIN_WIDTH)


def measure(name: str, label: str, unit: Unit, direction: Direction, value: Value = ratio) -> Metric:
    """A measure whose addends a `Grade` holds by its name."""
    return Metric(name, label, unit, direction, lambda outcome: _counts(outcome, name), value)


def _counts(outcome: Any, name: str) -> tuple[float, ...]:
    counts: tuple[float, ...] = outcome.grade.counts[name]
    return counts


def histogram(seconds: Sequence[float]) -> tuple[float, ...]:
    """How many of the times fall into each bin, (NUM_BINS,)."""
    bins = np.log(np.maximum(seconds, FASTEST_SECONDS) / FASTEST_SECONDS) / BIN_WIDTH
    return tuple(np.bincount(np.minimum(bins.astype(int), NUM_BINS - 1), minlength=NUM_BINS).astype(float))


def edges_of(number: int) -> float:
    """Where a bin begins, in seconds."""
    return FASTEST_SECONDS * float(np.exp(number * BIN_WIDTH))


def sparse(histogram: Sequence[float]) -> tuple[float, ...]:
    """A histogram as pairs of bin and count, for most bins are empty: (3, 1, 7, 2)."""
    return tuple(float(x) for number, count in enumerate(histogram) if count for x in (number, count))


def dense(pairs: Sequence[float]) -> tuple[float, ...]:
    """The inverse of `sparse`."""
    counts = [0.0] * NUM_BINS
    for number, count in zip(pairs[::2], pairs[1::2], strict=True):
        counts[int(number)] = float(count)
    return tuple(counts)


def quantile(share: float) -> Value:
    """The time below which `share` of them are. Histograms (..., NUM_BINS) -> seconds (...); 0 of none."""

    def value(sums: np.ndarray) -> np.ndarray:
        below = np.cumsum(sums, axis=-1)
        total = below[..., -1]
        # the k-th smallest of n, k = ceil(share * n)
        found = (below >= np.maximum(np.ceil(share * total - 1e-9), 1)[..., None]).argmax(axis=-1)
        return np.where(total > 0, _MIDDLES[found], 0.0)

    return value


PASSED = measure("passed_share", "Passed", "share", "higher")
REGRESSION = (PASSED,)

REFUSAL = measure("refusal_rate", "Harmful requests refused", "share", "higher")
RESISTED = measure("resisted_rate", "Injections and extractions resisted", "share", "higher")
FALSE_REFUSAL = measure("false_refusal_rate", "Harmless look-alikes refused", "share", "lower")
GIVEN_IN = measure("declined_then_answered_rate", "Declined, then answered at length", "share", "neither")
NO_ANSWER = measure("no_answer_rate", "Empty answers", "share", "lower")
REDTEAM = (REFUSAL, RESISTED, FALSE_REFUSAL, GIVEN_IN, NO_ANSWER)

MEMORIZED = measure("memorized_share", "Training rows completed verbatim", "share", "lower")
UNSEEN = measure("unseen_completed_share", "Unseen rows completed verbatim", "share", "neither")
MATCHED = measure("longest_match_tokens", "Longest match, mean over training rows", "tokens", "lower")
MEMORIZATION = (MEMORIZED, UNSEEN, MATCHED)

QUANTILES = (0.5, 0.9, 0.99)
TIMES = {"first_token": "Time to first token", "per_token": "Time per token"}


def quantile_name(times: str, share: float) -> str:
    """`per_token_p90`."""
    return f"{times}_p{100 * share:g}"


def addends_of_times(times: str, histogram: tuple[float, ...]) -> dict[str, tuple[float, ...]]:
    """What each quantile of these times is reckoned from: one histogram for all."""
    return {quantile_name(times, share): histogram for share in QUANTILES}


def _of_times(times: str, label: str) -> tuple[Metric, ...]:
    quantiles = (
        measure(quantile_name(times, q), f"{label}, p{100 * q:g}", "seconds", "lower", quantile(q)) for q in QUANTILES
    )
    return (measure(f"{times}_seconds", f"{label}, mean", "seconds", "lower"), *quantiles)


LATENCY = tuple(one for times, label in TIMES.items() for one in _of_times(times, label))

SUITE_METRICS = (*REGRESSION, *REDTEAM, *MEMORIZATION, *LATENCY)
