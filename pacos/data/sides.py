"""The three sides of a split, and the words that columns and file names call them by."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Literal, get_args

Side = Literal["train", "validation", "test"]
SIDES: tuple[Side, ...] = get_args(Side)
WORDS: dict[str, Side] = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation", "eval": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip


def side_of_file(name: str) -> Side | None:
    """The side that a file's name says: `data/train-00000-of-00001.parquet` -> train."""
    words = re.split(r"[^a-z]+", PurePosixPath(name).stem.lower())
    return next((WORDS[word] for word in words if word in WORDS), None)
