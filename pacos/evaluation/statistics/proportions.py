"""Shares: Wilson's interval, and McNemar's test of two models' right and wrong answers to the same prompts.

    only A right   b   }  of the b + c prompts on which they differ, under no difference b ~ Binomial(b + c, 1/2)
    only B right   c   }

The exact test is a little too careful, as every test of counts is; the mid-p form (Lancaster 1961; Fagerland, Lydersen
and Laake 2013) counts what was seen half and keeps close to the stated rate.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

from pacos.evaluation.statistics.bootstrap import LEVEL, Interval


class McNemar(NamedTuple):
    """Two-sided p-values."""

    exact: float
    mid_p: float


def wilson(successes: int, trials: int, *, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a share (Wilson 1927). Without trials nothing is known: 0 to 1."""
    assert 0 <= successes <= trials
    if trials == 0:
        return Interval(0.0, 1.0)
    z, share = NormalDist().inv_cdf((1 + level) / 2), successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Interval(0.0 if successes == 0 else low, 1.0 if successes == trials else high)


def mcnemar(only_a: int, only_b: int) -> McNemar:
    """Whether two models are right equally often, from the prompts that one of them alone got right."""
    differing, fewer = only_a + only_b, min(only_a, only_b)
    tail, seen = sum(_half_binomial(k, differing) for k in range(fewer + 1)), _half_binomial(fewer, differing)
    if only_a == only_b:
        return McNemar(1.0, 1.0 if differing == 0 else 1.0 - seen)
    return McNemar(min(1.0, 2 * tail), 2 * tail - seen)


def _half_binomial(successes: int, trials: int) -> float:
    """P(X = successes), X ~ Binomial(trials, 1/2); by logarithms, so that many trials do not overflow."""
    logs = math.lgamma(trials + 1) - math.lgamma(successes + 1) - math.lgamma(trials - successes + 1)
    return math.exp(logs - trials * math.log(2))
