"""What changed between two answers, word by word, as HTML: `<del>` in the first, `<ins>` in the second.

Words, numbers and single signs are compared; the space behind each goes with it and does not count as a change.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from pacos.evaluation.markup import escape

LEAST_SHARED = 0.25
"""Answers that share less than this have little in common to show: both are left unmarked."""


def mark_changes(before: str, after: str) -> tuple[str, str]:
    """Both texts, escaped, with the words that the other lacks marked."""
    a, b = (re.findall(r"(?:\w+|[^\w\s])\s*|\s+", text) for text in (before, after))
    matcher = SequenceMatcher(None, [word.strip() for word in a], [word.strip() for word in b], autojunk=False)
    if before == after or matcher.ratio() < LEAST_SHARED:
        return escape(before), escape(after)
    left, right = [], []
    for kind, a0, a1, b0, b1 in matcher.get_opcodes():
        left.append(_wrap("del", "".join(a[a0:a1]), kind != "equal"))
        right.append(_wrap("ins", "".join(b[b0:b1]), kind != "equal"))
    return "".join(left), "".join(right)


def _wrap(tag: str, text: str, changed: bool) -> str:
    words = text.rstrip()
    return f"<{tag}>{escape(words)}</{tag}>{text[len(words) :]}" if changed and words else escape(text)
