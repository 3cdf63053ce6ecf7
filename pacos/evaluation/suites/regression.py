"""Regression prompts: what once broke, and what its answer must and must not be from then on.

    name: my assistant
    prompts:
      - id: capital-of-australia
        prompt: What is the capital of Australia?
        must: [{contains: Canberra}, {max_length: 200}]
        must_not: [{contains: [Sydney, Melbourne]}]
        why: answered Sydney in run lora-3

A judge's question is put to a model as it is said in `judge.py`; where its answer is neither yes nor no, or a regex is not
done with an answer in time, the case has no result, and is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import Field, model_validator

from pacos.evaluation.suites.cases import Case, Grade
from pacos.evaluation.suites.checks import Check, broken_must, broken_must_not
from pacos.evaluation.suites.files import Section, load_file
from pacos.evaluation.suites.judge import Question, Verdict
from pacos.evaluation.suites.patterns import TooSlow
from pacos.evaluation.suites.run import Grader

AskJudge = Callable[[Sequence[Question]], Sequence[Verdict]]


class RegressionPrompt(Section):
    """A prompt with its checks. `input` and `system` are optional, as in a dataset."""

    id: str = Field(min_length=1)
    prompt: str = Field(min_length=1)
    input: str = ""
    system: str = ""
    kind: str = ""
    must: tuple[Check, ...] = ()
    must_not: tuple[Check, ...] = ()
    why: str = ""

    @model_validator(mode="after")
    def _checked(self) -> RegressionPrompt:
        if not self.must and not self.must_not:
            raise ValueError("nothing is checked; give must or must_not")
        return self

    @property
    def case(self) -> Case:
        must = [f"{check.kind} {check.value!r}" for check in self.must]
        must_not = [f"not {check.kind} {check.value!r}" for check in self.must_not]
        expected = ", ".join([*must, *must_not])
        return Case(self.id, self.prompt, self.input, self.system, self.kind, expected, self.why)


class RegressionSuite(Section):
    """A file of regression prompts."""

    name: str = Field("regression", min_length=1)
    prompts: tuple[RegressionPrompt, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _each_once(self) -> RegressionSuite:
        twice = [id for id, times in Counter(prompt.id for prompt in self.prompts).items() if times > 1]
        if twice:
            raise ValueError(f"ids stand more than once: {', '.join(twice)}; give each prompt its own")
        return self

    @property
    def judged(self) -> list[str]:
        """Ids of prompts that a judge is asked about."""
        return [p.id for p in self.prompts if any(c.kind == "judge" for c in (*p.must, *p.must_not))]


def load_regression(path: Path) -> RegressionSuite:
    """Raises UsageError that names every mistake of the file."""
    return load_file(path, RegressionSuite)


def grader(suite: RegressionSuite, ask: AskJudge | None) -> Grader:
    """Grades answers to the suite's cases. `ask` may be None where no judge is needed."""
    prompts = {prompt.id: prompt for prompt in suite.prompts}

    def grade(cases: Sequence[Case], texts: Sequence[str]) -> list[Grade]:
        asked = [(prompts[case.id], text) for case, text in zip(cases, texts, strict=True)]
        questions = [question for prompt, text in asked for question in _questions(prompt, text)]
        assert ask is not None or not questions
        verdicts = iter(ask(questions) if ask is not None and questions else ())
        return [_grade(prompt, text, [next(verdicts) for _ in _questions(prompt, text)]) for prompt, text in asked]

    return grade


def _questions(prompt: RegressionPrompt, text: str) -> list[Question]:
    asked = [(c, wanted) for checks, wanted in ((prompt.must, "yes"), (prompt.must_not, "no")) for c in checks]
    return [
        Question(check.judge, prompt.case.example.user_text, text, "yes" if wanted == "yes" else "no")
        for check, wanted in asked
        if check.judge is not None
    ]


def _grade(prompt: RegressionPrompt, text: str, verdicts: Sequence[Verdict]) -> Grade:
    broken, untold = [], [verdict.note for verdict in verdicts if verdict.holds is None]
    for tell, checks in ((broken_must, prompt.must), (broken_must_not, prompt.must_not)):
        for check in checks:
            try:
                broken += [note] if check.kind != "judge" and (note := tell(check, text)) else []
            except TooSlow as slow:
                untold.append(str(slow))
    broken += [verdict.note for verdict in verdicts if verdict.holds is False]
    if untold and not broken:
        return Grade({}, None, tuple(untold))
    return Grade({"passed_share": (float(not broken), 1.0)}, not broken, (*broken, *untold))
