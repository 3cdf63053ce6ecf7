"""A suite's report: one HTML file in the dress of `evaluation.report`, what broke first."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from itertools import groupby
from string import Template

from pacos.evaluation import charts
from pacos.evaluation.markup import (
    answer_box,
    big_figures,
    dumbbell_line,
    escape,
    example,
    filters,
    metric_line,
    record_section,
    render_page,
)
from pacos.evaluation.report_sections import gates_section
from pacos.evaluation.suites.cases import Outcome, SuiteRow
from pacos.evaluation.suites.measures import QUANTILES, TIMES, edges_of, quantile_name
from pacos.evaluation.suites.results import KindResult, SuiteResult
from pacos.evaluation.suites.tables import fact_lines, method_note

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
    body = Template(files("pacos.evaluation.suites").joinpath("suite.html").read_text(encoding="utf-8")).substitute(
        gates=gates_section(result.gates),
        metrics="".join(map(metric_line, result.metrics)),
        facts="".join(f'<p class="hint">{escape(line)}</p>' for line in fact_lines(result)),
        times=_times(result),
        kinds=_kinds(result.kinds),
        shown=f"{len(shown)} of {len(rows)} answers: what broke, then what fails in both, then the others.",
        filters=filters(list(map(state_of, shown)), {state: words for state, (words, _) in STATES.items()}),
        examples="".join(map(_example, shown)),
        method=escape(method_note(result)),
        record=record_section(result.record),
    )
    return render_page(
        body,
        title=str(result.record.get("name") or result.record.get("run") or "Base against tuned"),
        kind=f"suite {result.suite}",
        eyebrow=f"pacos eval --suite {result.suite}",
        lead=_lead(result),
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
    return f"{big_figures(first.base, first.tuned, first.unit)}{said}"


def _times(result: SuiteResult) -> str:
    """How the times of a latency suite are spread, where it has any."""
    blocks = [_spread(result, name, title) for name, title in TIMES.items()]
    if not any(blocks):
        return ""
    hint = (
        '<p class="hint"><span class="key tuned"></span>tuned above, <span class="key base"></span>base below. Each bar '
        "stands for times that are longer by the same factor.</p>"
    )
    return f'<section><h2>How the times are spread</h2>{hint}<div class="pair">{"".join(blocks)}</div></section>'


def _spread(result: SuiteResult, name: str, title: str) -> str:
    measure = quantile_name(name, QUANTILES[0])
    rows = result.measured_rows(measure)
    if not rows:
        return ""
    base, tuned = (
        [sum(column) for column in zip(*(getattr(row, side).grade.counts[measure] for row in rows), strict=True)]
        for side in ("base", "tuned")
    )
    return f"<div><h3>{escape(title)}</h3>{charts.time_histogram(base, tuned, edges_of)}</div>"


def _kinds(kinds: Sequence[KindResult]) -> str:
    parts = []
    for label, members in groupby(kinds, key=lambda kind: kind.metric.label):
        lines = "".join(dumbbell_line(member.kind, member.num_rows, member.metric) for member in members)
        parts.append(f"<h3>{escape(label)}</h3><ul>{lines}</ul>")
    return f'<section class="groups"><h2>By kind</h2>{"".join(parts)}</section>' if parts else ""


def _example(row: SuiteRow) -> str:
    case, state = row.case, state_of(row)
    words, tone = STATES[state]
    wanted = answer_box("reference", escape(case.expected), title="expected") if case.expected else ""
    return example(
        state,
        words,
        tone,
        notes=(case.kind, case.why),
        id=case.id,
        prompt=case.prompt,
        material="\n\n".join(filter(None, (f"system: {case.system}" if case.system else "", case.input))),
        answers=wanted + _answer("base", row.base) + _answer("tuned", row.tuned),
    )


def _answer(name: str, outcome: Outcome) -> str:
    return answer_box(name, escape(outcome.text), "; ".join(outcome.grade.notes))
