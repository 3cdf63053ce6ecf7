"""How a comparison's result is said: the verdict first, then a table of pairs, then what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pacos.cli.compare_judge import cost_line
from pacos.cli.show import out, plain, print_table, safe
from pacos.evaluation.wording import counted, format_interval, format_p, format_share, format_value

if TYPE_CHECKING:
    from pacos.evaluation.pairwise import PairResult, Result, Spending

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
    challenger, reference = result.contestants[pair.challenger], result.contestants[pair.reference]
    interval = format_interval(pair.interval, "share")
    return (
        f"{challenger} against {reference}: wins {format_share(pair.win_rate)} of "
        f"{counted(pair.num_items, 'prompt')} (95 % interval {interval}): {pair.verdict}"
    )


def print_result(result: Result, spending: Mapping[str, Spending]) -> None:
    console = out()
    for pair in result.pairs:
        console.print(safe(headline(result, pair)), markup=False)
    print_table(console, HEADER, [pair_row(result, pair) for pair in result.pairs])
    if result.ratings:
        rows = [(safe(result.contestants[r.contestant]), f"{r.rating:.0f}", f"{r.interval.low:.0f} to {r.interval.high:.0f}")
                for r in result.ratings]  # fmt: skip
        print_table(console, RATING_HEADER, rows)
    for line in [*notes(result), *(f"{rater}: {cost_line(spent)}" for rater, spent in spending.items())]:
        console.print(safe(line), markup=False, style="dim")


def pair_row(result: Result, pair: PairResult) -> tuple[str, ...]:
    return (
        safe(result.contestants[pair.challenger]),
        safe(result.contestants[pair.reference]),
        format_value(pair.win_rate, "share"),
        format_interval(pair.interval, "share"),
        f"{pair.wins:,}",
        f"{pair.losses:,}",
        f"{pair.ties:,}",
        length_cell(pair),
        format_p(pair.p_corrected),
        pair.verdict,
    )


def length_cell(pair: PairResult) -> str:
    found = pair.length
    if found.rate is None or found.rate_interval is None:
        return "not told"
    return f"{format_value(found.rate, 'share')} ({format_interval(found.rate_interval, 'share')})"


def notes(result: Result) -> list[str]:
    """What the figures rest on, and what speaks against them."""
    lines = [
        f"{counted(result.num_votes, 'vote')} by {', '.join(result.raters)}; {result.skipped:,} skipped, "
        f"{result.unparsable:,} that could not be read. Win rate: ties count half; interval: BCa over prompts, p by "
        "permutation, corrected for the pairs told together (Holm)."
    ]
    for pair in result.pairs:
        lines += pair_notes(result, pair)
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
    return lines


def pair_notes(result: Result, pair: PairResult) -> list[str]:
    name = f"{result.contestants[pair.challenger]} against {result.contestants[pair.reference]}"
    error = "" if pair.standard_error is None else f", standard error {100 * pair.standard_error:.2f}"
    lines = [f"{name}: win rate {100 * pair.win_rate:.2f} %{error}"]
    if pair.ties:
        lines.append(
            f"{name}: without ties {pair.wins:,} of {pair.wins + pair.losses:,}, Wilson "
            f"{format_interval(pair.without_ties, 'share')}; of the ties {pair.same_answers:,} were the same answer, "
            f"{pair.both_bad:,} votes said both bad"
        )
    if pair.length.share is not None:
        lines.append(
            f"{name}: the longer answer won {format_share(pair.length.share)} of {pair.length.decided:,} "
            f"({format_interval(pair.length.interval, 'share')})"
        )
    if pair.num_clusters < pair.num_items:
        lines.append(f"{name}: prompts are related; {pair.num_clusters:,} groups of them stand behind the interval")
    if pair.more_prompts:
        lines.append(f"{name}: about {pair.more_prompts:,} more prompts would decide, if the rate stays as it is")
    return lines


def as_json(result: Result, spending: Mapping[str, Spending]) -> dict[str, Any]:
    """Plain values; contestants by name."""
    names, told = result.contestants, plain(result)
    for pair, row in zip(result.pairs, told["pairs"], strict=True):
        row.update(reference=names[pair.reference], challenger=names[pair.challenger])
    for row in told["ratings"]:
        row["contestant"] = names[row["contestant"]]
    told["sides"] = {rater: plain(side) for rater, side in result.sides}
    return {"verdict": [headline(result, pair) for pair in result.pairs], **told, "spending": plain(dict(spending))}
