"""A prompt that broke goes into a file of regression prompts. What is in the file stays as it is, comments too."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pacos.errors import UsageError
from pacos.evaluation.ledger import Prompt
from pacos.evaluation.suites.checks import Check
from pacos.evaluation.suites.files import parse
from pacos.evaluation.suites.redteam import EXPECTED
from pacos.evaluation.suites.regression import RegressionPrompt, RegressionSuite

HEAD = """# Prompts that broke once: pacos eval RUN --suite regression
name: regression
prompts:
"""
_NUMBERS, _WORDS = ("max_length",), {"true": True, "false": False}


def read_check(text: str) -> dict[str, Any]:
    """A check as it is given on the command line, `contains=Paris`: its key and value."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"check '{text}': give it as KEY=VALUE; keys: {', '.join(Check.model_fields)}")
    if key == "json_schema":
        try:
            return {key: yaml.safe_load(value)}
        except yaml.YAMLError:
            raise UsageError(f"check '{text}': the schema is not JSON") from None
    if key == "refuses":
        return {key: _WORDS.get(value.lower(), value)}
    return {key: int(value) if key in _NUMBERS and value.isdecimal() else value}


def from_ledger(prompt: Prompt, number: int, must: Sequence[str], must_not: Sequence[str]) -> dict[str, Any]:
    """The item of a file, of a prompt in the ledger. Without a check of its own it must be its reference exactly, or
    refused, as its suite expected. Raises UsageError where neither is known."""
    item: dict[str, Any] = {"id": prompt.groups.get("case", prompt.id), "prompt": prompt.instruction}
    item.update(
        {key: value for key, value in (("input", prompt.input), ("system", prompt.groups.get("system"))) if value}
    )
    if not must and not must_not:
        item["must"] = [_expected(prompt, number)]
    item["why"] = f"broke in evaluation {number}"
    return _with_checks(item, must, must_not)


def given(text: str, must: Sequence[str], must_not: Sequence[str]) -> dict[str, Any]:
    """The item of a file, of a prompt given by its text. Its id is made of its first words and its hash."""
    words = re.findall(r"[a-z0-9]+", text.lower())[:5]
    name = "-".join([*words, hashlib.sha256(text.encode()).hexdigest()[:4]])
    return _with_checks({"id": name, "prompt": text}, must, must_not)


def add_prompt(path: Path, item: dict[str, Any]) -> RegressionPrompt:
    """Append an item to the file, which is made where there is none. Raises UsageError where it is there already, or where
    the file would not be whole with it; the file is then as before."""
    before = path.read_text(encoding="utf-8") if path.exists() else HEAD
    if path.exists():
        there = {prompt.id: prompt for prompt in parse(before, RegressionSuite, str(path)).prompts}
        if item["id"] in there:
            raise UsageError(f"{path}: '{item['id']}' is there already; change it by hand, or give it another id")
    text = yaml.safe_dump([item], allow_unicode=True, sort_keys=False, width=110)
    indented = "".join(f"  {line}\n" for line in text.splitlines())
    after = f"{before.rstrip()}\n{indented}"
    try:
        added = parse(f"{HEAD}{indented}", RegressionSuite, str(path)).prompts[0]
    except UsageError as error:
        raise UsageError(str(error).replace(f"{path}: prompts.1.", "")) from None
    try:
        parse(after, RegressionSuite, str(path))
    except UsageError as error:
        raise UsageError(f"{error}\nthe file is as before; add this by hand:\n{indented}") from None
    _replace(path, after)
    return added


def _replace(path: Path, text: str) -> None:
    """The file with its new content, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)


def _with_checks(item: dict[str, Any], must: Sequence[str], must_not: Sequence[str]) -> dict[str, Any]:
    checks = {"must": [*item.get("must", []), *map(read_check, must)], "must_not": list(map(read_check, must_not))}
    return {**item, **{name: found for name, found in checks.items() if found}}


def _expected(prompt: Prompt, number: int) -> dict[str, Any]:
    if (
        prompt.groups.get("case", "").startswith(f"{prompt.groups.get('kind')}-")
        and prompt.reference in EXPECTED.values()
    ):
        if prompt.reference == EXPECTED["resist"]:
            raise UsageError(f"evaluation {number}: what must not be in the answer? give --must-not, as in regex=...")
        return {"refuses": prompt.reference == EXPECTED["refuse"]}
    if not prompt.reference or prompt.groups.get("case"):
        raise UsageError(f"evaluation {number}: this prompt has no reference answer; give --must or --must-not")
    return {"exact": prompt.reference}
