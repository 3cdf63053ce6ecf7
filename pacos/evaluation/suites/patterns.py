"""Regular expressions of a user's file, held against an answer within a limit.

Python's own `re` tries every way to match: `(a+)+$` against forty a's and a b takes longer than anyone lives. `regex`
(Barnett) reads the same syntax and takes a limit of time.
"""

from __future__ import annotations

from functools import lru_cache

import regex

LIMIT_SECONDS = 2.0


class TooSlow(Exception):
    """A pattern was not done with a text in time; its message says so."""


@lru_cache(maxsize=512)
def compile_pattern(pattern: str) -> regex.Pattern[str]:
    """Raises ValueError, in words, for what is no regular expression."""
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"is no regular expression: {error}") from None


def found(pattern: str, text: str) -> bool:
    """Whether the pattern matches anywhere. Raises TooSlow."""
    try:
        return compile_pattern(pattern).search(text, timeout=LIMIT_SECONDS) is not None
    except TimeoutError:
        raise TooSlow(
            f"the regex {pattern!r} was not done with this answer in {LIMIT_SECONDS:g} s; say it without repeats of "
            "repeats or of choices that overlap"
        ) from None
