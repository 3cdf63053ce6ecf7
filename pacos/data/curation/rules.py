"""The table of rules, and the choice among them: `--rules a,b` and `--without c`."""

from __future__ import annotations

from collections.abc import Iterable

from pacos.data.curation import answers, arithmetic, code, encoding, language, order, placeholders, privacy, unseen
from pacos.data.curation.rule import Rule, drop
from pacos.errors import UsageError, did_you_mean

SET_RULES = (
    Rule("malformed", "a row that is no instruction with an answer", "error", mend=drop, mends="drops the row"),
    Rule("duplicate", "the same row again, case, spaces and punctuation aside", "error", mend=drop, mends="keeps one"),
    Rule("near-duplicate", "nearly the same prompt as a row that is kept", "warning"),
    Rule("same-prompt", "the same prompt as another row, with another answer", "note"),
    Rule("leak", "in the test side or an evaluation set: the same prompt, nearly, or a passage of it", "error"),
    Rule("length", "an instruction or output of unusual length for this set", "note"),
    Rule("language", "an instruction in another language than most of this set", "note"),
)
"""Rules over the whole set, and over rows that could not be read: `survey.py` and `sets.py` apply them."""
ROW_RULES = tuple(
    rule
    for room in (placeholders, encoding, answers, unseen, arithmetic, order, code, language, privacy)
    for rule in room.RULES
)
RULES: dict[str, Rule] = {rule.name: rule for rule in (*SET_RULES, *ROW_RULES)}


def choose_rules(only: Iterable[str] = (), without: Iterable[str] = ()) -> tuple[str, ...]:
    """Names of the rules to apply, in the table's order. Raises UsageError for a name that is no rule."""
    only, without = list(only), list(without)
    for name in (*only, *without):
        if name not in RULES:
            raise UsageError(f"no rule '{name}'{did_you_mean(name, RULES)}; rules: {', '.join(RULES)}")
    return tuple(name for name in RULES if (not only or name in only) and name not in without)
