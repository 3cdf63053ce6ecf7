"""An `Evaluation` in and out of the ledger, and the difference of any two without running a model again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from pacos.errors import DataError
from pacos.evaluation.comparison import evaluation_of
from pacos.evaluation.ledger.records import Entry, Prompt, Written
from pacos.evaluation.ledger.store import Ledger
from pacos.evaluation.metrics import METRICS, Answer
from pacos.evaluation.results import Evaluation, RowResult

KIND = "eval"
SIDES = ("base", "tuned")
FEWEST_SHARED = 2


def add_evaluation(ledger: Ledger, entry: Entry, evaluation: Evaluation) -> int:
    """Keep an evaluation with both sides' answers; its number."""
    prompts = [
        Prompt(row.id, row.instruction, row.input, row.reference, row.groups, row.cluster) for row in evaluation.rows
    ]
    return ledger.add(
        entry, prompts, {side: [written(getattr(row, side)) for row in evaluation.rows] for side in SIDES}
    )


def written(answer: Answer) -> Written:
    """An answer with its counts for each metric."""
    return Written(
        text=answer.text,
        prompt_ids=answer.prompt_ids,
        ids=answer.ids,
        finish_reason=answer.finish_reason,
        tokens=answer.tokens,
        generated_tokens=answer.generated_tokens,
        seconds=answer.seconds,
        nll=answer.nll,
        nll_tokens=answer.nll_tokens,
        scores={metric.name: tuple(map(float, metric.counts(answer))) for metric in METRICS},
    )


def answer_of(stored: Written) -> Answer:
    """The inverse of `written`."""
    assert stored.nll is not None
    assert stored.nll_tokens is not None
    return Answer(
        text=stored.text,
        tokens=stored.tokens,
        generated_tokens=stored.generated_tokens,
        finish_reason="length" if stored.finish_reason == "length" else "stop",
        seconds=stored.seconds,
        nll=stored.nll,
        nll_tokens=stored.nll_tokens,
        exact=bool(stored.scores["exact_match"][0]),
        rouge_l=stored.scores["rouge_l"][0],
        bleu_counts=tuple(map(int, stored.scores["bleu"])),
        ids=stored.ids,
        prompt_ids=stored.prompt_ids,
    )


def difference(ledger: Ledger, first: int, second: int, *, rng: np.random.Generator, resamples: int) -> Evaluation:
    """Evaluation `second` against `first`: their tuned models, paired by prompt, as if `first`'s were the base.

    Raises UsageError for a number that is not there, DataError where they share fewer than two prompts.
    """
    entries = [ledger.entry(number) for number in (first, second)]
    for entry in entries:
        if entry.kind != KIND:
            raise DataError(f"evaluation {entry.id} is a {entry.kind}, which has no scores that pacos eval compares")
    sides = [_by_prompt(ledger, number) for number in (first, second)]
    shared = [key for key in sides[0] if key in sides[1]]
    if len(shared) < FEWEST_SHARED:
        raise DataError(
            f"evaluations {first} and {second} share {len(shared)} of {len(sides[0])} and {len(sides[1])} prompts; a "
            "paired comparison needs at least 2: evaluate both on the same --data, --limit and --seed"
        )
    rows = tuple(_row(*sides[0][key], sides[1][key][1]) for key in shared)
    return evaluation_of(rows, rng=rng, resamples=resamples, record=_record(entries, len(shared)))


def _by_prompt(ledger: Ledger, number: int) -> dict[tuple[str, int], tuple[Prompt, Written]]:
    """By id and, for prompts that come more than once, by which time it is."""
    prompts, answers = ledger.prompts(number), ledger.answers(number, "tuned")
    seen: Counter[str] = Counter()
    found = {}
    for prompt, answer in zip(prompts, answers, strict=True):
        found[prompt.id, seen[prompt.id]] = (prompt, answer)
        seen[prompt.id] += 1
    return found


def _row(prompt: Prompt, before: Written, after: Written) -> RowResult:
    return RowResult(
        id=prompt.id,
        instruction=prompt.instruction,
        input=prompt.input,
        reference=prompt.reference,
        groups=prompt.groups,
        base=answer_of(before),
        tuned=answer_of(after),
        cluster=prompt.cluster,
    )


def _record(entries: Sequence[Entry], shared: int) -> dict[str, Any]:
    first, second = entries
    return {
        "name": f"evaluation {second.id} ({second.name}) against {first.id} ({first.name})",
        "shared prompts": f"{shared} of {first.num_prompts} and {second.num_prompts}",
        "base": f"evaluation {first.id}: {first.name}, {first.created}",
        "tuned": f"evaluation {second.id}: {second.name}, {second.created}",
    }
