"""How often would this gate be wrong? Simulated from the user's own prompts, before anyone relies on it.

    equal models    each prompt's two results, sides swapped at random: what is noise stays, what is difference goes
    a drop          the same, drawn with weights w ~ exp(lambda * influence) whose figure is worse by the drop

Tilting the weights (Efron 1981, "Nonparametric standard errors and confidence intervals") keeps every result a real one,
for any measure. Without a base the model of the file's own line takes the place of the equal one. Each simulated
evaluation has as many prompts as the real one and is judged by the same rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pacos.evaluation.gates.judge import Outcome, judge, line_of
from pacos.evaluation.gates.schema import Condition
from pacos.evaluation.statistics import Interval, compare, wilson

SIMULATIONS = 400
RESAMPLES = 300
STEEPEST = 60.0


@dataclass(frozen=True)
class Odds:
    """Of `simulations`, how many the gate refused and how many it could not tell."""

    refused: int
    undecided: int
    simulations: int

    @property
    def refused_share(self) -> float:
        return self.refused / self.simulations

    @property
    def refused_interval(self) -> Interval:
        return wilson(self.refused, self.simulations)


def simulate(
    condition: Condition, base: np.ndarray, tuned: np.ndarray, drop: float, *, rng: np.random.Generator
) -> Odds | None:
    """The gate's odds on a model that is worse than base, or than the line, by `drop`. Counts (N, K) of each unit.

    None where no mixture of these prompts' results has such a figure.
    """
    atoms = np.hstack([base, tuned])
    if condition.against_base:
        atoms = np.vstack([atoms, np.hstack([tuned, base])])
    weights = tilt(atoms, _figure(condition), _target(condition, drop))
    if weights is None:
        return None
    outcomes = Counter(_once(condition, atoms, weights, len(base), rng) for _ in range(SIMULATIONS))
    return Odds(outcomes["does not hold"], outcomes["cannot tell"], SIMULATIONS)


def tilt(atoms: np.ndarray, figure: Callable[[np.ndarray], float], target: float) -> np.ndarray | None:
    """Weights (N,) of the rows of `atoms` (N, 2K) under which `figure` of the weighted mean is `target`; None for none."""
    even = np.full(len(atoms), 1 / len(atoms))
    plain, total = figure(even @ atoms), atoms.sum(axis=0)
    tolerance = 1e-6 * max(1.0, abs(target))
    if abs(plain - target) <= tolerance:
        return even
    pull = np.array([plain - figure((total - row) / (len(atoms) - 1)) for row in atoms])
    if not np.ptp(pull) > 0:
        return None
    pull = (pull - pull.mean()) / pull.std() * (1 if target > plain else -1)
    low, high = 0.0, STEEPEST
    if (figure(_weights(pull, high) @ atoms) - target) * (plain - target) > 0:
        return None  # out of reach
    for _ in range(60):
        middle = (low + high) / 2
        beyond = (figure(_weights(pull, middle) @ atoms) - target) * (plain - target) <= 0
        low, high = (low, middle) if beyond else (middle, high)
    weights = _weights(pull, high)
    return weights if abs(figure(weights @ atoms) - target) <= 1e-3 * max(1.0, abs(target)) else None


def _once(condition: Condition, atoms: np.ndarray, weights: np.ndarray, size: int, rng: np.random.Generator) -> Outcome:
    drawn = atoms[rng.choice(len(atoms), size, p=weights)]
    half = atoms.shape[1] // 2
    found = compare(drawn[:, :half], drawn[:, half:], condition.measure.value, rng=rng, resamples=RESAMPLES)
    return judge(condition, found, size).outcome


def _weights(pull: np.ndarray, steepness: float) -> np.ndarray:
    raw = np.exp(steepness * (pull - pull.max()))
    return np.asarray(raw / raw.sum())


def _figure(condition: Condition) -> Callable[[np.ndarray], float]:
    """Of mean counts (2K,), base and tuned side by side: tuned's figure, or its difference from base."""
    value = condition.measure.value

    def figure(mean: np.ndarray) -> float:
        half = len(mean) // 2
        tuned = float(value(mean[half:]))
        return tuned - float(value(mean[:half])) if condition.against_base else tuned

    return figure


def _target(condition: Condition, drop: float) -> float:
    """The figure of a model that is worse by `drop`: than base, or than the line."""
    if condition.against_base:
        return -drop if condition.measure.direction == "higher" else drop
    return line_of(condition) - drop if condition.kind == "at_least" else line_of(condition) + drop
