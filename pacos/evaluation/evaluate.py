"""Base against tuned on the same held-out rows: score, answer, measure, compare.

    examples -> rows (ids + loss mask) -> score  -> nll           \\
             -> prompts (ids)          -> answer -> ids -> text   -> Answer -> RowResult -> METRICS -> MetricResult

The two models come in as `Answerer`s, anything that takes ids and gives completions and scores. One after the other,
so a model whose adapter is switched on and off can be both. Whether the rows are unseen is the caller's to know
(`data`'s split); what is given here is evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, Protocol

import numpy as np

from pacos.data.records import Example
from pacos.errors import DataError, UserError
from pacos.evaluation.comparison import GROUP_KEYS, evaluation_of, group_name, related_rows
from pacos.evaluation.metrics import Answer, measure
from pacos.evaluation.results import Evaluation, RowResult
from pacos.evaluation.wording import counted

MOST_NATS = 100.0
"""Loss per token beyond which no perplexity can be read; chance is 12 nats with 150,000 tokens."""
FEWEST_EXAMPLES = 2

Progress = Callable[[str, int, int], None]
"""Called with a stage (`base: scoring`), rows done and rows in all."""


class Completion(Protocol):
    """`ids` are without the stop token, `generated_tokens` with it; `seconds` without the prompt's."""

    @property
    def ids(self) -> Sequence[int]: ...
    @property
    def finish_reason(self) -> Any: ...
    @property
    def generated_tokens(self) -> int: ...
    @property
    def seconds(self) -> float: ...


class Score(Protocol):
    """Nats summed over the `tokens` that carry loss."""

    @property
    def nll(self) -> float: ...
    @property
    def tokens(self) -> int: ...


class Answerer(Protocol):
    """One model: `inference.Engine` is one. It calls `on_done` with index and completion as each answer is done."""

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Any, *, on_done: Callable[[int, Any], None]
    ) -> Sequence[Completion]: ...
    def score(self, rows: Sequence[Any]) -> Sequence[Score]: ...


class RendersExamples(Protocol):
    """What is needed of `prompts.Renderer`."""

    def render_examples(self, examples: Sequence[Example], max_length: int | None = None) -> Sequence[Any]: ...
    def render_prompt(self, example: Example) -> Sequence[int]: ...
    def decode(self, ids: Sequence[int]) -> str: ...


def evaluate(
    base: Answerer,
    tuned: Answerer,
    examples: Sequence[Example],
    renderer: RendersExamples,
    *,
    sampling: Any,
    rng: np.random.Generator,
    resamples: int = 2000,
    batch_size: int = 32,
    max_length: int | None = None,
    cluster_by: str | None = None,
    record: Mapping[str, Any] | None = None,
    on_progress: Progress = lambda stage, done, total: None,
) -> Evaluation:
    """Both models on every example that fits. `max_length` cuts scored rows as training does, and rows whose prompt
    leaves no room for an answer are left out by name; `batch_size` rows are scored at once; `record` is kept as it is.
    Rows with the same value of the column `cluster_by`, or of one lineage where none is named, are resampled together.

    Raises DataError with fewer than two examples (that fit) or rows without a token to score, UserError where a loss is
    not finite.
    """
    _check_examples(examples)
    examples, rendered, left_out = render_rows(examples, renderer, max_length)
    _check_scorable(examples, rendered)
    base_answers, tuned_answers = (
        run_model(name, model, examples, rendered, renderer, sampling, batch_size, on_progress)
        for name, model in (("base", base), ("tuned", tuned))
    )
    clusters = related_rows(examples, cluster_by)
    rows = tuple(_row(*parts) for parts in zip(examples, base_answers, tuned_answers, clusters, strict=True))
    return evaluation_of(
        rows,
        rng=rng,
        resamples=resamples,
        rows_cut=sum(row.cut > 0 for row in rendered),
        rows_left_out=left_out,
        record=record or {},
    )


def render_rows(
    examples: Sequence[Example], renderer: RendersExamples, max_length: int | None
) -> tuple[list[Example], list[Any], tuple[str, ...]]:
    """Examples that fit max_length, their rows, and the names of the others. Raises DataError where fewer than two fit."""
    rendered = renderer.render_examples(examples, max_length)
    pairs = list(zip(examples, rendered, strict=True))
    left_out = tuple(_name(example) for example, row in pairs if not row.fits)
    if len(pairs) - len(left_out) < FEWEST_EXAMPLES:
        lengths = [f"{_name(example)}: {len(row.ids)} tokens with its answer" for example, row in pairs if not row.fits]
        raise DataError(
            f"{len(left_out)} of {counted(len(pairs), 'row')} leave no room for an answer in {max_length} tokens; a "
            f"comparison needs at least {FEWEST_EXAMPLES} that do: shorten them or give other rows",
            lengths,
        )
    return [example for example, row in pairs if row.fits], [row for row in rendered if row.fits], left_out


def run_model(
    name: str,
    model: Answerer,
    examples: Sequence[Example],
    rendered: Sequence[Any],
    renderer: RendersExamples,
    sampling: Any,
    batch_size: int,
    on_progress: Progress,
) -> list[Answer]:
    """One model's scores and answers, in the order of the examples."""
    scores = score_rows(name, model, rendered, batch_size, on_progress)
    _check_finite(name, examples, scores)
    prompts = [renderer.render_prompt(e) for e in examples]
    completions = write_answers(name, model, prompts, sampling, on_progress)
    return [_answer(*parts, renderer) for parts in zip(examples, prompts, scores, completions, strict=True)]


def score_rows(
    name: str, model: Answerer, rendered: Sequence[Any], batch_size: int, on_progress: Progress
) -> list[Score]:
    """The loss of each row; `batch_size` rows are handed over at once, with word of progress between."""
    scores: list[Score] = []
    for start in range(0, len(rendered), batch_size):
        on_progress(f"{name}: scoring", start, len(rendered))
        scores += model.score(rendered[start : start + batch_size])
    on_progress(f"{name}: scoring", len(rendered), len(rendered))
    return scores


def write_answers(
    name: str, model: Answerer, prompts: Sequence[Sequence[int]], sampling: Any, on_progress: Progress
) -> Sequence[Completion]:
    """All answers in one call, so that the engine can fill each slot that falls free."""
    stage, done = f"{name}: answering", count(1)
    on_progress(stage, 0, len(prompts))
    return model.generate(
        prompts, sampling, on_done=lambda index, completion: on_progress(stage, next(done), len(prompts))
    )


def _answer(
    example: Example, prompt: Sequence[int], score: Score, completion: Completion, renderer: RendersExamples
) -> Answer:
    return measure(
        example.output,
        renderer.decode(completion.ids),
        tokens=len(completion.ids),
        generated_tokens=completion.generated_tokens,
        finish_reason=completion.finish_reason,
        seconds=float(completion.seconds),
        nll=float(score.nll),
        nll_tokens=int(score.tokens),
        ids=completion.ids,
        prompt_ids=prompt,
    )


def _row(example: Example, base: Answer, tuned: Answer, cluster: str) -> RowResult:
    groups = {key: group_name(example.extra[key]) for key in GROUP_KEYS if example.extra.get(key) not in (None, "")}
    return RowResult(
        id=example.id,
        instruction=example.instruction,
        input=example.input,
        reference=example.output,
        groups=groups,
        base=base,
        tuned=tuned,
        cluster=cluster,
    )


def _check_examples(examples: Sequence[Example]) -> None:
    if len(examples) < FEWEST_EXAMPLES:
        raise DataError(
            f"{counted(len(examples), 'row')} to evaluate; a comparison with an interval needs at least "
            f"{FEWEST_EXAMPLES}: raise the limit or hold out more rows"
        )


def _check_scorable(examples: Sequence[Example], rendered: Sequence[Any]) -> None:
    bad = [_name(example) for example, row in zip(examples, rendered, strict=True) if not any(row.loss_mask)]
    if bad:
        raise DataError("rows without a response token to score; give them an output or a larger max_length", bad)


def _check_finite(name: str, examples: Sequence[Example], scores: Sequence[Score]) -> None:
    bad = [_name(e) for e, score in zip(examples, scores, strict=True) if not score.nll / score.tokens < MOST_NATS]
    if bad:
        places = ", ".join(bad[:3]) + (", ..." if len(bad) > 3 else "")
        raise UserError(
            f"the {name} model's loss is not finite on {len(bad)} of {len(examples)} rows ({places}); its weights or "
            "compute type are broken: try model.dtype=fp32, or train again with a lower learning rate"
        )


def _name(example: Example) -> str:
    return example.source or example.id
