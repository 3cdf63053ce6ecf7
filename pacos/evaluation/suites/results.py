"""What a suite leaves behind: every case with both answers, and each measure, base against tuned, paired by case.

`to_json()` is the form that files and `--json` hold:

    suite, verdict, num_rows, level, resamples      metrics[]  see `MetricResult`, with `num_rows`
    kinds[]    one measure within one kind          rows[]     case, base, tuned
    gates[]    as in `Evaluation`                   facts      what the suite says beside its measures
    record     what the caller knows of the run

A share's own intervals are Wilson's where no rows are related; a difference's is the paired bootstrap's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pacos.evaluation.comparison import compare_rows, correct
from pacos.evaluation.metrics import Metric
from pacos.evaluation.results import MetricResult, plain
from pacos.evaluation.statistics import LEVEL
from pacos.evaluation.suites.cases import SuiteRow
from pacos.evaluation.wording import format_difference, format_interval, format_value


@dataclass(frozen=True)
class KindResult:
    """One measure among the cases of one kind."""

    kind: str
    num_rows: int
    metric: MetricResult


@dataclass(frozen=True)
class SuiteResult:
    """Base against tuned on a suite's cases."""

    suite: str
    rows: tuple[SuiteRow, ...]
    metrics: tuple[MetricResult, ...]
    kinds: tuple[KindResult, ...]
    resamples: int
    level: float = LEVEL
    facts: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    gates: tuple[Any, ...] = ()
    """`gates.Gated`: conditions, judged."""

    def metric(self, name: str) -> MetricResult:
        return next(metric for metric in self.metrics if metric.name == name)

    def measured_rows(self, name: str) -> tuple[SuiteRow, ...]:
        """The rows that a measure is about."""
        return tuple(row for row in self.rows if row.counts_for(name))

    @property
    def headline(self) -> str:
        """The suite's measures in words: the first two, or three for what is told by three."""
        told = "; ".join(self.sentence(metric) for metric in self.metrics[:3])
        return f"{self.suite}: {told}."

    def sentence(self, metric: MetricResult) -> str:
        """`passed 80.0 % of 10 → 90.0 %, +10.0 pts (95 % interval ...): no difference shown`."""
        interval = format_interval(metric.interval, metric.unit, signed=True)
        return (
            f"{metric.label.lower()} {format_value(metric.base, metric.unit)} → "
            f"{format_value(metric.tuned, metric.unit)} of {len(self.measured_rows(metric.name))}, "
            f"{format_difference(metric.difference, metric.unit)} "
            f"({100 * self.level:g} % interval {interval}): {metric.verdict}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, keys as in the head of this file."""
        return {
            "suite": self.suite,
            "verdict": self.headline,
            "num_rows": len(self.rows),
            "level": self.level,
            "resamples": self.resamples,
            "metrics": [{**plain(m), "num_rows": len(self.measured_rows(m.name))} for m in self.metrics],
            "kinds": [plain(kind) for kind in self.kinds],
            "facts": plain(self.facts),
            "gates": [gated.to_json() for gated in self.gates],
            "rows": [row_json(row) for row in self.rows],
            "record": dict(self.record),
        }


def row_json(row: SuiteRow) -> dict[str, Any]:
    """A row for files: histograms of times left out, which nobody reads."""
    told = plain(row)
    for side in ("base", "tuned"):
        grade = told[side]["grade"]
        grade["counts"] = {name: counts for name, counts in grade["counts"].items() if len(counts) == 2}
    return dict(told)


def suite_result(
    suite: str,
    rows: Sequence[SuiteRow],
    measures: Sequence[Metric],
    *,
    rng: np.random.Generator,
    resamples: int,
    by_kind: Sequence[Metric] = (),
    facts: Mapping[str, Any] | None = None,
    record: Mapping[str, Any] | None = None,
) -> SuiteResult:
    """All that is told of rows that both models have answered. Measures that no row counts for are left out."""
    shown = [(m, found) for m in measures if (found := [row for row in rows if row.counts_for(m.name)])]
    kinds = sorted({row.case.kind for row in rows if row.case.kind})
    within = [
        (kind, m, found)
        for m in by_kind
        for kind in kinds
        if (found := [row for row in rows if row.case.kind == kind and row.counts_for(m.name)])
    ]
    told = correct([compare_rows(found, m, rng=rng, resamples=resamples) for m, found in shown])
    told_within = correct([compare_rows(found, m, rng=rng, resamples=resamples) for _, m, found in within])
    return SuiteResult(
        suite=suite,
        rows=tuple(rows),
        metrics=told,
        kinds=tuple(
            KindResult(kind, len(found), metric) for (kind, _, found), metric in zip(within, told_within, strict=True)
        ),
        resamples=resamples,
        facts=dict(facts or {}),
        record=dict(record or {}),
    )
