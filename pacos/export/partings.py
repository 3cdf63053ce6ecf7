"""Where two greedy answers part: at a near tie, which any rounding turns, or because the models differ.

    gap     between the token that the first side writes and the one that the second does, on the first side, in nats
    noise   how far the sides are apart on the tokens that are likeliest there on both: the standard deviation of the
            differences, since what all of them share changes no choice

A stop is a token as any other here. A gap of at most twice the noise is a near tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

from pacos.export.observe import Answer, Observed

NEAR = 2.0
"""Times the noise: either of the two tokens may move by it."""


@dataclass(frozen=True)
class Parting:
    """The first token at which the two answers of a prompt are not the same; `answer` and `token` counted from 0."""

    answer: int
    token: int
    gap: float
    """At least: where the other token is not among the likeliest that are kept, it is further down than they."""
    noise: float
    near_tie: bool


def partings(before: Observed, after: Observed) -> tuple[Parting, ...]:
    """One for each pair of answers that part. What a side that keeps no likeliest tokens says is left out."""
    found = []
    for number, tops in enumerate(zip(before.tops, after.tops, strict=True)):
        ours, theirs = _written(before.answers[number]), _written(after.answers[number])
        at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
        if at is None:
            continue
        first, second = dict(tops[0][at]), dict(tops[1][at])
        gap = first[ours[at]] - first.get(theirs[at], min(first.values()))
        apart = [first[id] - second[id] for id in first.keys() & second.keys()]
        noise = stdev(apart) if len(apart) > 1 else 0.0
        found.append(Parting(number, at, gap, noise, gap <= NEAR * noise))
    return tuple(found)


def _written(answer: Answer) -> Sequence[int]:
    """The tokens of an answer, its stop among them."""
    ids, stop = answer
    return ids if stop is None else (*ids, stop)
