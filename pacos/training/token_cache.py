"""Rendered rows kept on disk, so that the same rows are tokenized once.

    sha256(rows in order, prompt contract, tokenizer's pipeline and version, max_length) -> CACHE/tokens/KEY.rows

The key names everything that the ids depend on, so a file never grows stale. A file appears whole (written beside, flushed,
renamed) and is its own SHA-256, then arrays (no pickle); one that does not hold is made again. Together they stay under
LIMIT_BYTES; those unused for longest go first. The cache is a convenience: where it cannot be written, a run goes on.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

import numpy as np

from pacos.data import Example
from pacos.files import sync
from pacos.models.catalog import cache_folder
from pacos.prompts import Renderer, RowTable, make_contract

FORMAT = 1
LIMIT_BYTES = 2_000_000_000
HASHED_AT_ONCE = 2000
SHA_BYTES = 32


def render_once(
    examples: Sequence[Example], renderer: Renderer, max_length: int, tell: Callable[[str], None]
) -> RowTable:
    """`renderer.render_table(examples, max_length)`, read from the cache where it was made before."""
    path = cache_folder() / "tokens" / f"{key_of(renderer, examples, max_length)}.rows"
    if path.exists():
        try:
            return load_table(path, len(examples))
        except (OSError, ValueError) as error:
            tell(f"{path}: damaged ({error}); tokenizing again")
    table = renderer.render_table(examples, max_length)
    try:
        save_table(table, path)
        remove_oldest(path.parent, LIMIT_BYTES)
    except OSError as error:
        tell(f"{path.parent}: the tokens cannot be kept for the next run: {error.strerror or error}")
    return table


def key_of(renderer: Renderer, examples: Sequence[Example], max_length: int) -> str:
    """SHA-256 of all that the ids of these rows depend on, in 64 hex digits."""
    made_by = {
        "format": FORMAT,
        "contract": make_contract(renderer),
        "pipeline": renderer.codec.pipeline,
        "tokenizers": version("tokenizers"),
        "max_length": max_length,
    }
    digest = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode())
    for at in range(0, len(examples), HASHED_AT_ONCE):
        rows = [_content(example) for example in examples[at : at + HASHED_AT_ONCE]]
        digest.update(json.dumps(rows).encode())
    return digest.hexdigest()


def _content(example: Example) -> list[object]:
    turns = [[turn.role, turn.content] for turn in example.history]
    return [example.system, turns, example.instruction, example.input, example.output]


def save_table(table: RowTable, path: Path) -> None:
    """Write the table whole or not at all. Raises OSError."""
    body = io.BytesIO()
    for field in fields(table):
        np.save(body, getattr(table, field.name), allow_pickle=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(hashlib.sha256(body.getbuffer()).digest())
            file.write(body.getbuffer())
        sync(draft)
        os.replace(draft, path)
        sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def load_table(path: Path, num_rows: int) -> RowTable:
    """The table at `path`, marked as used now. Raises OSError or ValueError where it is not as it was written."""
    data = memoryview(path.read_bytes())
    if hashlib.sha256(data[SHA_BYTES:]).digest() != data[:SHA_BYTES]:
        raise ValueError("its checksum does not hold")
    body = io.BytesIO(data[SHA_BYTES:])
    table = RowTable(*(np.load(body, allow_pickle=False) for _ in fields(RowTable)))
    if len(table) != num_rows:
        raise ValueError(f"it holds {len(table)} rows, not {num_rows}")
    with suppress(OSError):  # it is read all the same where the cache may only be read
        os.utime(path)
    return table


def remove_oldest(folder: Path, limit_bytes: int) -> None:
    """Remove the files that were not used for longest, until the others take at most `limit_bytes`."""
    used = sorted((path.stat().st_mtime_ns, path.stat().st_size, path) for path in folder.iterdir())
    total = sum(size for _, size, _ in used)
    for _, size, path in used[:-1]:
        if total <= limit_bytes:
            return
        path.unlink(missing_ok=True)
        total -= size
