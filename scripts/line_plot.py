"""Lines and dots over numbers as one self-contained SVG, readable on a light and on a dark page.

panels side by side, each:   title, axes from zero, series as dots (measured) or as a line (what it is compared to)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 420, 300, 52, 44, 56, 20
COLOURS = ("#1f6fb5", "#d1495b", "#5a8f3d")
STYLE = """<style>
text{font:12px system-ui,sans-serif;fill:#444}.title{font-weight:600}.axis{stroke:#bbb}.line{fill:none;stroke-width:2}
@media(prefers-color-scheme:dark){text{fill:#ccc}.axis{stroke:#555}}
</style>"""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """Named points: measured ones are dots, others a line."""

    name: str
    points: Points
    dots: bool


@dataclass(frozen=True)
class Panel:
    """One plot: what the axes say, and its series."""

    title: str
    x: str
    series: Sequence[Series]


def line_plot(panels: Sequence[Panel]) -> str:
    """The panels side by side."""
    drawn = "".join(f'<g transform="translate({i * WIDTH} 0)">{_panel(panel)}</g>' for i, panel in enumerate(panels))
    title = escape("; ".join(panel.title for panel in panels))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH * len(panels)} {HEIGHT}" role="img">{STYLE}'
        f"<title>{title}</title>{drawn}</svg>\n"
    )


def _panel(panel: Panel) -> str:
    points = [point for series in panel.series for point in series.points]
    x_max, y_max = (max(point[axis] for point in points) or 1.0 for axis in (0, 1))
    floor, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    y_max *= 1.1

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return (
            round(LEFT + point[0] / x_max * (right - LEFT), 1),
            round(floor - point[1] / y_max * (floor - TOP), 1),
        )

    texts = [
        _text(LEFT, 18, "start", panel.title, "title"),
        _text((LEFT + right) / 2, HEIGHT - 8, "middle", panel.x),
        _text(LEFT - 6, floor, "end", "0"),
        _text(LEFT - 6, TOP + 4, "end", f"{y_max:.3g}"),
        _text(right, floor + 16, "end", f"{x_max:g}"),
    ]
    axes = f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{floor}H{right}"/>'
    return (
        axes + "".join(texts) + "".join(_series(s, i, [place(p) for p in s.points]) for i, s in enumerate(panel.series))
    )


def _series(series: Series, number: int, places: Points) -> str:
    colour = COLOURS[number % len(COLOURS)]
    legend = _text(LEFT + 8, 34 + 14 * number, "start", ("● " if series.dots else "― ") + series.name, colour=colour)
    if series.dots:
        return legend + "".join(f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"/>' for x, y in places)
    path = " ".join(f"{x},{y}" for x, y in places)
    return f'{legend}<polyline class="line" stroke="{colour}" points="{path}"/>'


def _text(x: float, y: float, anchor: str, words: str, kind: str = "", colour: str = "") -> str:
    extra = (f' class="{kind}"' if kind else "") + (f' style="fill:{colour}"' if colour else "")
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{extra}>{escape(words)}</text>'
