"""What generation starts from: seeds, rows that are made harder, instructions that wait for an answer."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pacos.data import Example, load_examples
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
    """Instructions with or without input, each once: a text file with one a line, or any file of rows.

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
    examples = [_instruction(place, row, error, problems) for place, row, error in found]
    if problems:
        raise DataError(f"{path}: {len(problems)} of {len(found)} rows have no instruction", problems)
    return list({example.id: example for example in examples}.values())


def _instruction(place: str, row: Any, error: str, problems: list[str]) -> Example:
    fields = row if isinstance(row, Mapping) else {}
    texts = [next((fields[name] for name in names if fields.get(name)), "") for names in (_INSTRUCTION, _INPUT)]
    if error or not isinstance(texts[0], str) or not isinstance(texts[1], str) or not texts[0].strip():
        problems.append(f"{place}: {error or 'no text in instruction, prompt, question or query'}")
        return Example("")
    lineage = fields.get("lineage")
    named = tuple(lineage) if isinstance(lineage, list) and all(isinstance(name, str) for name in lineage) else ()
    return Example(texts[0].strip(), texts[1].strip(), lineage=named)
