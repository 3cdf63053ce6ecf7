"""Does the longer answer win, and what would be left of the win rate were both as long?

    P(win) = sigmoid(theta + phi * tanh(d / sd(d)))        d: characters by which the answer is longer

The length-controlled rate is sigmoid(theta): the same difference d = 0 for all (Dubois et al. 2024, "Length-Controlled
AlpacaEval"). AlpacaEval adds a term for how hard each of its 805 instructions is, which it takes from all the models of
its leaderboard; two models alone cannot tell it, so it is left out here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from pacos.evaluation.pairwise.logistic import fit_logistic, sigmoid
from pacos.evaluation.statistics import LEVEL, Interval, t_quantile, wilson


@dataclass(frozen=True)
class LengthBias:
    """`longer_won` of `decided` items with answers of different length; `rate` is the length-controlled win rate and
    `effect` the phi of the model, None where no model fits (all lengths or all scores the same, or length alone tells
    who wins)."""

    longer_won: int
    decided: int
    interval: Interval
    rate: float | None
    rate_interval: Interval | None
    effect: float | None
    effect_interval: Interval | None

    @property
    def share(self) -> float | None:
        return self.longer_won / self.decided if self.decided else None


def length_bias(scores: np.ndarray, longer_by: np.ndarray, clusters: Sequence[str]) -> LengthBias:
    """Scores (N,) of one contestant against another, and the characters (N,) by which its answers are longer."""
    told = (scores != 0.5) & (longer_by != 0)
    longer_won = int(((scores > 0.5) == (longer_by > 0))[told].sum())
    decided = int(told.sum())
    spread = float(np.std(longer_by))
    fit = None
    if spread > 0 and np.ptp(scores) > 0:  # scores that never vary fit wholly, which is not the same as being sure
        features = np.column_stack([np.ones(len(scores)), np.tanh(longer_by / spread)])
        fit = fit_logistic(features, scores, clusters)
    if fit is None:
        return LengthBias(longer_won, decided, wilson(longer_won, decided), None, None, None, None)
    reach = t_quantile((1 + LEVEL) / 2, max(1, len(set(clusters)) - 1))
    theta, phi = (float(c) for c in fit.coefficients)
    half_theta, half_phi = (reach * sqrt(float(v)) for v in np.diag(fit.covariance))
    rate, low, high = (float(sigmoid(np.array(x))) for x in (theta, theta - half_theta, theta + half_theta))
    return LengthBias(
        longer_won=longer_won,
        decided=decided,
        interval=wilson(longer_won, decided),
        rate=rate,
        rate_interval=Interval(low, high),
        effect=phi,
        effect_interval=Interval(phi - half_phi, phi + half_phi),
    )
