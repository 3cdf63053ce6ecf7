"""The report's drawings, as inline SVG.

Horizontal places are percentages, so a drawing fills whatever width the page gives it while its marks and letters keep
their size. Colours come from the page's style sheet by class: `base`, `tuned`, `better`, `worse`, `same`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from pacos.evaluation.results import MetricResult
from pacos.evaluation.statistics import Interval

HISTOGRAM_BINS = 24
HALF_HEIGHT = 160
POINTS_EDGE = 4.0  # percent kept free around a scatter


def forest_mark(metric: MetricResult) -> str:
    """A difference and its interval about the line of no difference, each on its own scale.

    Right is better, or more where no side is.
    """
    sign = -1 if metric.direction == "lower" else 1
    if not metric.interval.told:
        return f'<svg class="forest same" height="28" role="img" aria-label="{escape(metric.label)}: {metric.verdict}"></svg>'
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


def share_mark(share: float, interval: Interval, kind: str) -> str:
    """A share, 0 to 1, and its interval on a track whose middle is one half."""
    low, high = (_inset(min(max(edge, 0.0), 1.0)) for edge in interval)
    return (
        f'<svg class="forest {kind}" height="28" role="img" aria-label="{share:.1%}">'
        f'<line class="track" x1="{_inset(0)}" x2="{_inset(1)}" y1="14" y2="14"/>'
        '<line class="zero" x1="50%" x2="50%" y1="0" y2="28"/>'
        f'<line class="bar" x1="{low}" x2="{high}" y1="14" y2="14"/>'
        f'<circle cx="{_inset(share)}" cy="14" r="5.5"/></svg>'
    )


def stack(parts: Sequence[tuple[str, str, int]]) -> str:
    """Counts as one bar: word, tone and count of each part."""
    spans = "".join(
        f'<span class="{tone}" style="flex-grow:{count}" title="{word}: {count}"></span>'
        for word, tone, count in parts
        if count
    )
    told = ", ".join(f"{word} {count}" for word, _, count in parts)
    return f'<div class="stack" role="img" aria-label="{told}">{spans}</div>'


def length_histogram(base: Sequence[int], tuned: Sequence[int]) -> str:
    """Response lengths in tokens, tuned above the line and base below it, in the same bins."""
    longest = max([*base, *tuned, 1])
    width = math.ceil((longest + 1) / HISTOGRAM_BINS)
    bins = longest // width + 1
    spans = [f"{i * width}" if width == 1 else f"{i * width} to {(i + 1) * width - 1}" for i in range(bins)]
    ends = ["0", f"{round(bins * width / 2):,}", f"{bins * width:,} tokens"]
    counts = _counts(base, width, bins), _counts(tuned, width, bins)
    return _mirrored(*counts, [f"answers of {span} tokens" for span in spans], ends, "response lengths in tokens")


def time_histogram(base: Sequence[float], tuned: Sequence[float], edge: Callable[[int], float]) -> str:
    """Times by their counts in bins that grow by a factor; `edge` says where a bin begins, in seconds. Drawn from the
    fastest to the slowest."""
    filled = [i for i, pair in enumerate(zip(base, tuned, strict=True)) if any(pair)]
    first, width = filled[0], math.ceil((filled[-1] + 1 - filled[0]) / HISTOGRAM_BINS)
    starts = list(range(first, filled[-1] + 1, width))
    lower, upper = ([round(sum(side[i : i + width])) for i in starts] for side in (base, tuned))
    spans = [f"times of {_milliseconds(edge(i))} to {_milliseconds(edge(i + width))} ms" for i in starts]
    ends = [_milliseconds(edge(i)) for i in (first, first + len(starts) * width // 2)]
    last = f"{_milliseconds(edge(first + len(starts) * width))} ms"
    return _mirrored(lower, upper, spans, [*ends, last], "times in milliseconds")


def _mirrored(base: Sequence[int], tuned: Sequence[int], spans: Sequence[str], ends: Sequence[str], what: str) -> str:
    """Bars of tuned above the line and of base below it; `ends` stand at the left, the middle and the right."""
    tallest, bins = max([*base, *tuned]), len(spans)
    bars = "".join(
        _bar(counts[i], i, bins, tallest, kind, spans[i])
        for kind, counts in (("tuned", tuned), ("base", base))
        for i in range(bins)
    )
    axis, bottom = HALF_HEIGHT + 1, round(HALF_HEIGHT * (1 + max(base) / tallest)) + 20
    ticks = "".join(
        f'<text x="{x}%" y="{bottom}" text-anchor="{anchor}">{text}</text>'
        for text, x, anchor in zip(ends, (0, 50, 100), ("start", "middle", "end"), strict=True)
    )
    return (
        f'<svg class="histogram" height="{bottom + 6}" role="img" aria-label="Histogram of {what}">'
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


def _bar(count: int, i: int, bins: int, tallest: int, kind: str, span: str) -> str:
    if not count:
        return ""
    height = max(1.5, HALF_HEIGHT * count / tallest)
    y = HALF_HEIGHT - height if kind == "tuned" else HALF_HEIGHT + 2
    return (
        f'<rect class="{kind}" x="{100 * i / bins + 0.25:.2f}%" width="{100 / bins - 0.5:.2f}%" y="{y:.1f}" '
        f'height="{height:.1f}" rx="1.5"><title>{kind}: {count} {span}</title></rect>'
    )


def _milliseconds(seconds: float) -> str:
    """Three digits."""
    value = 1000 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


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
