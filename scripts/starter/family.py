"""The nouns of the starter set, and the one source of chance.

A family is a kind of task: several wordings, and a function that draws a task (input and exact answer). What is held
out from training is decided here, so that a test row measures learning and not recall:

    parameters   words, names and numbers that no training row was drawn from: every fourth value of each pool
    wording      the wordings of a family that stand below the dashes in wordings.txt (with held-out parameters too)
    family       families that have no training row at all
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")
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


Drawer = Callable[[Draw], Task]


@dataclass(frozen=True)
class Family:
    """A kind of task, with its wordings. A wording with {input} carries the material itself, at its end."""

    name: str
    draw: Drawer
    train_wordings: tuple[str, ...]
    held_out_wordings: tuple[str, ...]
    hard: bool
    """Hard ones (arithmetic, sorting, grammar) get fewer rows; they are there so that the score is honest."""
    test_only: bool

    @property
    def wordings(self) -> tuple[str, ...]:
        return self.train_wordings + self.held_out_wordings

    def prompt(self, wording: str, task: Task) -> tuple[str, str]:
        """Instruction and input; the input is empty where the wording carries the material."""
        instruction = wording.format(input=task.input, **task.fields)
        return instruction, "" if "{input}" in wording else task.input
