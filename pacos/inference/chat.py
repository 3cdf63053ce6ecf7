"""A conversation: text in, pieces of text out as they are written. Knows nothing of a terminal.

    session = ChatSession(Engine(network, renderer.stop_ids), renderer, Sampling(temperature=0.7))
    for piece in session.send("Name a colour."):
        print(piece, end="")

Each turn is rendered anew with all turns before it; where they no longer fit the model's context, without the oldest.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing

from pacos.data.records import Message
from pacos.errors import UsageError
from pacos.inference.engine import Engine
from pacos.inference.sampling import Sampling
from pacos.inference.stops import StopTexts
from pacos.prompts import Renderer, StreamDecoder


class ChatSession:
    """One conversation. `system` empty takes the renderer's own; an answer ends before any text of `stop`.

    Raises UsageError for an empty text.
    """

    def __init__(
        self, engine: Engine, renderer: Renderer, sampling: Sampling, system: str = "", stop: Sequence[str] = ()
    ):
        self.sampling, self.system, self._stop = sampling, system, tuple(stop)
        self.use(engine, renderer)
        self.history: list[Message] = []
        self.turns_left_out = 0
        """Turns at the front of the history that the latest prompt had no room for."""

    def use(self, engine: Engine, renderer: Renderer, adapter: str | None = None) -> None:
        """Who answers from the next turn on: an engine, and which of its adapters. What was said stays."""
        self.engine, self.renderer, self.adapter = engine, renderer, adapter
        self._stops = StopTexts(renderer, self._stop)

    def reset(self) -> None:
        """Forget what was said; the system message stays."""
        self.history, self.turns_left_out = [], 0

    def set_system(self, text: str) -> None:
        """Use another system message from the next turn on."""
        self.system = text

    def send(self, text: str) -> Generator[str, None, None]:
        """The answer to `text` in pieces. Stopped early, what was written so far stays in the conversation.

        Raises UsageError where `text` alone is longer than the model's context; the conversation is then as before.
        """
        user = Message("user", text)
        ids = self.engine.stream(self._prompt(user), self.sampling, adapter=self.adapter, stops=self._stops)
        return self._answer(user, ids)

    def _answer(self, user: Message, ids: Generator[int, None, None]) -> Generator[str, None, None]:
        said = ""
        try:
            # closed here and now when the answer is stopped, so the engine has its cache back for the next one
            with closing(ids), closing(self._pieces(ids)) as pieces:
                for piece in pieces:
                    said += piece
                    yield piece
        finally:
            if said:
                self.history += [user, Message("assistant", said)]

    def _pieces(self, ids: Generator[int, None, None]) -> Generator[str, None, None]:
        """The text of an answer, as soon as it is certain."""
        decoder, cutter = StreamDecoder(self.renderer), self._stops.cutter()
        for id in ids:
            if piece := cutter.push(decoder.push(id)):
                yield piece
        if piece := cutter.push(decoder.flush()) + cutter.flush():
            yield piece

    def _prompt(self, user: Message) -> tuple[int, ...]:
        """The conversation's ids with as many of the latest turns as leave room for an answer."""
        limit = self.engine.max_length
        room = limit - min(self.sampling.max_new_tokens, limit // 2)
        system = [Message("system", self.system)] if self.system else []
        for left_out in range(self.turns_left_out, len(self.history) // 2 + 1):
            prompt = self.renderer.render_chat([*system, *self.history[2 * left_out :], user])
            if len(prompt) <= room:
                break
        if len(prompt) >= limit:
            raise UsageError(f"the message takes {len(prompt)} tokens, this model reads fewer than {limit}; shorten it")
        self.turns_left_out = left_out
        return prompt
