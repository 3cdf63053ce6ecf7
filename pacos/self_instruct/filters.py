"""Which tasks are not kept, by named rules that can be switched off one by one: those of Alpaca and Self-Instruct.

    length        the instruction has 3 to 150 words                   Self-Instruct
    media         it speaks of images, files, plots, music ...         an assistant of text has none
    program       it begins with "Write a program"                     "a lot of them, and they confuse the model" (Alpaca)
    punctuation   it begins with punctuation                           a fragment
    ascii         it begins with a character outside ASCII             another language

Where several rules reject a task, the first says why. Texts that no file can hold (half of a surrogate pair, NUL) are
always rejected: "characters".
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Collection, Mapping

from pacos.data.fields import text_problem
from pacos.errors import UsageError, did_you_mean
from pacos.self_instruct.parse import Task

FEWEST_WORDS, MOST_WORDS = 3, 150
MEDIA = (
    "image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps", "draw", "plot",
    "go to", "video", "audio", "music", "flowchart", "diagram",
)  # fmt: skip
"""Alpaca's list."""
_MEDIA = re.compile(rf"\b(?:{'|'.join(MEDIA)})\b", re.IGNORECASE)
Rule = Callable[[str], bool]
"""True for an instruction that is not kept. Instructions are not empty."""

RULES: Mapping[str, Rule] = {
    "length": lambda instruction: not FEWEST_WORDS <= len(instruction.split()) <= MOST_WORDS,
    "media": lambda instruction: _MEDIA.search(instruction) is not None,
    "program": lambda instruction: instruction.lower().startswith("write a program"),
    "punctuation": lambda instruction: instruction[0] in string.punctuation,
    "ascii": lambda instruction: not instruction[0].isascii(),
}


def rules_without(switched_off: Collection[str]) -> dict[str, Rule]:
    """RULES but for some. Raises UsageError for a name that is none."""
    for name in switched_off:
        if name not in RULES:
            raise UsageError(f"--without {name}: no such rule{did_you_mean(name, RULES)}; known: {', '.join(RULES)}")
    return {name: rule for name, rule in RULES.items() if name not in switched_off}


def first_reason(task: Task, rules: Mapping[str, Rule]) -> str:
    """Why a task is not kept: its own problem, `characters`, or the first rule against it; empty where it is."""
    if task.problem:
        return task.problem
    if any(text_problem(text) for text in (task.instruction, task.input, task.output)):
        return "characters"
    return next((name for name, rule in rules.items() if rule(task.instruction)), "")
