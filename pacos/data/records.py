"""The noun of the data room: one example, and the hash that is its name.

An example is Alpaca's three fields, and for conversations what was said before:

    system          optional system message
    history         earlier turns, user and assistant in alternation, ending with assistant
    instruction     the last thing the user asks          } joined by a blank line where a
    input           the material it is asked about        } template has one user turn
    output          the answer

`id` is the SHA-256 of the normalized content, so a row keeps its name when files are re-ordered, re-formatted or merged.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True)
class Example:
    """One instruction with its answer. `source` is `file:line` for messages; `lineage` names the seeds it came from."""

    instruction: str
    input: str = ""
    output: str = ""
    system: str = ""
    history: tuple[Message, ...] = ()
    source: str = ""
    lineage: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Columns that pacos does not know; they survive reading and writing."""

    @cached_property
    def id(self) -> str:
        """First 16 hex digits of the SHA-256 of the normalized content (system, history, instruction, input, output)."""
        return content_hash(self)

    @property
    def user_text(self) -> str:
        """Instruction and input as one user turn, joined by a blank line."""
        return f"{self.instruction}\n\n{self.input}" if self.input else self.instruction

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation in turns; the last is the answer, absent where `output` is empty."""
        head = (Message("system", self.system),) if self.system else ()
        tail = (Message("assistant", self.output),) if self.output else ()
        return (*head, *self.history, Message("user", self.user_text), *tail)


def normalize(text: str) -> str:
    """Unicode NFC, line ends as \\n, no space at line ends or around the whole."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\n" in text:
        text = "\n".join(map(str.rstrip, text.split("\n")))
    return text.strip()


def content_hash(example: Example) -> str:
    """16 hex digits that name the content of an example, whatever file, order or formatting it came in."""
    parts = [
        normalize(example.system),
        [[m.role, normalize(m.content)] for m in example.history],
        normalize(example.instruction),
        normalize(example.input),
        normalize(example.output),
    ]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()[:16]
