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


def _lines(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    problems = error.errors()
    inside = {problem["loc"][:depth] for problem in problems for depth in range(len(problem["loc"]))}
    for problem in problems:
        loc = problem["loc"]
        if problem["type"] == "too_short" and loc in inside:
            continue  # it is short of the items whose mistakes are told
        place = ".".join(str(part) if isinstance(part, str) else f"{part + 1}" for part in loc)
        yield f"{place or 'the file'}: {_words(problem, model)}"


def _words(problem: Any, model: type[BaseModel]) -> str:
    loc, message = problem["loc"], str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        known = _fields_at(model, loc[:-1])
        near = did_you_mean(str(loc[-1]), known) or f"; accepted: {', '.join(known)}"
        return f"unknown key '{loc[-1]}'{near}"
    if problem["type"] == "missing":
        return "is missing"
    if problem["type"] == "model_type":
        return f"needs keys; accepted: {', '.join(_fields_at(model, loc))}"
    given = f" ({problem['input']!r} was given)" if isinstance(problem["input"], str | int | float) else ""
    return f"{message[0].lower()}{message[1:]}{given}"


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
