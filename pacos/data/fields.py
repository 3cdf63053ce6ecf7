"""One field of a raw row -> text, or what is wrong with it.

Each function takes the list `wrong`, and adds to it what the field has against it: where, what, and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]


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
