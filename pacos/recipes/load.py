"""YAML and `--set key=value` -> `Recipe`, with every mistake of a file named at once.

recipes/a.yaml: unknown key 'train.learning_rte'; did you mean 'learning_rate'?
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pacos.errors import UsageError, did_you_mean
from pacos.recipes.schema import EvalOptions, Recipe

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The recipes that come with pacos."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def walk_fields(model: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every leaf option as ("train.learning_rate", field), in the order of the schema."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from walk_fields(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by name (`quickstart`) or path, with `key=value` overrides applied. Raises UsageError."""
    path = find_recipe(name_or_path)
    tree = _read_yaml(path)
    for override in overrides:
        _set(tree, override)
    tree.setdefault("name", path.stem)
    return recipe_from_tree(tree, str(path) if path.parent != FOLDER else path.stem)


def find_recipe(name_or_path: str) -> Path:
    path = Path(name_or_path)
    if path.is_file():
        return path
    known = names()
    if path.name == name_or_path and path.stem in known and path.suffix in ("", ".yaml"):
        return FOLDER / f"{path.stem}.yaml"
    raise UsageError(
        f"{name_or_path}: no such recipe{did_you_mean(path.stem, known)}\n  give a YAML file, or one of: {', '.join(known)}"
    )


def recipe_from_tree(tree: dict[str, Any], place: str) -> Recipe:
    """A validated recipe from nested dicts; `place` heads the messages. Raises UsageError with all mistakes."""
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise UsageError("\n".join(f"{place}: {_explain(problem)}" for problem in error.errors())) from None


def eval_options(kept: Mapping[str, Any], place: str, overrides: Sequence[str] = ()) -> EvalOptions:
    """The `eval` section of a recipe, as a run keeps it, with `eval.key=value` overrides applied. Raises UsageError."""
    tree: dict[str, Any] = {"eval": dict(kept)}
    for override in overrides:
        if not override.startswith("eval."):
            raise UsageError(f"--set {override}: an evaluation takes keys of eval, as in --set eval.temperature=0.7")
        _set(tree, override)
    return recipe_from_tree(tree, place).eval


def recipe_to_yaml(recipe: Recipe) -> str:
    """The whole resolved recipe; loading it again gives an equal one."""
    tree = resolved_tree(recipe)
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    # PyYAML writes rare line ends (U+0085, U+2028) as they are and reads them back as others: then all is escaped
    return text if yaml.safe_load(text) == tree else yaml.safe_dump(tree, sort_keys=False)


def resolved_tree(recipe: Recipe) -> dict[str, Any]:
    """Nested plain values of every option that has an effect, as `pacos.json` keeps them."""
    tree = recipe.model_dump(mode="json")
    if recipe.method == "full":
        del tree["lora"]
    if recipe.method != "qlora":
        del tree["model"]["double_quant"]
    if recipe.train.batch_tokens:
        del tree["train"]["batch_size"]
    return tree


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UsageError(f"{path}: a recipe is a mapping of keys to values, not {type(tree).__name__}")
    return tree


def _set(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {override}: give it as key=value, as in --set train.epochs=2")
    *sections, leaf = key.strip().split(".")
    node = tree
    for section in sections:
        child = node.setdefault(section, {})
        if not isinstance(child, dict):
            raise UsageError(f"--set {override}: '{section}' is not a section")
        node = child
    try:
        node[leaf] = _number_or(yaml.safe_load(text))
    except yaml.YAMLError:
        raise UsageError(f"--set {override}: '{text}' is not a value") from None
    if node[leaf] is None:
        del node[leaf]  # `lora=null` takes a section out, `train.batch_size=null` an option


def _number_or(value: Any) -> Any:
    """YAML 1.1 reads 2e-4 as text; people mean the number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _explain(problem: Any) -> str:
    where = [str(part) for part in problem["loc"]]
    key = ".".join(where)
    if problem["type"] == "extra_forbidden":
        section = _section(where[:-1])
        known = list(section.model_fields) if section else []
        hint = _elsewhere(where[-1]) or did_you_mean(where[-1], known)
        return f"unknown key '{key}'{hint or '; known here: ' + ', '.join(known)}"
    message = problem["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list, as in [q_proj, v_proj]")
    if not where:
        return message
    return f"{key}: {problem['input']!r} is not accepted: {message[0].lower()}{message[1:]}"


def _section(path: Sequence[str]) -> type[BaseModel] | None:
    model: type[BaseModel] = Recipe
    for part in path:
        field = model.model_fields.get(part)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return None
        model = field.annotation
    return model


def _elsewhere(leaf: str) -> str:
    places = [key for key, _ in walk_fields() if key.split(".")[-1] == leaf]
    return f"; did you mean '{places[0]}'?" if places else ""


def describe_type(field: FieldInfo) -> str:
    """How a field's type is written in the documents: `integer`, `cosine | linear | constant`."""
    return _type_name(field.annotation)


def _type_name(kind: Any) -> str:
    simple = {int: "integer", float: "number", str: "text", bool: "true | false", type(None): "empty"}
    if kind in simple:
        return simple[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return " | ".join(str(a) for a in arguments)
    if origin is tuple:
        return f"list of {_type_name(arguments[0])}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_name(a) for a in arguments)
    return getattr(kind, "__name__", str(kind))
