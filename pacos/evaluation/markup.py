"""What the pages of evaluations, suites and comparisons are made of: the frame, a measure's line, an example's box.

Everything is inside the file (style, script, drawings); its own policy forbids it to load anything. Text of users,
data and models is escaped wherever it enters, so a stored `<script>` is read and not run, and a sign that turns the
direction of text is seen. Without the script the pages lack nothing but the filter.
"""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from string import Template
from typing import Any

from pacos.directions import show_directions
from pacos.evaluation import charts
from pacos.evaluation.metrics import Unit
from pacos.evaluation.results import MetricResult
from pacos.evaluation.statistics import Interval
from pacos.evaluation.tables import BETTER_WHEN
from pacos.evaluation.wording import format_difference, format_interval, format_p, format_value


def escape(text: str) -> str:
    """Text as it stands in a page."""
    return html.escape(show_directions(text))


def resource(name: str) -> str:
    return files("pacos.evaluation").joinpath(name).read_text(encoding="utf-8")


def render_page(body: str, *, title: str, kind: str, eyebrow: str, lead: str, tally: str = "") -> str:
    """A whole page around `body`. Title, kind and eyebrow are text, the others are markup."""
    return Template(resource("frame.html")).substitute(
        title=escape(title),
        kind=escape(kind),
        eyebrow=escape(eyebrow),
        lead=lead,
        tally=tally,
        body=body,
        style=resource("report.css"),
        script=resource("report.js"),
    )


def big_figures(before: float, after: float, unit: Unit) -> str:
    """Base's figure and tuned's, as large as the page has."""
    return (
        f'<p class="big"><span class="base">{format_value(before, unit)}</span> <span class="to">\u2192</span> '
        f'<span class="tuned">{format_value(after, unit)}</span></p>'
    )


def metric_line(metric: MetricResult) -> str:
    """One measure: both sides, the difference drawn and in figures, the verdict."""
    return (
        f'<li class="metric"><div class="label"><b>{escape(metric.label)}</b> <i>{_better_when(metric)}</i></div>'
        f"{_side('base', metric.base, metric.base_interval, metric.unit)}"
        f"{_side('tuned', metric.tuned, metric.tuned_interval, metric.unit)}"
        f"{charts.forest_mark(metric)}"
        f'<div class="side difference"><span>difference</span><b>{format_difference(metric.difference, metric.unit)}</b>'
        f"<small>{format_interval(metric.interval, metric.unit, signed=True)}</small>"
        f"<small>p {format_p(metric.p_corrected)}</small></div>"
        f"{charts.badge(metric)}</li>"
    )


def dumbbell_line(name: str, count: int, metric: MetricResult) -> str:
    """One measure of one group of rows, both sides on a track."""
    interval = format_interval(metric.tuned_interval, metric.unit)
    return (
        f"<li><span>{escape(name)} <i>{count}</i></span>"
        f"{charts.dumbbell(metric.base, metric.tuned, charts.verdict_class(metric))}"
        f'<b title="tuned: {interval}">{format_difference(metric.difference, metric.unit)}</b></li>'
    )


def filters(kinds: Sequence[str], words: Mapping[str, str]) -> str:
    """A button for each kind that examples have, in the order of `words`, and one for all."""
    counts = Counter(kinds)
    buttons = [f'<button type="button" data-show="" aria-pressed="true">all {len(kinds)}</button>']
    buttons += [
        f'<button type="button" data-show="{kind}" aria-pressed="false">{word} {counts[kind]}</button>'
        for kind, word in words.items()
        if counts[kind]
    ]
    return "".join(buttons)


def example(
    kind: str, badge: str, tone: str, *, notes: Iterable[str], id: str, prompt: str, material: str, answers: str
) -> str:
    """A prompt with its answers, which are markup (`answer_box`); `kind` is what the filter goes by."""
    given = f'<pre class="input" dir="auto">{escape(material)}</pre>' if material else ""
    said = escape(" \u00b7 ".join(note for note in notes if note))
    return (
        f'<article class="example" data-change="{kind}"><header><span class="badge {tone}">{badge}</span>'
        f"<small>{said}</small><code>{escape(id)}</code></header>"
        f'<pre class="instruction" dir="auto">{escape(prompt)}</pre>{given}'
        f'<div class="answers">{answers}</div></article>'
    )


def answer_box(name: str, marked: str, note: str = "", title: str = "") -> str:
    """One answer, `marked` as markup already."""
    body = marked if marked.strip() else '<span class="empty">(empty)</span>'
    small = f" <small>{escape(note)}</small>" if note else ""
    return f'<div class="{name}"><h4>{title or name}{small}</h4><pre dir="auto">{body}</pre></div>'


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


def _side(name: str, value: float, interval: Interval, unit: Unit) -> str:
    return (
        f'<div class="side {name}"><span>{name}</span><b>{format_value(value, unit)}</b>'
        f"<small>{format_interval(interval, unit)}</small></div>"
    )


def _better_when(metric: MetricResult) -> str:
    arrow = BETTER_WHEN[metric.direction]
    return f"{arrow} {metric.direction} is better" if arrow else "no side is better"
