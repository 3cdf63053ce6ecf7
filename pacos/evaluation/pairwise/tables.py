"""A comparison's result in words, for the terminal, Markdown, JSON and the page: the verdict first, then a table of pairs,
then what it rests on. Names are as they were given; who prints them makes them safe.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pacos.evaluation.pairwise.result import PairResult, Result
from pacos.evaluation.pairwise.store import Spending
from pacos.evaluation.results import plain
from pacos.evaluation.wording import counted, format_interval, format_p, format_share, format_value

HEADER = (
    "contestant",
    "against",
    "win rate",
    "95 % interval",
    "won",
    "lost",
    "tied",
    "length-controlled",
    "p",
    "verdict",
)
RATING_HEADER = ("contestant", "rating", "95 % interval")


def headline(result: Result, pair: PairResult) -> str:
    """`tuned against base: wins 61.3 % of 252 prompts (95 % interval 55.0 to 67.3): better`."""
    interval = format_interval(pair.interval, "share")
    return (
        f"{pair_name(result, pair)}: wins {format_share(pair.win_rate)} of "
        f"{counted(pair.num_items, 'prompt')} (95 % interval {interval}): {pair.verdict}"
    )


def counts_line(result: Result, pair: PairResult) -> str:
    """`tuned against base: 150 won, 92 lost, 10 tied; length-controlled 58.0 % (51.2 to 64.4)`."""
    return (
        f"{pair_name(result, pair)}: {pair.wins:,} won, {pair.losses:,} lost, {pair.ties:,} tied; length-controlled "
        f"{length_cell(pair)}"
    )


def pair_name(result: Result, pair: PairResult) -> str:
    return f"{result.contestants[pair.challenger]} against {result.contestants[pair.reference]}"


def pair_rows(result: Result) -> list[tuple[str, ...]]:
    """One row of `HEADER`'s columns per pair."""
    return [_pair_row(result, pair) for pair in result.pairs]


def rating_rows(result: Result) -> list[tuple[str, ...]]:
    """One row of `RATING_HEADER`'s columns per contestant, where there are three or more."""
    return [(result.contestants[r.contestant], f"{r.rating:.0f}", _rating_interval(r.interval)) for r in result.ratings]


class Costs(Protocol):
    """`Spending`, or what a budget counts."""

    @property
    def requests(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def dollars(self) -> float: ...


def cost_line(spent: Costs) -> str:
    """`40 requests, 21,340 tokens, $0.0213`; dollars where there is a price."""
    dollars = f", ${spent.dollars:.4f}" if spent.dollars else ""
    return f"{spent.requests:,} requests, {spent.tokens:,} tokens{dollars}"


def notes(result: Result, spending: Mapping[str, Spending]) -> list[str]:
    """What the figures rest on, and what speaks against them."""
    lines = [
        f"{counted(result.num_votes, 'vote')} by {', '.join(result.raters)}; {result.skipped:,} skipped, "
        f"{result.unparsable:,} that could not be read. Win rate: ties count half; interval: BCa over prompts, p by "
        "permutation, corrected for the pairs told together (Holm)."
    ]
    for pair in result.pairs:
        lines += _pair_notes(result, pair)
    for rater, side in result.sides:
        if side.decided:
            lines.append(
                f"{rater} chose the left side in {format_share(side.left / side.decided)} of {side.decided:,} votes that "
                f"chose one ({format_interval(side.interval, 'share')})"
            )
    for one in result.consistency:
        lines.append(
            f"{one.rater} said the same again in {format_share(one.same / one.num_items)} of {one.num_items:,} "
            f"({format_interval(one.interval, 'share')}; {one.kind})"
        )
    for each in result.agreement:
        kappa = "not told" if each.kappa is None else f"{each.kappa:.2f}"
        if each.interval:
            kappa += f" ({format_interval(each.interval, 'score')})"
        lines.append(
            f"{' and '.join(each.raters)} agree on {format_share(each.share)} of {each.num_items:,}: "
            f"{each.kind}'s kappa {kappa}"
        )
    return [*lines, *(f"{rater}: {cost_line(spent)}" for rater, spent in spending.items())]


def as_json(result: Result, spending: Mapping[str, Spending]) -> dict[str, Any]:
    """Plain values; contestants by name."""
    names, told = result.contestants, plain(result)
    for pair, row in zip(result.pairs, told["pairs"], strict=True):
        row.update(reference=names[pair.reference], challenger=names[pair.challenger])
    for row in told["ratings"]:
        row["contestant"] = names[row["contestant"]]
    told["sides"] = {rater: plain(side) for rater, side in result.sides}
    return {"verdict": [headline(result, pair) for pair in result.pairs], **told, "spending": plain(dict(spending))}


def length_cell(pair: PairResult) -> str:
    found = pair.length
    if found.rate is None or found.rate_interval is None:
        return "not told"
    return f"{format_value(found.rate, 'share')} ({format_interval(found.rate_interval, 'share')})"


def _pair_row(result: Result, pair: PairResult) -> tuple[str, ...]:
    return (
        result.contestants[pair.challenger],
        result.contestants[pair.reference],
        format_value(pair.win_rate, "share"),
        format_interval(pair.interval, "share"),
        f"{pair.wins:,}",
        f"{pair.losses:,}",
        f"{pair.ties:,}",
        length_cell(pair),
        format_p(pair.p_corrected),
        pair.verdict,
    )


def _rating_interval(interval: Any) -> str:
    return f"{interval.low:.0f} to {interval.high:.0f}" if interval.told else "not told"


def _pair_notes(result: Result, pair: PairResult) -> list[str]:
    name = pair_name(result, pair)
    error = "" if pair.standard_error is None else f", standard error {100 * pair.standard_error:.2f}"
    lines = [f"{name}: win rate {100 * pair.win_rate:.2f} %{error}"]
    if pair.ties:
        lines.append(
            f"{name}: without ties {pair.wins:,} of {pair.wins + pair.losses:,}, Wilson "
            f"{format_interval(pair.without_ties, 'share')}; of the ties {pair.same_answers:,} were the same answer, "
            f"{counted(pair.both_bad, 'vote')} said both bad"
        )
    if pair.length.share is not None:
        lines.append(
            f"{name}: the longer answer won {format_share(pair.length.share)} of {pair.length.decided:,} "
            f"({format_interval(pair.length.interval, 'share')})"
        )
    if pair.num_clusters < pair.num_items:
        lines.append(f"{name}: prompts are related; {pair.num_clusters:,} groups of them stand behind the interval")
    if pair.more_prompts:
        lines.append(
            f"{name}: about {counted(pair.more_prompts, 'more prompt')} would decide, if the rate stays as it is"
        )
    return lines
