"""A teacher behind an OpenAI-compatible API: POST {url}/chat/completions (vLLM, llama-server, Ollama, OpenAI, ...).

With `api` "completions" it is POST {url}/completions, and the model goes on writing the request: for base models.

Each way of failing is told apart by what it may have cost, and by whether another try can help:

    cannot connect                   nothing was sent                        again
    429, 5xx, 408, 409, 425          a request, no tokens                    again, after Retry-After where given
    time-out, cut off, not JSON      unknown: the worst case                 again
    3xx, 401, 403, 404, 405, quota   a request                               this teacher is given up
    other 4xx                        a request                               this request is left out

The key is read from the environment by the caller, goes into one header, and is struck out of everything that is told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import httpx2

from pacos.self_instruct.answers import Answer, Failure
from pacos.self_instruct.budget import Price
from pacos.self_instruct.requests import Request
from pacos.self_instruct.responses import read_response

Api = Literal["chat", "completions"]
PATHS: Mapping[Api, str] = {"chat": "/chat/completions", "completions": "/completions"}
CONNECT_SECONDS = 10.0
LONGEST_ANSWER = 1 << 24
"""Bytes of a response that are read."""


@dataclass(frozen=True)
class Drawing:
    """How answers are drawn."""

    max_tokens: int
    temperature: float
    top_p: float


def body_of(api: Api, model: str, text: str, drawing: Drawing, limit: str = "max_tokens") -> dict[str, Any]:
    """The JSON of a request: one user message, or with "completions" a text to go on from."""
    asked = {"prompt": text} if api == "completions" else {"messages": [{"role": "user", "content": text}]}
    return {
        "model": model,
        **asked,
        limit: drawing.max_tokens,
        "temperature": drawing.temperature,
        "top_p": drawing.top_p,
    }


class Endpoint:
    """One model at one URL. `key` may be empty, for servers that ask for none."""

    batch = 1

    def __init__(
        self,
        model: str,
        url: str,
        drawing: Drawing,
        *,
        key: str = "",
        price: Price = Price(),
        in_flight: int = 8,
        timeout_seconds: float = 120.0,
        api: Api = "chat",
    ):
        self.api = api
        self.model, self.url, self.drawing, self.price = model, url.rstrip("/"), drawing, price
        self.name, self.lanes, self.max_tokens = f"{model}@{self.url}", in_flight, drawing.max_tokens
        self.timeout_seconds, self._key = timeout_seconds, key
        self._limit = "max_tokens"
        self._client: httpx2.AsyncClient | None = None

    async def ask(self, requests: Sequence[Request]) -> list[Answer | Failure]:
        (request,) = requests
        return [await self._post(request.text)]

    def named(self, model: str) -> Endpoint:
        """The same endpoint for another of its models."""
        settings = {
            "key": self._key,
            "price": self.price,
            "in_flight": self.lanes,
            "timeout_seconds": self.timeout_seconds,
            "api": self.api,
        }
        return Endpoint(model, self.url, self.drawing, **settings)  # type: ignore[arg-type]

    async def models(self) -> list[str]:
        """What the server says that it serves. Raises OSError where it does not say."""
        try:
            response = await self._open().get(f"{self.url}/models")
            return [str(each["id"]) for each in response.json()["data"]]
        except (httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
            raise OSError(self._told(f"{self.url}/models: {error or type(error).__name__}")) from None

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _open(self) -> httpx2.AsyncClient:
        if self._client is None:
            headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
            limits = httpx2.Limits(max_connections=self.lanes, max_keepalive_connections=self.lanes)
            timeout = httpx2.Timeout(self.timeout_seconds, connect=min(CONNECT_SECONDS, self.timeout_seconds))
            self._client = httpx2.AsyncClient(headers=headers, limits=limits, timeout=timeout)
        return self._client

    async def _post(self, text: str) -> Answer | Failure:
        began = time.monotonic()
        try:
            # Time-outs of the client are between bytes; this one is for the whole, however slowly it drips.
            async with asyncio.timeout(self.timeout_seconds):
                status, content, headers = await self._exchange(text)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            return self._failure(f"cannot connect: {error or type(error).__name__}", "nothing", began)
        except (TimeoutError, httpx2.TimeoutException):
            return self._failure(f"no answer within {self.timeout_seconds:g} s", "worst", began)
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            return self._failure(f"cut off: {error or type(error).__name__}", "worst", began)
        except httpx2.InvalidURL as error:
            return self._failure(f"{self.url}: not an address: {error}", "nothing", began, again=False, fatal=True)
        if len(content) > LONGEST_ANSWER:
            return self._failure(f"an answer of over {LONGEST_ANSWER >> 20} MiB", "worst", began)
        return self._read(status, content, headers, time.monotonic() - began)

    async def _exchange(self, text: str) -> tuple[int, bytes, Mapping[str, str]]:
        """Status, body and headers; of an endless body the beginning."""
        content, body = bytearray(), body_of(self.api, self.model, text, self.drawing, self._limit)
        async with self._open().stream("POST", self.url + PATHS[self.api], json=body) as response:
            async for piece in response.aiter_bytes():
                content += piece
                if len(content) > LONGEST_ANSWER:
                    break
        return response.status_code, bytes(content), response.headers

    def _read(self, status: int, content: bytes, headers: Mapping[str, str], seconds: float) -> Answer | Failure:
        outcome = read_response(status, content, headers, seconds)
        if not isinstance(outcome, Failure):
            return outcome
        if status == 400 and "max_completion_tokens" in outcome.why and self._limit == "max_tokens":
            self._limit = "max_completion_tokens"  # newer models of OpenAI know the limit by this name only
            return Failure("asks for max_completion_tokens", "request", seconds)
        return Failure(self._told(outcome.why), outcome.charge, seconds, outcome.again, outcome.fatal, outcome.wait)

    def _failure(self, why: str, charge: Any, began: float, *, again: bool = True, fatal: bool = False) -> Failure:
        return Failure(self._told(why), charge, time.monotonic() - began, again, fatal)

    def _told(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text
