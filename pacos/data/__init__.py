"""Instruction data: examples, readers and writers, validation, near-duplicates, split custody."""

from pacos.data.custody import (
    Trained,
    check_split,
    divide,
    ensure_split,
    find_trained,
    load_split,
    rows_of,
    save_split,
    split_path,
)
from pacos.data.load import LoadedData, find_files, load_examples
from pacos.data.near import NearIndex, near_duplicate_groups, near_matches
from pacos.data.records import Example, Message, Role, content_hash, normalize
from pacos.data.sides import SIDES, Side
from pacos.data.split import Split, make_split, prompt_text
from pacos.data.writers import write_examples, write_whole

__all__ = [
    "SIDES",
    "Example",
    "LoadedData",
    "Message",
    "NearIndex",
    "Role",
    "Side",
    "Split",
    "Trained",
    "check_split",
    "content_hash",
    "divide",
    "ensure_split",
    "find_files",
    "find_trained",
    "load_examples",
    "load_split",
    "make_split",
    "near_duplicate_groups",
    "near_matches",
    "normalize",
    "prompt_text",
    "rows_of",
    "save_split",
    "split_path",
    "write_examples",
    "write_whole",
]
