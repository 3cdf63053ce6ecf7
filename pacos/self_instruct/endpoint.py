"""A teacher behind an OpenAI-compatible API: POST {url}/chat/completions (vLLM, llama-server, Ollama, OpenAI, ...).

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
import email.utils
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from pacos.self_instruct.answers import Answer, Failure
from pacos.self_instruct.budget import Price
from pacos.self_instruct.requests import Request

AGAIN = (408, 409, 425, 429)
FATAL = (401, 403, 404, 405)
CONNECT_SECONDS = 10.0
LONGEST_WORD = 300
"""Characters of a server's message that are told."""


@dataclass(frozen=True)
class Drawing:
    """How answers are drawn."""

    max_tokens: int
    temperature: float
    top_p: float


def chat_body(model: str, text: str, drawing: Drawing, limit: str = "max_tokens") -> dict[str, Any]:
    """The JSON of a chat completion: one user message."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": text}],
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
    ):
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
        body = chat_body(self.model, text, self.drawing, self._limit)
        try:
            # Time-outs of the client are between bytes; this one is for the whole, however slowly it drips.
            async with asyncio.timeout(self.timeout_seconds):
                response = await self._open().post(f"{self.url}/chat/completions", json=body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            return self._failure(f"cannot connect: {error or type(error).__name__}", "nothing", began)
        except (TimeoutError, httpx2.TimeoutException):
            return self._failure(f"no answer within {self.timeout_seconds:g} s", "worst", began)
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            return self._failure(f"cut off: {error or type(error).__name__}", "worst", began)
        except (httpx2.InvalidURL, UnicodeError) as error:
            return self._failure(f"{self.url}: not an address: {error}", "nothing", began, again=False, fatal=True)
        return self._read(response, time.monotonic() - began)

    def _read(self, response: httpx2.Response, seconds: float) -> Answer | Failure:
        outcome = read_response(response.status_code, response.content, response.headers, seconds)
        if not isinstance(outcome, Failure):
            return outcome
        if response.status_code == 400 and "max_completion_tokens" in outcome.why and self._limit == "max_tokens":
            self._limit = "max_completion_tokens"  # newer models of OpenAI know the limit by this name only
            return Failure("asks for max_completion_tokens", "request", seconds)
        return Failure(self._told(outcome.why), outcome.charge, seconds, outcome.again, outcome.fatal, outcome.wait)

    def _failure(self, why: str, charge: Any, began: float, *, again: bool = True, fatal: bool = False) -> Failure:
        return Failure(self._told(why), charge, time.monotonic() - began, again, fatal)

    def _told(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def read_response(status: int, content: bytes, headers: Mapping[str, str], seconds: float) -> Answer | Failure:
    """The outcome of a response: an answer, or what the server says is wrong."""
    if status != 200:
        return _refusal(status, content, headers, seconds)
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return Failure(f"the answer is not JSON: {_words(content)}", "worst", seconds)
    return read_body(body, seconds)


def read_body(body: Any, seconds: float) -> Answer | Failure:
    """The outcome in a chat completion's JSON."""
    try:
        choice = body["choices"][0]
        text, finish = choice["message"]["content"], str(choice.get("finish_reason") or "stop")
        if text is not None and not isinstance(text, str):
            raise TypeError
    except (KeyError, IndexError, TypeError, AttributeError):
        return Failure(f"no completion in the answer: {json.dumps(body)[:LONGEST_WORD]}", "worst", seconds)
    usage = body.get("usage")
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(usage, dict) else []
    known = len(counts) == 2 and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts)
    return Answer(text or "", finish, seconds, *(counts if known else (None, None)))


def _refusal(status: int, content: bytes, headers: Mapping[str, str], seconds: float) -> Failure:
    why = f"HTTP {status}: {_words(content)}"
    if status < 400 or status in FATAL or "insufficient_quota" in why:
        return Failure(why, "request", seconds, again=False, fatal=True)
    again = status in AGAIN or status >= 500
    return Failure(why, "request", seconds, again, wait=retry_after(headers.get("retry-after", "")))


def _words(content: bytes) -> str:
    """What a server says, in one line: the message of an OpenAI error, or the beginning of whatever it is."""
    text = content.decode("utf-8", "replace")
    try:
        error = json.loads(text)["error"]
        text = " ".join(str(error[key]) for key in ("code", "message") if error.get(key)) or text
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    return " ".join(text.split())[:LONGEST_WORD] or "nothing"


def retry_after(value: str, now: float | None = None) -> float:
    """Seconds from a Retry-After header: a number, or an HTTP date. 0 where there is none, or it cannot be read."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        at = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError):
        return 0.0
    return max(0.0, at - (time.time() if now is None else now))
