"""Conditions on a model that hold, do not hold, or cannot be told yet."""

from pacos.evaluation.gates.gate import Gated, hold, outcome_of
from pacos.evaluation.gates.judge import Judged, Outcome, judge
from pacos.evaluation.gates.schema import Condition, load_gates
from pacos.evaluation.gates.simulate import Odds, simulate, tilt

__all__ = [
    "Condition", "Gated", "Judged", "Odds", "Outcome", "hold", "judge", "load_gates", "outcome_of", "simulate", "tilt",
]  # fmt: skip
