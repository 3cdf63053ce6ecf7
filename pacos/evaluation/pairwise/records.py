"""The nouns of a comparison.

    question    one prompt, two contestants, a side for each: what a rater sees, without names
    vote        what a rater said of a question: left, right, tie, both bad, skip; a judge also unparsable
    ballot      a vote as the statistics take it: which contestant stood where, and the score of the right one

Contestants are numbered from 0 in the order they were given; the first is the one that others are held against.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Choice = Literal["left", "right", "tie", "both bad", "skip", "unparsable"]
RIGHT_SCORE: Mapping[str, float | None] = {
    "left": 0.0, "right": 1.0, "tie": 0.5, "both bad": 0.5, "skip": None, "unparsable": None,
}  # fmt: skip
"""What a choice gives to the right side; None where it says nothing."""
BY_PEOPLE: tuple[Choice, ...] = ("left", "right", "tie", "both bad", "skip")


@dataclass(frozen=True)
class Question:
    """`position` is the prompt's, `left` and `right` are contestants. `repeat_of` is an earlier question, sides swapped."""

    number: int
    position: int
    left: int
    right: int
    repeat_of: int | None = None
    same: bool = False
    """The two answers are the same text: nobody is asked, and it counts as a tie."""


@dataclass(frozen=True)
class Shown:
    """A question as a rater sees it: no names. `done` of `total` are answered."""

    number: int
    instruction: str
    input: str
    left: str
    right: str
    done: int
    total: int


@dataclass(frozen=True)
class Ballot:
    """One vote on one prompt. `right_score` is 1 where the right side won, 0 where it lost; between them for a tie or a
    judge that says how sure it is; None where the vote says nothing. Lengths in characters."""

    item: int
    cluster: str
    left: int
    right: int
    rater: str
    choice: str
    right_score: float | None
    left_length: int
    right_length: int
    repeat: bool = False

    @property
    def pair(self) -> tuple[int, int]:
        """The two contestants, the lower number first."""
        return (min(self.left, self.right), max(self.left, self.right))

    @property
    def score(self) -> float | None:
        """What the contestant with the higher number got."""
        if self.right_score is None:
            return None
        return self.right_score if self.right > self.left else 1 - self.right_score

    @property
    def longer_by(self) -> int:
        """Characters by which the answer of the contestant with the higher number is longer."""
        longer = self.right_length - self.left_length
        return longer if self.right > self.left else -longer
