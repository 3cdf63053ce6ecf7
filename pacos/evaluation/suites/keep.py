"""A suite's result in and out of the ledger, and what of it becomes a regression prompt.

A prompt's id in the ledger is the hash of its content, so a case's own id, kind and system message stand in its groups.
A histogram of times is kept once, without its empty bins, as `per_token_times`: the quantiles are reckoned from it again.
"""

from __future__ import annotations

import numpy as np

from pacos.errors import UsageError
from pacos.evaluation.ledger import Entry, Ledger, Paired, Prompt, Written
from pacos.evaluation.suites.cases import Case, Grade, Outcome, SuiteRow
from pacos.evaluation.suites.measures import (
    QUANTILES,
    SUITE_METRICS,
    TIMES,
    addends_of_times,
    dense,
    quantile_name,
    sparse,
)
from pacos.evaluation.suites.results import SuiteResult, suite_result

KIND = "suite"
_TIMES = tuple((times, quantile_name(times, QUANTILES[0])) for times in TIMES)


def add_suite(ledger: Ledger, entry: Entry, result: SuiteResult) -> int:
    """Keep a suite's result; its number. The entry's kind is `suite:NAME`."""
    prompts = [_prompt(row.case, row.cluster) for row in result.rows]
    return ledger.add(
        entry, prompts, {side: [_written(getattr(row, side)) for row in result.rows] for side in ("base", "tuned")}
    )


def suite_difference(found: Paired, *, rng: np.random.Generator, resamples: int) -> SuiteResult:
    """The second column against the first, as if the first were the base."""
    return suite_result(
        found.first.kind.partition(":")[2],
        [SuiteRow(_case(p), _outcome(before), _outcome(after), p.cluster) for p, before, after in found.rows],
        SUITE_METRICS,
        rng=rng,
        resamples=resamples,
        record=found.record,
    )


def find_prompt(ledger: Ledger, number: int, row: str) -> Prompt:
    """A prompt of an evaluation: by its id or a beginning of it, by a suite's case, or by its place, from 1.

    Raises UsageError where there is none, or more than one.
    """
    prompts = ledger.prompts(ledger.entry(number).id)
    if row.isdecimal() and 1 <= int(row) <= len(prompts):
        return prompts[int(row) - 1]
    exact = [p for p in prompts if row in (p.id, p.groups.get("case"))]
    found = exact or [p for p in prompts if p.id.startswith(row)]
    if len({p.id for p in found}) != 1:
        known = ", ".join(p.groups.get("case", p.id) for p in prompts[:3])
        what = "stands for several rows" if found else "is no row"
        raise UsageError(
            f"'{row}' {what} of evaluation {number}; rows are 1 to {len(prompts)}, or named as {known}, ..."
        )
    return found[0]


def _prompt(case: Case, cluster: str) -> Prompt:
    groups = {"case": case.id, "kind": case.kind, "system": case.system}
    kept = {name: value for name, value in groups.items() if value}
    return Prompt(case.example.id, case.prompt, case.input, case.expected, kept, cluster)


def _case(prompt: Prompt) -> Case:
    named = prompt.groups
    return Case(
        named.get("case", prompt.id),
        prompt.instruction,
        prompt.input,
        named.get("system", ""),
        named.get("kind", ""),
        prompt.reference,
    )


def _written(outcome: Outcome) -> Written:
    counts = {name: tuple(map(float, addends)) for name, addends in outcome.grade.counts.items() if len(addends) == 2}
    counts.update(
        {f"{times}_times": sparse(outcome.grade.counts[name]) for times, name in _TIMES if name in outcome.grade.counts}
    )
    if outcome.grade.ok is not None:
        counts["ok"] = (float(outcome.grade.ok),)
    return Written(
        outcome.text,
        prompt_ids=outcome.prompt_ids,
        ids=outcome.ids,
        finish_reason=outcome.finish_reason,
        tokens=outcome.tokens,
        generated_tokens=outcome.generated_tokens,
        seconds=outcome.seconds,
        scores=counts,
    )


def _outcome(stored: Written) -> Outcome:
    counts = dict(stored.scores)
    ok = counts.pop("ok", None)
    for times, _ in _TIMES:
        if (pairs := counts.pop(f"{times}_times", None)) is not None:
            counts.update(addends_of_times(times, dense(pairs)))
    return Outcome(
        stored.text,
        Grade(counts, None if ok is None else bool(ok[0])),
        stored.finish_reason,
        stored.tokens,
        stored.generated_tokens,
        stored.seconds,
        stored.ids,
        stored.prompt_ids,
    )
