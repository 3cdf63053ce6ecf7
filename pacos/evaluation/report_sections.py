"""Sections of the report that are there only where they have something to say: gates, wins by row, what is undecided."""

from __future__ import annotations

from collections.abc import Sequence

from pacos.evaluation import charts
from pacos.evaluation.gates import Gated
from pacos.evaluation.markup import escape
from pacos.evaluation.results import Evaluation, MetricResult
from pacos.evaluation.statistics import mcnemar
from pacos.evaluation.wording import counted, format_difference, format_p, format_share

TONES = {"holds": "better", "does not hold": "worse", "cannot tell": "same"}


def gates_section(gates: Sequence[Gated]) -> str:
    """Each condition with its outcome, how many prompts would tell, and how often it is wrong."""
    if not gates:
        return ""
    return f'<section class="gates"><h2>Gate</h2><ul>{"".join(map(_gate, gates))}</ul></section>'


def wins_section(evaluation: Evaluation) -> str:
    """Row by row: won, tied and lost as one bar, and the exact answers gained and lost."""
    wins, (gained, lost) = evaluation.wins, evaluation.flips
    if wins.won + wins.lost == 0:
        return ""
    low, high = wins.decided_interval
    parts = (("won", "better", wins.won), ("tied", "same", wins.tied), ("lost", "worse", wins.lost))
    share = wins.won / (wins.won + wins.lost)
    flips = (
        f" Exact answers: {gained} gained, {lost} lost (McNemar, exact p {format_p(mcnemar(gained, lost).exact)}, "
        f"mid-p {format_p(mcnemar(gained, lost).mid_p)})."
        if gained + lost
        else ""
    )
    return (
        '<section class="wins"><h2>Row by row</h2>'
        f'<p class="hint">Nearer to the reference on {wins.won}, as near on {wins.tied}, further on {wins.lost}: '
        f"{format_share(share)} of the rows that differ (95 % interval {format_share(low)} to {format_share(high)}).{flips}</p>"
        f"{charts.stack(parts)}</section>"
    )


def undecided_section(evaluation: Evaluation) -> str:
    """How many more rows would decide what is undecided, if the differences stay as they are."""
    open_ones = [
        metric for metric in evaluation.metrics if metric.verdict == "no difference shown" and metric.rows_that_differ
    ]
    if not open_ones:
        return ""
    return (
        '<section class="undecided"><h2>What it would take</h2><p class="hint">More rows that would show a difference of '
        "the size seen here, with 80 % chance, if it is real.</p>"
        f"<ul>{''.join(map(_wanted, open_ones))}</ul></section>"
    )


def _gate(gated: Gated) -> str:
    tone, notes = TONES[gated.judged.outcome], "".join(f"<small>{escape(note)}</small>" for note in gated.notes)
    sentence = gated.sentence.removesuffix(f": {gated.judged.outcome}")
    return f'<li><span class="badge {tone}">{gated.judged.outcome}</span><div>{escape(sentence)}{notes}</div></li>'


def _wanted(metric: MetricResult) -> str:
    size = format_difference(metric.difference, metric.unit)
    more = "no useful number" if metric.more_rows is None else counted(metric.more_rows, "more row")
    if metric.more_rows == 0:
        more = "clear by itself, not once all measures are told together"
    return f"<li><span>{escape(metric.label)} <i>{size}</i></span><b>{more}</b></li>"
