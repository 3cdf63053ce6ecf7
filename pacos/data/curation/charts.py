"""The report's drawings, as inline SVG: bars of findings, the sunburst of verbs and nouns, histograms, a map.

Colours come from the page's style sheet by class; the sunburst's are spread over the colour circle.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from html import escape

HALF, INNER, MIDDLE, OUTER = 300, 70, 180, 296
SHORTEST_ARC, BINS, TALL, GROUPS_SHOWN = 0.02, 20, 120, 10


def bars(counts: Sequence[tuple[str, int, str]]) -> str:
    """(name, count, class) as horizontal bars, on a scale of square roots so that small ones show."""
    most = math.sqrt(max((count for _, count, _ in counts), default=1))
    rows = "".join(
        f'<span>{escape(name)}</span><span><b class="{kind}" style="width:{80 * math.sqrt(count) / most:.1f}%"></b>{count:,}</span>'
        for name, count, kind in counts
    )
    return f'<div class="bars">{rows}</div>'


def sunburst(tree: Sequence[tuple[str, int, Sequence[tuple[str, int]]]]) -> str:
    """Verbs inside, their commonest nouns outside; angles are rows. The verb's ring is whole where not all nouns are shown."""
    total, angle, parts = sum(count for _, count, _ in tree), 0.0, []
    for n, (verb, count, nouns) in enumerate(tree):
        hue, width = 360 * n // max(1, len(tree)), 2 * math.pi * count / total
        parts.append(_sector(angle, width, INNER, MIDDLE, hue, 55, verb, count))
        start = angle
        for noun, rows in nouns:
            part = width * rows / count
            parts.append(_sector(start, part, MIDDLE + 2, OUTER, hue, 72, noun, rows))
            start += part
        angle += width
    size = f"{-HALF} {-HALF} {2 * HALF} {2 * HALF}"
    return (
        f'<svg class="sunburst" viewBox="{size}" role="img" aria-label="Verbs and their nouns">{"".join(parts)}</svg>'
    )


def _sector(start: float, width: float, inner: int, outer: int, hue: int, light: int, name: str, rows: int) -> str:
    if width <= 0:
        return ""
    width = min(width, 2 * math.pi - 1e-4)
    large, end = int(width > math.pi), start + width
    points = [_point(radius, at) for radius, at in ((outer, start), (outer, end), (inner, end), (inner, start))]
    path = (
        f"M{points[0]} A{outer} {outer} 0 {large} 1 {points[1]} L{points[2]} A{inner} {inner} 0 {large} 0 {points[3]} Z"
    )
    drawn = f'<path d="{path}" fill="hsl({hue} 55% {light}%)"><title>{escape(name)}: {rows:,} rows</title></path>'
    return drawn + (
        _label(start + width / 2, (inner + outer) / 2, name) if width > SHORTEST_ARC * 2 * math.pi / 2 else ""
    )


def _point(radius: float, angle: float) -> str:
    return f"{radius * math.sin(angle):.2f} {-radius * math.cos(angle):.2f}"


def _label(angle: float, radius: float, name: str) -> str:
    """Along the radius, readable from the left on either side."""
    turn = math.degrees(angle) - 90
    turn += 180 if angle > math.pi else 0
    x, y = _point(radius, angle).split()
    return f'<text transform="translate({x} {y}) rotate({turn:.1f})" text-anchor="middle" dy="4">{escape(name)}</text>'


def doubling(counts: Sequence[int]) -> str:
    """A histogram of words whose bins double: 0, 1, 2 to 3, 4 to 7, ..."""
    labels = [
        "0",
        "1",
        *(f"{2 ** (k - 1)}–{2**k - 1}" for k in range(2, len(counts) - 1)),
        f"{2 ** (len(counts) - 2)}+",
    ]
    return _columns(counts, labels, "words")


def shares(values: Sequence[float]) -> str:
    """A histogram of numbers from 0 to 1."""
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int(value * BINS + 1e-9))] += 1
    return _columns(counts, [f"{k / BINS:.2g}" for k in range(BINS)], "ROUGE-L")


def _columns(counts: Sequence[int], labels: Sequence[str], what: str) -> str:
    most, width = max([*counts, 1]), 100 / len(counts)
    drawn = "".join(
        f'<rect x="{k * width + 0.3:.2f}%" width="{width - 0.6:.2f}%" y="{TALL - TALL * count / most:.1f}" '
        f'height="{TALL * count / most:.1f}"><title>{labels[k]} {what}: {count:,}</title></rect>'
        f'<text x="{(k + 0.5) * width:.2f}%" y="{TALL + 16}" text-anchor="middle">{labels[k]}</text>'
        for k, count in enumerate(counts)
    )
    return f'<svg class="columns" height="{TALL + 22}" role="img" aria-label="Histogram of {what}">{drawn}</svg>'


def scatter(points: Sequence[tuple[float, float]], labels: Sequence[str], groups: Sequence[str]) -> str:
    """Points within -1 to 1, each with its label; those of the GROUPS_SHOWN commonest groups coloured, with a legend."""
    common = [name for name, _ in Counter(filter(None, groups)).most_common(GROUPS_SHOWN)]
    hues = {name: 360 * n // max(1, len(common)) for n, name in enumerate(common)}
    drawn = "".join(
        f'<circle cx="{x * HALF:.1f}" cy="{-y * HALF:.1f}" r="3"{_fill(hues.get(group))}><title>{escape(label)}</title></circle>'
        for (x, y), label, group in zip(points, labels, groups, strict=True)
    )
    legend = "".join(
        f'<li><span style="background:hsl({hues[name]} 60% 55%)"></span>{escape(name)}</li>' for name in common
    )
    size = f"{-HALF - 4} {-HALF - 4} {2 * HALF + 8} {2 * HALF + 8}"
    plot = f'<svg class="scatter" viewBox="{size}" role="img" aria-label="Map of the instructions">{drawn}</svg>'
    return f'{plot}<ul class="legend">{legend}</ul>'


def _fill(hue: int | None) -> str:
    return "" if hue is None else f' fill="hsl({hue} 60% 55%)"'
