"""Signs that turn the direction of text, made visible: U+202E lets "txt.exe" be read as "exe.txt" (Boucher and Anderson
2023, "Trojan Source"). Nobody sees them, so a person who judges an answer would not see what the model wrote.
"""

from __future__ import annotations

import re

_DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Marks, embeddings, overrides and isolates of Unicode's bidirectional algorithm (UAX #9)."""


def show_directions(text: str) -> str:
    """Each such sign as its escape: `\\u202e`. Letters keep the direction that they have by themselves."""
    return _DIRECTIONS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
