"""What a server's response says: an answer, or what is wrong and what that may have cost.

Nothing that a server sends raises. What it says of itself is told in one line, without what a terminal would act on.
"""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Mapping
from typing import Any

from pacos.self_instruct.answers import Answer, Failure

AGAIN = (408, 409, 425, 429)
FATAL = (401, 403, 404, 405)
LONGEST_WORD = 300
"""Characters of a server's message that are told."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


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
    """The outcome in the JSON of a completion, chat or plain."""
    try:
        choice = body["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        finish = str(choice.get("finish_reason") or "stop")
        if text is not None and not isinstance(text, str):
            raise TypeError
    except (KeyError, IndexError, TypeError, AttributeError):
        return Failure(f"no completion in the answer: {_words(json.dumps(body).encode())}", "worst", seconds)
    usage = body.get("usage")
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(usage, dict) else []
    known = len(counts) == 2 and all(isinstance(n, int) and not isinstance(n, bool) for n in counts)
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
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return " ".join(_CONTROL.sub(" ", text).split())[:LONGEST_WORD] or "nothing"


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
