"""The loss of a run as a picture: one self-contained SVG, readable on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 320, 56, 36, 28, 16
STYLE = """<style>
text{font:12px system-ui,sans-serif;fill:#444}.axis{stroke:#bbb}.train{fill:none;stroke:#9bb8d9;stroke-width:1}
.smooth{fill:none;stroke:#1f6fb5;stroke-width:2}.eval{fill:none;stroke:#d1495b;stroke-width:2}.dot{fill:#d1495b}
@media(prefers-color-scheme:dark){text{fill:#ccc}.axis{stroke:#555}}
</style>"""

Points = Sequence[tuple[float, float]]


def loss_plot(train: Points, evaluated: Points) -> str:
    """SVG of (step, loss) of training, smoothed over it, and of the validation rows."""
    everything = [*train, *evaluated]
    x_max = max(x for x, _ in everything)
    low, high = min(y for _, y in everything), max(y for _, y in everything)
    high = high if high > low else low + 1e-6

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = LEFT + point[0] / x_max * (WIDTH - LEFT - RIGHT)
        return x, TOP + (high - point[1]) / (high - low) * (HEIGHT - TOP - BOTTOM)

    dots = "".join(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in map(place, evaluated))
    lines = "".join(_line(name, [place(p) for p in points]) for name, points in _series(train, evaluated))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{STYLE}'
        f"<title>loss by step</title>{_axes(x_max, low, high)}{lines}{dots}{_legend(bool(evaluated))}</svg>\n"
    )


def smooth(points: Points, share: float = 0.1) -> list[tuple[float, float]]:
    """Exponential moving average of the values, corrected for its start."""
    average, weight, out = 0.0, 0.0, []
    for x, y in points:
        average, weight = (1 - share) * average + share * y, (1 - share) * weight + share
        out.append((x, average / weight))
    return out


def _series(train: Points, evaluated: Points) -> list[tuple[str, Points]]:
    return [("train", train), ("smooth", smooth(train)), ("eval", evaluated)]


def _line(name: str, points: Points) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{name}" points="{path}"/>'


def _axes(x_max: float, low: float, high: float) -> str:
    floor, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    texts = [
        (LEFT - 6, TOP + 4, "end", f"{high:.2f}"),
        (LEFT - 6, floor, "end", f"{low:.2f}"),
        (LEFT, floor + 18, "middle", "0"),
        (right, floor + 18, "end", f"step {x_max:g}"),
    ]
    labels = "".join(f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>' for x, y, anchor, text in texts)
    return f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{floor}H{right}"/>{labels}'


def _legend(with_eval: bool) -> str:
    held_out = '<tspan dx="16" fill="#d1495b">validation</tspan>' if with_eval else ""
    return f'<text x="{LEFT + 8}" y="18">loss, nats a response token: <tspan fill="#1f6fb5">training</tspan>{held_out}</text>'
