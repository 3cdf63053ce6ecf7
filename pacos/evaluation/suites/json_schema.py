"""JSON Schema, the part of it that says what an answer looks like. A keyword that is not checked is a mistake.

    type enum const | properties required additionalProperties | items minItems maxItems
    minLength maxLength pattern | minimum maximum

As in draft 2020-12: a keyword says nothing of values of another type, and true is no number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from pacos.errors import did_you_mean
from pacos.evaluation.suites.patterns import compile_pattern, found

TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "integer": lambda v: not isinstance(v, bool) and (isinstance(v, int) or (isinstance(v, float) and v.is_integer())),
}
_NUMBER, _STRING, _ARRAY, _OBJECT = TYPES["number"], TYPES["string"], TYPES["array"], TYPES["object"]
LIMITS: dict[str, tuple[Callable[[Any], bool], Callable[[Any, Any], bool]]] = {
    "minimum": (_NUMBER, lambda v, limit: v >= limit),
    "maximum": (_NUMBER, lambda v, limit: v <= limit),
    "minLength": (_STRING, lambda v, limit: len(v) >= limit),
    "maxLength": (_STRING, lambda v, limit: len(v) <= limit),
    "pattern": (_STRING, lambda v, limit: found(limit, v)),
    "minItems": (_ARRAY, lambda v, limit: len(v) >= limit),
    "maxItems": (_ARRAY, lambda v, limit: len(v) <= limit),
    "required": (_OBJECT, lambda v, limit: set(limit) <= set(v)),
}
"""Keyword -> the type of value that it limits, and whether a value is within it."""
KEYWORDS = ("type", "enum", "const", "properties", "additionalProperties", "items", *LIMITS)
NOTES = {"title", "description", "$schema", "$comment", "examples", "default"}
"""Keywords that limit nothing."""
_NUMBERS = ("minimum", "maximum")


def mistakes(schema: Any, place: str = "") -> Iterator[str]:
    """What is wrong with a schema itself."""
    where = f"{place}: " if place else ""
    if not isinstance(schema, dict):
        if not isinstance(schema, bool):
            yield f"{where}a schema is a mapping, true or false, not {schema!r}"
        return
    for key, value in schema.items():
        if key in NOTES:
            continue
        if key not in KEYWORDS:
            near = did_you_mean(str(key), KEYWORDS) or f"; checked are: {', '.join(KEYWORDS)}"
            yield f"{where}unknown keyword '{key}'{near}"
        elif not _well_formed(key, value):
            yield f"{where}{key}: {value!r} is not accepted"
        elif key == "properties":
            for name, inner in value.items():
                yield from mistakes(inner, f"{place}.{name}".lstrip("."))
        elif key in ("items", "additionalProperties"):
            yield from mistakes(value, f"{place}.{key}".lstrip("."))


def _well_formed(key: str, value: Any) -> bool:
    if key == "type":
        names = value if isinstance(value, list) else [value]
        return bool(names) and all(isinstance(name, str) and name in TYPES for name in names)
    if key == "pattern":
        return isinstance(value, str) and _compiles(value)
    if key in ("enum", "required"):
        return isinstance(value, list) and (key == "enum" or all(isinstance(name, str) for name in value))
    if key in _NUMBERS:
        return _NUMBER(value)
    if key in LIMITS:
        return TYPES["integer"](value) and value >= 0
    return key != "properties" or isinstance(value, dict)


def _compiles(pattern: str) -> bool:
    try:
        compile_pattern(pattern)
    except ValueError:
        return False
    return True


def violations(schema: Any, text: str) -> list[str]:
    """Where an answer is not JSON, or not as the schema says. Empty where it is. Raises TooSlow for a pattern."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return [f"is not JSON: {getattr(error, 'msg', 'nested too deep')}"]
    return list(_violations(schema, value, "$"))


def _violations(schema: Any, value: Any, place: str) -> Iterator[str]:
    if isinstance(schema, bool):
        if not schema:
            yield f"{place} is not accepted"
        return
    names = schema.get("type", list(TYPES))
    if not any(TYPES[name](value) for name in ([names] if isinstance(names, str) else names)):
        yield f"{place} is not of type {names if isinstance(names, str) else ' or '.join(names)}"
        return
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        yield f"{place} is none of {json.dumps(schema['enum'], ensure_ascii=False)}"
    if "const" in schema and not _same(value, schema["const"]):
        yield f"{place} is not {json.dumps(schema['const'], ensure_ascii=False)}"
    for key, (of_type, within) in LIMITS.items():
        if key in schema and of_type(value) and not within(value, schema[key]):
            yield f"{place} breaks {key}: {json.dumps(schema[key], ensure_ascii=False)}"
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        for name, inner in value.items():
            yield from _violations(known.get(name, others), inner, f"{place}.{name}")
    if isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _violations(schema.get("items", True), inner, f"{place}[{number}]")


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 is 1.0, and true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
