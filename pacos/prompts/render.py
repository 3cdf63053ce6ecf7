"""Example -> token ids and loss mask; conversation -> prompt ids. The only place where text becomes tokens.

    <|user|> \n Name a colour. <|end|> \n <|assistant|> \n | Blue. <|end|>
    prompt: the template's words and the user's text         answer: carries the loss, and so does its stop token

Everything between two control tokens is encoded at once, as the tokenizer itself would; but an answer is encoded on its
own, so the ids of a prompt are the beginning of the ids of its row by construction, in training and in serving.
Text is encoded without control tokens (tokens.py). The mask goes by position, never by token value.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from pacos.data.records import Example, Message
from pacos.errors import DataError, UsageError
from pacos.prompts.chat_template import analyse_chat_template, family_bos
from pacos.prompts.segments import Chunk, Segment, cut_to, join, replaced, table_from
from pacos.prompts.table import Rendered, RowTable, join_tables
from pacos.prompts.templates import (
    CONTROL_LOOK,
    SLOT,
    Conversation,
    Template,
    conversation_of_example,
    conversation_of_messages,
    fill,
    find_template,
)
from pacos.prompts.tokens import Codec, Control

ROWS_AT_ONCE = 1000
OTHER_STOPS = ("<|endoftext|>", "<|end_of_text|>")


class Renderer:
    """Renders by one template with one tokenizer (a transformers fast tokenizer).

    `template` is a name (alpaca, phi3, plain, chat) or a Template; `system` is used where a conversation has none.
    Raises UsageError where template and tokenizer do not go together.
    """

    def __init__(self, tokenizer: Any, template: str | Template, system: str = ""):
        self.tokenizer = tokenizer
        self.system = system
        self.codec = Codec(tokenizer)
        if isinstance(template, str):
            template = analyse_chat_template(tokenizer, self.codec) if template == "chat" else find_template(template)
        self.template = _resolve(template, tokenizer, self.codec)
        self.stop_ids = self._find_stop_ids()
        self._stop = Segment("", False, loss=True, ids=[self.stop_ids[0]])
        self._answer_prefixed = self._answer_starts_text()
        self._parts = {form: list(self._compile(form)) for form in _forms(self.template)}

    def render_example(self, example: Example, max_length: int | None = None) -> Rendered:
        """A row for training. Raises DataError with the example's id where its prompt leaves no room for an answer."""
        rendered = self.render_examples([example], max_length)[0]
        if not rendered.fits:
            raise DataError(
                f"row {example.id}: its prompt leaves no room for an answer in {max_length} tokens (it has "
                f"{len(rendered.ids)} with the answer); raise train.max_length, or drop the row"
            )
        return rendered

    def render_examples(self, examples: Sequence[Example], max_length: int | None = None) -> list[Rendered]:
        """Rows for training, each as `render_example` has it; rows that cannot fit are marked, so all can be named."""
        return list(self.render_table(examples, max_length))

    def render_table(self, examples: Sequence[Example], max_length: int | None = None) -> RowTable:
        """The rows of `render_examples` in a compact table, made on all cores.

        The tokenizer lets go of Python's lock, so one thread plans and joins rows while others encode.
        """
        parts = [examples[at : at + ROWS_AT_ONCE] for at in range(0, len(examples), ROWS_AT_ONCE)]
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            return join_tables(pool.map(lambda part: self._render(part, max_length), parts))

    def _render(self, examples: Sequence[Example], max_length: int | None) -> RowTable:
        encoded = list(self._encode([self._plan(self._conversation(example)) for example in examples]))
        table = table_from(encoded)
        if max_length is None:
            return table
        long = np.flatnonzero(table.lengths > max_length).tolist()
        return replaced(table, {row: cut_to(*join(*encoded[row]), max_length) for row in long})

    def render_prompt(self, example: Example) -> tuple[int, ...]:
        """The prompt of the example's last answer, without it: the beginning of `render_example(example).ids`."""
        return self.render_prompts([example])[0]

    def render_prompts(self, examples: Sequence[Example]) -> list[tuple[int, ...]]:
        return self._prompts([self._conversation(example).without_answer() for example in examples])

    def render_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The prompt for the next answer: system?, then user and assistant in turn. Raises UsageError."""
        conversation = conversation_of_messages(messages)
        return self._prompts([self._with_system(conversation)])[0]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer, without special tokens, the stop and the template's text around it."""
        text = b"".join(self.answer_bytes(id) for id in ids).decode("utf-8", "replace")
        before, after = self.around_answer
        return text.removeprefix(before).removesuffix(after)

    def answer_bytes(self, id: int) -> bytes:
        return b"" if id in self.stop_ids else self.codec.token_bytes(id)

    def show(self, ids: Sequence[int]) -> str:
        """A row as people read it, control tokens by name. Never to be tokenized again."""
        names = {control.id: control.text.encode() for control in self.codec.controls.values()}
        return b"".join(names.get(id) or self.codec.token_bytes(id) for id in ids).decode("utf-8", "replace")

    @property
    def around_answer(self) -> tuple[str, str]:
        """What `decode` takes off: the template's text around an answer, or the space that the tokenizer adds."""
        before, after = self.template.around_answer
        return (before or (" " if self._answer_prefixed else "")), after

    def _conversation(self, example: Example) -> Conversation:
        return self._with_system(conversation_of_example(example))

    def _with_system(self, conversation: Conversation) -> Conversation:
        return replace(conversation, system=self.system) if self.system and not conversation.system else conversation

    def _prompts(self, conversations: Sequence[Conversation]) -> list[tuple[int, ...]]:
        plans = [self._plan(conversation) for conversation in conversations]
        return [join(segments, ids)[0] for segments, ids in self._encode(plans)]

    def _plan(self, conversation: Conversation) -> list[Segment]:
        """The conversation as segments in order, answers apart from what precedes them."""
        bos = self.codec.control_id(self.template.bos or "")
        segments = [] if bos is None else [Segment("", False, ids=[bos])]
        for form, values, answer in fill(self.template, conversation):
            for part in self._parts[form]:
                segments.append(part.filled(values) if isinstance(part, Chunk) else part)
            if answer is not None:
                segments.append(Segment(answer, self._answer_prefixed, loss=True))
                segments.append(self._stop)
        return segments

    def _answer_starts_text(self) -> bool:
        """An answer right behind a control token starts a text of its own, as the tokenizer sees it."""
        last = self._split(self.template.first, "")[-1]
        return self.codec.prefix_after_control and isinstance(last, Control)

    def _encode(self, plans: list[list[Segment]]) -> Iterator[tuple[list[Segment], list[list[int]]]]:
        """Each plan with the ids of each of its segments, all texts encoded in one go."""
        segments = [segment for plan in plans for segment in plan if segment.ids is None]
        encoded = {}
        for prefixed in (True, False):
            texts = [segment.text for segment in segments if segment.prefixed == prefixed]
            encoded[prefixed] = iter(self.codec.encode(texts, prefixed))
        for plan in plans:
            yield plan, [next(encoded[s.prefixed]) if s.ids is None else s.ids for s in plan]

    def _find_stop_ids(self) -> tuple[int, ...]:
        names = (self.template.stop, self.tokenizer.eos_token or "", *OTHER_STOPS)
        ids = [self.codec.control_id(name) for name in names]
        if ids[0] is None:
            raise UsageError(f"{self.codec.name}: has no token {self.template.stop!r} to stop on")
        return tuple(dict.fromkeys(id for id in ids if id is not None))

    def _compile(self, form: str) -> Iterator[Segment | Chunk]:
        """A form as the ids of its control tokens, and the texts between them with their slots."""
        later = form in (self.template.later, self.template.later_with_input)
        prefixed = not later or self.codec.prefix_after_control
        pieces: tuple[str, ...] = ()
        for atom in self._split(form, self.template.stop if later else ""):
            if isinstance(atom, str):
                pieces += (atom,)
                continue
            if pieces:
                yield self._chunk(pieces, prefixed)
            yield Segment("", False, ids=[atom.id])
            pieces, prefixed = (), self.codec.prefix_after_control
        if pieces:
            yield self._chunk(pieces, prefixed)

    def _chunk(self, pieces: tuple[str, ...], prefixed: bool) -> Segment | Chunk:
        """Text between two control tokens; encoded here, once, where it has no slot."""
        slots = [SLOT.fullmatch(piece) for piece in pieces]
        if any(slots):
            texts = (f"%({slot[1]})s" if slot else p.replace("%", "%%") for slot, p in zip(slots, pieces, strict=True))
            return Chunk("".join(texts), prefixed)
        return Segment("", prefixed, ids=self.codec.encode(["".join(pieces)], prefixed)[0])

    def _split(self, form: str, before: str) -> list[Control | str]:
        """Control tokens, words and slots of a form; a stop `before` it may swallow the white space it begins with."""
        atoms: list[Control | str] = []
        for piece in re.split(rf"({SLOT.pattern.replace('(', '(?:')})", before + form):
            atoms += [piece] if SLOT.fullmatch(piece) else self.codec.split(piece)
        return atoms[1:] if before else atoms


def _forms(template: Template) -> list[str]:
    forms = (template.first, template.later, template.first_with_input, template.later_with_input)
    return [form for form in (*forms, template.first_with_system) if form]


def _resolve(template: Template, tokenizer: Any, codec: Codec) -> Template:
    """The template with its stop and BOS as this tokenizer has them. Raises UsageError where it lacks a token."""
    missing = [name for name in CONTROL_LOOK.findall("".join(_forms(template))) if name not in codec.controls]
    if missing and template.name != "chat":
        names = ", ".join(dict.fromkeys(missing))
        raise UsageError(
            f"{codec.name}: has no token {names}, which template '{template.name}' needs; use chat or alpaca"
        )
    stop = template.stop or tokenizer.eos_token
    if not stop:
        raise UsageError(f"{codec.name}: has no end-of-sequence token, so template '{template.name}' could not stop")
    return replace(template, stop=stop, bos=family_bos(tokenizer) if template.bos is None else template.bos)
