"""A conversation: text in, pieces of text out as they are written. Knows nothing of a terminal.

    session = ChatSession(Engine(network, renderer.stop_ids), renderer, Sampling(temperature=0.7))
    for piece in session.send("Name a colour."):
        print(piece, end="")

Each turn is rendered anew with all turns before it; where they no longer fit the model's context, without the oldest.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

from pacos.data.records import Message
from pacos.errors import UsageError
from pacos.inference.engine import Engine
from pacos.inference.sampling import Sampling
from pacos.prompts import Renderer, StreamDecoder


class ChatSession:
    """One conversation with one model. `system` empty takes the renderer's own."""

    def __init__(self, engine: Engine, renderer: Renderer, sampling: Sampling, system: str = ""):
        self.engine, self.renderer, self.sampling, self.system = engine, renderer, sampling, system
        self.history: list[Message] = []
        self.turns_left_out = 0
        """Turns at the front of the history that the latest prompt had no room for."""

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
        ids = self.engine.stream(self._prompt(user), self.sampling)
        return self._answer(user, ids)

    def _answer(self, user: Message, ids: Generator[int, None, None]) -> Generator[str, None, None]:
        decoder, said = StreamDecoder(self.renderer), ""
        try:
            # closed here and now when the answer is stopped, so the engine has its cache back for the next one
            with closing(ids):
                for id in ids:
                    said += (piece := decoder.push(id))
                    if piece:
                        yield piece
            said += (piece := decoder.flush())
            if piece:
                yield piece
        finally:
            if said:
                self.history += [user, Message("assistant", said)]

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
