"""The report's drawings, as inline SVG.

Horizontal places are percentages, so a drawing fills whatever width the page gives it while its marks and letters keep
their size. Colours come from the page's style sheet by class: `base`, `tuned`, `better`, `worse`, `same`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from pacos.evaluation.results import MetricResult

HISTOGRAM_BINS = 24
HALF_HEIGHT = 160
POINTS_EDGE = 4.0  # percent kept free around a scatter


def forest_mark(metric: MetricResult) -> str:
    """A difference and its interval about the line of no difference, each on its own scale.

    Right is better, or more where no side is.
    """
    sign = -1 if metric.direction == "lower" else 1
    reach = max(abs(metric.interval.low), abs(metric.interval.high), abs(metric.difference)) * 1.12 or 1.0
    left, dot, right = (
        50 + 50 * sign * x / reach for x in (metric.interval.low, metric.difference, metric.interval.high)
    )
    left, right = min(left, right), max(left, right)
    kind = verdict_class(metric)
    return (
        f'<svg class="forest {kind}" height="28" role="img" aria-label="{escape(metric.label)}: {metric.verdict}">'
        '<line class="zero" x1="50%" x2="50%" y1="0" y2="28"/>'
        f'<line class="bar" x1="{left:.2f}%" x2="{right:.2f}%" y1="14" y2="14"/>'
        f'<line class="end" x1="{left:.2f}%" x2="{left:.2f}%" y1="9" y2="19"/>'
        f'<line class="end" x1="{right:.2f}%" x2="{right:.2f}%" y1="9" y2="19"/>'
        f'<circle cx="{dot:.2f}%" cy="14" r="5.5"/></svg>'
    )


def verdict_class(metric: MetricResult) -> str:
    """The colour of a verdict: better, worse or same."""
    return metric.verdict if metric.verdict in ("better", "worse") else "same"


def badge(metric: MetricResult) -> str:
    """A verdict as a coloured word, with its arrow."""
    sign = {"better": "\u25b2 ", "worse": "\u25bc "}.get(metric.verdict, "")
    return f'<span class="badge {verdict_class(metric)}">{sign}{metric.verdict}</span>'


def dumbbell(base: float, tuned: float, kind: str) -> str:
    """Two shares, 0 to 1, on a common track: base hollow, tuned filled."""
    ends = f'x1="{_inset(base)}" x2="{_inset(tuned)}"'
    return (
        f'<svg class="dumbbell {kind}" height="22" role="img" aria-label="from {base:.1%} to {tuned:.1%}">'
        f'<line class="track" x1="{_inset(0)}" x2="{_inset(1)}" y1="11" y2="11"/>'
        f'<line class="bar" {ends} y1="11" y2="11"/>'
        f'<circle class="base" cx="{_inset(base)}" cy="11" r="4.5"/>'
        f'<circle class="tuned" cx="{_inset(tuned)}" cy="11" r="5.5"/></svg>'
    )


def length_histogram(base: Sequence[int], tuned: Sequence[int]) -> str:
    """Response lengths in tokens, tuned above the line and base below it, in the same bins."""
    longest = max([*base, *tuned, 1])
    width = math.ceil((longest + 1) / HISTOGRAM_BINS)
    bins = longest // width + 1
    upper, lower = _counts(tuned, width, bins), _counts(base, width, bins)
    tallest = max([*upper, *lower])
    bars = "".join(
        _bar(counts[i], i, width, bins, tallest, kind)
        for kind, counts in (("tuned", upper), ("base", lower))
        for i in range(bins)
    )
    axis, bottom = HALF_HEIGHT + 1, round(HALF_HEIGHT * (1 + max(lower) / tallest)) + 20
    ticks = "".join(
        f'<text x="{100 * share:.0f}%" y="{bottom}" text-anchor="{anchor}">{round(share * bins * width):,}{unit}</text>'
        for share, anchor, unit in ((0, "start", ""), (0.5, "middle", ""), (1, "end", " tokens"))
    )
    return (
        f'<svg class="histogram" height="{bottom + 6}" role="img" aria-label="Histogram of response lengths in tokens">'
        f'{bars}<line class="zero" x1="0" x2="100%" y1="{axis}" y2="{axis}"/>{ticks}</svg>'
    )


def loss_scatter(pairs: Sequence[tuple[float, float]]) -> str:
    """One dot a row: loss per token under base (across) and tuned (up), nats. Below the diagonal tuned is better.

    The axes end at the 98th percentile; dots beyond sit on the edge.
    """
    values = sorted(value for pair in pairs for value in pair)
    top = values[min(len(values) - 1, int(0.98 * len(values)))] or 1.0
    near, far = POINTS_EDGE, 100 - POINTS_EDGE
    dots = "".join(_dot(base, tuned, top) for base, tuned in pairs)
    ticks = "".join(
        f'<text x="{_place(t, top):.1f}%" y="99.4%" text-anchor="middle">{t:g}</text>'
        f'<text x="1" y="{100 - _place(t, top):.1f}%" dy="4">{t:g}</text>'
        for t in _ticks(top)
    )
    return (
        '<svg class="scatter" role="img" aria-label="Loss per token of each row, base against tuned">'
        f'<line class="zero" x1="{near}%" y1="{far}%" x2="{far}%" y2="{near}%"/>'
        f"{dots}{ticks}</svg>"
    )


def _inset(share: float) -> str:
    return f"{3 + 94 * share:.2f}%"


def _counts(lengths: Sequence[int], width: int, bins: int) -> list[int]:
    counts = [0] * bins
    for length in lengths:
        counts[length // width] += 1
    return counts


def _bar(count: int, i: int, width: int, bins: int, tallest: int, kind: str) -> str:
    if not count:
        return ""
    height = max(1.5, HALF_HEIGHT * count / tallest)
    y = HALF_HEIGHT - height if kind == "tuned" else HALF_HEIGHT + 2
    span = f"{i * width}" if width == 1 else f"{i * width} to {(i + 1) * width - 1}"
    return (
        f'<rect class="{kind}" x="{100 * i / bins + 0.25:.2f}%" width="{100 / bins - 0.5:.2f}%" y="{y:.1f}" '
        f'height="{height:.1f}" rx="1.5"><title>{kind}: {count} answers of {span} tokens</title></rect>'
    )


def _place(value: float, top: float) -> float:
    return POINTS_EDGE + (100 - 2 * POINTS_EDGE) * min(max(value / top, 0.0), 1.0)


def _dot(base: float, tuned: float, top: float) -> str:
    kind = "better" if tuned < base else "worse" if tuned > base else "same"
    return (
        f'<circle class="{kind}" cx="{_place(base, top):.2f}%" cy="{100 - _place(tuned, top):.2f}%" r="3.5">'
        f"<title>base {base:.3f}, tuned {tuned:.3f} nats per token</title></circle>"
    )


def _ticks(top: float) -> list[float]:
    """Two to five round numbers above 0, up to `top`."""
    step = 10 ** math.floor(math.log10(top))
    for part in (step / 5, step / 2, step, step * 2):
        if top / part <= 5:
            return [round(part * i, 12) for i in range(1, int(top / part) + 1)]
    return [step]
