"""`pacos eval --gate FILE`: what is said of a gate, and what the command ends with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from pacos.cli.show import out, say
from pacos.errors import GateError, UndecidedError

if TYPE_CHECKING:
    from pacos.evaluation import Evaluation
    from pacos.evaluation.gates import Condition
    from pacos.evaluation.suites.results import SuiteResult

Result = TypeVar("Result", "Evaluation", "SuiteResult")
STYLES = {"holds": "green", "does not hold": "bold red", "cannot tell": "yellow"}


def with_gates(evaluation: Result, conditions: Sequence[Condition], seed: int) -> Result:
    """The evaluation with every condition judged, and its odds of being wrong simulated."""
    import numpy as np

    from pacos.evaluation.gates import hold

    if not conditions:
        return evaluation
    say(f"simulating {len(conditions)} gate{'s' if len(conditions) > 1 else ''} on these rows")
    return replace(evaluation, gates=hold(conditions, evaluation, rng=np.random.default_rng(seed)))


def print_gates(evaluation: Evaluation | SuiteResult) -> None:
    console = out()
    for gated in evaluation.gates:
        console.print(f"gate: {gated.sentence}", markup=False, style=STYLES[gated.judged.outcome])
        for note in gated.notes:
            console.print(f"  {note}", markup=False, style="dim")


def end_by_gates(evaluation: Evaluation | SuiteResult) -> None:
    """Raises GateError (5) where a condition does not hold, UndecidedError (6) where one cannot be told."""
    from pacos.evaluation.gates import outcome_of

    if not evaluation.gates:
        return
    outcome = outcome_of(evaluation.gates)
    named = "\n".join(f"  {gated.sentence}" for gated in evaluation.gates if gated.judged.outcome == outcome)
    if outcome == "does not hold":
        raise GateError(f"the gate does not hold\n{named}")
    if outcome == "cannot tell":
        more = [gated.judged.more_prompts for gated in evaluation.gates if gated.judged.outcome == outcome]
        known = [number for number in more if number is not None]
        wanted = f"; about {max(known):,} more would tell" if len(known) == len(more) else ""
        raise UndecidedError(f"the gate cannot be told with {len(evaluation.rows)} prompts{wanted}\n{named}")
