"""Requests as files in OpenAI's batch format, for servers that answer overnight at half the price (vLLM reads them too).

    write_batch ->  {"custom_id": "5f0c-15", "method": "POST", "url": "/v1/chat/completions", "body": {...}}
    read_batch  <-  {"custom_id": "5f0c-15", "response": {"status_code": 200, "body": {...}}, "error": null}

What is out in a file is written down like any attempt: its worst case is set aside, and nobody asks it meanwhile. The
answers may come back in any order, in several files, and be read twice without harm.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from pacos.data import write_whole
from pacos.errors import DataError, UsageError
from pacos.self_instruct.answers import Answer, Failure
from pacos.self_instruct.books import Books
from pacos.self_instruct.budget import Price
from pacos.self_instruct.endpoint import PATHS, Endpoint, body_of
from pacos.self_instruct.requests import Request, Requests
from pacos.self_instruct.responses import read_body, read_response


def write_batch(path: Path, waiting: Iterable[Request], number: int, books: Books, teacher: Endpoint) -> int:
    """Up to `number` of the waiting requests, as far as the budget reaches; how many they are."""
    if path.exists():
        raise UsageError(f"{path}: exists, and nothing is overwritten; give another name")
    lines, run = [], books.log.history.run
    name, prices = f"{teacher.model} (batch)", [teacher.price.read, teacher.price.written]
    for request in islice(waiting, number):
        sent = books.send(request, name, teacher.price, teacher.max_tokens, batch=True, prices=prices)
        if sent is None:
            break
        line = {"custom_id": f"{run}-{sent.attempt}", "method": "POST", "url": f"/v1{PATHS[teacher.api]}"}
        lines.append(json.dumps({**line, "body": body_of(teacher.api, teacher.model, request.text, teacher.drawing)}))
    if lines:
        write_whole(path, "".join(f"{line}\n" for line in lines))
    return len(lines)


def read_batch(paths: Iterable[Path], requests: Requests, books: Books) -> Counter[str]:
    """Settle what came back: how many lines were `answered`, `failed`, read `before`. Raises DataError, UsageError."""
    counts: Counter[str] = Counter()
    open_attempts = books.log.history.open
    for line in [line for path in paths for line in _lines(path, books.log.history.run)]:
        record = open_attempts.pop(line["attempt"], None)
        if record is None:
            counts["before"] += 1
            continue
        sent = books.reopened(record, requests.request(record["request"]), Price(*record.get("prices", ())))
        outcome = _outcome(line["value"])
        if isinstance(outcome, Answer):
            books.answered(sent, outcome)
        else:
            books.failed(sent, outcome)
        counts["answered" if isinstance(outcome, Answer) else "failed"] += 1
    return counts


def _lines(path: Path, run: str) -> Iterable[dict[str, Any]]:
    """{"attempt", "value"} of every line. All of a file is checked before any of it counts."""
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    lines, problems = [], []
    for number, text in enumerate(texts, 1):
        try:
            value = json.loads(text) if text.strip() else None
            if value is not None and "response" not in value and "error" not in value:
                raise ValueError("a request; give the file that the server wrote")
            if value is not None:
                lines.append({"attempt": _attempt(str(value["custom_id"]), run), "value": value})
        except (ValueError, KeyError, TypeError) as error:
            problems.append(f"{path}:{number}: not a result of this run's batch ({type(error).__name__}: {error})")
    if problems:
        raise DataError(f"{path}: {len(problems)} lines cannot be used; give the file as the server wrote it", problems)
    return lines


def _attempt(custom_id: str, run: str) -> int:
    of_run, _, attempt = custom_id.rpartition("-")
    if of_run != run:
        raise ValueError(f"custom_id '{custom_id}' is of another run; this log's begin with '{run}-'")
    return int(attempt)


def _outcome(value: dict[str, Any]) -> Answer | Failure:
    """What a result line says: an answer, a refusal, or that it was never asked (expired)."""
    response = value.get("response")
    if not isinstance(response, dict):
        return Failure(f"not answered: {json.dumps(value.get('error'))[:300]}", "nothing")
    status, body = response.get("status_code", 200), response.get("body")
    if status in (200, "200"):
        return read_body(body, 0.0)
    code = int(status) if str(status).isdecimal() else 500
    return read_response(code, json.dumps(body).encode(), {}, 0.0)
