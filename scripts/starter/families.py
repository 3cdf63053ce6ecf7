"""All families: what draws them (four files, by theme), how they are worded (wordings.txt), which are hard."""

from __future__ import annotations

from . import choose, convert, extract, reshape
from .family import Drawer, Family
from .pools import sections

HARD = (
    "reverse_list",
    "drop_duplicates",
    "larger_number",
    "clock_24",
    "count_items",
    "sort_words",
    "sort_numbers",
    "past_tense",
    "opposite",
)
TEST_ONLY = ("extract_url", "extract_time", "thing_to_json", "markdown_link", "first_word", "acronym")
DRAWERS: dict[str, Drawer] = {**extract.FAMILIES, **reshape.FAMILIES, **choose.FAMILIES, **convert.FAMILIES}


def families() -> tuple[Family, ...]:
    """Every family, in the order of its theme."""
    wordings = sections("wordings.txt")
    assert sorted(wordings) == sorted(DRAWERS), "a family without wordings, or wordings without a family"
    return tuple(family(name, draw, wordings[name]) for name, draw in DRAWERS.items())


def family(name: str, draw: Drawer, wordings: tuple[str, ...]) -> Family:
    line = wordings.index("--")
    return Family(name, draw, wordings[:line], wordings[line + 1 :], hard=name in HARD, test_only=name in TEST_ONLY)
