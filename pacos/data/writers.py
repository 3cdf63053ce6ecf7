"""Examples -> files, which read back as equal examples.

    .json     an array of Alpaca rows         .jsonl    one row a line
    layout="messages"                         {"messages": [...]} rows, for tools that expect conversations

`id`, and `source` and `lineage` where known, stand beside the fields, and unknown columns after them. An unknown column
never takes the place of a field: see `fold`. A file appears whole or not at all: it is written under a temporary name,
flushed to the disk and renamed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from pacos.data.fields import fold, text_problem
from pacos.data.records import Example
from pacos.errors import ResourceError, UsageError
from pacos.files import sync


def write_examples(
    examples: Sequence[Example], path: str | Path, *, layout: Literal["alpaca", "messages"] = "alpaca"
) -> None:
    """Write a dataset as JSON or JSONL, by the path's suffix. Raises UsageError for another suffix."""
    write_whole(Path(path), dataset_text(examples, path, layout=layout))


def dataset_text(
    examples: Sequence[Example], path: str | Path, *, layout: Literal["alpaca", "messages"] = "alpaca"
) -> str:
    """What `write_examples` writes."""
    path = Path(path)
    if path.suffix not in (".json", ".jsonl"):
        raise UsageError(f"{path}: datasets are written as .json or .jsonl")
    to_row: Callable[[Example], dict[str, Any]] = {"alpaca": alpaca_row, "messages": messages_row}[layout]
    rows = [_json(to_row(example)) for example in examples]
    return "[\n" + ",\n".join(rows) + "\n]\n" if path.suffix == ".json" else "".join(f"{row}\n" for row in rows)


def alpaca_row(example: Example) -> dict[str, Any]:
    """Alpaca's three fields; `system` and `history` (pairs) where there are any."""
    row: dict[str, Any] = {"instruction": example.instruction, "input": example.input, "output": example.output}
    if example.system:
        row["system"] = example.system
    if example.history:
        texts = [message.content for message in example.history]
        row["history"] = [list(pair) for pair in zip(texts[::2], texts[1::2], strict=True)]
    return row | _beside(example)


def messages_row(example: Example) -> dict[str, Any]:
    """The conversation in turns. `input` is kept beside it, so that reading can take it out of the question again."""
    row: dict[str, Any] = {"messages": [{"role": m.role, "content": m.content} for m in example.messages]}
    if example.input:
        row["input"] = example.input
    return row | _beside(example)


def _beside(example: Example) -> dict[str, Any]:
    known = {"id": example.id, "source": example.source, "lineage": list(example.lineage)}
    extra = dict(example.extra)
    if extra.get("id", example.id) != example.id:
        known["id"] = extra.pop("id")  # the file's own name for the row
    return {key: value for key, value in known.items() if value or key == "id"} | fold(extra)


def _json(row: dict[str, Any]) -> str:
    """One line of JSON. An unknown column may hold half of a surrogate pair, which only an escape can write."""
    text = json.dumps(row, ensure_ascii=False, default=str)
    return json.dumps(row, default=str) if text_problem(text) else text


def write_whole(path: Path, text: str) -> None:
    """Write text so that the file is there whole or not at all. Raises ResourceError where it cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        raise ResourceError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)
