"""A gate file: what must hold of a model before it goes on.

    gates:
      - metric: exact_match
        no_worse_than_base_by: 0.02      # shares are 0 to 1
        drop: 0.10                       # how often is a model that is this much worse refused?
      - metric: empty_share
        at_most: 0.05

Each condition is on one measure and its interval. All mistakes of a file are told at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from pacos.errors import UsageError, did_you_mean
from pacos.evaluation.metrics import METRICS, Metric
from pacos.evaluation.suites.files import Section, load_file
from pacos.evaluation.suites.measures import SUITE_METRICS

KNOWN = (*METRICS, *SUITE_METRICS)
Kind = Literal["at_least", "at_most", "no_worse_than_base_by", "better_than_base_by"]
AGAINST_BASE: tuple[Kind, ...] = ("no_worse_than_base_by", "better_than_base_by")
KINDS: tuple[Kind, ...] = ("at_least", "at_most", *AGAINST_BASE)


class Condition(Section):
    """One line of a gate file: a metric, and one of the four ways to bound it."""

    metric: str = Field(description="name of a measure, as in pacos eval --json")
    at_least: float | None = Field(None, description="tuned's figure")
    at_most: float | None = Field(None, description="tuned's figure")
    no_worse_than_base_by: float | None = Field(
        None, ge=0, description="tuned may be worse than base by less than this"
    )
    better_than_base_by: float | None = Field(
        None, ge=0, description="tuned must be better than base by more than this"
    )
    drop: float | None = Field(None, gt=0, description="power is simulated for a model that is this much worse")

    @model_validator(mode="after")
    def _whole(self) -> Condition:
        names = [metric.name for metric in KNOWN]
        if self.metric not in names:
            near = did_you_mean(self.metric, names) or f"; accepted: {', '.join(names)}"
            raise ValueError(f"metric '{self.metric}' is not measured{near}")
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"{' and '.join(given) or 'no condition'} given; give one of {', '.join(KINDS)}")
        if self.against_base and self.measure.direction == "neither":
            raise ValueError(f"no side of '{self.metric}' is better; give at_least or at_most")
        return self

    @property
    def kind(self) -> Kind:
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def bound(self) -> float:
        return float(getattr(self, self.kind))

    @property
    def against_base(self) -> bool:
        return self.kind in AGAINST_BASE

    @property
    def measure(self) -> Metric:
        return next(metric for metric in KNOWN if metric.name == self.metric)


class GateFile(Section):
    """The whole of a gate file."""

    gates: tuple[Condition, ...] = Field(min_length=1)


def load_gates(path: Path, measured: Sequence[Metric] = METRICS) -> tuple[Condition, ...]:
    """The conditions of a gate file on what is `measured`. Raises UsageError that names every mistake in it."""
    gates = load_file(path, GateFile).gates
    here = [metric.name for metric in measured]
    elsewhere = [
        f"{path}: gates.{number}.metric: '{gate.metric}' is not measured here; accepted: {', '.join(here)}"
        for number, gate in enumerate(gates, start=1)
        if gate.metric not in here
    ]
    if elsewhere:
        raise UsageError("\n".join(elsewhere))
    return gates
