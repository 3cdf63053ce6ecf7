"""Memorization: is a training row completed word for word from its beginning?

    prompt + first half of the answer --greedy--> continuation, held against the answer's next tokens

A row counts as completed verbatim where all of them match: up to MOST tokens, as Carlini et al. 2023 ("Quantifying
Memorization Across Neural Language Models") have 50. An answer of a few tokens is completed by chance, so rows with fewer
than SHORTEST in their answer are skipped, and counted. What can be guessed is no memory: so rows that were held out are
completed too, and the base model completes all of them; memorized is what tuned completes, and base, and unseen rows, do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pacos.data.records import Example
from pacos.evaluation.evaluate import Answerer, Progress, write_answers
from pacos.evaluation.suites.cases import Case, Grade, Outcome, SuiteRow
from pacos.evaluation.suites.run import outcome

MOST = 50
SHORTEST = 16
"""Tokens of an answer, half of which are given."""
Side = Literal["training row", "unseen row"]


@dataclass(frozen=True)
class Prefix:
    """A row cut in its answer: the ids up to the cut, and those that came next in the data."""

    example: Example
    side: Side
    ids: tuple[int, ...]
    rest: tuple[int, ...]


def cut_row(
    example: Example, rendered: Any, side: Side, stop_ids: frozenset[int], shortest: int = SHORTEST
) -> Prefix | None:
    """The row cut in the middle of its answer; None where that has fewer than `shortest` tokens, or was cut for its length.
    `rendered`: ids and their loss mask."""
    first = next((i for i, carries in enumerate(rendered.loss_mask) if carries), len(rendered.ids))
    end = len(rendered.ids)
    while end > first and rendered.ids[end - 1] in stop_ids:
        end -= 1
    cut = first + (end - first) // 2
    rest = tuple(rendered.ids[cut : min(end, cut + MOST)])
    if not rendered.fits or not all(rendered.loss_mask[first:end]) or end - first < shortest:
        return None
    return Prefix(example, side, tuple(rendered.ids[:cut]), rest)


def run_memorization(
    base: Answerer,
    tuned: Answerer,
    prefixes: Sequence[Prefix],
    renderer: Any,
    *,
    sampling: Any,
    on_progress: Progress = lambda stage, done, total: None,
) -> list[SuiteRow]:
    """Every prefix completed by both models, greedily."""
    samplings = [replace(sampling, max_new_tokens=len(prefix.rest)) for prefix in prefixes]
    prompts = [prefix.ids for prefix in prefixes]
    sides = [
        write_answers(name, model, prompts, samplings, on_progress)
        for name, model in (("base", base), ("tuned", tuned))
    ]
    return [
        SuiteRow(_case(prefix, renderer), _outcome(prefix, before, renderer), _outcome(prefix, after, renderer))
        for prefix, before, after in zip(prefixes, *sides, strict=True)
    ]


def grade_completion(prefix: Prefix, ids: Sequence[int]) -> Grade:
    """How much of the rest of a row was written."""
    matched, verbatim = longest_match(prefix.rest, ids), tuple(ids) == prefix.rest
    if prefix.side == "unseen row":
        return Grade({"unseen_completed_share": (float(verbatim), 1.0)}, None, (_told(matched, prefix),))
    counts = {"memorized_share": (float(verbatim), 1.0), "longest_match_tokens": (float(matched), 1.0)}
    return Grade(counts, not verbatim, (_told(matched, prefix),))


def longest_match(wanted: Sequence[int], written: Sequence[int]) -> int:
    """Tokens of the longest run that stands in both."""
    best, above = 0, [0] * (len(written) + 1)
    for token in wanted:
        here = [0] * (len(written) + 1)
        for i, other in enumerate(written):
            if token == other:
                here[i + 1] = above[i] + 1
        best, above = max(best, *here), here
    return best


def facts_of(rows: Sequence[SuiteRow], skipped: Mapping[str, str], shortest: int) -> dict[str, Any]:
    """The longest match of each side with the row where it is, and of which rows how many were skipped."""
    facts: dict[str, Any] = {
        f"{rows_of} skipped, for their answer has fewer than {shortest} tokens or was cut": count
        for rows_of, count in skipped.items()
    }
    trained = [row for row in rows if row.counts_for("longest_match_tokens")]
    for side in ("base", "tuned") if trained else ():
        longest = max(trained, key=lambda row: getattr(row, side).grade.counts["longest_match_tokens"][0])
        tokens = getattr(longest, side).grade.counts["longest_match_tokens"][0]
        facts[f"longest match, {side}"] = f"{tokens:.0f} tokens, row {longest.id}"
    return facts


def _told(matched: int, prefix: Prefix) -> str:
    return f"longest match {matched} of {len(prefix.rest)} tokens"


def _case(prefix: Prefix, renderer: Any) -> Case:
    return Case(
        id=prefix.example.id,
        prompt=prefix.example.user_text,
        kind=prefix.side,
        expected=renderer.decode(prefix.rest),
        why="the rest of its answer",
    )


def _outcome(prefix: Prefix, completion: Any, renderer: Any) -> Outcome:
    grade = grade_completion(prefix, completion.ids)
    return outcome(renderer.decode(completion.ids), grade, completion, prefix.ids)
