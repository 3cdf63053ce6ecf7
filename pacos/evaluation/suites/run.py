"""Cases -> both models' answers -> grades -> rows.

    case --renderer--> prompt ids --engine--> ids --decode--> text --grade--> Grade

One model after the other, as `evaluate` does. What a suite alone knows is how it grades.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pacos.data.records import Example
from pacos.evaluation.evaluate import Answerer, Completion, Progress, write_answers
from pacos.evaluation.suites.cases import Case, Grade, Outcome, SuiteRow

Grader = Callable[[Sequence[Case], Sequence[str]], Sequence[Grade]]
"""Cases and one model's answers to them -> a grade for each."""


class RendersPrompts(Protocol):
    """What is needed of `prompts.Renderer`."""

    def render_prompt(self, example: Example) -> Sequence[int]: ...
    def decode(self, ids: Sequence[int]) -> str: ...


def run_cases(
    base: Answerer,
    tuned: Answerer,
    cases: Sequence[Case],
    renderer: RendersPrompts,
    grade: Grader,
    *,
    sampling: Any,
    on_progress: Progress = lambda stage, done, total: None,
) -> list[SuiteRow]:
    """Every case put to both models."""
    prompts = [renderer.render_prompt(case.example) for case in cases]
    sides = [
        _outcomes(cases, prompts, write_answers(name, model, prompts, sampling, on_progress), renderer, grade)
        for name, model in (("base", base), ("tuned", tuned))
    ]
    return [SuiteRow(case, *answers) for case, *answers in zip(cases, *sides, strict=True)]


def _outcomes(
    cases: Sequence[Case],
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Completion],
    renderer: RendersPrompts,
    grade: Grader,
) -> list[Outcome]:
    texts = [renderer.decode(completion.ids) for completion in completions]
    parts = zip(texts, grade(cases, texts), completions, prompts, strict=True)
    return [outcome(*part) for part in parts]


def outcome(text: str, grade: Grade, completion: Completion, prompt: Sequence[int]) -> Outcome:
    return Outcome(
        text=text,
        grade=grade,
        finish_reason=str(completion.finish_reason),
        tokens=len(completion.ids),
        generated_tokens=completion.generated_tokens,
        seconds=float(completion.seconds),
        ids=tuple(completion.ids),
        prompt_ids=tuple(prompt),
    )
