"""Figures as people read them: 0.495 of a share is `49.5 %`, and as a difference `+49.5 pts`.

The one home of how each unit is written, for the terminal, Markdown and the report.
"""

from __future__ import annotations

from pacos.evaluation.metrics import Unit
from pacos.evaluation.statistics import Interval

MINUS = "\u2212"
_SCALE: dict[Unit, float] = {"share": 100, "seconds": 1000}
_DECIMALS: dict[Unit, int] = {"share": 1, "score": 3, "bleu": 1, "tokens": 1, "seconds": 2}
_SUFFIX: dict[Unit, str] = {"share": " %", "seconds": " ms"}
_DIFFERENCE_SUFFIX: dict[Unit, str] = {"share": " pts", "seconds": " ms"}


def format_value(value: float, unit: Unit) -> str:
    """`62.0 %`, `8.214`, `12.31 ms`."""
    return _number(value, unit) + _SUFFIX.get(unit, "")


def format_difference(value: float, unit: Unit) -> str:
    """With its sign: `+49.5 pts`."""
    return _signed(value, unit) + _DIFFERENCE_SUFFIX.get(unit, "")


def format_interval(interval: Interval, unit: Unit, *, signed: bool = False) -> str:
    """`42.0 to 56.5`, or with signs `+42.0 to +56.5`; the unit goes without saying beside the figure."""
    if not interval.told:
        return "not told"
    write = _signed if signed else _number
    return f"{write(interval.low, unit)} to {write(interval.high, unit)}"


def format_p(p: float) -> str:
    """`0.031`; what is smaller than three decimals show is `<0.001`."""
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def format_share(share: float, decimals: int = 1) -> str:
    """`1.8 %`."""
    return f"{100 * share:.{decimals}f} %"


def counted(number: int, one: str, many: str = "") -> str:
    """`1 row`, `2 rows`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _number(value: float, unit: Unit) -> str:
    scaled = value * _SCALE.get(unit, 1)
    text = f"{scaled:,.{_decimals(scaled, unit)}f}"
    return text.lstrip("-") if not text.strip("-0.") else text.replace("-", MINUS)


def _signed(value: float, unit: Unit) -> str:
    text = _number(value, unit)
    return text if text.startswith(MINUS) or not text.strip("0.,") else f"+{text}"


def _decimals(scaled: float, unit: Unit) -> int:
    if unit in _DECIMALS:
        return _DECIMALS[unit]
    return 3 if abs(scaled) < 10 else 2 if abs(scaled) < 1000 else 0
