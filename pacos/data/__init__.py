"""Instruction data: examples, readers and writers, validation, near-duplicates, split custody."""

from pacos.data.load import BadRows, LoadedData, load_examples
from pacos.data.near import NearIndex, near_duplicate_groups, near_matches
from pacos.data.records import Example, Message, Role, content_hash, normalize
from pacos.data.writers import write_examples

__all__ = [
    "BadRows",
    "Example",
    "LoadedData",
    "Message",
    "NearIndex",
    "Role",
    "content_hash",
    "load_examples",
    "near_duplicate_groups",
    "near_matches",
    "normalize",
    "write_examples",
]
