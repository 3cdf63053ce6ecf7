"""Ballots -> what may be said.

    ballots --mean over orders and raters--> one score for each prompt (1 won, 0.5 tied, 0 lost)
            --paired bootstrap over prompts, or groups of related ones--> win rate with interval, p, verdict

Wins are those of the later contestant of a pair, held against the earlier. Hidden repeats measure the rater, and are not
counted again. A judge's prompt counts where both of its orders could be read; the others are counted as unparsable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import sqrt

import numpy as np

from pacos.evaluation.pairwise.agreement import Agreement, Consistency, Key, agreements, consistencies
from pacos.evaluation.pairwise.length import LengthBias, length_bias
from pacos.evaluation.pairwise.ratings import Rating, rate
from pacos.evaluation.pairwise.records import Ballot
from pacos.evaluation.statistics import (
    Interval,
    Verdict,
    cluster_sums,
    clustered_mean,
    compare,
    holm,
    more_prompts,
    permutation_p,
    verdict,
    wilson,
)

RESAMPLES = 2000


@dataclass(frozen=True)
class SideBias:
    """Votes for the left side (for a judge: the answer it reads first), of those that name a side."""

    left: int
    decided: int
    interval: Interval


@dataclass(frozen=True)
class PairResult:
    """Contestant `challenger` against `reference`, on `num_items` prompts. `standard_error` is of the win rate.

    `without_ties` is Wilson's interval of wins among wins and losses. `more_prompts` would decide what is undecided.
    """

    reference: int
    challenger: int
    num_items: int
    wins: int
    losses: int
    ties: int
    same_answers: int
    both_bad: int
    win_rate: float
    interval: Interval
    standard_error: float | None
    without_ties: Interval
    num_clusters: int
    p: float
    p_corrected: float
    more_prompts: int | None
    verdict: Verdict
    length: LengthBias


@dataclass(frozen=True)
class Result:
    """All that a comparison says. `num_prompts` is of the whole comparison, of which pairs may have fewer."""

    contestants: tuple[str, ...]
    raters: tuple[str, ...]
    num_prompts: int
    num_votes: int
    skipped: int
    unparsable: int
    pairs: tuple[PairResult, ...]
    sides: tuple[tuple[str, SideBias], ...]
    consistency: tuple[Consistency, ...]
    agreement: tuple[Agreement, ...]
    ratings: tuple[Rating, ...]


def result_of(
    ballots: Sequence[Ballot],
    contestants: Sequence[str],
    *,
    judges: Sequence[str] = (),
    sides_known: bool = True,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Result:
    """`judges` are raters that were asked in both orders; `sides_known` is False where a file does not say who stood left."""
    rng = np.random.default_rng(seed)
    said = scores_by_rater(ballots, judges)
    clusters = {ballot.item: ballot.cluster or f"prompt {ballot.item}" for ballot in ballots}
    pairs = [
        pair_result(ballots, said, clusters, pair, rng=rng.spawn(1)[0], resamples=resamples)
        for pair in combinations(range(len(contestants)), 2)
        if any(key[1:] == pair for each in said.values() for key in each)
    ]
    votes = [ballot for ballot in ballots if ballot.choice != "same"]
    return Result(
        contestants=tuple(contestants),
        raters=tuple(said),
        num_prompts=len(clusters),
        num_votes=len(votes),
        skipped=sum(ballot.choice == "skip" for ballot in votes),
        unparsable=sum(ballot.choice == "unparsable" for ballot in votes),
        pairs=corrected(pairs),
        sides=tuple((rater, side_bias([b for b in votes if b.rater == rater])) for rater in said)
        if sides_known
        else (),
        consistency=tuple(consistencies(votes, judges)),
        agreement=tuple(agreements(said, rng=rng.spawn(1)[0], resamples=resamples)),
        ratings=tuple(ratings(said, clusters, len(contestants), rng=rng.spawn(1)[0], resamples=resamples)),
    )


def scores_by_rater(ballots: Sequence[Ballot], judges: Sequence[str]) -> dict[str, dict[Key, float]]:
    """What each rater gives the later contestant on each prompt; judges where both orders could be read."""
    heard: dict[str, dict[Key, list[float | None]]] = {}
    for ballot in ballots:
        if not ballot.repeat:
            heard.setdefault(ballot.rater, {}).setdefault((ballot.item, *ballot.pair), []).append(ballot.score)
            if ballot.choice == "same":
                heard[ballot.rater][(ballot.item, *ballot.pair)].append(ballot.score)  # in both orders
    return {
        rater: {
            key: sum(score for score in scores if score is not None) / len(scores)
            for key, scores in each.items()
            if None not in scores and len(scores) >= (2 if rater in judges else 1)
        }
        for rater, each in heard.items()
    }


def mean_scores(said: dict[str, dict[Key, float]], pair: tuple[int, int]) -> dict[int, float]:
    """The mean over raters for each prompt of a pair."""
    heard: dict[int, list[float]] = {}
    for each in said.values():
        for (item, *between), score in each.items():
            if tuple(between) == pair:
                heard.setdefault(item, []).append(score)
    return {item: float(np.mean(heard[item])) for item in sorted(heard)}


def pair_result(
    ballots: Sequence[Ballot],
    said: dict[str, dict[Key, float]],
    clusters: dict[int, str],
    pair: tuple[int, int],
    *,
    rng: np.random.Generator,
    resamples: int,
) -> PairResult:
    """One pair, as if it were the only one."""
    by_item = mean_scores(said, pair)
    scores, groups = np.array(list(by_item.values())), [clusters[item] for item in by_item]
    ones = np.ones(len(scores))
    lost, won = (cluster_sums(np.column_stack([each, ones]), groups) for each in (1 - scores, scores))
    found = compare(lost, won, _mean, rng=rng, resamples=resamples)
    p = permutation_p(lost, won, _mean, rng=rng)
    wins, losses = int((scores > 0.5).sum()), int((scores < 0.5).sum())
    own = [ballot for ballot in ballots if ballot.pair == pair and ballot.item in by_item]
    longer = {ballot.item: ballot.longer_by for ballot in own}
    interval = found.tuned_interval
    if interval.low == interval.high or not interval.told:  # nothing varies, which is not the same as being sure
        interval = wilson(round(float(scores.sum())), len(scores))
    return PairResult(
        reference=pair[0],
        challenger=pair[1],
        num_items=len(scores),
        wins=wins,
        losses=losses,
        ties=len(scores) - wins - losses,
        same_answers=len({ballot.item for ballot in own if ballot.choice == "same"}),
        both_bad=sum(ballot.choice == "both bad" and not ballot.repeat for ballot in own),
        win_rate=found.tuned,
        interval=interval,
        standard_error=standard_error(scores, groups),
        without_ties=wilson(wins, wins + losses),
        num_clusters=len(won),
        p=p,
        p_corrected=p,
        more_prompts=more_prompts(len(scores), found.tuned, interval, 0.5),
        verdict=verdict(found, "higher", p),
        length=length_bias(scores, np.array([longer[item] for item in by_item], float), groups),
    )


def standard_error(scores: np.ndarray, clusters: Sequence[str]) -> float | None:
    """Of the mean: the sample's own, sd / sqrt(n), or the clusters' where prompts are related. None of one alone."""
    if len(set(clusters)) < 2:
        return None
    if len(set(clusters)) == len(scores):
        return float(np.std(scores, ddof=1)) / sqrt(len(scores))
    return clustered_mean(scores, clusters).standard_error


def corrected(pairs: Sequence[PairResult]) -> tuple[PairResult, ...]:
    """Holm's correction where several pairs are told together."""
    told = []
    for one, p in zip(pairs, holm([each.p for each in pairs]), strict=True):
        undone = one.verdict in ("better", "worse") and p > 0.05
        told.append(replace(one, p_corrected=p, verdict="no difference shown" if undone else one.verdict))
    return tuple(told)


def side_bias(votes: Sequence[Ballot]) -> SideBias:
    counted = Counter(ballot.choice for ballot in votes)
    decided = counted["left"] + counted["right"]
    return SideBias(counted["left"], decided, wilson(counted["left"], decided))


def ratings(
    said: dict[str, dict[Key, float]],
    clusters: dict[int, str],
    num_contestants: int,
    *,
    rng: np.random.Generator,
    resamples: int,
) -> list[Rating]:
    """Bradley-Terry, for three or more."""
    if num_contestants < 3 or not any(said.values()):
        return []
    items = sorted(clusters)
    row = {item: number for number, item in enumerate(items)}
    wins = np.zeros((len(items), num_contestants, num_contestants))
    for pair in combinations(range(num_contestants), 2):
        for item, score in mean_scores(said, pair).items():
            wins[row[item], pair[1], pair[0]] += score
            wins[row[item], pair[0], pair[1]] += 1 - score
    return rate(wins, [clusters[item] for item in items], rng=rng, resamples=resamples)


def _mean(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]
