"""The nouns of the starter set, and the one source of chance.

A family is a kind of task: several wordings, and a function that draws a task (input and exact answer). What is held
out from training is decided here, so that a test row measures learning and not recall:

    parameters   words, names and numbers that no training row was drawn from: every fourth value of each pool
    wording      the last `HELD_OUT_WORDINGS` wordings of a family, which only test rows use (with held-out parameters)
    family       families that have no training row at all
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")
HELD_OUT_WORDINGS = 2
EVERY = 4
"""One value in this many of each pool is kept for test rows."""


@dataclass(frozen=True)
class Task:
    """What a family draws: the material, its one right answer, and what the wording's {fields} are filled with."""

    input: str
    output: str
    fields: Mapping[str, str] = field(default_factory=dict)


class Draw:
    """Seeded choices on one side of every pool: held-out values for test rows, the others for the rest."""

    def __init__(self, rng: random.Random, held_out: bool):
        self.rng = rng
        self.held_out = held_out

    def side(self, pool: Sequence[T]) -> list[T]:
        """The values of a pool that this side may use: every fourth, or the other three."""
        return [value for index, value in enumerate(pool) if (index % EVERY == EVERY - 1) == self.held_out]

    def one(self, pool: Sequence[T]) -> T:
        return self.rng.choice(self.side(pool))

    def some(self, pool: Sequence[T], count: int) -> list[T]:
        """`count` different values of a pool."""
        return self.rng.sample(self.side(pool), count)

    def number(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return self.one(range(low, high + 1))

    def size(self, low: int, high: int) -> int:
        """How many things a task holds: a number that is not held out, for it is no parameter."""
        return self.rng.randint(low, high)

    def shuffled(self, values: Sequence[T]) -> list[T]:
        return self.rng.sample(list(values), len(values))


@dataclass(frozen=True)
class Family:
    """A kind of task. A wording with {input} carries the material itself; such a wording ends in ': {input}'."""

    name: str
    draw: Callable[[Draw], Task]
    wordings: tuple[str, ...]
    hard: bool = False
    """Hard ones (arithmetic, sorting, grammar) get fewer rows; they are there so that the score is honest."""
    test_only: bool = False

    @property
    def train_wordings(self) -> tuple[str, ...]:
        return self.wordings[:-HELD_OUT_WORDINGS]

    @property
    def held_out_wordings(self) -> tuple[str, ...]:
        return self.wordings[-HELD_OUT_WORDINGS:]

    def prompt(self, wording: str, task: Task) -> tuple[str, str]:
        """Instruction and input; the input is empty where the wording carries the material."""
        instruction = wording.format(input=task.input, **task.fields)
        return instruction, "" if "{input}" in wording else task.input
