"""Inference: token ids in, token ids or scores out. One engine for chat, evaluation and serving.

Names are imported when first used, so that what needs no torch does not load it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pacos.lazy import lazy

if TYPE_CHECKING:
    from pacos.inference.batch import Completion
    from pacos.inference.chat import ChatSession
    from pacos.inference.engine import Engine, Score
    from pacos.inference.reading import Reading
    from pacos.inference.sampling import Sampling
    from pacos.inference.stops import StopTexts

__all__ = ["ChatSession", "Completion", "Engine", "Reading", "Sampling", "Score", "StopTexts"]

__getattr__ = lazy(
    __name__,
    {
        "ChatSession": "chat",
        "Completion": "batch",
        "Engine": "engine",
        "Reading": "reading",
        "Sampling": "sampling",
        "Score": "engine",
        "StopTexts": "stops",
    },
)
