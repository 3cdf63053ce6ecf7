"""Prompt templates as data, and the conversations that fill them.

A template says what stands around the texts of a conversation. Its forms are plain text with slots:

    first   system?  user  ->  where the answer begins        "<|user|>\\n{user}<|end|>\\n<|assistant|>\\n"
    answer                 ->  the answer, then the stop      "{answer}" + "<|end|>"
    later   user           ->  where the next answer begins   "\\n<|user|>\\n{user}<|end|>\\n<|assistant|>\\n"

Only what a form says itself can be a control token; what fills a slot never is (tokens.py, render.py).
`chat` is not listed here: it is read off the tokenizer's own chat template (chat_template.py) into the same shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from pacos.data.records import Example, Message
from pacos.errors import DataError, UsageError, did_you_mean

SLOT = re.compile(r"\{(system|user|instruction|input|answer)\}")
CONTROL_LOOK = re.compile(r"<\|\w+\|>")


@dataclass(frozen=True)
class Template:
    """What stands around the texts of a conversation; forms are text with slots {system} {user} {instruction} {input}.

    `{user}` is instruction and input joined by a blank line. A form left empty says: no `*_with_input`, the input is
    joined to the instruction; no `first_with_system`, the system text opens the first user turn, a blank line after it.
    """

    name: str
    first: str
    later: str
    stop: str = ""
    """The control token that ends an answer; empty takes the tokenizer's end-of-sequence token."""
    first_with_input: str = ""
    later_with_input: str = ""
    first_with_system: str = ""
    answer: str = "{answer}"
    trims: tuple[str, ...] = ()
    """Roles whose text loses the white space around it, as the model's own chat template has it."""
    bos: str | None = None
    """Token put before everything; None takes it where the tokenizer's family has one, "" puts none."""

    def form(self, later: bool, with_input: bool, with_system: bool) -> str:
        if with_system:
            return self.first_with_system
        if with_input:
            return self.later_with_input if later else self.first_with_input
        return self.later if later else self.first

    @property
    def around_answer(self) -> tuple[str, str]:
        """The text of an answer that is the template's, before and after it: (" ", " ") in Llama-2's chat."""
        before, _, after = self.answer.partition("{answer}")
        return before, after

    def to_tree(self) -> dict[str, Any]:
        return {**asdict(self), "trims": list(self.trims)}


def template_from_tree(tree: dict[str, Any]) -> Template:
    """The inverse of `to_tree`. Raises UsageError where a key is missing, unknown or not text."""
    known = {field.name for field in fields(Template)}
    odd = [key for key in tree if key not in known] + [key for key in ("name", "first", "later") if key not in tree]
    odd += [key for key, value in tree.items() if key != "trims" and not isinstance(value, str | None)]
    if odd:
        raise UsageError(f"template: keys missing, unknown or not text: {', '.join(map(repr, sorted(set(odd))))}")
    return Template(**{**tree, "trims": tuple(tree.get("trims", ()))})


_PREAMBLE = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
)
_PREAMBLE_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
)
_ALPACA = "### Instruction:\n{instruction}\n\n### Response:\n"
_ALPACA_INPUT = "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
_PLAIN = "Instruction:\n{instruction}\n\nResponse:\n"
_PLAIN_INPUT = "Instruction:\n{instruction}\n\nInput:\n{input}\n\nResponse:\n"

# Stanford's words. Stanford put the answer right behind "### Response:", alpaca-lora behind a line end; here it is the
# line end, because an answer's first token then does not depend on the colon. Later turns repeat the blocks alone.
ALPACA = Template(
    name="alpaca",
    first=_PREAMBLE + _ALPACA,
    first_with_input=_PREAMBLE_INPUT + _ALPACA_INPUT,
    later="\n\n" + _ALPACA,
    later_with_input="\n\n" + _ALPACA_INPUT,
)
PLAIN = Template(
    name="plain",
    first=_PLAIN,
    first_with_input=_PLAIN_INPUT,
    later="\n\n" + _PLAIN,
    later_with_input="\n\n" + _PLAIN_INPUT,
)
# Phi-3 ends a turn with <|end|>, not with its end-of-sequence token.
PHI3 = Template(
    name="phi3",
    first="<|user|>\n{user}<|end|>\n<|assistant|>\n",
    first_with_system="<|system|>\n{system}<|end|>\n<|user|>\n{user}<|end|>\n<|assistant|>\n",
    later="\n<|user|>\n{user}<|end|>\n<|assistant|>\n",
    stop="<|end|>",
)
TEMPLATES = {template.name: template for template in (ALPACA, PHI3, PLAIN)}
NAMES = (*TEMPLATES, "chat")


def find_template(name: str) -> Template:
    """A hand-written template by name (`chat` is read by `analyse_chat_template`). Raises UsageError."""
    if name not in TEMPLATES:
        raise UsageError(f"template '{name}': not known{did_you_mean(name, NAMES)}; it is one of {', '.join(NAMES)}")
    return TEMPLATES[name]


@dataclass(frozen=True, slots=True)
class Turn:
    """What the user asks, and the answer; None where it is yet to be written."""

    instruction: str
    input: str
    answer: str | None


@dataclass(frozen=True, slots=True)
class Conversation:
    system: str
    turns: tuple[Turn, ...]

    def without_answer(self) -> Conversation:
        last = self.turns[-1]
        return Conversation(self.system, (*self.turns[:-1], Turn(last.instruction, last.input, None)))


def conversation_of_example(example: Example) -> Conversation:
    """History and last turn of an example. Raises DataError with its id where user and assistant do not alternate."""
    try:
        turns = _pair(example.history)
    except ValueError as error:
        place = f"{example.source}: " if example.source else ""
        raise DataError(f"{place}row {example.id}: history {error}") from None
    return Conversation(example.system, (*turns, Turn(example.instruction, example.input, example.output)))


def conversation_of_messages(messages: Sequence[Message]) -> Conversation:
    """system?, then user and assistant in alternation, ending with user. Raises UsageError with the place."""
    system = messages[0].content if messages and messages[0].role == "system" else ""
    rest = messages[1:] if messages and messages[0].role == "system" else messages
    if not rest or rest[-1].role != "user":
        raise UsageError("messages: the last message must be the user's; the answer to it is what comes next")
    try:
        return Conversation(system, (*_pair(rest[:-1]), Turn(rest[-1].content, "", None)))
    except ValueError as error:
        raise UsageError(f"messages: {error}") from None


def _pair(messages: Sequence[Message]) -> Iterator[Turn]:
    roles = [message.role for message in messages]
    expected = ["user", "assistant"] * (len(roles) // 2)
    if roles != expected:
        raise ValueError(f"must alternate user, assistant; it is {', '.join(roles)}")
    users, answers = messages[::2], messages[1::2]
    return (Turn(user.content, "", answer.content) for user, answer in zip(users, answers, strict=True))


def fill(template: Template, conversation: Conversation) -> Iterator[tuple[str, dict[str, str], str | None]]:
    """Each turn as (its form, what fills its slots, its answer with the template's text around it, or None)."""
    before, after = template.around_answer
    folded = conversation.system and not template.first_with_system
    for index, turn in enumerate(conversation.turns):
        instruction = f"{conversation.system}\n\n{turn.instruction}" if folded and index == 0 else turn.instruction
        values = _values(template, conversation.system, instruction, turn.input)
        with_system = bool(index == 0 and conversation.system and template.first_with_system)
        form = template.form(index > 0, bool(turn.input and template.first_with_input), with_system)
        answer = turn.answer.strip() if turn.answer and "assistant" in template.trims else turn.answer
        yield form, values, None if answer is None else before + answer + after


def _values(template: Template, system: str, instruction: str, input: str) -> dict[str, str]:
    user = f"{instruction}\n\n{input}" if input else instruction
    if "user" in template.trims:
        user = user.strip()
    if "system" in template.trims:
        system = system.strip()
    return {"system": system, "instruction": instruction, "input": input, "user": user}


def full_text(template: Template, conversation: Conversation) -> str:
    """The conversation as one text, each answer with its stop: for people and for checks, never to be tokenized."""
    parts = [template.bos or ""]
    for form, values, answer in fill(template, conversation):
        parts.append(SLOT.sub(lambda slot, values=values: values[slot[1]], form))  # type: ignore[misc]
        parts.append("" if answer is None else answer + template.stop)
    return "".join(parts)
