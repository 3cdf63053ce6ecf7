"""Two columns of answers to the same prompts -> what may be said of them.

    RowResults -> counts (N, K) of each side -> sums of related rows (G, K) -> interval (bootstrap) and p (permutation)
               -> Holm over the measures -> MetricResult

Where the answers come from does not matter: base and tuned of one evaluation, or the tuned sides of two in the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from pacos.data.near import join_groups
from pacos.data.records import Example
from pacos.errors import UsageError
from pacos.evaluation.metrics import EXACT, METRICS, Metric, bleu_signature
from pacos.evaluation.results import Evaluation, GroupResult, MetricResult, RowResult
from pacos.evaluation.statistics import (
    LEVEL,
    Comparison,
    Interval,
    cluster_sums,
    compare,
    holm,
    more_prompts,
    permutation_p,
    verdict,
    wilson,
)

GROUP_KEYS = ("held_out", "family")
"""Columns of a row that give a breakdown of their own."""


class Paired(Protocol):
    """A prompt with what is kept of both models' answers, for a metric to count."""

    @property
    def id(self) -> str: ...
    @property
    def cluster(self) -> str: ...
    @property
    def base(self) -> Any: ...
    @property
    def tuned(self) -> Any: ...


def evaluation_of(
    rows: tuple[RowResult, ...],
    *,
    rng: np.random.Generator,
    resamples: int,
    rows_cut: int = 0,
    rows_left_out: tuple[str, ...] = (),
    record: Mapping[str, Any],
) -> Evaluation:
    """All that is told of rows that both models have answered."""
    clusters = len({row.cluster or row.id for row in rows})
    return Evaluation(
        rows=rows,
        metrics=correct([compare_rows(rows, metric, rng=rng, resamples=resamples) for metric in METRICS]),
        groups=compare_groups(rows, EXACT, rng=rng, resamples=resamples),
        bleu_signature=bleu_signature(),
        level=LEVEL,
        resamples=resamples,
        rows_cut=rows_cut,
        rows_left_out=rows_left_out,
        num_clusters=clusters if clusters < len(rows) else 0,
        record=dict(record),
    )


def compare_rows(rows: Sequence[Paired], metric: Metric, *, rng: np.random.Generator, resamples: int) -> MetricResult:
    """One line of the metric table, as if it were the only one."""
    clusters = [row.cluster or row.id for row in rows]
    sides = ([row.base for row in rows], [row.tuned for row in rows])
    base, tuned = (cluster_sums(metric.table(answers), clusters) for answers in sides)
    stream = rng.spawn(1)[0]  # of its own per metric: a new metric in the table moves no other's interval
    result = compare(base, tuned, metric.value, rng=stream, resamples=resamples)
    p = permutation_p(base, tuned, metric.value, rng=stream)
    if metric.unit == "share":
        result = _of_share(result, len(base), related=len(base) < len(rows))
    interval = result.interval
    return MetricResult(
        name=metric.name,
        label=metric.label,
        unit=metric.unit,
        direction=metric.direction,
        base=result.base,
        base_interval=result.base_interval,
        tuned=result.tuned,
        tuned_interval=result.tuned_interval,
        difference=result.difference,
        interval=interval,
        rows_that_differ=result.rows_that_differ,
        p=p,
        p_corrected=p,
        more_rows=more_prompts(len(rows), result.difference, interval),
        verdict=verdict(result, metric.direction, p),
    )


def _of_share(result: Comparison, units: int, *, related: bool) -> Comparison:
    """Of shares more is known than what resamples show: each side's interval is Wilson's where no rows are related, and
    a difference of none in so many rows is not the same as being sure."""
    if not related:
        base, tuned = (wilson(round(share * units), units) for share in (result.base, result.tuned))
        result = replace(result, base_interval=base, tuned_interval=tuned)
    if result.rows_that_differ or units < 2:
        return result
    unseen = wilson(0, units).high
    return replace(result, interval=Interval(-unseen, unseen))


def correct(results: Sequence[MetricResult]) -> tuple[MetricResult, ...]:
    """The same measures told together: Holm's correction over those of which a side is better."""
    several = [result for result in results if result.direction != "neither"]
    p_values = dict(zip([id(result) for result in several], holm([result.p for result in several]), strict=True))
    corrected = [replace(result, p_corrected=p_values.get(id(result), result.p)) for result in results]
    return tuple(replace(one, verdict=verdict(one, one.direction, one.p_corrected)) for one in corrected)


def compare_groups(
    rows: Sequence[RowResult], metric: Metric, *, rng: np.random.Generator, resamples: int
) -> tuple[GroupResult, ...]:
    """One metric within each value of each key of `GROUP_KEYS` that rows have."""
    results = []
    for key in GROUP_KEYS:
        values = sorted({row.groups[key] for row in rows if key in row.groups})
        members = [[row for row in rows if row.groups.get(key) == value] for value in values]
        told = correct([compare_rows(group, metric, rng=rng, resamples=resamples) for group in members])
        results += [
            GroupResult(key=key, value=value, num_rows=len(group), metric=result)
            for value, group, result in zip(values, members, told, strict=True)
        ]
    return tuple(results)


def related_rows(examples: Sequence[Example], column: str | None) -> list[str]:
    """Which rows go together: those that share a seed of their `lineage`, or a value of `column`; "" for a row by itself.

    Raises UsageError where no row has the column.
    """
    if column is not None:
        values = [example.extra.get(column) for example in examples]
        if not any(value not in (None, "") for value in values):
            known = sorted({name for example in examples for name in example.extra})
            has = f"they have: {', '.join(known)}" if known else "they have none beside Alpaca's"
            raise UsageError(f"no row has a column '{column}' to tell related rows by; {has}")
        return ["" if value in (None, "") else group_name(value) for value in values]
    numbers: dict[str, list[int]] = {}
    for number, example in enumerate(examples):
        for ancestor in example.lineage:
            numbers.setdefault(ancestor, []).append(number)
    labels = join_groups(range(len(examples)), numbers.values())
    return [examples[label].id if labels.count(label) > 1 else "" for label in labels]


def group_name(value: Any) -> str:
    """A column's value as the name of a group: true -> yes."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
