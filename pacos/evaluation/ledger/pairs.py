"""Two columns of answers in the ledger, paired by prompt: any side of any evaluation against any other.

12          the tuned side of evaluation 12
12:base     the side that is named
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

from pacos.errors import DataError, UsageError
from pacos.evaluation.ledger.records import Entry, Prompt, Subject, Written
from pacos.evaluation.ledger.store import Ledger

TUNED = "tuned"
FEWEST_SHARED = 2
_COLUMN = re.compile(r"(\d+)(?::(.+))?")


class Column(NamedTuple):
    """The answers of one side of one evaluation."""

    evaluation: int
    side: str = TUNED

    def __str__(self) -> str:
        return f"{self.evaluation}:{self.side}"


def read_column(text: str) -> Column | None:
    """`12` or `12:base`; None for anything else."""
    found = _COLUMN.fullmatch(text)
    return Column(int(found[1]), found[2] or TUNED) if found else None


def entry_with(ledger: Ledger, column: Column) -> Entry:
    """The evaluation of a column. Raises UsageError where there is none, or no such side."""
    entry = ledger.entry(column.evaluation)
    if column.side not in entry.sides:
        raise UsageError(f"evaluation {entry.id} has no side '{column.side}'; it has: {', '.join(entry.sides)}")
    return entry


@dataclass(frozen=True)
class Paired:
    """The prompts that both columns have answered, with both answers."""

    first: Entry
    second: Entry
    subjects: tuple[Subject, Subject]
    rows: tuple[tuple[Prompt, Written, Written], ...]
    record: dict[str, Any]
    """What the report says of where the answers are from."""


def paired(ledger: Ledger, first: Column, second: Column) -> Paired:
    """Raises UsageError for a column that is not there or twice the same, or two of different kinds; DataError where they
    share fewer than two prompts."""
    if first == second:
        raise UsageError(f"{first} is given twice; give two sides, as in {first.evaluation}:base {first.evaluation}")
    entries = entry_with(ledger, first), entry_with(ledger, second)
    if entries[0].kind != entries[1].kind:
        raise UsageError(
            f"evaluation {entries[0].id} is of kind {entries[0].kind}, {entries[1].id} of {entries[1].kind}; give two of one kind"
        )
    sides = [_by_prompt(ledger, column) for column in (first, second)]
    shared = [key for key in sides[0] if key in sides[1]]
    if len(shared) < FEWEST_SHARED:
        raise DataError(
            f"evaluations {first.evaluation} and {second.evaluation} share {len(shared)} of {len(sides[0])} and "
            f"{len(sides[1])} prompts; a paired comparison needs at least 2: evaluate both on the same --data, --limit "
            "and --seed"
        )
    told = [
        f"evaluation {c}: {e.sides[c.side].name}, {e.created}" for c, e in zip((first, second), entries, strict=True)
    ]
    record = {
        "name": f"evaluation {second} ({_name(entries[1], second)}) against {first} ({_name(entries[0], first)})",
        "shared prompts": f"{len(shared)} of {entries[0].num_prompts} and {entries[1].num_prompts}",
        "base": told[0],
        "tuned": told[1],
    }
    rows = tuple((*sides[0][key], sides[1][key][1]) for key in shared)
    subjects = entries[0].sides[first.side], entries[1].sides[second.side]
    return Paired(*entries, subjects, rows, record)


def _name(entry: Entry, column: Column) -> str:
    return entry.sides[column.side].name


def _by_prompt(ledger: Ledger, column: Column) -> dict[tuple[str, int], tuple[Prompt, Written]]:
    """By id and, for prompts that come more than once, by which time it is."""
    prompts, answers = ledger.prompts(column.evaluation), ledger.answers(*column)
    seen: Counter[str] = Counter()
    found = {}
    for prompt, answer in zip(prompts, answers, strict=True):
        found[prompt.id, seen[prompt.id]] = (prompt, answer)
        seen[prompt.id] += 1
    return found
