"""A gate file held against an evaluation: every condition's outcome, and how often it would be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pacos.evaluation.comparison import Paired
from pacos.evaluation.gates.judge import Judged, Outcome, judge
from pacos.evaluation.gates.schema import Condition
from pacos.evaluation.gates.simulate import Odds, simulate
from pacos.evaluation.results import MetricResult
from pacos.evaluation.statistics import cluster_sums
from pacos.evaluation.wording import counted, format_difference, format_interval, format_share, format_value

WORDS = {
    "at_least": "at least {}",
    "at_most": "at most {}",
    "no_worse_than_base_by": "no worse than base by {}",
    "better_than_base_by": "better than base by {}",
}


class Evaluated(Protocol):
    """An `Evaluation`, or a suite's result."""

    def metric(self, name: str) -> MetricResult: ...
    def measured_rows(self, name: str) -> Sequence[Paired]: ...


@dataclass(frozen=True)
class Gated:
    """One condition. `equal`: its odds on a model like base, or right at the line; `dropped`: on one worse by its drop."""

    condition: Condition
    judged: Judged
    num_units: int
    equal: Odds | None
    dropped: Odds | None

    @property
    def sentence(self) -> str:
        """`exact match, no worse than base by 2.0 pts: +3.0 pts (95 % interval +0.5 to +5.5): holds`."""
        measure, judged = self.condition.measure, self.judged
        write = format_difference if self.condition.against_base else format_value
        bound = write(self.condition.bound, measure.unit).lstrip("+")
        interval = format_interval(judged.interval, measure.unit, signed=self.condition.against_base)
        gain = "a gain of " if self.condition.against_base and measure.direction == "lower" else ""
        figure = f"{gain}{write(judged.figure, measure.unit)}"
        return f"{measure.label}, {WORDS[self.condition.kind].format(bound)}: {figure} (95 % interval {interval}): {judged.outcome}"

    @property
    def notes(self) -> list[str]:
        """How many more prompts would tell, and the odds of being wrong."""
        return [note for note in (self._more(), self._alarm(), self._power()) if note]

    def _more(self) -> str:
        if self.judged.outcome != "cannot tell":
            return ""
        if self.judged.more_prompts is None:
            return "no number of prompts of use would tell, if the figure stays as it is"
        more = counted(self.judged.more_prompts, "more prompt")
        return f"about {more} would tell with 80 % chance, if the figure stays as it is"

    def _alarm(self) -> str:
        who = "an equally good model" if self.condition.against_base else "a model right at the line"
        if self.equal is None:
            return f"{who} cannot be simulated from these answers" if self.condition.against_base else ""
        odds, low, high = self.equal, *self.equal.refused_interval
        return (
            f"{who} is refused in {format_share(odds.refused_share)} ({format_share(low)} to {format_share(high)}) and not "
            f"told in {format_share(odds.undecided / odds.simulations, 0)} of {odds.simulations} simulations of these "
            f"{self.num_units} prompts"
        )

    def _power(self) -> str:
        drop = self.condition.drop
        if drop is None:
            return ""
        size = format_difference(drop, self.condition.measure.unit).lstrip("+")
        if self.dropped is None:
            return f"a drop of {size} cannot be simulated from these answers: none of them is that much worse"
        low, high = self.dropped.refused_interval
        return f"a drop of {size} is refused in {format_share(self.dropped.refused_share)} ({format_share(low)} to {format_share(high)})"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        condition, judged = self.condition, self.judged
        return {
            "metric": condition.metric,
            "condition": condition.kind,
            "bound": condition.bound,
            "outcome": judged.outcome,
            "figure": judged.figure,
            "interval": list(judged.interval),
            "more_prompts": judged.more_prompts,
            "equal_models": _odds(self.equal),
            "drop": condition.drop,
            "dropped_models": _odds(self.dropped),
            "sentence": self.sentence,
        }


def hold(conditions: Sequence[Condition], evaluation: Evaluated, *, rng: np.random.Generator) -> tuple[Gated, ...]:
    """Every condition against the evaluation, in order."""
    return tuple(_gated(condition, evaluation, rng.spawn(1)[0]) for condition in conditions)


def outcome_of(gated: Sequence[Gated]) -> Outcome:
    """Of all conditions together: one that does not hold decides, then one that cannot be told."""
    outcomes = {one.judged.outcome for one in gated}
    order: tuple[Outcome, ...] = ("does not hold", "cannot tell", "holds")
    return next(outcome for outcome in order if outcome in outcomes)


def _gated(condition: Condition, evaluation: Evaluated, rng: np.random.Generator) -> Gated:
    rows = evaluation.measured_rows(condition.metric)
    clusters = [row.cluster or row.id for row in rows]
    base, tuned = (
        cluster_sums(condition.measure.table(answers), clusters)
        for answers in ([row.base for row in rows], [row.tuned for row in rows])
    )
    judged = judge(condition, evaluation.metric(condition.metric), len(base))
    equal = simulate(condition, base, tuned, 0.0, rng=rng)
    dropped = simulate(condition, base, tuned, condition.drop, rng=rng) if condition.drop else None
    return Gated(condition, judged, len(base), equal, dropped)


def _odds(odds: Odds | None) -> dict[str, Any] | None:
    if odds is None:
        return None
    return {
        "refused": odds.refused_share,
        "refused_interval": list(odds.refused_interval),
        "undecided": odds.undecided / odds.simulations,
        "simulations": odds.simulations,
    }
