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

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pacos.errors import UsageError, did_you_mean
from pacos.evaluation.metrics import METRICS, Metric
from pacos.evaluation.suites.measures import SUITE_METRICS

KNOWN = (*METRICS, *SUITE_METRICS)
Kind = Literal["at_least", "at_most", "no_worse_than_base_by", "better_than_base_by"]
AGAINST_BASE: tuple[Kind, ...] = ("no_worse_than_base_by", "better_than_base_by")
KINDS: tuple[Kind, ...] = ("at_least", "at_most", *AGAINST_BASE)


class Condition(BaseModel):
    """One line of a gate file: a metric, and one of the four ways to bound it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
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


class GateFile(BaseModel):
    """The whole of a gate file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    gates: tuple[Condition, ...] = Field(min_length=1)


def load_gates(path: Path, measured: Sequence[Metric] = METRICS) -> tuple[Condition, ...]:
    """The conditions of a gate file on what is `measured`. Raises UsageError that names every mistake in it."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; give a YAML file of gates") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        place = getattr(error, "problem_mark", None)
        where = f":{place.line + 1}" if place else ""
        raise UsageError(f"{path}{where}: is not YAML: {getattr(error, 'problem', None) or error}") from None
    try:
        gates = GateFile.model_validate(tree).gates
    except ValidationError as error:
        raise UsageError("\n".join(f"{path}: {line}" for line in _lines(error))) from None
    here = [metric.name for metric in measured]
    elsewhere = [
        f"{path}: gates.{number}.metric: '{gate.metric}' is not measured here; accepted: {', '.join(here)}"
        for number, gate in enumerate(gates, start=1)
        if gate.metric not in here
    ]
    if elsewhere:
        raise UsageError("\n".join(elsewhere))
    return gates


def _lines(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        place = ".".join(str(part) if isinstance(part, str) else f"{part + 1}" for part in problem["loc"])
        yield f"{place or 'the file'}: {_words(problem)}"


def _words(problem: Any) -> str:
    name = str(problem["loc"][-1]) if problem["loc"] else ""
    if problem["type"] == "extra_forbidden":
        known = GateFile.model_fields if len(problem["loc"]) == 1 else Condition.model_fields
        near = did_you_mean(name, known) or f"; accepted: {', '.join(known)}"
        return f"unknown key '{name}'{near}"
    if problem["type"] == "missing":
        return "is missing" + ("; give a list of conditions" if name == "gates" else "")
    if problem["type"] == "model_type":
        return "needs keys, as in 'metric: exact_match'"
    message = str(problem["msg"]).removeprefix("Value error, ")
    given = f" ({problem['input']!r} was given)" if isinstance(problem["input"], str | int | float) else ""
    return f"{message[0].lower()}{message[1:]}{given}"
