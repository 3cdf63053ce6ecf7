"""A teacher on this machine: whoever has a model hands over `complete(texts, numbers) -> answers`.

It runs in a thread of its own, so that other teachers are asked meanwhile; the thread does not keep the process alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

from pacos.self_instruct.answers import Answer, Failure
from pacos.self_instruct.budget import Price
from pacos.self_instruct.requests import Request

Complete = Callable[[Sequence[str], Sequence[int]], list[Answer]]
"""Texts of user messages and the numbers of their requests (a seed for each) -> an answer to each."""


class Local:
    """`batch` requests are answered at once, and cost nothing."""

    lanes = 1
    price = Price()

    def __init__(self, name: str, complete: Complete, *, batch: int, max_tokens: int):
        self.name, self.complete, self.batch, self.max_tokens = name, complete, batch, max_tokens

    async def ask(self, requests: Sequence[Request]) -> list[Answer | Failure]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[Answer]] = loop.create_future()

        def work() -> None:
            try:
                answers = self.complete([request.text for request in requests], [r.number for r in requests])
            except BaseException as error:
                _call(loop, done, done.set_exception, error)
            else:
                _call(loop, done, done.set_result, answers)

        threading.Thread(target=work, daemon=True).start()
        return list(await done)

    async def close(self) -> None:
        """Nothing is open."""


def _call(
    loop: asyncio.AbstractEventLoop, done: asyncio.Future[Any], function: Callable[[Any], None], value: Any
) -> None:
    """Settle a future from another thread; a loop that was closed meanwhile needs to know no more."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(lambda: None if done.done() else function(value))
