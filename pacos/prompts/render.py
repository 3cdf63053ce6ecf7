"""Example -> token ids and loss mask; conversation -> prompt ids. The only place where text becomes tokens.

    <|user|> \n Name a colour. <|end|> \n <|assistant|> \n | Blue. <|end|>
    prompt: the template's words and the user's text         answer: carries the loss, and so does its stop token

Everything between two control tokens is encoded at once, as the tokenizer itself would; but an answer is encoded on its
own, so the ids of a prompt are the beginning of the ids of its row by construction, in training and in serving.
Text is encoded without control tokens (tokens.py). The mask goes by position, never by token value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from pacos.data.records import Example, Message
from pacos.errors import DataError, UsageError
from pacos.prompts.chat_template import analyse_chat_template, family_bos
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


@dataclass(frozen=True, slots=True)
class Rendered:
    """Token ids of a row, and which of them carry loss: the answers and the stop token behind each."""

    ids: tuple[int, ...]
    loss_mask: tuple[bool, ...]
    cut: int = 0
    """Tokens removed from the end to keep within max_length; the stop token is still last."""
    fits: bool = True
    """False where max_length leaves no room for a token of the answer and its stop; ids are then whole."""


class Segment(NamedTuple):
    """A stretch of a row: token ids where they are known, else text to encode."""

    text: str
    prefixed: bool
    """Encoded as at a start, where SentencePiece puts a space."""
    loss: bool = False
    ids: list[int] | None = None


class Chunk(NamedTuple):
    """Text of a form between two control tokens: words and slots ("{user}") by turns, encoded at once."""

    pieces: tuple[str, ...]
    prefixed: bool


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
        rows: list[Rendered] = []
        for start in range(0, len(examples), ROWS_AT_ONCE):
            plans = [self._plan(self._conversation(example)) for example in examples[start : start + ROWS_AT_ONCE]]
            rows += [_cut(*_join(segments, ids), max_length) for segments, ids in self._encode(plans)]
        return rows

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
        return conversation if conversation.system else replace(conversation, system=self.system)

    def _prompts(self, conversations: Sequence[Conversation]) -> list[tuple[int, ...]]:
        plans = [self._plan(conversation) for conversation in conversations]
        return [_join(segments, ids)[0] for segments, ids in self._encode(plans)]

    def _plan(self, conversation: Conversation) -> list[Segment]:
        """The conversation as segments in order, answers apart from what precedes them."""
        bos = self.codec.control_id(self.template.bos or "")
        segments = [] if bos is None else [Segment("", False, ids=[bos])]
        for form, values, answer in fill(self.template, conversation):
            for part in self._parts[form]:
                segments.append(_fill_chunk(part, values) if isinstance(part, Chunk) else part)
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
        if any(map(SLOT.fullmatch, pieces)):
            return Chunk(pieces, prefixed)
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


def _fill_chunk(chunk: Chunk, values: dict[str, str]) -> Segment:
    """Its slots filled: the text in them stays text, whatever it says."""
    slots = (SLOT.fullmatch(piece) for piece in chunk.pieces)
    texts = [values[slot[1]] if slot else piece for slot, piece in zip(slots, chunk.pieces, strict=True)]
    return Segment("".join(texts), chunk.prefixed)


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


def _join(segments: Sequence[Segment], ids: Sequence[list[int]]) -> tuple[tuple[int, ...], tuple[bool, ...], list[int]]:
    """Ids and mask of a row, and where each answer ends, its stop included."""
    joined: list[int] = []
    mask: list[bool] = []
    ends: list[int] = []
    for segment, part in zip(segments, ids, strict=True):
        joined += part
        mask += [segment.loss] * len(part)
        if segment.loss and segment.ids:
            ends.append(len(joined))
    return tuple(joined), tuple(mask), ends


def _cut(ids: tuple[int, ...], mask: tuple[bool, ...], ends: list[int], max_length: int | None) -> Rendered:
    """The row within max_length: later turns that have no room go, the last answer left is cut, its stop is kept."""
    if max_length is None or len(ids) <= max_length:
        return Rendered(ids, mask)
    for end in reversed(ends):
        if end <= max_length:
            return Rendered(ids[:end], mask[:end], cut=len(ids) - end)
        # ids[max_length - 2] in the answer: at least one token of it stays before the stop
        if max_length >= 2 and all(mask[max_length - 2 : end]):
            kept = (*ids[: max_length - 1], ids[end - 1])
            return Rendered(kept, (*mask[: max_length - 1], True), cut=len(ids) - max_length)
    return Rendered(ids, mask, cut=len(ids) - max_length, fits=False)
