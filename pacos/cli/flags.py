"""A verb whose flags are the fields of a pydantic model: type, default, help and bounds are written there, once.

app.command("generate")(verb(Options, run))      field `budget_tokens` -> --budget-tokens, help from its description
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pacos.errors import UsageError

Model = TypeVar("Model", bound=BaseModel)


def verb(model: type[Model], run: Callable[[Model], None]) -> Callable[..., None]:
    """`run` as a function that typer makes a command of. A value that the model refuses is a UsageError by flag."""

    def command(**given: Any) -> None:
        run(_made(model, given))

    parameters = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=_default(field), annotation=_annotation(name, field)
        )
        for name, field in model.model_fields.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = run.__doc__
    return command


def _made(model: type[Model], given: dict[str, Any]) -> Model:
    """The model of what was given; fields left at their default are not set, so that it can tell which were."""
    named = {
        model.model_fields[name].alias or name: value
        for name, value in given.items()
        if value != _default(model.model_fields[name])
    }
    try:
        return model.model_validate(named)
    except ValidationError as error:
        raise UsageError("\n".join(_explain(model, problem) for problem in error.errors())) from None


def _explain(model: type[BaseModel], problem: Any) -> str:
    message = problem["msg"].removeprefix("Value error, ")
    return f"{_flag(str(problem['loc'][0]))} {problem['input']}: not accepted: {message[0].lower()}{message[1:]}"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _default(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True)
    return list(default) if isinstance(default, tuple) else default


def _annotation(name: str, field: FieldInfo) -> Any:
    """What typer reads: the type, the flag, the help. Off-switches (`True` by default) get their --no- form."""
    own = _flag(field.alias or name)
    spelled = f"{own}/--no-{own[2:]}" if field.default is True else own
    hidden = field.default in ("", None, (), False, 0)
    option = typer.Option(spelled, help=field.description, show_default=not hidden)
    return Annotated[_plain(field.annotation), option]


def _plain(kind: Any) -> Any:
    """tuple[X, ...] as list[X]; choices as text, which the model checks."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return list[_plain(arguments[0])]  # type: ignore[misc]
    if origin is typing.Literal:
        return str
    if origin in (typing.Union, types.UnionType):
        return typing.Optional[_plain(arguments[0])]  # noqa: UP045
    return kind
