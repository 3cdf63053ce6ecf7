"""Lists that were to be put in order, and were not: alphabetical, ascending, descending."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from pacos.data.curation.rule import Rule, quote
from pacos.data.records import Example

FEWEST, MOST = 3, 100
_ALPHABET = re.compile(r"\balphabetic(?:al)?(?:ly)?\b|\bfrom a to z\b", re.IGNORECASE)
_NUMBERS = re.compile(
    r"\b(?:ascending|descending|increasing|decreasing)\b|\bsmallest to (?:largest|biggest)\b|\b(?:largest|biggest)"
    r" to smallest\b|\b(?:low|high)est to",
    re.IGNORECASE,
)
_BACKWARD = re.compile(
    r"\breverse|\bdescending|\bdecreasing|\bz to a\b|\b(?:largest|biggest) to|\bhighest to|\bbackward", re.IGNORECASE
)
_ASKS = re.compile(
    r"\b(?:sort|order|arrange|organi[sz]e|put|rearrange|reorder|rank|list|alphabeti[sz]e|reshape|place"
    r"|rewrite|output)",
    re.IGNORECASE,
)
_WORDS = re.compile(r"\bwords\b", re.IGNORECASE)
_HEADING = re.compile(r"^[^:\n]{0,80}:\s*")
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")


def items_of(text: str, cut: re.Pattern[str]) -> list[str]:
    """The items of a list: lines where there are several, else what `cut` divides. Ends and bullets are taken off."""
    text = text.strip().strip("[](){}")
    lines = [line for line in text.split("\n") if line.strip()]
    parts = lines if len(lines) >= FEWEST else cut.split(lines[-1] if lines else "")
    bare = (_BULLET.sub("", part).strip(" \t.,;'\"[]()") for part in parts)
    return [re.sub(r"^and\s+", "", item) for item in bare if item]


def wrong_order(example: Example) -> str:
    """The items of the input, all there and in another order than was asked."""
    asked = example.instruction
    alphabet, numbers = _ALPHABET.search(asked), _NUMBERS.search(asked)
    if not (alphabet or numbers) or re.search(r"\bnon\W|\blength\b|\bnumber of\b", asked) or not _ASKS.search(asked):
        return ""
    given = example.input or asked
    cut = re.compile(r"\s+" if _WORDS.search(asked) and "," not in given else r"[,;]")
    items, source = (items_of(_HEADING.sub("", text.strip()), cut) for text in (example.output, given))
    if not FEWEST <= len(items) <= MOST or sorted(map(str.casefold, items)) != sorted(map(str.casefold, source)):
        return ""
    keys: list[Any] | None = _keys(items, bool(numbers) and not alphabet)
    if keys is None:
        return ""
    backward = _BACKWARD.search(asked) is not None
    for (a, left), (b, right) in pairwise(zip(items, keys, strict=True)):
        if right > left if backward else right < left:
            return f"{quote(a, 30)} stands before {quote(b, 30)}"
    return ""


def _keys(items: list[str], numeric: bool) -> list[float] | list[str] | None:
    """What the items are ordered by; None where they are no numbers and numbers were asked for."""
    if not numeric:
        return [re.sub(r"[^\w ]", "", item.casefold()) for item in items]
    try:
        return [float(item.replace("$", "").replace("%", "")) for item in items]
    except ValueError:
        return None


RULES = (Rule("wrong-order", "a list that was to be sorted, and is not", "error", wrong_order),)
