"""Answers as they are written: token ids in, whole characters out, in all the same text as `Renderer.decode`."""

from __future__ import annotations

import codecs

from pacos.prompts.render import Renderer


class StreamDecoder:
    """`push` each id of an answer, then `flush`: the pieces joined are `renderer.decode(ids)`."""

    def __init__(self, renderer: Renderer):
        self._renderer = renderer
        self._before, self._after = renderer.around_answer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def push(self, id: int) -> str:
        """The text that is certain now; a character comes out with its last byte."""
        self._held += self._utf8.decode(self._renderer.answer_bytes(id))
        if self._before.startswith(self._held) and len(self._held) < len(self._before):
            return ""  # may yet be the template's text before the answer
        self._take_off_before()
        return self._give(max(0, len(self._held) - len(self._after)))

    def flush(self) -> str:
        """What was held back; call it once, behind the last id."""
        self._held += self._utf8.decode(b"", final=True)
        self._take_off_before()
        self._held = self._held.removesuffix(self._after)
        return self._give(len(self._held))

    def _take_off_before(self) -> None:
        self._held = self._held.removeprefix(self._before)
        self._before = ""

    def _give(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return text
