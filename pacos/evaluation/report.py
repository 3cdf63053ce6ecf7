"""The report: one HTML file that says what changed, how sure that is, and shows it.

Everything is inside the file (style, script, drawings); its own policy forbids it to load anything. Text of users,
data and models is escaped wherever it enters, so a stored `<script>` is read and not run. Without the script the
page lacks nothing but the filter.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any

from pacos.evaluation import charts
from pacos.evaluation.metrics import Answer
from pacos.evaluation.report_sections import gates_section, undecided_section, wins_section
from pacos.evaluation.results import Evaluation, GroupResult, MetricResult, RowResult
from pacos.evaluation.statistics import FEWEST_ROWS
from pacos.evaluation.tables import BETTER_WHEN, method_note
from pacos.evaluation.worddiff import mark_changes
from pacos.evaluation.wording import counted, format_difference, format_interval, format_p, format_value

EXAMPLES_SHOWN = 60
GROUPS_UNFOLDED = 24
CHANGES = {
    "gained": "now exact",
    "lost": "no longer exact",
    "closer": "closer to the reference",
    "further": "further from the reference",
}


def write_report(evaluation: Evaluation, path: str | Path) -> Path:
    """The report as a file, whole or not at all; folders are made. Gives back the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(html_report(evaluation).encode("utf-8", "replace"))
    os.replace(unfinished, path)
    return path


def html_report(evaluation: Evaluation) -> str:
    """The whole page. `record["name"]`, or else `record["run"]`, is its title."""
    shown, record = most_changed(evaluation.rows), evaluation.record
    return Template(resource("report.html")).substitute(
        title=escape(str(record.get("name") or record.get("run") or "Base against tuned")),
        style=resource("report.css"),
        script=resource("report.js"),
        lead=_lead(evaluation),
        tally=_tally(evaluation.metrics),
        metrics="".join(map(metric_line, evaluation.metrics)),
        fewest=FEWEST_ROWS,
        gates=gates_section(evaluation.gates),
        wins=wins_section(evaluation),
        undecided=undecided_section(evaluation),
        groups=_groups(evaluation.groups),
        lengths=charts.length_histogram(*_both(evaluation.rows, lambda answer: answer.tokens)),
        losses=charts.loss_scatter(
            list(zip(*_both(evaluation.rows, lambda answer: answer.nll_per_token), strict=True))
        ),
        filters=_filters(shown),
        shown=f"{len(shown)} of {len(evaluation.rows)} rows, those that changed most, regressions first",
        examples="".join(map(_example, shown)) or "<p>No answer changed.</p>",
        method=escape(method_note(evaluation)),
        record=record_section(record),
    )


def most_changed(rows: Sequence[RowResult], count: int = EXAMPLES_SHOWN) -> list[RowResult]:
    """Rows whose answers differ, most changed first: those that became worse, then the others. A third of the places are
    kept for the former."""
    changed = sorted((r for r in rows if r.base.text != r.tuned.text), key=lambda r: (-abs(r.change), r.id))
    worse = [row for row in changed if row.change < 0]
    better = [row for row in changed if row.change >= 0]
    places_for_worse = max(count // 3, count - len(better))
    kept = {row.id for row in [*worse[:places_for_worse], *better[: count - min(len(worse), places_for_worse)]]}
    return [row for row in changed if row.id in kept and row.change < 0] + [
        row for row in changed if row.id in kept and row.change >= 0
    ]


def change_kind(row: RowResult) -> str:
    """A key of `CHANGES`."""
    if row.base.exact != row.tuned.exact:
        return "gained" if row.tuned.exact else "lost"
    return "closer" if row.change >= 0 else "further"


def resource(name: str) -> str:
    return files("pacos.evaluation").joinpath(name).read_text(encoding="utf-8")


def _both(rows: Sequence[RowResult], figure: Any) -> tuple[list[Any], list[Any]]:
    return [figure(row.base) for row in rows], [figure(row.tuned) for row in rows]


def _lead(evaluation: Evaluation) -> str:
    lead, perplexity = evaluation.lead, evaluation.metric("perplexity")
    return (
        f'<p class="big"><span class="base">{format_value(lead.base, lead.unit)}</span> <span class="to">\u2192</span> '
        f'<span class="tuned">{format_value(lead.tuned, lead.unit)}</span></p>'
        f'<p class="say">{_said(evaluation, lead)} on {len(evaluation.rows):,} rows. '
        f"{_said(evaluation, perplexity)}.</p>"
    )


def _said(evaluation: Evaluation, metric: MetricResult) -> str:
    """`Exact match: +49.5 pts (95 % interval +42.0 to +56.5), better`."""
    interval = format_interval(metric.interval, metric.unit, signed=True)
    return (
        f"{escape(metric.label)}: <b>{format_difference(metric.difference, metric.unit)}</b> "
        f"({100 * evaluation.level:g} % interval {interval}), {charts.badge(metric)}"
    )


def _tally(metrics: Iterable[MetricResult]) -> str:
    counts = Counter(charts.verdict_class(metric) for metric in metrics)
    words = {"better": "better", "worse": "worse", "same": "neither"}
    tones = {kind: kind if counts[kind] else "same" for kind in words}
    return "".join(f'<li class="{tones[kind]}"><b>{counts[kind]}</b> {word}</li>' for kind, word in words.items())


def metric_line(metric: MetricResult) -> str:
    def side(name: str, value: float, interval: Any) -> str:
        return (
            f'<div class="side {name}"><span>{name}</span><b>{format_value(value, metric.unit)}</b>'
            f"<small>{format_interval(interval, metric.unit)}</small></div>"
        )

    difference, interval = format_difference(metric.difference, metric.unit), metric.interval
    return (
        f'<li class="metric"><div class="label"><b>{escape(metric.label)}</b> <i>{_better_when(metric)}</i></div>'
        f"{side('base', metric.base, metric.base_interval)}{side('tuned', metric.tuned, metric.tuned_interval)}"
        f"{charts.forest_mark(metric)}"
        f'<div class="side difference"><span>difference</span><b>{difference}</b>'
        f"<small>{format_interval(interval, metric.unit, signed=True)}</small>"
        f"<small>p {format_p(metric.p_corrected)}</small></div>"
        f"{charts.badge(metric)}</li>"
    )


def _better_when(metric: MetricResult) -> str:
    arrow = BETTER_WHEN[metric.direction]
    return f"{arrow} {metric.direction} is better" if arrow else "no side is better"


def _groups(groups: Sequence[GroupResult]) -> str:
    if not groups:
        return ""
    blocks = [_group_block(key, list(members)) for key, members in groupby(groups, key=lambda group: group.key)]
    return f'<section class="groups"><h2>Exact match by group</h2>{"".join(blocks)}</section>'


def _group_block(key: str, groups: Sequence[GroupResult]) -> str:
    """One key's groups, largest gain first; folded where they would be a wall."""
    name, lines = escape(key.replace("_", " ")), "".join(map(_group, sorted(groups, key=_by_gain)))
    if len(groups) > GROUPS_UNFOLDED:
        return f"<details><summary>{name}: {len(groups)} groups</summary><ul>{lines}</ul></details>"
    return f"<h3>{name}</h3><ul>{lines}</ul>"


def _by_gain(group: GroupResult) -> tuple[float, str]:
    return (-group.metric.difference, group.value)


def _group(group: GroupResult) -> str:
    metric = group.metric
    return (
        f"<li><span>{escape(group.value.replace('_', ' '))} <i>{group.num_rows}</i></span>"
        f"{charts.dumbbell(metric.base, metric.tuned, charts.verdict_class(metric))}"
        f"<b>{format_difference(metric.difference, metric.unit)}</b></li>"
    )


def _filters(rows: Sequence[RowResult]) -> str:
    counts = Counter(map(change_kind, rows))
    buttons = [f'<button type="button" data-show="" aria-pressed="true">all {len(rows)}</button>']
    buttons += [
        f'<button type="button" data-show="{kind}" aria-pressed="false">{words} {counts[kind]}</button>'
        for kind, words in CHANGES.items()
        if counts[kind]
    ]
    return "".join(buttons)


def _example(row: RowResult) -> str:
    kind = change_kind(row)
    before, after = mark_changes(row.base.text, row.tuned.text)
    groups = " \u00b7 ".join(f"{key}: {value}".replace("_", " ") for key, value in row.groups.items())
    given = f'<pre class="input" dir="auto">{escape(row.input)}</pre>' if row.input else ""
    return (
        f'<article class="example" data-change="{kind}"><header>'
        f'<span class="badge {_tone(kind)}">{CHANGES[kind]}</span>'
        f"<small>{escape(groups)}</small><code>{escape(row.id)}</code></header>"
        f'<pre class="instruction" dir="auto">{escape(row.instruction)}</pre>{given}'
        f'<div class="answers">{_answer("reference", escape(row.reference))}'
        f"{_answer('base', before, row.base)}{_answer('tuned', after, row.tuned)}</div></article>"
    )


def _tone(kind: str) -> str:
    return "better" if kind in ("gained", "closer") else "worse"


def _answer(name: str, marked: str, answer: Answer | None = None) -> str:
    notes = ""
    if answer:
        score = "exact" if answer.exact else f"ROUGE-L {answer.rouge_l:.2f}"
        unstopped = " \u00b7 never stopped" if answer.finish_reason == "length" else ""
        notes = f"<small>{score} \u00b7 {counted(answer.tokens, 'token')}{unstopped}</small>"
    body = marked if marked.strip() else '<span class="empty">(empty)</span>'
    return f'<div class="{name}"><h4>{name} {notes}</h4><pre dir="auto">{body}</pre></div>'


def record_section(record: Mapping[str, Any]) -> str:
    """The run record: plain values as a list, the rest as JSON."""
    plain = {key: value for key, value in record.items() if isinstance(value, str | int | float)}
    rest = {key: value for key, value in record.items() if key not in plain}
    items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(str(value))}</dd>" for key, value in plain.items())
    blocks = "".join(
        f"<h4>{escape(key)}</h4><pre>{escape(json.dumps(value, indent=2, ensure_ascii=False, default=str))}</pre>"
        for key, value in rest.items()
    )
    return f"<dl>{items}</dl>{blocks}" if record else "<p>None was given.</p>"
