"""The recipe schema: every option is read by the code that it steers, and every mistake is an error that says so.

What is read is recorded, not searched for: while runs, a dry run and evaluations go through the command line, each access
to an option from outside pacos/recipes is noted, on the recipe itself and on the copies that pacos.json hands to later verbs.
Dumping a recipe, as for the record or a tracker, is no reading.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import pacos
from pacos.errors import UsageError
from pacos.recipes import Recipe, load_recipe, names, recipe_from_tree, recipe_to_yaml, walk_fields
from pacos.recipes.schema import Section
from tests.conftest import Cli

ROOM = Path(pacos.__file__).parent
SECTIONS: dict[Any, str] = {Recipe: ""} | {
    field.annotation: f"{name}."
    for name, field in Recipe.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}
LEAVES = {name for name, _ in walk_fields()}


class Noted(dict[str, Any]):
    """The recipe as pacos.json holds it. Taking one key out is a reading; unpacking all of it is none."""

    def __init__(self, tree: dict[str, Any], prefix: str, seen: set[str]):
        super().__init__(tree)
        self.prefix, self.seen = prefix, seen

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        if isinstance(value, dict):
            return Noted(value, f"{self.prefix}{key}.", self.seen)
        self.seen.add(f"{self.prefix}{key}")
        return value

    def get(self, key: str, default: Any = None) -> Any:
        return default if key not in self else self.__getitem__(key)


def outside_recipes(frame: Any) -> bool:
    """True for code of pacos that is not the recipe's own."""
    file = Path(frame.f_code.co_filename)
    return file.is_relative_to(ROOM) and not file.is_relative_to(ROOM / "recipes")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the options read by pacos from here on."""
    from pacos.training.record import RunRecord

    read: set[str] = set()

    def noting(self: Any, name: str) -> Any:
        found = f"{SECTIONS.get(type(self), '?')}{name}"
        if found in LEAVES and outside_recipes(sys._getframe(1)):
            read.add(found)
        return BaseModel.__getattribute__(self, name)

    def noting_record(self: Any, name: str) -> Any:
        value = BaseModel.__getattribute__(self, name)
        return Noted(value, "", read) if name == "recipe" and outside_recipes(sys._getframe(1)) else value

    monkeypatch.setattr(Section, "__getattribute__", noting, raising=False)
    monkeypatch.setattr(RunRecord, "__getattribute__", noting_record, raising=False)
    return read


def test_every_option_is_read_by_the_code_that_it_steers(
    cli: Cli, tiny_run: list[str], tiny_data: Path, tmp_path: Path, seen: set[str]
) -> None:
    long = json.dumps({"instruction": "Count on.", "output": " ".join(map(str, range(90)))})
    (tmp_path / "rows.jsonl").write_text(tiny_data.read_text(encoding="utf-8") + long + "\n", encoding="utf-8")
    changes = {"method": "qlora", "model.double_quant": False, "data.path": "rows.jsonl", "data.max_cut_share": 0.5}
    code, _, err = cli(*tiny_run, *(f"--set={key}={value}" for key, value in changes.items()))
    assert code == 0, err
    code, _, err = cli("eval", "quickstart", "--json")
    assert code == 0, err
    assert sorted(LEAVES - seen) == []
    assert len(LEAVES) > 45


def test_the_recorder_notes_no_option_that_is_only_dumped(seen: set[str]) -> None:
    recipe = load_recipe("phi3-qlora")
    recipe_to_yaml(recipe)
    recipe.model_dump()
    assert recipe.train.epochs == 2
    assert seen == set()


def refused(tree: dict[str, Any]) -> str:
    with pytest.raises(UsageError) as caught:
        recipe_from_tree(tree, "a.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"trian": {}}, "unknown key 'trian'; did you mean 'train'?"),
        ({"train": {"learning_rte": 1}}, "unknown key 'train.learning_rte'; did you mean 'learning_rate'?"),
        ({"learning_rate": 1}, "unknown key 'learning_rate'; did you mean 'train.learning_rate'?"),
        ({"model": {"epochs": 3}}, "unknown key 'model.epochs'; did you mean 'train.epochs'?"),
        ({"prompt": {"zzz": 1}}, "unknown key 'prompt.zzz'; known here: template, system"),
        ({"lora": {"rank": 0}}, "lora.rank: 0 is not accepted: input should be greater than or equal to 1"),
        ({"method": "lorra"}, "method: 'lorra' is not accepted: input should be 'full', 'lora' or 'qlora'"),
        (
            {"method": "full", "lora": {"rank": 8}},
            "'lora' has no effect with method 'full'; take it out (--set lora=null), or set method to lora or qlora",
        ),
        (
            {"method": "lora", "model": {"double_quant": True}},
            "'model.double_quant' has no effect without method 'qlora'",
        ),
        (
            {"data": {"validation_share": 0.49, "test_share": 0.45}},
            "data.validation_share and data.test_share leave no rows to train on",
        ),
    ],
)
def test_a_mistake_names_its_place_and_the_way_out(tree: dict[str, Any], message: str) -> None:
    assert refused(tree) == f"a.yaml: {message}"


def test_all_mistakes_of_a_recipe_are_named_at_once(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "method: half\nlora: {rnk: 8}\ntrain: {epochs: -1, batch_size: many}\n", encoding="utf-8"
    )
    code, out, err = cli("train", "mine.yaml")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "pacos: mine.yaml: method: 'half' is not accepted: input should be 'full', 'lora' or 'qlora'",
        "mine.yaml: unknown key 'lora.rnk'; did you mean 'rank'?",
        "mine.yaml: train.epochs: -1 is not accepted: input should be greater than 0",
        "mine.yaml: train.batch_size: 'many' is not accepted: "
        "input should be a valid integer, unable to parse string as an integer",
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs", "--set epochs: give it as key=value, as in --set train.epochs=2"),
        ("train.epochs=[", "--set train.epochs=[: '[' is not a value"),
        ("method.kind=lora", "--set method.kind=lora: 'method' is not a section"),
        ("lora.rnk=8", "quickstart: unknown key 'lora.rnk'; did you mean 'rank'?"),
    ],
)
def test_a_wrong_override_is_one_line(override: str, message: str, cli: Cli) -> None:
    code, out, err = cli("train", "quickstart", "--set", override)
    assert (code, out, err) == (2, "", f"pacos: {message}\n")


def test_a_recipe_that_is_not_there_lists_those_that_are(cli: Cli) -> None:
    code, _, err = cli("train", "quickstrat")
    assert code == 2
    assert err.splitlines() == [
        "pacos: quickstrat: no such recipe; did you mean 'quickstart'?",
        f"  give a YAML file, or one of: {', '.join(names())}",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [("- a\n- b\n", "a recipe is a mapping of keys to values, not list"), ("a: [1,\n", "not valid YAML: ")],
)
def test_a_file_that_is_no_recipe_is_one_line(text: str, words: str, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    code, _, err = cli("train", "mine.yaml")
    assert code == 2
    assert err.startswith(f"pacos: mine.yaml: {words}")
    assert err.count("\n") == 1


SOME = {
    "method": st.sampled_from(["lora", "qlora"]),
    "train.epochs": st.floats(0.01, 50),
    "train.learning_rate": st.floats(1e-9, 1, exclude_min=True),
    "train.max_steps": st.none() | st.integers(1, 10**9),
    "train.schedule": st.sampled_from(["cosine", "linear", "constant"]),
    "lora.rank": st.integers(1, 1024),
    "lora.targets": st.lists(st.sampled_from(["q_proj", "k_proj", "down_proj"]), min_size=1).map(tuple),
    "data.path": st.text(min_size=1),
    "prompt.system": st.text(),
    "track.to": st.lists(st.sampled_from(["tensorboard", "mlflow"])).map(tuple),
}


@settings(max_examples=40, deadline=None)
@given(st.fixed_dictionaries({}, optional=SOME))
@example({"prompt.system": "a\x85b\u2028"})
def test_a_recipe_written_as_yaml_reads_back_equal(changes: dict[str, Any]) -> None:
    tree: dict[str, Any] = {}
    for key, value in changes.items():
        section, _, leaf = key.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[leaf] = value
    recipe = recipe_from_tree(tree, "drawn")
    assert recipe_from_tree(yaml.safe_load(recipe_to_yaml(recipe)), "written") == recipe


@pytest.mark.parametrize("name", names())
def test_a_recipe_of_pacos_written_whole_reads_back_equal(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    (tmp_path / "whole.yaml").write_text(recipe_to_yaml(recipe), encoding="utf-8")
    assert load_recipe(str(tmp_path / "whole.yaml")) == recipe


def test_every_option_says_what_it_is_for() -> None:
    assert [name for name, field in walk_fields() if not field.description] == []
    assert {"model.base", "data.path", "data.limit", "train.epochs", "train.learning_rate", "lora.rank"} <= LEAVES
