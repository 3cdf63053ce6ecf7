"""The report: one HTML file that says what changed, how sure that is, and shows it. What it is made of is in `markup`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any

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
    resource,
)
from pacos.evaluation.metrics import Answer
from pacos.evaluation.pairwise.page import comparisons_sections
from pacos.evaluation.report_sections import gates_section, undecided_section, wins_section
from pacos.evaluation.results import Evaluation, GroupResult, MetricResult, RowResult
from pacos.evaluation.statistics import FEWEST_ROWS
from pacos.evaluation.tables import method_note
from pacos.evaluation.worddiff import mark_changes
from pacos.evaluation.wording import counted, format_difference, format_interval

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
    body = Template(resource("report.html")).substitute(
        metrics="".join(map(metric_line, evaluation.metrics)),
        fewest=FEWEST_ROWS,
        gates=gates_section(evaluation.gates),
        wins=wins_section(evaluation),
        undecided=undecided_section(evaluation),
        comparisons=comparisons_sections(evaluation.comparisons),
        groups=_groups(evaluation.groups),
        lengths=charts.length_histogram(*_both(evaluation.rows, lambda answer: answer.tokens)),
        losses=charts.loss_scatter(
            list(zip(*_both(evaluation.rows, lambda answer: answer.nll_per_token), strict=True))
        ),
        filters=filters(list(map(change_kind, shown)), CHANGES),
        shown=f"{len(shown)} of {len(evaluation.rows)} rows, those that changed most, regressions first",
        examples="".join(map(_example, shown)) or "<p>No answer changed.</p>",
        method=escape(method_note(evaluation)),
        record=record_section(record),
    )
    return render_page(
        body,
        title=str(record.get("name") or record.get("run") or "Base against tuned"),
        kind="base against tuned",
        eyebrow="pacos eval",
        lead=_lead(evaluation),
        tally=_tally(evaluation.metrics),
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


def _both(rows: Sequence[RowResult], figure: Any) -> tuple[list[Any], list[Any]]:
    return [figure(row.base) for row in rows], [figure(row.tuned) for row in rows]


def _lead(evaluation: Evaluation) -> str:
    lead, perplexity = evaluation.lead, evaluation.metric("perplexity")
    return (
        f'{big_figures(lead.base, lead.tuned, lead.unit)}<p class="say">{_said(evaluation, lead)} on '
        f"{len(evaluation.rows):,} rows. {_said(evaluation, perplexity)}.</p>"
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
    lines = "".join(f'<li class="{tones[kind]}"><b>{counts[kind]}</b> {word}</li>' for kind, word in words.items())
    return f'<ul class="tally">{lines}</ul>'


def _groups(groups: Sequence[GroupResult]) -> str:
    if not groups:
        return ""
    blocks = [_group_block(key, list(members)) for key, members in groupby(groups, key=lambda group: group.key)]
    return f'<section class="groups"><h2>Exact match by group</h2>{"".join(blocks)}</section>'


def _group_block(key: str, groups: Sequence[GroupResult]) -> str:
    """One key's groups, largest gain first; folded where they would be a wall."""
    name = escape(key.replace("_", " "))
    ordered = sorted(groups, key=lambda group: (-group.metric.difference, group.value))
    lines = "".join(dumbbell_line(g.value.replace("_", " "), g.num_rows, g.metric) for g in ordered)
    if len(groups) > GROUPS_UNFOLDED:
        return f"<details><summary>{name}: {len(groups)} groups</summary><ul>{lines}</ul></details>"
    return f"<h3>{name}</h3><ul>{lines}</ul>"


def _example(row: RowResult) -> str:
    kind = change_kind(row)
    before, after = mark_changes(row.base.text, row.tuned.text)
    answers = answer_box("reference", escape(row.reference))
    answers += answer_box("base", before, _note(row.base)) + answer_box("tuned", after, _note(row.tuned))
    return example(
        kind,
        CHANGES[kind],
        "better" if kind in ("gained", "closer") else "worse",
        notes=[f"{key}: {value}".replace("_", " ") for key, value in row.groups.items()],
        id=row.id,
        prompt=row.instruction,
        material=row.input,
        answers=answers,
    )


def _note(answer: Answer) -> str:
    score = "exact" if answer.exact else f"ROUGE-L {answer.rouge_l:.2f}"
    unstopped = " \u00b7 never stopped" if answer.finish_reason == "length" else ""
    return f"{score} \u00b7 {counted(answer.tokens, 'token')}{unstopped}"
