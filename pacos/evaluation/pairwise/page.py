"""A comparison's result as a section of the eval report, and as a page of its own."""

from __future__ import annotations

from collections.abc import Sequence

from pacos.evaluation import charts
from pacos.evaluation.markup import escape, render_page
from pacos.evaluation.pairwise.finished import Told
from pacos.evaluation.pairwise.result import PairResult
from pacos.evaluation.pairwise.tables import RATING_HEADER, length_cell, pair_name, rating_rows
from pacos.evaluation.wording import counted, format_interval, format_p, format_value


def comparison_page(told: Told) -> str:
    """The whole page; the first pair's win rate is its large figure."""
    first, say = told.result.pairs[0], "".join(f'<p class="say">{escape(line)}</p>' for line in told.headlines)
    return render_page(
        f"{comparison_section(told)}<footer><p>{escape(about(told))}</p></footer>",
        title=" against ".join(reversed(told.result.contestants[:2]))
        if len(told.result.contestants) == 2
        else ", ".join(told.result.contestants),
        kind=f"comparison {told.number}",
        eyebrow="pacos compare",
        lead=f'<p class="big"><span class="tuned">{format_value(first.win_rate, "share")}</span></p>{say}',
    )


def comparisons_sections(all_told: Sequence[Told]) -> str:
    """Those of one evaluation, one section each."""
    return "".join(comparison_section(told) for told in all_told)


def comparison_section(told: Told) -> str:
    """Win rates with their intervals, won, tied and lost, biases and agreement."""
    pairs = "".join(_pair(told, pair) for pair in told.result.pairs)
    notes = "".join(f"<li>{escape(note)}</li>" for note in told.notes)
    return (
        f'<section class="compared"><h2>Win rates</h2><p class="hint">{escape(about(told))} '
        f"The line in the middle is half of the prompts.</p>{pairs}{_ratings(told)}"
        f'<ul class="notes">{notes}</ul></section>'
    )


def about(told: Told) -> str:
    """`Comparison 3 of 2026-01-02, blind, on 252 prompts, by ann and judge:gpt-4o.`"""
    raters = " and ".join(told.result.raters)
    return f"Comparison {told.number} of {told.created[:10]}, blind, on {counted(told.result.num_prompts, 'prompt')}, by {raters}."


def _pair(told: Told, pair: PairResult) -> str:
    tone = pair.verdict if pair.verdict in ("better", "worse") else "same"
    return (
        f'<div class="winrate"><p><b>{escape(pair_name(told.result, pair))}</b> '
        f'<span class="badge {tone}">{pair.verdict}</span></p>'
        f"<p>wins <b>{format_value(pair.win_rate, 'share')}</b> of {counted(pair.num_items, 'prompt')} "
        f"(95 % interval {format_interval(pair.interval, 'share')}; p {format_p(pair.p_corrected)}), "
        f"length-controlled {length_cell(pair)}</p>"
        f"{charts.share_mark(pair.win_rate, pair.interval, tone)}"
        f"{charts.stack((('won', 'better', pair.wins), ('tied', 'same', pair.ties), ('lost', 'worse', pair.losses)))}"
        f"<p><small>{pair.wins:,} won, {pair.ties:,} tied, {pair.losses:,} lost</small></p></div>"
    )


def _ratings(told: Told) -> str:
    rows = rating_rows(told.result)
    if not rows:
        return ""
    head = "".join(f"<th>{cell}</th>" for cell in RATING_HEADER)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<h3>Ratings</h3><table><tr>{head}</tr>{body}</table>"
