"""A suite's measures as rows of words, for the terminal and for Markdown."""

from __future__ import annotations

from pacos.evaluation.results import MetricResult
from pacos.evaluation.suites.results import SuiteResult
from pacos.evaluation.tables import BETTER_WHEN
from pacos.evaluation.wording import counted, format_difference, format_interval, format_p, format_value

HEADER = (
    "measure",
    "rows",
    "base",
    "95 % interval",
    "tuned",
    "95 % interval",
    "difference",
    "95 % interval",
    "p",
    "verdict",
)
FAILURES_SHOWN = 8


def suite_table(result: SuiteResult) -> list[tuple[str, ...]]:
    """One row of `HEADER`'s columns per measure."""
    return [
        (f"{m.label} {BETTER_WHEN[m.direction]}".strip(), str(len(result.measured_rows(m.name))), *_cells(m))
        for m in result.metrics
    ]


def kinds_table(result: SuiteResult) -> list[tuple[str, ...]]:
    """The same, within each kind."""
    return [(f"{k.kind}: {k.metric.label.lower()}", str(k.num_rows), *_cells(k.metric)) for k in result.kinds]


def fact_lines(result: SuiteResult) -> list[str]:
    return [f"{name}: {value}" for name, value in result.facts.items()]


def broken_lines(result: SuiteResult) -> list[str]:
    """Cases that were as they should be with base, and are not with tuned; the first few by name."""
    broken = [row for row in result.rows if row.change < 0 and row.tuned.grade.ok is False]
    lines = [f"broke: {row.id}: {'; '.join(row.tuned.grade.notes)}" for row in broken[:FAILURES_SHOWN]]
    more = len(broken) - FAILURES_SHOWN
    return [*lines, *([f"and {more} more, in the report"] if more > 0 else [])]


def suite_markdown(result: SuiteResult) -> str:
    """The tables, with the sentence over them and what they were made with under them."""
    rows = [*suite_table(result), *kinds_table(result)]
    lines = [_line(HEADER), _line(("---", *["---:"] * 8, "---")), *map(_line, rows)]
    gates = [line for gated in result.gates for line in (f"- {gated.sentence}", *(f"  - {n}" for n in gated.notes))]
    notes = [f"- {line}" for line in (*broken_lines(result), *fact_lines(result))]
    return "\n".join([result.headline, "", *lines, "", *notes, *gates, "", method_note(result)]) + "\n"


def method_note(result: SuiteResult) -> str:
    """How the figures were made."""
    return (
        f"{counted(len(result.rows), 'case')}; 95 % intervals of shares are Wilson's, of differences by paired bootstrap "
        f"(BCa, {result.resamples:,} resamples), p by paired permutation, corrected for the measures told together (Holm)."
    )


def _cells(metric: MetricResult) -> tuple[str, ...]:
    return (
        format_value(metric.base, metric.unit),
        format_interval(metric.base_interval, metric.unit),
        format_value(metric.tuned, metric.unit),
        format_interval(metric.tuned_interval, metric.unit),
        format_difference(metric.difference, metric.unit),
        format_interval(metric.interval, metric.unit, signed=True),
        format_p(metric.p_corrected),
        metric.verdict,
    )


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
