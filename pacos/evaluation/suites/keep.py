"""A suite's result in and out of the ledger, and what of it becomes a regression prompt.

A prompt's id in the ledger is the hash of its content, so a case's own id, kind and system message stand in its groups.
Histograms are not kept: of two suites in the ledger all measures are compared but the quantiles of times.
"""

from __future__ import annotations

import numpy as np

from pacos.errors import DataError, UsageError
from pacos.evaluation.ledger import Entry, Ledger, Prompt, Written
from pacos.evaluation.suites.cases import Case, Grade, Outcome, SuiteRow
from pacos.evaluation.suites.measures import SUITE_METRICS
from pacos.evaluation.suites.results import SuiteResult, suite_result

KIND = "suite"
FEWEST_SHARED = 2


def add_suite(ledger: Ledger, entry: Entry, result: SuiteResult) -> int:
    """Keep a suite's result; its number. The entry's kind is `suite:NAME`."""
    prompts = [_prompt(row.case, row.cluster) for row in result.rows]
    return ledger.add(
        entry, prompts, {side: [_written(getattr(row, side)) for row in result.rows] for side in ("base", "tuned")}
    )


def suite_difference(
    ledger: Ledger, first: int, second: int, *, rng: np.random.Generator, resamples: int
) -> SuiteResult:
    """The tuned models of two entries of one suite, paired by prompt, as if `first`'s were the base."""
    entries = [ledger.entry(number) for number in (first, second)]
    if entries[0].kind != entries[1].kind:
        raise DataError(
            f"evaluation {first} is a {entries[0].kind}, {second} a {entries[1].kind}; give two of one suite"
        )
    sides = [
        {p.id: (p, a) for p, a in zip(ledger.prompts(n), ledger.answers(n, "tuned"), strict=True)}
        for n in (first, second)
    ]
    shared = [id for id in sides[0] if id in sides[1]]
    if len(shared) < FEWEST_SHARED:
        raise DataError(f"evaluations {first} and {second} share {len(shared)} prompts; a comparison needs at least 2")
    rows = [SuiteRow(_case(sides[0][id][0]), _outcome(sides[0][id][1]), _outcome(sides[1][id][1])) for id in shared]
    told = [f"evaluation {entry.id}: {entry.name}, {entry.created}" for entry in entries]
    return suite_result(
        entries[0].kind.partition(":")[2],
        rows,
        SUITE_METRICS,
        rng=rng,
        resamples=resamples,
        record={"name": f"evaluation {second} against {first}", "base": told[0], "tuned": told[1]},
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
    if outcome.grade.ok is not None:
        counts["ok"] = (float(outcome.grade.ok),)
    return Written(
        outcome.text,
        prompt_ids=outcome.prompt_ids,
        ids=outcome.ids,
        finish_reason=outcome.finish_reason,
        tokens=outcome.tokens,
        generated_tokens=outcome.tokens + (outcome.finish_reason == "stop"),
        seconds=outcome.seconds,
        scores=counts,
    )


def _outcome(stored: Written) -> Outcome:
    counts = dict(stored.scores)
    ok = counts.pop("ok", None)
    return Outcome(
        stored.text,
        Grade(counts, None if ok is None else bool(ok[0])),
        stored.finish_reason,
        stored.tokens,
        stored.seconds,
        stored.ids,
        stored.prompt_ids,
    )
