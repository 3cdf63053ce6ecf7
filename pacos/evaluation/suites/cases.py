"""The nouns of the suites: what is asked, what came back, and both models' answers side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pacos.data.records import Example


@dataclass(frozen=True)
class Case:
    """One thing that is asked of both models. `kind` groups cases in the report, `expected` is told beside the answers."""

    id: str
    prompt: str
    input: str = ""
    system: str = ""
    kind: str = ""
    expected: str = ""
    why: str = ""

    @property
    def example(self) -> Example:
        """The case as a row without an answer."""
        return Example(instruction=self.prompt, input=self.input, system=self.system)


@dataclass(frozen=True)
class Grade:
    """What an answer is worth: the addends of each measure that it counts for, and what is to be said of it.

    `ok` is None where nothing was judged.
    """

    counts: Mapping[str, tuple[float, ...]]
    ok: bool | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """One model's answer to one case, graded. `tokens` are without the stop token, `generated_tokens` with it;
    `seconds` without the prompt's."""

    text: str
    grade: Grade
    finish_reason: str = "stop"
    tokens: int = 0
    generated_tokens: int = 0
    seconds: float = 0.0
    ids: tuple[int, ...] = field(default=(), metadata={"json": False})
    prompt_ids: tuple[int, ...] = field(default=(), metadata={"json": False})


@dataclass(frozen=True)
class SuiteRow:
    """A case, and what each model made of it. Rows of one `cluster` are related."""

    case: Case
    base: Outcome
    tuned: Outcome
    cluster: str = ""

    @property
    def id(self) -> str:
        return self.case.id

    def counts_for(self, measure: str) -> bool:
        """Whether both answers do: what is compared is paired."""
        return measure in self.base.grade.counts and measure in self.tuned.grade.counts

    @property
    def change(self) -> int:
        """1 where tuned alone is as it should be, -1 where base alone is, else 0."""
        return (self.tuned.grade.ok is True) - (self.base.grade.ok is True)
