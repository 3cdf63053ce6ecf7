"""What can go wrong that a person can mend.

Rooms raise these; only `cli` prints them and exits. Each says the place, the value, what is accepted and what to do:

    train.jsonl:17: 'output' is empty; give it text, or drop the row

An `assert` is for what we broke; a `UserError` for what the reader can put right.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

OUT_OF_MEMORY = re.compile(r"out of memory|not enough memory|can't allocate memory|STATUS_ALLOC_FAILED")


class UserError(Exception):
    """Something a person can mend. `exit_code` is what the command line ends with."""

    exit_code = 1


class UsageError(UserError):
    """Asked wrongly: a flag, a recipe key, a path that is not there."""

    exit_code = 2


class DataError(UserError):
    """Bad data. Holds every problem of a file, so that they can be mended in one go; shows the first `SHOWN`."""

    exit_code = 3
    SHOWN = 20

    def __init__(self, message: str, problems: Sequence[str] = ()):
        self.message = message
        self.problems = tuple(problems)
        shown = [f"  {problem}" for problem in self.problems[: self.SHOWN]]
        more = len(self.problems) - self.SHOWN
        super().__init__("\n".join([message, *shown, *([f"  and {more} more"] if more > 0 else [])]))


class ResourceError(UserError):
    """Out of memory or disk."""

    exit_code = 4


class GateError(UserError):
    """A gate did not pass: a contract, a receipt or a condition does not hold."""

    exit_code = 5


class UndecidedError(UserError):
    """Cannot be told yet, with this much evidence."""

    exit_code = 6


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'rank'?"`, or an empty string where nothing is near."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{matches[0]}'?" if matches else ""


def nearest_first(word: str, known: Iterable[str]) -> list[str]:
    """All that is known, the most similar first; what is equally near keeps its order."""
    return sorted(known, key=lambda name: -difflib.SequenceMatcher(None, word, name).ratio())


def is_out_of_memory(error: BaseException) -> bool:
    """Python's own error, and the RuntimeErrors of torch's allocators for CUDA and CPU, known by their words."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error)) is not None
    )
