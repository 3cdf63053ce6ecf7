"""The learning rate of each step: linear warm-up, then cosine, linear or constant.

Step s of S, counted from 0, with W warm-up steps: peak * (s + 1) / W while s < W; then from the peak down to
`floor` * peak, which the last step reaches.
"""

from __future__ import annotations

import math


def learning_rate(step: int, *, steps: int, peak: float, warmup: int, kind: str, floor: float) -> float:
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - 1 - warmup)
    return peak * (floor + (1 - floor) * _decay(kind, min(1.0, share)))


def _decay(kind: str, share: float) -> float:
    """1 at the start, 0 at the end; constant stays at 1."""
    if kind == "constant":
        return 1.0
    return (1 + math.cos(math.pi * share)) / 2 if kind == "cosine" else 1 - share
