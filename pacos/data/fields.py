"""The fields of a raw row: the column names that readers know, and the text of one field or what is wrong with it.

The functions that read a field take the list `wrong`, and add to it what the field has against it: where, what, and
what to do. A column that no field is made of goes into `Example.extra`; where its name is one that readers know, it is
written inside one column, so that it is not taken for a field when the file is read again:

    {"output": "5", "n": 1, "extra": {"answer": "five"}}     fold ->     <- unfold     extra {"n": 1, "answer": "five"}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]
OUTPUTS = ("output", "response", "completion", "answer")
CONVERSATIONS = ("messages", "conversations", "conversation")
FOLDED = "extra"
_FIELDS = ("instruction", "instances", "prompt", "question", "query", "input", "context", "text", "system", "history")
KNOWN = frozenset((*_FIELDS, *OUTPUTS, *CONVERSATIONS, "id", "source", "lineage", FOLDED))
"""Every column name that a reader gives a meaning to, in lower case."""


def fold(extra: Row) -> dict[str, Any]:
    """Extra columns as they are written: those with a known name go together under the column `extra`."""
    folded = {name: value for name, value in extra.items() if is_known(name)}
    plain = {name: value for name, value in extra.items() if name not in folded}
    return plain | ({FOLDED: folded} if folded else {})


def unfold(columns: Row) -> dict[str, Any]:
    """The extra columns that `fold` wrote. Another tool's column `extra` stays as it is."""
    plain = dict(columns)
    folded = plain.pop(FOLDED, None)
    ours = isinstance(folded, Mapping) and folded and all(map(is_known, folded)) and not folded.keys() & plain.keys()
    return plain | dict(folded) if ours else dict(columns)


def is_known(name: str) -> bool:
    return name.strip().lower() in KNOWN


def text_problem(text: str) -> str:
    """Why a text cannot be used: a NUL, or half of a surrogate pair; empty where it can."""
    if "\0" in text:
        return f"has a NUL character at {text.index(chr(0)) + 1}; remove it"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = f"\\u{ord(text[error.start]):04x}"
        return f"has a lone surrogate {code} at {error.start + 1}; it is half a character: remove it"
    return ""


def text_of(row: Row, column: str, wrong: list[str]) -> str:
    """A text that must be there, though it may be blank."""
    value = row.get(column)
    if isinstance(value, str):
        if problem := text_problem(value):
            wrong.append(f"'{column}' {problem}")
        return value
    wrong.append(f"'{column}' is {kind_of(value) if column in row else 'missing'}; give it text")
    return ""


def optional_text(row: Row, column: str, wrong: list[str]) -> str:
    return "" if row.get(column) is None else text_of(row, column, wrong)


def required_text(row: Row, column: str, wrong: list[str]) -> str:
    text = text_of(row, column, wrong)
    if isinstance(row.get(column), str) and not text.strip():
        wrong.append(f"'{column}' is blank; give it text")
    return text


def kind_of(value: Any) -> str:
    """How a wrong value is named: `a number (42)`, `empty (null)`, `a list`."""
    if value is None:
        return "empty (null)"
    if isinstance(value, bool):
        return f"true or false ({str(value).lower()})"
    if isinstance(value, int | float):
        return f"a number ({value})"
    if isinstance(value, str):
        return f"text ({value[:20]!r})"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "an object" if isinstance(value, dict) else f"of type {type(value).__name__}"
