"""Latency: how long one user waits, alone on the machine. Time to the first token, and from each token to the next.

Prompts come one at a time. Each is put to both models, the one that goes first in turn, so that a machine that grows
slower meets both alike; one prompt before is not counted. The clock is the caller's, outside the engine: what a user
would measure. A resample of prompts is no second machine: the intervals are of these prompts on this machine, today.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Protocol

from pacos.evaluation.evaluate import Progress
from pacos.evaluation.suites.cases import Case, Grade, Outcome, SuiteRow
from pacos.evaluation.suites.measures import addends_of_times, histogram
from pacos.evaluation.suites.run import RendersPrompts, outcome

Clock = Callable[[], float]


class Streams(Protocol):
    """An answerer that tells of each token as it is written: `inference.Engine` is one."""

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Any, *, on_token: Callable[[int, int], None]
    ) -> Sequence[Any]: ...


def run_latency(
    base: Streams,
    tuned: Streams,
    cases: Sequence[Case],
    renderer: RendersPrompts,
    *,
    sampling: Any,
    clock: Clock = time.perf_counter,
    on_progress: Progress = lambda stage, done, total: None,
) -> list[SuiteRow]:
    """Both models on every case, in turn."""
    prompts = [renderer.render_prompt(case.example) for case in cases]
    for model in (base, tuned):
        model.generate([prompts[0]], sampling, on_token=lambda index, token: None)
    rows = []
    for number, (case, prompt) in enumerate(zip(cases, prompts, strict=True)):
        sides = [("base", base), ("tuned", tuned)]
        timed = {
            name: _timed(model, prompt, renderer, sampling, clock) for name, model in sides[:: -1 if number % 2 else 1]
        }
        rows.append(SuiteRow(case, timed["base"], timed["tuned"]))
        on_progress("timing", number + 1, len(cases))
    return rows


def _timed(model: Streams, prompt: Sequence[int], renderer: RendersPrompts, sampling: Any, clock: Clock) -> Outcome:
    times: list[float] = []
    began = clock()
    completion = model.generate([prompt], sampling, on_token=lambda index, token: times.append(clock()))[0]
    grade = grade_times(began, times)
    return outcome(renderer.decode(completion.ids), grade, completion, prompt)


def grade_times(began: float, times: Sequence[float]) -> Grade:
    """The addends of an answer whose tokens came at `times`, in seconds. An empty answer has no first token."""
    if not times:
        return Grade({}, None, ("no token",))
    first, gaps = times[0] - began, [after - before for before, after in pairwise(times)]
    counts: dict[str, tuple[float, ...]] = {"first_token_seconds": (first, 1.0)}
    counts.update(addends_of_times("first_token", histogram([first])))
    if gaps:
        counts["per_token_seconds"] = (sum(gaps), float(len(gaps)))
        counts.update(addends_of_times("per_token", histogram(gaps)))
    return Grade(counts, None, (f"first token after {1000 * first:.1f} ms, {len(times)} tokens",))
