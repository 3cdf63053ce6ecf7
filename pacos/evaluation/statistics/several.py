"""Several tests at once: Holm's correction (Holm 1979).

Of 20 measures of two equal models one is "significant" at 5 % by itself. Holm's p-values keep the chance of any false
alarm among all of them at the stated rate, whatever their dependence, and are never larger than Bonferroni's.
"""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given: the i-th smallest times (m - i + 1), never less than the one before."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = least
    return adjusted
