"""An `Evaluation` in and out of the ledger, and the difference of any two without running a model again."""

from __future__ import annotations

import numpy as np

from pacos.errors import DataError
from pacos.evaluation.comparison import evaluation_of
from pacos.evaluation.ledger.pairs import Paired
from pacos.evaluation.ledger.records import Entry, Prompt, Written
from pacos.evaluation.ledger.store import Ledger
from pacos.evaluation.metrics import METRICS, Answer
from pacos.evaluation.results import Evaluation, RowResult

KIND = "eval"
SIDES = ("base", "tuned")


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


def difference(found: Paired, *, rng: np.random.Generator, resamples: int) -> Evaluation:
    """The second column against the first, as if the first were the base. Raises DataError for what has no scores."""
    if found.first.kind != KIND:
        raise DataError(
            f"evaluation {found.first.id} is a {found.first.kind}, which has no scores that pacos eval compares"
        )
    rows = tuple(
        RowResult(
            id=prompt.id,
            instruction=prompt.instruction,
            input=prompt.input,
            reference=prompt.reference,
            groups=prompt.groups,
            base=answer_of(before),
            tuned=answer_of(after),
            cluster=prompt.cluster,
        )
        for prompt, before, after in found.rows
    )
    return evaluation_of(rows, rng=rng, resamples=resamples, record=found.record)
