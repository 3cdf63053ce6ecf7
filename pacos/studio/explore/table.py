"""Examples -> the table that is explored: which columns it has, and what stands in them.

    number  instruction  input  output  | split  source  length  verb  findings | what else the data has        | id

Columns that no row fills are left out, so that a plain Alpaca file makes a plain table. Columns that pacos does not know
become columns too; those with few different values are facets.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from operator import attrgetter
from typing import Any

from pacos.data import Example
from pacos.data.curation.verbs import verb_and_noun

TEXTS = ("instruction", "input", "output")
"""What is searched."""
EDGES = (1, 10, 25, 50, 100, 200, 400)
LENGTHS = (
    "no words",
    *(f"{a} to {b - 1} words" for a, b in pairwise(EDGES)),
    f"{EDGES[-1]} words or more",
)
MOST_EXTRA = 40
"""Unknown columns that become columns; the others go together into one."""
MOST_VALUES = 50
"""Different values of an unknown column that is a facet."""
Cell = str | int | float | None


@dataclass(frozen=True)
class Column:
    """One column: how it is made of an example, what it holds, and whether rows are counted by it."""

    name: str
    about: str
    value: Callable[[Example], Cell]
    facet: bool = False
    array: bool = False
    """JSON arrays of text, counted by element."""
    integer: bool = False


@dataclass(frozen=True)
class Table:
    """Columns, and the rows in their order; `number` (from 1) comes first in every row."""

    columns: tuple[Column, ...]
    examples: Sequence[Example]

    def rows(self) -> Iterator[tuple[Cell, ...]]:
        values = [column.value for column in self.columns]
        for number, example in enumerate(self.examples, 1):
            yield (number, *[value(example) for value in values])


def make_table(
    examples: Sequence[Example],
    sides: Mapping[str, str] | None = None,
    findings: Mapping[str, Sequence[str]] | None = None,
) -> Table:
    """The table of a dataset. `sides`: {row id: side of the split}; `findings`: {row id: names of rules}."""
    columns = [Column(name, "", attrgetter(name)) for name in TEXTS]
    if any(e.system for e in examples):
        columns.append(Column("system", "the system message", lambda e: e.system))
    if any(e.history for e in examples):
        columns.append(Column("earlier", "the conversation before the instruction", _earlier))
    if sides is not None:
        columns.append(Column("split", "side of the split", lambda e: sides.get(e.id), facet=True))
    columns += _told_from_the_row()
    if findings is not None:
        about = "rules of pacos curate that named the row"
        columns.append(Column("findings", about, lambda e: _array(findings.get(e.id, ())), facet=True, array=True))
    if any(e.lineage for e in examples):
        columns.append(Column("lineage", "the rows it was made from", lambda e: _array(e.lineage), array=True))
    columns += _unknown(examples, {"number", "id", "rowid", *(column.name for column in columns)})
    return Table((*columns, Column("id", "hash of the row's content", lambda e: e.id)), examples)


def _told_from_the_row() -> list[Column]:
    return [
        Column("source", "file, or who made it", lambda e: sound(_place(e)[0]) or None, facet=True),
        Column("line", "line of the file", lambda e: _place(e)[1], integer=True),
        Column("length", "words of the output, in steps", lambda e: length_step(e.output), facet=True),
        Column("words", "words of the output", lambda e: count_words(e.output), integer=True),
        Column("verb", "what the instruction asks to do", lambda e: _task(e.instruction)[0] or None, facet=True),
        Column("noun", "what to do it to", lambda e: _task(e.instruction)[1] or None, facet=True),
    ]


@lru_cache(maxsize=1)
def _task(instruction: str) -> tuple[str, str]:
    """Verb and noun, looked for once for the two columns of a row."""
    return verb_and_noun(instruction)


def length_step(text: str) -> str:
    """`10 to 24 words`"""
    return LENGTHS[bisect_right(EDGES, count_words(text))]


@lru_cache(maxsize=1)
def count_words(text: str) -> int:
    """Kept for the next column of the row."""
    return len(text.split())


def _place(example: Example) -> tuple[str, int | None]:
    """`rows.jsonl:17` -> (rows.jsonl, 17); a source that is no place stays whole."""
    name, colon, line = example.source.rpartition(":")
    return (name, int(line)) if colon and line.isdecimal() and len(line) < 16 else (example.source, None)


def _earlier(example: Example) -> str:
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in example.history)


def _array(names: Iterable[str]) -> str | None:
    """JSON, or nothing where there are none."""
    listed = list(dict.fromkeys(names))
    return sound(json.dumps(listed, ensure_ascii=False)) if listed else None


def _extra(key: str, example: Example) -> Any:
    """The value of an unknown column."""
    return cell(example.extra.get(key))


def _unknown(examples: Sequence[Example], taken: set[str]) -> list[Column]:
    """Columns of what the data has beside the fields, the most frequent first where there are too many."""
    counts = Counter(key for e in examples for key in e.extra)
    keys = {key for key, _ in counts.most_common(MOST_EXTRA)}
    columns = []
    for key in (key for key in counts if key in keys):
        name = column_name(key, taken)
        taken.add(name.lower())
        columns.append(Column(name, "", partial(_extra, key), facet=_has_few_values(examples, key)))
    if len(counts) > MOST_EXTRA:
        name = column_name("extra", taken)
        columns.append(Column(name, "columns that few rows have, as JSON", lambda e: _rest(e, keys)))
    return columns


def column_name(key: str, taken: set[str]) -> str:
    """A name that SQL and URLs can carry, unlike the others whatever its capitals."""
    # Two underscores in a row, or one in front, mean something in datasette's URLs.
    plain = re.sub(r"_{2,}", "_", re.sub(r"[^\w .-]", "_", sound(key))).strip("_ ")[:60] or "column"
    names = [plain, *(f"{plain}_{n}" for n in range(2, len(taken) + 3))]
    return next(name for name in names if name.lower() not in taken)


def _has_few_values(examples: Sequence[Example], key: str) -> bool:
    values: set[Cell] = set()
    for example in examples:
        values.add(cell(example.extra.get(key)))
        if len(values) > MOST_VALUES:
            return False
    return len(values) > 1


def _rest(example: Example, keys: set[str]) -> str | None:
    rest = {key: value for key, value in example.extra.items() if key not in keys}
    return cell(rest or None)  # type: ignore[return-value]


def cell(value: Any) -> Cell:
    """A value as SQLite keeps it: numbers that fit and text as they are, the rest as JSON."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return sound(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def sound(text: str) -> str:
    """Text that SQLite and a browser can take: half a surrogate pair becomes `?`, a NUL the replacement character."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if text.isascii() else text.encode(errors="replace").decode()
