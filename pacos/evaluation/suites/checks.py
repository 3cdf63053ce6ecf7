"""What an answer must or must not be. A check is one key with its value:

contains: Paris                 or a list: all of them where it must, none of them where it must not
regex: ^\\d+$                    found anywhere, Python's syntax; (?i) ignores case
exact: "42"                     after `normalize`: line ends and outer space apart
max_length: 200                 characters
json_schema: {type: object}     the whole answer, see json_schema.py
language: de                    of those that `data`'s language rule can tell
refuses: true                   declines, see refusal.py; false: does not
judge: Is the tone friendly?    yes or no, by a model
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from pacos.data.curation.language import LANGUAGES, language_of
from pacos.errors import did_you_mean
from pacos.evaluation.metrics import exact_match
from pacos.evaluation.suites.files import Section
from pacos.evaluation.suites.json_schema import mistakes, violations
from pacos.evaluation.suites.patterns import compile_pattern, found
from pacos.evaluation.suites.refusal import reading_of


class Check(Section):
    """One thing that an answer must or must not be."""

    contains: str | tuple[str, ...] | None = Field(None, min_length=1)
    regex: str | None = Field(None, min_length=1)
    exact: str | None = None
    max_length: int | None = Field(None, ge=0)
    json_schema: dict[str, Any] | bool | None = None
    language: str | None = None
    refuses: bool | None = None
    judge: str | None = Field(None, min_length=1)

    @field_validator("regex")
    @classmethod
    def _is_regex(cls, value: str) -> str:
        compile_pattern(value)
        return value

    @field_validator("language")
    @classmethod
    def _is_told(cls, value: str) -> str:
        if value not in LANGUAGES:
            near = did_you_mean(value, LANGUAGES) or f"; accepted: {', '.join(LANGUAGES)}"
            raise ValueError(f"cannot be told{near}")
        return value

    @field_validator("json_schema")
    @classmethod
    def _is_schema(cls, value: Any) -> Any:
        if wrong := list(mistakes(value)):
            raise ValueError("; ".join(wrong))
        return value

    @model_validator(mode="after")
    def _one(self) -> Check:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"{' and '.join(given) or 'nothing'} given; give one of {', '.join(type(self).model_fields)}"
            )
        return self

    @property
    def kind(self) -> str:
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def value(self) -> Any:
        return getattr(self, self.kind)


def broken_must(check: Check, text: str) -> str:
    """What an answer that must be so lacks; empty where it is so. Not for a judge's question.
    Raises TooSlow for a pattern."""
    if check.kind == "contains":
        missing = [part for part in _parts(check) if part not in text]
        return f"does not contain {_quoted(missing)}" if missing else ""
    return "" if _holds(check, text) else _lack(check, text)


def broken_must_not(check: Check, text: str) -> str:
    """What an answer that must not be so has; empty where it is not so. Not for a judge's question.
    Raises TooSlow for a pattern."""
    if check.kind == "contains":
        there = [part for part in _parts(check) if part in text]
        return f"contains {_quoted(there)}" if there else ""
    return f"is as it must not be: {check.kind} {check.value!r}" if _holds(check, text) else ""


def _holds(check: Check, text: str) -> bool:
    value = check.value
    if check.kind == "regex":
        return found(value, text)
    if check.kind == "exact":
        return exact_match(text, value)
    if check.kind == "max_length":
        return len(text) <= int(value)
    if check.kind == "json_schema":
        return not violations(value, text)
    if check.kind == "language":
        return language_of(text) == value
    assert check.kind == "refuses", check.kind
    return (reading_of(text) == "refused") == value


def _lack(check: Check, text: str) -> str:
    value = check.value
    if check.kind == "json_schema":
        return "; ".join(violations(value, text)[:3])
    if check.kind == "language":
        return f"is in '{language_of(text) or 'a language that cannot be told'}', not '{value}'"
    if check.kind == "max_length":
        return f"has {len(text)} characters, at most {value} are accepted"
    if check.kind == "refuses":
        return f"was {reading_of(text)}" if value else "declines"
    return f"does not match {value!r}" if check.kind == "regex" else f"is not {value!r}"


def _parts(check: Check) -> tuple[str, ...]:
    return (check.contains,) if isinstance(check.contains, str) else check.contains or ()


def _quoted(parts: list[str]) -> str:
    return ", ".join(f"'{part}'" for part in parts)
