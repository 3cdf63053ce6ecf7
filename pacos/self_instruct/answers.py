"""What comes back from a teacher: an answer, or why there is none and what that may have cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pacos.self_instruct.budget import Price
from pacos.self_instruct.requests import Request

Charge = Literal["nothing", "request", "worst"]
"""Nothing was sent; a request without tokens; or unknown, so all that was reserved."""


@dataclass(frozen=True)
class Answer:
    """`finish` as the server says it: stop, length (cut at the token limit). Token counts are None where it does not."""

    text: str
    finish: str
    seconds: float
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True)
class Failure:
    """No answer. `again`: worth another try. `fatal`: this teacher will answer none. `wait` seconds, as the server asks."""

    why: str
    charge: Charge
    seconds: float = 0.0
    again: bool = True
    fatal: bool = False
    wait: float = 0.0


class Teacher(Protocol):
    """Who answers. `lanes` asks run at once, each of up to `batch` requests; answers have at most `max_tokens`."""

    name: str
    price: Price
    lanes: int
    batch: int
    max_tokens: int

    async def ask(self, requests: Sequence[Request]) -> list[Answer | Failure]:
        """An outcome for each request, in their order. Raises nothing that a network or a server can cause."""
        ...

    async def close(self) -> None: ...
