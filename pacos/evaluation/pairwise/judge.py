"""A judge model as a rater: every question in both orders, the verdict parsed strictly.

    complete(prompts) -> texts      handed in by whoever has a model; the last line of a text must be a verdict;
                                    of fewer texts than prompts, they are those of the first ones

A judge that prefers whatever stands first says one thing in one order and another in the other: the two are kept apart,
and their mean is a tie. What cannot be read is kept as unparsable, with the text, and never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib import resources
from typing import NamedTuple

from pacos.evaluation.pairwise.records import Choice
from pacos.evaluation.pairwise.store import Comparisons, Vote
from pacos.evaluation.pairwise.voting import now

Complete = Callable[[Sequence[str]], list[str]]
WORDING = "judge.txt"
VERDICTS: dict[str, Choice] = {"[[A]]": "left", "[[B]]": "right", "[[tie]]": "tie"}
LONGEST_KEPT = 4000
"""Characters of a judge's reasons that are kept as the comment of its vote, from the end."""


class Asked(NamedTuple):
    """A question in one order."""

    question: int
    swapped: bool
    text: str


def wording() -> str:
    """The packaged request, with the places {instruction}, {left} and {right}."""
    return (resources.files("pacos.evaluation.pairwise") / WORDING).read_text(encoding="utf-8")


def parse_verdict(text: str) -> Choice:
    """The verdict on the last line that is not blank; unparsable where it is anything but one of the three."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return VERDICTS.get(lines[-1], "unparsable") if lines else "unparsable"


def request_text(instruction: str, input: str, left: str, right: str) -> str:
    """What a judge is asked. The texts are put in at once, so that a place named inside an answer stays as it is."""
    values = {"instruction": f"{instruction}\n\n{input}" if input else instruction, "left": left, "right": right}
    return re.sub(r"\{(instruction|left|right)\}", lambda match: values[match[1]], wording())


def unanswered(store: Comparisons, number: int, rater: str) -> list[Asked]:
    """What the judge has not been asked yet: no hidden repeats, and no answers that are the same."""
    stored = store.get(number)
    voted = {(vote.question, vote.swapped) for vote in store.votes(number, rater)}
    found = []
    for question in store.questions(number):
        if question.same or question.repeat_of is not None:
            continue
        orders = [swapped for swapped in (False, True) if (question.number, swapped) not in voted]
        if orders:
            prompt, left, right = store.texts(stored, question)
            for swapped in orders:
                sides = (right, left) if swapped else (left, right)
                found.append(Asked(question.number, swapped, request_text(prompt.instruction, prompt.input, *sides)))
    return found


def judge(
    store: Comparisons,
    number: int,
    rater: str,
    complete: Complete,
    *,
    batch: int,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Ask all that is unanswered, `batch` at a time; each batch is kept when it is there. `on_batch(done, total)`."""
    asked = unanswered(store, number, rater)
    done = 0
    while some := asked[done : done + batch]:
        texts = complete([each.text for each in some])
        assert texts
        votes = [
            Vote(each.question, rater, each.swapped, parse_verdict(text), text[-LONGEST_KEPT:], 0.0)
            for each, text in zip(some, texts, strict=False)
        ]
        store.vote(number, votes, now())
        done += len(votes)
        on_batch(done, len(asked))
