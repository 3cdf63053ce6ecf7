"""How small a difference this many prompts could show, and how many it would take: said before anyone starts labelling.

    detectable = (z[1 - alpha/2] + z[power]) * sd / sqrt(n)           sd: of one prompt's difference

`spread` is that sd. Before there is data it is 0.5 for a blind comparison (a win or a loss, half each), and for a
difference of shares sqrt(discordant), the share of prompts on which the models disagree.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from pacos.evaluation.statistics.bootstrap import LEVEL, Interval
from pacos.evaluation.statistics.paired import FEWEST_ROWS, compare

POWER = 0.8
WIN_SPREAD = 0.5
MOST_PROMPTS = 10_000_000
"""More than anyone labels: beyond it, "how many" has no useful answer."""


def smallest_difference(num_prompts: int, spread: float, *, level: float = LEVEL, power: float = POWER) -> float:
    """The mean difference that `num_prompts` show with chance `power`; `spread` is the sd of a prompt's difference."""
    return _reach(level, power) * spread / math.sqrt(num_prompts)


def prompts_needed(difference: float, spread: float, *, level: float = LEVEL, power: float = POWER) -> int | None:
    """The fewest prompts that show `difference` with chance `power`. None where no useful number does."""
    if spread == 0:
        return 2
    if abs(difference) * math.sqrt(MOST_PROMPTS) < _reach(level, power) * spread:
        return None
    return max(2, math.ceil((_reach(level, power) * spread / difference) ** 2))


def more_prompts(
    num_prompts: int, figure: float, interval: Interval, line: float = 0.0, *, power: float = POWER
) -> int | None:
    """How many more prompts would move `interval` clear of `line` with chance `power`, if the figure stays as it is.

    0 where it is clear already; None where no useful number would. No verdict is told of fewer than `FEWEST_ROWS`.
    """
    if not interval.low <= line <= interval.high:
        return 0
    spread = (interval.high - interval.low) / 2 * math.sqrt(num_prompts) / _reach(LEVEL, 0.5)
    needed = prompts_needed(figure - line, spread, power=power) if spread > 0 else None
    return None if needed is None else max(1, FEWEST_ROWS - num_prompts, needed - num_prompts)


def simulated_power(
    differences: np.ndarray,
    shift: float,
    *,
    rng: np.random.Generator,
    num_prompts: int,
    simulations: int = 1000,
    resamples: int = 400,
    level: float = LEVEL,
) -> float:
    """Share of simulated studies whose interval shows `shift`: prompts drawn from `differences` (N,), moved to that mean."""
    moved = np.asarray(differences, float) - np.mean(differences) + shift
    shown = 0
    for _ in range(simulations):
        drawn = moved[rng.integers(0, len(moved), num_prompts)]
        base, tuned = (np.column_stack([column, np.ones(num_prompts)]) for column in (np.zeros(num_prompts), drawn))
        low, high = compare(base, tuned, _mean, rng=rng, resamples=resamples, level=level).interval
        shown += not low <= 0 <= high
    return shown / simulations


def _mean(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def _reach(level: float, power: float) -> float:
    """Standard errors that a difference must be from zero."""
    normal = NormalDist()
    return normal.inv_cdf((1 + level) / 2) + normal.inv_cdf(power)
