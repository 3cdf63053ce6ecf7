"""Keeping a split: `split.json`, made once, read by train and eval, and checked against the rows at every use.

    find_trained(split, examples)    rows that were trained on, word for word or nearly: what eval refuses

A split knows rows by their ids, so a file may be re-ordered or re-formatted; a row that changed is a row it does not
know, and that is an error rather than a guess.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pacos.data.near import SKETCH, Sketches, near_matches
from pacos.data.records import Example
from pacos.data.sides import SIDES, Side
from pacos.data.split import Split, make_split, prompt_text
from pacos.data.writers import write_whole
from pacos.errors import DataError, UsageError

VERSION = 1
SETTINGS = ("seed", "validation_share", "test_share", "near_threshold")


@dataclass(frozen=True)
class Trained:
    """A row that was trained on: its place among those asked about, the training row, how alike they are (0 to 1)."""

    number: int
    id: str
    train_id: str
    similarity: float


def split_path(workspace: str | Path, data_name: str, data_sha: str, settings: Mapping[str, Any]) -> Path:
    """`WORKSPACE/splits/NAME-HASH.json`, where the hash is of the data and of the settings."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(data_name).stem if "." in Path(data_name).name else data_name).strip(
        "-."
    )
    key = json.dumps([VERSION, data_sha, settings], sort_keys=True, default=str)
    return Path(workspace) / "splits" / f"{name or 'data'}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.json"


def ensure_split(path: str | Path, examples: Sequence[Example], **settings: Any) -> Split:
    """The split at `path`, checked against the rows; made with `make_split(examples, **settings)` the first time."""
    if Path(path).exists():
        split = load_split(path)
        check_split(split, examples, place=str(path))
        return split
    split = make_split(examples, **settings)
    save_split(split, path)
    return split


def save_split(split: Split, path: str | Path) -> None:
    """Write `split.json`, whole or not at all."""
    tree = {"version": VERSION, "notes": split.notes, **{key: getattr(split, key) for key in SETTINGS}}
    tree |= {side: getattr(split, side) for side in SIDES}
    write_whole(Path(path), json.dumps(tree | {"train_prompts": _packed(split.train_prompts)}, indent=0) + "\n")


def load_split(path: str | Path) -> Split:
    """Read `split.json`. Raises UsageError where there is none, DataError where it is not one, or not whole."""
    try:
        tree = json.loads(Path(path).read_text(encoding="utf-8"))
        _check_version(tree.get("version"), path)
        settings: dict[str, Any] = {key: tree[key] for key in SETTINGS}
        settings |= {side: tuple(_id(row) for row in tree[side]) for side in SIDES}
        split = Split(**settings, notes=tuple(tree["notes"]), train_prompts=_unpacked(tree["train_prompts"]))
    except OSError as error:
        raise UsageError(f"{path}: no split can be read here: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise DataError(f"{path}: not a whole split file ({error!r:.80}); remove it, and a new one is made") from None
    rows = [*split.train, *split.validation, *split.test]
    if len(set(rows)) != len(rows) or len(split.train_prompts) != len(split.train):
        raise DataError(
            f"{path}: the split contradicts itself: a row stands twice, or a prompt is missing; make a new one"
        )
    return split


def _check_version(version: Any, path: str | Path) -> None:
    if version != VERSION:
        raise DataError(
            f"{path}: split version {version!r}; this pacos reads {VERSION}: remove it, and a new one is made"
        )


def _id(row: Any) -> str:
    if not isinstance(row, str) or not re.fullmatch(r"[0-9a-f]{16}", row):
        raise ValueError(f"{row!r} is no row id")
    return row


def _packed(sketches: Sketches) -> dict[str, str]:
    """Sizes as bytes and values as little-endian uint32, in base 64."""
    sizes, values = sketches.sizes.astype(np.uint8), sketches.values.astype("<u4")
    return {"sizes": base64.b64encode(sizes.tobytes()).decode(), "values": base64.b64encode(values.tobytes()).decode()}


def _unpacked(packed: Mapping[str, str]) -> Sketches:
    sizes = np.frombuffer(base64.b64decode(packed["sizes"], validate=True), dtype=np.uint8)
    values = np.frombuffer(base64.b64decode(packed["values"], validate=True), dtype="<u4")
    starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    if starts[-1] != len(values) or (len(sizes) and sizes.max() > SKETCH):
        raise ValueError("the training prompts are cut off")
    return Sketches(values.astype(np.uint32), starts)


def check_split(split: Split, examples: Sequence[Example], *, place: str = "split") -> None:
    """Every row is on one side. Raises DataError naming the rows that the split does not know."""
    _known(split.side_of(), examples, place)


def rows_of(split: Split, examples: Sequence[Example], side: Side) -> list[Example]:
    """The rows of one side, in the order given. Raises DataError where a row is on no side."""
    return divide(split, examples)[side]


def divide(split: Split, examples: Sequence[Example]) -> dict[Side, list[Example]]:
    """The rows of every side, in the order given. Raises DataError where a row is on no side."""
    sides = split.side_of()
    rows: dict[Side, list[Example]] = {side: [] for side in SIDES}
    for example, row in zip(examples, _known(sides, examples, "split"), strict=True):
        rows[sides[row]].append(example)
    return rows


def _known(sides: Mapping[str, Side], examples: Sequence[Example], place: str) -> list[str]:
    """The ids of `examples`, all of them in `sides`."""
    ids = [example.id for example in examples]
    strange = [f"{e.source or 'row'} ({row})" for e, row in zip(examples, ids, strict=True) if row not in sides]
    if strange:
        raise DataError(
            f"{place}: {len(strange)} of {len(ids)} rows are on no side: the data changed since the split was made; "
            "restore the data, or remove the split file and train anew, or evaluate them as a dataset of their own",
            strange,
        )
    return ids


def find_trained(split: Split, examples: Sequence[Example], *, threshold: float | None = None) -> list[Trained]:
    """Which of the rows were trained on: the same row, or a prompt at least `threshold` similar to a trained one.

    `threshold` is the split's own unless given. Needs the split alone, not the rows that were trained on.
    """
    least = split.near_threshold if threshold is None else threshold
    trained = set(split.train)
    matches = near_matches([prompt_text(example) for example in examples], split.train_prompts, least)
    found = []
    for number, (example, match) in enumerate(zip(examples, matches, strict=True)):
        row = example.id
        if row in trained:
            found.append(Trained(number, row, row, 1.0))
        elif match:
            found.append(Trained(number, row, split.train[match[0]], match[1]))
    return found
