"""What may be spent, and is never exceeded: in requests, tokens and dollars.

    reserve(worst case) --sent--> settle(what it was)        a request that would not fit at its worst is not sent

The worst case of a request is every byte of its text a token (no byte-level tokenizer makes more), what a server may
wrap around it, and an answer of full length. What an answer did cost is the server's own count; where the server does
not tell (time-out, cut off, no `usage`), or tells what cannot be, the worst case stands. A server that counts more than
the worst case (a long system prompt, thoughts that are not shown) is reckoned with by that much from then on.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeGuard

OVERHEAD = 64
"""Tokens that a chat template adds."""
MOST_BYTES = 32
"""Bytes of text to a token, on average; a server that counts fewer tokens than that makes is not believed."""
MOST_TOKENS = 10**9
"""Tokens of one request; a server that counts more is not believed either."""


@dataclass(frozen=True)
class Spent:
    """Requests, tokens (prompt and answer together) and dollars."""

    requests: int = 0
    tokens: int = 0
    dollars: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.requests + other.requests, self.tokens + other.tokens, self.dollars + other.dollars)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.requests - other.requests, self.tokens - other.tokens, self.dollars - other.dollars)


@dataclass(frozen=True)
class Limits:
    """The budget; None is no limit."""

    requests: int | None = None
    tokens: int | None = None
    dollars: float | None = None


@dataclass(frozen=True)
class Price:
    """Dollars for a million tokens that are read, and that are written."""

    read: float = 0.0
    written: float = 0.0

    def cost(self, prompt_tokens: int, completion_tokens: int) -> Spent:
        """One request with these tokens."""
        dollars = (prompt_tokens * self.read + completion_tokens * self.written) / 1e6
        return Spent(1, prompt_tokens + completion_tokens, dollars)


def plausible(tokens: int | None, text: str) -> TypeGuard[int]:
    """Whether a server's count of the tokens in a text can be."""
    return tokens is not None and len(text.encode("utf-8", "replace")) / MOST_BYTES <= tokens <= MOST_TOKENS


class Budget:
    """`spent` is what is certain, `reserved` what the requests under way may come to."""

    def __init__(self, limits: Limits, spent: Spent | None = None):
        self.limits, self.spent, self.reserved = limits, spent or Spent(), Spent()
        self.excess: dict[str, int] = {}
        """Tokens by which a teacher passed its worst case."""

    def worst(self, text: str, max_tokens: int, price: Price, teacher: str = "") -> Spent:
        """The most that a request with this text can cost."""
        usual = price.cost(len(text.encode("utf-8", "replace")) + OVERHEAD, max_tokens)
        excess = self.excess.get(teacher, 0)
        return usual + Spent(0, excess, excess * max(price.read, price.written) / 1e6)

    def learn(self, teacher: str, tokens: int, worst: Spent) -> None:
        """Of a request that might cost `worst`, the tokens it did cost."""
        self.excess[teacher] = self.excess.get(teacher, 0) + max(0, tokens - worst.tokens)

    def exceeded_by(self, worst: Spent) -> str:
        """The first limit that `worst` on top of everything would pass: requests, tokens or dollars; else empty."""
        return self._passed(self.spent + self.reserved + worst)

    def hopeless(self, worst: Spent) -> bool:
        """Whether `worst` will not fit whatever the requests under way come to."""
        return bool(self._passed(self.spent + worst))

    def _passed(self, total: Spent) -> str:
        limits = ((f.name, getattr(self.limits, f.name)) for f in fields(Limits))
        return next((name for name, limit in limits if limit is not None and getattr(total, name) > limit), "")

    def reserve(self, worst: Spent) -> bool:
        """Set `worst` aside; False, and nothing set aside, where it does not fit."""
        if self.exceeded_by(worst):
            return False
        self.reserved += worst
        return True

    def settle(self, worst: Spent, actual: Spent) -> None:
        self.reserved -= worst
        self.spent += actual
