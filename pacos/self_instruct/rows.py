"""What generation starts from: seeds, rows that are made harder, instructions that wait for an answer."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pacos.data import Example, load_examples
from pacos.data.fields import text_problem
from pacos.data.raw import decode, open_raw
from pacos.errors import DataError, UsageError

SEEDS = "seeds"
"""The name of the 175 seed tasks that come along."""
_INSTRUCTION = ("instruction", "prompt", "question", "query")
_INPUT = ("input", "context")


def read_seeds(name: str) -> list[Example]:
    """Seeds by name, or rows of any layout. Raises UsageError, DataError."""
    if name == SEEDS and not Path(name).exists():
        return load_examples(str(resources.files("pacos.data") / "seeds" / "seed_tasks.jsonl")).examples
    return load_examples(name).examples


def read_instructions(path: str) -> list[Example]:
    """Instructions with or without input, each once: a text file with one a line, or any file of rows; of a seed task
    in Self-Instruct's form each of its instances.

    An output that a row has is left aside. Raises DataError with every row that has no instruction.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not data.strip():
        raise DataError(f"{path}: is empty; give a file with instructions")
    if Path(path).suffix.lower() == ".txt":
        rows: list[Any] = [{"instruction": line} for line in decode(data, path).splitlines() if line.strip()]
        found = [(f"{path}:{n}", row, "") for n, row in enumerate(rows, 1)]
    else:
        found = [(raw.place, raw.value, raw.error) for raw in open_raw(data, path, Path(path).name).rows]
    problems: list[str] = []
    examples = [each for place, row, error in found for each in _instructions(place, row, error, problems)]
    if problems:
        raise DataError(f"{path}: {len(problems)} of {len(found)} rows have no instruction", problems)
    return list({example.id: example for example in examples}.values())


def _instructions(place: str, row: Any, error: str, problems: list[str]) -> list[Example]:
    fields = row if isinstance(row, Mapping) else {}
    instances = fields.get("instances", [fields])
    if not isinstance(instances, list) or not all(isinstance(each, Mapping) for each in instances):
        error = error or "'instances' is not a list of {input, output}"
        instances = []
    instruction = _text(fields, _INSTRUCTION)
    inputs = [_text(each, _INPUT) for each in instances]
    problem = next((text_problem(text) for text in (instruction or "", *map(str, inputs)) if text_problem(text)), "")
    if error or problem or not instruction or not instruction.strip() or None in inputs:
        problems.append(f"{place}: {error or problem or 'no text in instruction, prompt, question or query'}")
        return []
    lineage = fields.get("lineage", [fields.get("id")] if "instances" in fields else None)
    named = tuple(lineage) if isinstance(lineage, list) and all(isinstance(name, str) for name in lineage) else ()
    return [Example(instruction.strip(), (text or "").strip(), lineage=named) for text in inputs]


def _text(fields: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The first of the columns that is not empty; None where it is no text."""
    value = next((fields[name] for name in names if fields.get(name)), "")
    return value if isinstance(value, str) else None
