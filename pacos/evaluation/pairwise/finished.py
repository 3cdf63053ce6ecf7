"""Comparisons that have something to say: the result of one, and those of the two models of an evaluation.

told_of(store, 3)                       the result of comparison 3
comparisons_of(store, base, tuned)      finished ones in which both models are contestants, the newest first
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pacos.evaluation.ledger import Subject
from pacos.evaluation.pairwise.result import Result, result_of
from pacos.evaluation.pairwise.store import Comparisons, Spending
from pacos.evaluation.pairwise.tables import as_json, counts_line, headline, notes
from pacos.evaluation.pairwise.voting import JUDGE, ballots_of, progress


@dataclass(frozen=True)
class Told:
    """A comparison with its result."""

    number: int
    created: str
    prompts: str
    result: Result
    spending: Mapping[str, Spending]

    @property
    def headlines(self) -> list[str]:
        return [headline(self.result, pair) for pair in self.result.pairs]

    @property
    def notes(self) -> list[str]:
        """What the figures rest on."""
        return notes(self.result, self.spending)

    @property
    def lines(self) -> list[str]:
        """All that is said, where there is no table."""
        return [*self.headlines, *(counts_line(self.result, pair) for pair in self.result.pairs), *self.notes]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"comparison": self.number, **as_json(self.result, self.spending)}


def told_of(store: Comparisons, number: int) -> Told:
    """Of every vote so far. Its result has no pairs where no vote says anything."""
    stored, ballots = store.get(number), ballots_of(store, number)
    judges = sorted({ballot.rater for ballot in ballots if ballot.rater.startswith(JUDGE)})
    result = result_of(ballots, stored.contestants, judges=judges, seed=stored.seed)
    return Told(number, stored.created, stored.prompts, result, store.spending(number))


def standing(store: Comparisons, number: int) -> list[str]:
    """Who has questions left, in words; nobody where all people that have begun are done."""
    people = dict.fromkeys(vote.rater for vote in store.votes(number) if not vote.rater.startswith(JUDGE))
    done = {rater: progress(store, number, rater) for rater in people}
    return [f"{rater} has answered {p.done:,} of {p.total:,}" for rater, p in done.items() if p.done < p.total]


def comparisons_of(store: Comparisons, base: Subject, tuned: Subject) -> tuple[Told, ...]:
    """Names stay hidden while somebody has questions left, so such a comparison is not told."""
    found = []
    for stored in store.all():
        sides = store.ledger.entry(stored.evaluation).sides.values()
        if all(any(same_model(subject, side) for side in sides) for subject in (base, tuned)):
            if standing(store, stored.id):
                continue
            told = told_of(store, stored.id)
            if told.result.pairs:
                found.append(told)
    return tuple(found)


def same_model(one: Subject, other: Subject) -> bool:
    """The same adapter on the same base, by the hashes of their weights; by name where a base was named by hand."""
    if one.adapter_sha256 != other.adapter_sha256:
        return False
    if one.weights_sha256 and other.weights_sha256:
        return one.weights_sha256 == other.weights_sha256
    return one.base == other.base
