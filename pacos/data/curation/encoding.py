"""Text that was damaged on its way: read in the wrong encoding, cut inside a character, or full of what cannot be seen.

Mojibake is UTF-8 that was read as Windows-1252 (é -> Ã©, ’ -> â€™). A run of such characters is put right only where its
bytes are valid UTF-8 again, which ordinary text is not: the same test that ftfy makes, without its further repairs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from pacos.data.curation.rule import Rule, around, quote, whole_text
from pacos.data.records import Example, Message

_HIGH = {bytes([n]).decode("cp1252", "ignore") or chr(n): n for n in range(0x80, 0x100)}
_HIGH |= {chr(n): n for n in range(0x80, 0xA0)}  # the five bytes that cp1252 leaves open, and the rest as Latin-1
_CONTINUATION = "[" + "".join(re.escape(char) for char, byte in _HIGH.items() if byte < 0xC0) + "]"
_LEAD = "[" + "".join(re.escape(char) for char, byte in _HIGH.items() if 0xC2 <= byte <= 0xF4) + "]"
_MOJIBAKE = re.compile(f"(?:{_LEAD}{_CONTINUATION}{{1,3}})+")
_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad]")
_CONTROL = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_REPLACED = re.compile("\ufffd+")
_ESCAPED = re.compile(r"\\u[0-9a-fA-F]{4}|&(?:amp|lt|gt|quot|nbsp|#\d{2,5});")
_STACKED = re.compile("[\u0300-\u036f]{4,}")
_CODE = re.compile(r"html|xml|unicode|escape|encod|regex|code|script|json|program|\bURL\b|<\w+|latex", re.IGNORECASE)


def mojibake(example: Example) -> str:
    text = whole_text(example)
    if text.isascii():
        return ""
    for match in _MOJIBAKE.finditer(text):
        if (right := _put_right(match)) != match.group():
            return f"{quote(match.group())} is {quote(right)} read in the wrong encoding, in {around(text, match)}"
    return ""


def _put_right(match: re.Match[str]) -> str:
    try:
        return bytes(_HIGH[char] for char in match.group()).decode("utf-8")
    except UnicodeDecodeError:
        return match.group()


def put_right(text: str) -> str:
    """The text with every run of mojibake read in the right encoding."""
    return text if text.isascii() else _MOJIBAKE.sub(_put_right, text)


def broken_character(example: Example) -> str:
    text = whole_text(example)
    if text.isascii():
        return ""
    if match := _REPLACED.search(text):
        return f"a character was lost in {around(text, match)}"
    match = _STACKED.search(text)
    return f"{len(match.group())} marks are stacked on one letter" if match else ""


def control_character(example: Example) -> str:
    text = whole_text(example)
    match = _CONTROL.search(text)
    return f"holds the control character U+{ord(match.group()):04X}" if match else ""


def invisible(example: Example) -> str:
    text = whole_text(example)
    match = None if text.isascii() else _INVISIBLE.search(text)
    return f"holds the invisible character U+{ord(match.group()):04X}" if match else ""


def without_invisible(text: str) -> str:
    """Joiners and direction marks stay: some scripts and emoji need them."""
    return text if text.isascii() else _INVISIBLE.sub("", text)


def escaped(example: Example) -> str:
    """`\\u00e9` or `&quot;` in prose: text that was escaped once too often."""
    text = example.output
    match = _ESCAPED.search(text)
    return f"holds the escape {around(text, match)}" if match and not _CODE.search(whole_text(example)) else ""


def each_text(change: Callable[[str], str]) -> Callable[[Example], Example]:
    """A fix that does the same to every text of a row. What it would leave blank it leaves as it was."""

    def mend(example: Example) -> Example:
        history = tuple(Message(turn.role, change(turn.content) or turn.content) for turn in example.history)
        instruction, given, output, system = (
            change(text) or text for text in (example.instruction, example.input, example.output, example.system)
        )
        return replace(example, instruction=instruction, input=given, output=output, system=system, history=history)

    return mend


RULES = (
    Rule(
        "mojibake",
        "UTF-8 that was read as Windows-1252 (Ã© for é)",
        "error",
        mojibake,
        each_text(put_right),
        "reads it in the right encoding",
    ),
    Rule("broken-character", "a lost character (U+FFFD), or marks piled on one letter", "error", broken_character),
    Rule(
        "control-character",
        "a control character other than tab and line end",
        "error",
        control_character,
        each_text(lambda text: _CONTROL.sub("", text)),
        "takes it out",
    ),
    Rule(
        "invisible",
        "zero-width spaces, soft hyphens, byte order marks",
        "warning",
        invisible,
        each_text(without_invisible),
        "takes them out",
    ),
    Rule("escaped", "\\u00e9 or &quot; in prose: escaped once too often", "warning", escaped),
)
