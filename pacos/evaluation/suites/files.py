"""YAML files of suites: read into a pydantic model, with every mistake of a file told at once."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pacos.errors import UsageError, did_you_mean


class Section(BaseModel):
    """Unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=Section)


def load_file(path: Path, model: type[Model]) -> Model:
    """A file as `model`. Raises UsageError that names every mistake in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; give a YAML file") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not UTF-8 at byte {error.start}; save it as UTF-8") from None
    return parse(text, model, str(path))


def parse(text: str, model: type[Model], place: str) -> Model:
    """The same, of text that came from `place`."""
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        raise UsageError(f"{place}{where}: is not YAML: {getattr(error, 'problem', None) or error}") from None
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise UsageError("\n".join(f"{place}: {line}" for line in _lines(error, model))) from None


ACCEPTED = {
    "string": "text",
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "tuple": "a list",
    "list": "a list",
    "dict": "keys and values",
    "model": "keys",
}
"""What pydantic's error types, up to the first `_`, want in the words of a file."""


def _lines(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    """One line for each place of the file: what is wrong there, what is accepted, what was given."""
    problems = error.errors()
    places: dict[tuple[str | int, ...], list[Any]] = {}
    for problem in problems:
        places.setdefault(_place(problem["loc"], model), []).append(problem)
    inside = {place[:depth] for place in places for depth in range(len(place))}
    for place, here in places.items():
        if place in inside and all(problem["type"].endswith(("too_short", "_type")) for problem in here):
            continue  # what is in it is told, and where it takes several types that is not one of the others
        shown = ".".join(str(part) if isinstance(part, str) else f"{part + 1}" for part in place)
        yield f"{shown or 'the file'}: {_words(here, place, model)}"


def _place(loc: tuple[str | int, ...], model: type[BaseModel]) -> tuple[str | int, ...]:
    """Without the names of types that pydantic adds where a field takes several: `contains.str` is `contains`."""
    kept: tuple[str | int, ...] = ()
    for part in loc:
        named = isinstance(part, str) and kept and isinstance(kept[-1], str) and part not in _fields_at(model, kept)
        kept = kept if named else (*kept, part)
    return kept


def _words(here: list[Any], place: tuple[str | int, ...], model: type[BaseModel]) -> str:
    problem = next((each for each in here if not each["type"].endswith("_type")), here[0])
    kind, limits = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        known = _fields_at(model, place[:-1])
        near = did_you_mean(str(place[-1]), known) or f"; accepted: {', '.join(known)}"
        return f"unknown key '{place[-1]}'{near}"
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        message = str(problem["msg"]).removeprefix("Value error, ")
        return f"{message[0].lower()}{message[1:]}{_given(problem)}"
    if kind in ("too_short", "string_too_short"):
        return "is empty; give at least one"
    if kind == "finite_number":
        return f"is not finite; give a number{_given(problem)}"
    for sign, word in (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than")):
        if sign in limits:
            return f"give {word} {limits[sign]:g}{_given(problem)}"
    if kind == "literal_error":
        return f"accepted: {limits['expected']}{_given(problem)}"
    wanted = list(dict.fromkeys(ACCEPTED.get(each["type"].partition("_")[0], "another value") for each in here))
    keys = f"; accepted: {', '.join(_fields_at(model, place))}" if wanted == ["keys"] else ""
    return f"needs {' or '.join(wanted)}{keys}{_given(problem)}"


def _given(problem: Any) -> str:
    value = problem["input"]
    if value is None or value == "":
        return " (nothing was given)"
    return f" ({value!r} was given)" if isinstance(value, str | int | float) else ""


def _fields_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """The keys that are accepted at a place of the file."""
    for part in loc:
        if part in model.model_fields:
            model = _model_in(model.model_fields[str(part)].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, in a list or not."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
