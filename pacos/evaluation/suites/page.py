"""A suite's report: one HTML file in the dress of `evaluation.report`, what broke first; and Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from itertools import groupby
from string import Template

from pacos.evaluation import charts
from pacos.evaluation.report import metric_line, record_section, resource
from pacos.evaluation.report_sections import gates_section
from pacos.evaluation.suites.cases import Outcome, SuiteRow
from pacos.evaluation.suites.results import KindResult, SuiteResult
from pacos.evaluation.suites.tables import method_note
from pacos.evaluation.wording import format_difference, format_interval, format_value

ANSWERS_SHOWN = 120
STATES = {
    "broke": ("broke", "worse"),
    "fails": ("fails in both", "worse"),
    "mended": ("mended", "better"),
    "holds": ("holds in both", "better"),
    "neither": ("nothing to hold", "same"),
}


def suite_page(result: SuiteResult) -> str:
    """The whole page. Text of prompts and models is escaped wherever it enters."""
    rows = by_urgency(result.rows)
    shown = rows[:ANSWERS_SHOWN]
    return Template(files("pacos.evaluation.suites").joinpath("suite.html").read_text(encoding="utf-8")).substitute(
        title=escape(str(result.record.get("run") or "Base against tuned")),
        suite=escape(result.suite),
        style=resource("report.css"),
        script=resource("report.js"),
        lead=_lead(result),
        gates=gates_section(result.gates),
        metrics="".join(map(metric_line, result.metrics)),
        kinds=_kinds(result.kinds),
        shown=f"{len(shown)} of {len(rows)} answers: what broke, then what fails in both, then the others.",
        filters=_filters(shown),
        examples="".join(map(_example, shown)),
        method=escape(method_note(result)),
        record=record_section(result.record),
    )


def state_of(row: SuiteRow) -> str:
    """A key of `STATES`."""
    if row.base.grade.ok is None or row.tuned.grade.ok is None:
        return "neither"
    return {-1: "broke", 1: "mended"}.get(row.change, "holds" if row.tuned.grade.ok else "fails")


def by_urgency(rows: Sequence[SuiteRow]) -> list[SuiteRow]:
    order = list(STATES)
    return sorted(rows, key=lambda row: order.index(state_of(row)))


def _lead(result: SuiteResult) -> str:
    first = result.metrics[0]
    said = "".join(f'<p class="say">{escape(result.sentence(metric))}</p>' for metric in result.metrics[:3])
    return (
        f'<p class="big"><span class="base">{format_value(first.base, first.unit)}</span> <span class="to">→</span> '
        f'<span class="tuned">{format_value(first.tuned, first.unit)}</span></p>{said}'
    )


def _kinds(kinds: Sequence[KindResult]) -> str:
    parts = []
    for label, members in groupby(kinds, key=lambda kind: kind.metric.label):
        lines = "".join(map(_kind, members))
        parts.append(f"<h3>{escape(label)}</h3><ul>{lines}</ul>")
    return f'<section class="groups"><h2>By kind</h2>{"".join(parts)}</section>' if parts else ""


def _kind(kind: KindResult) -> str:
    metric = kind.metric
    interval = format_interval(metric.tuned_interval, metric.unit)
    return (
        f"<li><span>{escape(kind.kind)} <i>{kind.num_rows}</i></span>"
        f"{charts.dumbbell(metric.base, metric.tuned, charts.verdict_class(metric))}"
        f'<b title="tuned: {interval}">{format_difference(metric.difference, metric.unit)}</b></li>'
    )


def _filters(rows: Sequence[SuiteRow]) -> str:
    counts = Counter(map(state_of, rows))
    buttons = [f'<button type="button" data-show="" aria-pressed="true">all {len(rows)}</button>']
    buttons += [
        f'<button type="button" data-show="{state}" aria-pressed="false">{words} {counts[state]}</button>'
        for state, (words, _) in STATES.items()
        if counts[state]
    ]
    return "".join(buttons)


def _example(row: SuiteRow) -> str:
    case, state = row.case, state_of(row)
    words, tone = STATES[state]
    material = "\n\n".join(filter(None, (f"system: {case.system}" if case.system else "", case.input)))
    given = f'<pre class="input" dir="auto">{escape(material)}</pre>' if material else ""
    wanted = (
        f'<div class="reference"><h4>expected</h4><pre>{escape(case.expected)}</pre></div>' if case.expected else ""
    )
    return (
        f'<article class="example" data-change="{state}"><header><span class="badge {tone}">{words}</span>'
        f"<small>{escape(' · '.join(filter(None, (case.kind, case.why))))}</small><code>{escape(case.id)}</code></header>"
        f'<pre class="instruction" dir="auto">{escape(case.prompt)}</pre>{given}'
        f'<div class="answers">{wanted}{_answer("base", row.base)}{_answer("tuned", row.tuned)}</div></article>'
    )


def _answer(name: str, outcome: Outcome) -> str:
    text = escape(outcome.text) if outcome.text.strip() else '<span class="empty">(empty)</span>'
    notes = escape("; ".join(outcome.grade.notes))
    return f'<div class="{name}"><h4>{name} <small>{notes}</small></h4><pre dir="auto">{text}</pre></div>'
