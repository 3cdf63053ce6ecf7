"""What an evaluation leaves behind: rows, the metric table, the breakdown, and how to repeat it.

`Evaluation.to_json()` is the form that files and `--json` hold; its keys are stable:

    verdict          one sentence                      metrics[], groups[]  see `MetricResult`, `GroupResult`
    rows[]           see `RowResult`, `Answer`         num_rows, num_clusters, rows_cut, level, resamples, bleu_signature
    wins             `Wins` by row                     exact_match_flips    rows won and lost, McNemar's p
    gates[]          outcome, figure and odds of each   comparisons[]       blind comparisons of the same two models
    rows_left_out[]  file:line or id of each           record               what the caller knows of the run: recipe,
                                                                            models, split, contract, date

A metric's verdict is better, worse, changed (where no side is better), no difference shown (its interval reaches zero, or
its corrected p is over 5 %), or too few rows (the interval is clear of zero, but fewer than `statistics.FEWEST_ROWS`
rows differ).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pacos.evaluation.metrics import Answer, Direction, Unit
from pacos.evaluation.statistics import Interval, Verdict, mcnemar, wilson
from pacos.evaluation.wording import format_difference, format_interval, format_value


@dataclass(frozen=True)
class RowResult:
    """One example, and what each model made of it. `groups`: {"family": "sort_words", "held_out": "yes"}."""

    id: str
    instruction: str
    input: str
    reference: str
    groups: Mapping[str, str]
    base: Answer
    tuned: Answer
    cluster: str = ""
    """Rows of one name are related, and are resampled together; empty: the row is by itself."""

    @property
    def score_change(self) -> float:
        """How much nearer the answer came to the reference: exact match, and ROUGE-L."""
        return (self.tuned.exact - self.base.exact) + (self.tuned.rouge_l - self.base.rouge_l)

    @property
    def change(self) -> float:
        """How far tuned moved from base on this row: exact match counts most, then ROUGE-L, then the loss per token."""
        loss = self.base.nll_per_token - self.tuned.nll_per_token
        return self.score_change + 0.1 * max(-1.0, min(1.0, loss))


@dataclass(frozen=True)
class MetricResult:
    """One line of the table. Shares are 0 to 1, BLEU 0 to 100; `difference` is tuned - base.

    `p` is the permutation test's, `p_corrected` Holm's over the measures told together. `more_rows` would show a
    difference of this size with 80 % chance: 0 where the interval is clear of zero, None where no useful number would.
    """

    name: str
    label: str
    unit: Unit
    direction: Direction
    base: float
    base_interval: Interval
    tuned: float
    tuned_interval: Interval
    difference: float
    interval: Interval
    rows_that_differ: int
    p: float
    p_corrected: float
    more_rows: int | None
    verdict: Verdict


@dataclass(frozen=True)
class GroupResult:
    """Exact match among the rows whose column `key` says `value`."""

    key: str
    value: str
    num_rows: int
    metric: MetricResult


class Wins(NamedTuple):
    """Rows on which tuned is nearer to the reference, further from it, and as near."""

    won: int
    lost: int
    tied: int

    @property
    def rate(self) -> float:
        """Ties count half."""
        return (self.won + self.tied / 2) / sum(self)

    @property
    def decided_interval(self) -> Interval:
        """Wilson's, of the share won among the rows that are not tied."""
        return wilson(self.won, self.won + self.lost)


@dataclass(frozen=True)
class Evaluation:
    """Base against tuned, on `rows`.

    `rows_cut` were longer than max_length and scored in part; the prompts of `rows_left_out` left no room for an answer.
    """

    rows: tuple[RowResult, ...]
    metrics: tuple[MetricResult, ...]
    groups: tuple[GroupResult, ...]
    bleu_signature: str
    level: float
    resamples: int
    rows_cut: int = 0
    rows_left_out: tuple[str, ...] = ()
    num_clusters: int = 0
    """Groups of related rows, where there are fewer of them than rows; else 0."""
    record: Mapping[str, Any] = field(default_factory=dict)
    gates: tuple[Any, ...] = ()
    """`gates.Gated`: conditions, judged."""
    comparisons: tuple[Any, ...] = ()
    """`pairwise.Told`: finished blind comparisons of the same two models."""

    def metric(self, name: str) -> MetricResult:
        """By name: exact_match, perplexity, rouge_l, bleu, response_tokens, empty_share, ..."""
        return next(metric for metric in self.metrics if metric.name == name)

    def measured_rows(self, name: str) -> tuple[RowResult, ...]:
        """The rows that a metric is of: all of them."""
        return self.rows

    @property
    def lead(self) -> MetricResult:
        """What to name first: exact match where any answer is exact, else ROUGE-L."""
        exact = self.metric("exact_match")
        return exact if max(exact.base, exact.tuned) > 0 else self.metric("rouge_l")

    @property
    def wins(self) -> Wins:
        """Row by row: on how many tuned's answer is nearer to the reference than base's."""
        changes = [row.score_change for row in self.rows]
        return Wins(sum(c > 0 for c in changes), sum(c < 0 for c in changes), sum(c == 0 for c in changes))

    @property
    def flips(self) -> tuple[int, int]:
        """Rows that tuned alone has exactly right, and rows that base alone has: McNemar's two counts."""
        pairs = [(row.tuned.exact, row.base.exact) for row in self.rows]
        return pairs.count((True, False)), pairs.count((False, True))

    @property
    def headline(self) -> str:
        """The verdict in words: `lead`, then perplexity."""
        return f"On {len(self.rows)} rows: {self.sentence(self.lead)}; {self.sentence(self.metric('perplexity'))}."

    def sentence(self, metric: MetricResult) -> str:
        """`exact match 12.5 % -> 62.0 %, +49.5 pts (95 % interval +42.0 to +56.5): better`."""
        interval = format_interval(metric.interval, metric.unit, signed=True)
        label = metric.label if metric.label.isupper() or "-" in metric.label else metric.label.lower()
        difference = format_difference(metric.difference, metric.unit)
        return (
            f"{label} {format_value(metric.base, metric.unit)} \u2192 {format_value(metric.tuned, metric.unit)}, "
            f"{difference} ({100 * self.level:g} % interval {interval}): {metric.verdict}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, keys as in the head of this file."""
        return {
            "verdict": self.headline,
            "num_rows": len(self.rows),
            "rows_cut": self.rows_cut,
            "rows_left_out": list(self.rows_left_out),
            "num_clusters": self.num_clusters,
            "level": self.level,
            "resamples": self.resamples,
            "bleu_signature": self.bleu_signature,
            "metrics": [plain(metric) for metric in self.metrics],
            "wins": {"won": self.wins.won, "lost": self.wins.lost, "tied": self.wins.tied, "rate": self.wins.rate},
            "exact_match_flips": dict(
                zip(("gained", "lost", "p_exact", "p_mid"), (*self.flips, *mcnemar(*self.flips)), strict=True)
            ),
            "groups": [plain(group) for group in self.groups],
            "gates": [gated.to_json() for gated in self.gates],
            "comparisons": [plain(told.to_json()) for told in self.comparisons],
            "rows": [plain(row) for row in self.rows],
            "record": dict(self.record),
        }


def plain(value: Any) -> Any:
    """Dataclasses as dicts, tuples as lists, down to the leaves."""
    if dataclasses.is_dataclass(value):
        kept = (f.name for f in dataclasses.fields(value) if f.metadata.get("json", True))
        return {name: plain(getattr(value, name)) for name in kept}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return (
        None if isinstance(value, float) and math.isinf(value) else value
    )  # JSON has no infinity: nothing can be told
