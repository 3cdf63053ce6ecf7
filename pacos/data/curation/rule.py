"""The nouns of curation: a rule, and what it found.

    Rule(name, about, severity, look, mend, mends)        look(example) -> why it is wrong, or ""
    Finding(number, place, id, rule, why)                  mend(example) -> the mended example, or None: drop the row

A rule with `mend` has a fix that is safe: it takes away what nobody can have meant, and never writes new content. Rules
without `look` need more than one row (duplicates, leaks, lengths); the pass over the data finds those itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pacos.data.records import Example

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
Look = Callable[[Example], str]
Mend = Callable[[Example], Example | None]
SHOWN = 60


@dataclass(frozen=True)
class Rule:
    """One thing to look for. `severity`: error, the row teaches something wrong; warning, likely; note, worth a look."""

    name: str
    about: str
    severity: Severity
    look: Look | None = None
    mend: Mend | None = None
    mends: str = ""
    """What the safe fix does, in a few words; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`number` counts the rows of the whole data from 0; `place` is file:line; `id` the row's content hash."""

    number: int
    place: str
    id: str
    rule: str
    why: str


def drop(_: Example) -> None:
    """The fix of a row that cannot be used."""


def quote(text: str, length: int = SHOWN) -> str:
    """A text in quotes on one line, its beginning where it is long."""
    line = " ".join(text.split())
    return f"'{line if len(line) <= length else line[: length - 1] + '…'}'"


def around(text: str, match: re.Match[str], reach: int = 20) -> str:
    """A match with a few characters on either side, in quotes."""
    start, end = max(0, match.start() - reach), min(len(text), match.end() + reach)
    return quote(f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}", SHOWN + 2 * reach)


def whole_text(example: Example) -> str:
    """Everything that a row says, in the order it is said."""
    return "\n".join([example.system, *(turn.content for turn in example.history), example.user_text, example.output])


def words(listed: str) -> frozenset[str]:
    """A list of words, as data."""
    return frozenset(listed.split())


def either(listed: str) -> str:
    """A group of a regular expression: any of the words listed, the longest first; `_` stands for a space."""
    return f"(?:{'|'.join(sorted(listed.split(), key=len, reverse=True))})".replace("_", " ")
