"""Does a condition hold? Three answers: holds, does not hold, cannot tell.

                 does not hold          cannot tell            holds
        ----[------interval------]--|--------------------------------
                              ---[--|--interval---]---
                                    |    [---interval----]-----------
                                   line

The line is the bound itself, or base's figure less what is allowed. Where fewer rows differ than can show anything, a
share's interval is widened to what Wilson's leaves open (no failure in 20 answers is not "no failures"), and of any
other measure nothing is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from pacos.evaluation.gates.schema import Condition
from pacos.evaluation.statistics import FEWEST_ROWS, Interval, more_prompts, wilson

Outcome = Literal["holds", "does not hold", "cannot tell"]


class Measured(Protocol):
    """What is judged: a `MetricResult`, or the `Comparison` of a simulation."""

    @property
    def tuned(self) -> float: ...
    @property
    def tuned_interval(self) -> Interval: ...
    @property
    def difference(self) -> float: ...
    @property
    def interval(self) -> Interval: ...
    @property
    def rows_that_differ(self) -> int: ...


@dataclass(frozen=True)
class Judged:
    """A condition beside the figure it was held against. The difference is a gain: positive is better.

    `more_prompts` would tell, with 80 % chance, if the figure stays; 0 where it is told, None where no useful number would.
    """

    outcome: Outcome
    figure: float
    interval: Interval
    line: float
    more_prompts: int | None


def judge(condition: Condition, found: Measured, num_units: int) -> Judged:
    """`num_units` prompts, or groups of related ones, stand behind what was found."""
    figure, interval, line, upward = _held_against(condition, found)
    interval, told = _honest(condition, found, interval, num_units)
    outcome: Outcome = "cannot tell"
    if told and (interval.low >= line if upward else interval.high <= line):
        outcome = "holds"
    elif told and (interval.high < line if upward else interval.low > line):
        outcome = "does not hold"
    if condition.kind == "better_than_base_by" and outcome == "holds" and interval.low == line:
        outcome = "cannot tell"  # better by more than it, not by as much
    more = 0 if outcome != "cannot tell" else more_prompts(num_units, figure, interval, line) or None
    return Judged(outcome, figure, interval, line, more)


def line_of(condition: Condition) -> float:
    """Where the condition begins to hold: of tuned's figure, or of its gain over base."""
    return -condition.bound if condition.kind == "no_worse_than_base_by" else condition.bound


def _held_against(condition: Condition, found: Measured) -> tuple[float, Interval, float, bool]:
    """Figure, interval, line, and whether it holds above the line."""
    if not condition.against_base:
        return found.tuned, found.tuned_interval, line_of(condition), condition.kind == "at_least"
    if condition.measure.direction == "higher":
        return found.difference, found.interval, line_of(condition), True
    low, high = found.interval
    return -found.difference, Interval(-high, -low), line_of(condition), True


def _honest(condition: Condition, found: Measured, interval: Interval, num_units: int) -> tuple[Interval, bool]:
    """The interval no narrower than the rows allow, and whether anything may be told from it."""
    if condition.measure.unit != "share":
        few = found.rows_that_differ < FEWEST_ROWS if condition.against_base else num_units < FEWEST_ROWS
        same = condition.against_base and found.rows_that_differ == 0 and num_units >= FEWEST_ROWS
        return interval, same or not few
    if not condition.against_base:
        own = wilson(round(found.tuned * num_units), num_units)
    elif found.rows_that_differ < FEWEST_ROWS:
        unseen = wilson(found.rows_that_differ, num_units).high
        own = Interval(-unseen, unseen)
    else:
        own = interval
    return Interval(min(interval.low, own.low), max(interval.high, own.high)), True
