"""Texts that end an answer. They are looked for in the text, since a stop may begin and end within tokens.

    stops = StopTexts(renderer, ("\\n###", "User:"))
    completion = engine.generate([prompt], sampling, stops=stops)[0]     finish_reason "stop", stop_text "\\n###"
    text = stops.cut(renderer.decode(completion.ids))                    what comes before it

`completion.ids` are all that were written, the stop's own among them. As pieces of text come, a `Cutter` gives out what
cannot be part of a stop, and nothing behind the first.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Any

from pacos.errors import UsageError
from pacos.prompts import Renderer

Watch = Callable[[int], str | None]
"""Called with each id of one answer; gives the text that ends it, once that is complete."""


class StopTexts:
    """An answer ends where any of `texts` does, and what comes before is the answer. Raises UsageError for an empty one."""

    def __init__(self, renderer: Renderer, texts: Sequence[str]):
        if not all(texts):
            raise UsageError("stop: a text is empty; give at least one character")
        self._renderer, self.texts = renderer, tuple(texts)

    def watch(self) -> Watch:
        """A new answer's watch."""
        utf8, longest, tail = codecs.getincrementaldecoder("utf-8")("replace"), max(map(len, self.texts), default=1), ""

        def push(id: int) -> str | None:
            nonlocal tail
            tail += utf8.decode(self._renderer.answer_bytes(id))
            found = self._first(tail)
            tail = tail[-(longest - 1) :] if longest > 1 else ""
            return found

        return push

    def cut(self, text: str) -> str:
        """The text before the first of the stops."""
        found = self._first(text)
        return text if found is None else text[: text.index(found)]

    def cutter(self) -> Cutter:
        """A new answer's cutter."""
        return Cutter(self.texts)

    def _first(self, text: str) -> str | None:
        found = [stop for stop in self.texts if stop in text]
        return min(found, key=text.index, default=None)


class CutRenderer:
    """A renderer whose answers end before the first of the stops, and which is otherwise as it was."""

    def __init__(self, renderer: Renderer, stops: StopTexts):
        self._renderer, self._stops = renderer, stops

    def __getattr__(self, name: str) -> Any:
        return getattr(self._renderer, name)

    def decode(self, ids: Sequence[int]) -> str:
        return self._stops.cut(self._renderer.decode(ids))


class Cutter:
    """`push` each piece of an answer's text, then `flush`: the pieces given out, joined, are `StopTexts.cut` of the whole."""

    def __init__(self, texts: Sequence[str]):
        self._texts, self._held, self._ended = texts, "", False

    def push(self, piece: str) -> str:
        if self._ended:
            return ""
        self._held += piece
        found = [at for text in self._texts if (at := self._held.find(text)) >= 0]
        self._ended = bool(found)
        return self._give(min(found) if found else len(self._held) - self._doubtful())

    def flush(self) -> str:
        return "" if self._ended else self._give(len(self._held))

    def _doubtful(self) -> int:
        """Characters at the end of what is held that a stop may begin with."""
        longest = min(max(map(len, self._texts), default=1) - 1, len(self._held))
        ends = (n for n in range(longest, 0, -1) if any(text.startswith(self._held[-n:]) for text in self._texts))
        return next(ends, 0)

    def _give(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return text
