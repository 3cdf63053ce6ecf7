"""What a teacher is asked: seeds, or rows of one's own, -> numbered requests.

    TaskRequests      "write N new tasks", with a few seeds as examples                       without end
    EvolveRequests    "make this task harder | deeper | rephrased"                            rows x ways
    AnswerRequests    the instruction itself: its answer is all that is wanted                one a row

A request follows from its number alone, so a run that was interrupted asks on where it stopped, and a batch file can be
read back without having been kept. Seeds are dealt into families, and a request takes its examples from one of them:
rows of different families share no seed, so that a split can put whole families on one side. (With any three of 175
seeds together, as Alpaca drew them, a hundred requests tie nearly all rows to each other.)
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from pacos.data import Example
from pacos.errors import UsageError
from pacos.self_instruct.wording import Wording

NO_INPUT = "<noinput>"


@dataclass(frozen=True)
class Request:
    """One question to a teacher. `lineage` are the ids of the seeds or rows that it shows."""

    number: int
    text: str
    lineage: tuple[str, ...]
    first: int = 1
    """Number of the first task asked for; examples have the numbers before it."""
    num_tasks: int = 1
    given: Example | None = None
    """The row whose answer is wanted; None where tasks are wanted."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Columns that the rows made from it get: domain, way."""

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode("utf-8", "replace")).hexdigest()


class Requests(Protocol):
    """A source of requests. `total` is None where there is no end to them."""

    total: int | None
    num_tasks: int

    def request(self, number: int) -> Request: ...


def ancestors(example: Example) -> tuple[str, ...]:
    """What rows made from an example name as their lineage: its own lineage, or else its id."""
    return example.lineage or (example.id,)


def as_task(example: Example, number: int) -> str:
    """An example as teachers see it, and as they are asked to write."""
    return (
        f"###\n{number}. Instruction: {example.instruction.strip()}\n{number}. Input:\n"
        f"{example.input.strip() or NO_INPUT}\n{number}. Output:\n{example.output.strip()}\n\n"
    )


class TaskRequests:
    """New tasks from seeds. `family` is how many seeds keep to themselves, 0 lets any of them stand together."""

    total = None

    def __init__(
        self,
        seeds: Sequence[Example],
        wording: Wording,
        *,
        num_tasks: int,
        num_examples: int,
        family: int,
        domains: Sequence[str] = (),
        seed: int = 0,
    ):
        if num_examples > min(len(seeds), family or len(seeds)):
            raise UsageError(
                f"--examples {num_examples}: a request takes its examples from a family of {family or len(seeds)} "
                f"of the {len(seeds)} seeds; give fewer examples, or a larger --family"
            )
        wording.require("examples", bool(num_examples), "--examples 0")
        wording.require("domain", bool(domains), "no --domain")
        self.wording, self.num_tasks, self.num_examples = wording, num_tasks, num_examples
        self.domains, self.seed = tuple(domains), seed
        self.families = deal(seeds, family, random.Random(f"{seed} families"))

    def request(self, number: int) -> Request:
        rng = random.Random(f"{self.seed} request {number}")
        lap, place = divmod(number, len(self.families))
        order = random.Random(f"{self.seed} lap {lap}").sample(range(len(self.families)), len(self.families))
        shown = rng.sample(self.families[order[place]], self.num_examples)
        domain = self.domains[number % len(self.domains)] if self.domains else ""
        first = self.num_examples + 1
        text = self.wording.fill(
            tasks=str(self.num_tasks),
            examples="".join(as_task(example, n) for n, example in enumerate(shown, 1)),
            domain=f"\nAbove all: every task is about this subject: {domain}" if domain else "",
            first=str(first),
            last=str(first + self.num_tasks - 1),
        )
        lineage = tuple(sorted({name for example in shown for name in ancestors(example)})) or (f"request {number}",)
        return Request(number, text, lineage, first, self.num_tasks, extra={"domain": domain} if domain else {})


def deal(seeds: Sequence[Example], size: int, rng: random.Random) -> list[list[Example]]:
    """Seeds in families of `size`, by chance; what is left over joins the last ones. 0: all are one family."""
    shuffled = rng.sample(list(seeds), len(seeds))
    count = max(1, len(seeds) // size) if size else 1
    return [shuffled[n::count] for n in range(count)]


class EvolveRequests:
    """Every row in every way, the ways in turn: harder, deeper, rephrased."""

    num_tasks = 1

    def __init__(self, rows: Sequence[Example], wordings: Mapping[str, Wording]):
        self.rows, self.wordings, self.ways = list(rows), dict(wordings), list(wordings)
        self.total = len(self.rows) * len(self.ways)

    def request(self, number: int) -> Request:
        lap, place = divmod(number, len(self.rows))
        row, way = self.rows[place], self.ways[(place + lap) % len(self.ways)]
        text = self.wordings[way].fill(task=as_task(row, 1), first="2")
        return Request(number, text, ancestors(row), first=2, extra={"way": way, "parent": row.id})


class AnswerRequests:
    """An answer to each instruction."""

    num_tasks = 1

    def __init__(self, rows: Sequence[Example], wording: Wording):
        self.rows, self.wording, self.total = list(rows), wording, len(rows)

    def request(self, number: int) -> Request:
        row = self.rows[number]
        text = self.wording.fill(instruction=row.instruction, input=row.input).strip()
        return Request(number, text, ancestors(row), given=row)
