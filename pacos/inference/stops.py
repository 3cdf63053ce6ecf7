"""Texts that end an answer. They are looked for in the text, since a stop may begin and end within tokens.

    stops = StopTexts(renderer, ("\\n###", "User:"))
    completion = engine.generate([prompt], sampling, stops=stops)[0]     finish_reason "stop", stop_text "\\n###"
    text = stops.cut(renderer.decode(completion.ids))                    what comes before it

`completion.ids` are all that were written, the stop's own among them.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence

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

    def _first(self, text: str) -> str | None:
        found = [stop for stop in self.texts if stop in text]
        return min(found, key=text.index, default=None)
