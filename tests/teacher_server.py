"""A teacher on localhost: an OpenAI-compatible server that writes plausible tasks from a grammar, or fails as told.

with serve_teacher(["ok", "429", "cut"]) as teacher:      teacher.url, teacher.billed; its behaviours take turns

It bills like a provider: what it began to write is counted, whether it arrives or not.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = """
Explain Compare Summarise Invent Describe Classify Rewrite Translate Calculate Plan Outline Defend Correct Rank Label
tide harvest violin ledger glacier recipe treaty circuit sonnet bridge orchard vaccine comet loom lighthouse
ancient broken silent borrowed frozen crooked golden urban hidden quiet bitter secret woven distant wooden
nurse sailor pupil judge farmer tailor pilot widow clerk poet baker miner guard monk thief
Lima Oslo Cairo Kyoto Dakar Quito Perth Turin Delhi Porto Minsk Accra Lyon Riga Hanoi
"""
SLOW_SECONDS = 5.0


def task(rng: random.Random) -> tuple[str, str, str]:
    """An instruction of about nine words, an input in every other one, an output."""
    verb, thing, kind, person, place = (rng.choice(line.split()) for line in WORDS.split("\n")[1:-1])
    material = rng.choice(["<noinput>", f"A {kind} {thing} stood in {place} for {rng.randint(2, 90)} years."])
    return f"{verb} the {kind} {thing} to one {person} from {place}.", material, f"The {person} learns of the {thing}."


def task_list(rng: random.Random, first: int, last: int) -> str:
    """Tasks in the form that the packaged request asks for."""
    parts = []
    for number in range(first, last + 1):
        instruction, material, output = task(rng)
        parts.append(f"{number}. Instruction: {instruction}\n{number}. Input:\n{material}\n{number}. Output:\n{output}")
    return "###\n" + "\n\n###\n".join(parts)


class TeacherServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, behaviours: Sequence[str], seed: int):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviours, self.rng, self.lock = list(behaviours), random.Random(seed), threading.Lock()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.prompt_tokens = self.completion_tokens = 0
        self.at: list[float] = []
        self.answer: str | None = None
        """What to answer, in place of the grammar."""
        self.reply = b""
        """The whole body, where the behaviour is "reply"."""
        self.usage: dict[str, Any] = {}
        """What is told in place of the true counts, where the behaviour is "lies"."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def billed_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def write(self, body: dict[str, Any]) -> dict[str, Any]:
        """A completion, and its bill."""
        text = body["prompt"] if "prompt" in body else body["messages"][0]["content"]
        asked = re.findall(r"(?:with the tasks|with task|as number) (\d+)(?: to (\d+))?", text)
        with self.lock:
            said = task_list(self.rng, int(asked[-1][0]), int(asked[-1][1] or asked[-1][0])) if asked else "Yes."
            said = said if self.answer is None else self.answer
            words = re.findall(r"\S+\s*", said)
            kept = words[: body.get("max_tokens") or body["max_completion_tokens"]]
            usage = {"prompt_tokens": len(text.split()), "completion_tokens": len(kept)}
            self.prompt_tokens += usage["prompt_tokens"]
            self.completion_tokens += usage["completion_tokens"]
        said = "".join(kept)
        written = {"text": said} if "prompt" in body else {"message": {"role": "assistant", "content": said}}
        finish = "stop" if kept == words else "length"
        return {"choices": [{**written, "finish_reason": finish}], "usage": usage}


class Handler(BaseHTTPRequestHandler):
    server: TeacherServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._send(200, {"data": [{"id": "grammar-1"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.paths.append(self.path)
            behaviour = self.server.behaviours[len(self.server.bodies) % len(self.server.behaviours)]
            self.server.bodies.append(body)
            self.server.headers.append(dict(self.headers))
            self.server.at.append(time.monotonic())
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._behave(behaviour, body)

    def _behave(self, behaviour: str, body: dict[str, Any]) -> None:
        if behaviour.startswith("429"):
            wait = (
                email.utils.formatdate(time.time() + 1, usegmt=True)
                if "date" in behaviour
                else behaviour.partition(" ")[2]
            )
            self._send(429, {"error": {"message": "slow down"}}, {"Retry-After": wait} if wait else {})
            return
        if behaviour[:1] in "45":
            status, _, words = behaviour.partition(" ")
            self._send(int(status), {"error": {"message": words or "no"}})
            return
        answer = self.server.write(body)
        if behaviour == "no usage":
            del answer["usage"]
        if behaviour == "lies":
            answer["usage"] |= self.server.usage
        text = json.dumps(answer).encode()
        time.sleep({"slow": SLOW_SECONDS, "slower": 0.1}.get(behaviour, 0))
        if behaviour == "bad json":
            self._raw(text[: len(text) // 2], len(text) // 2)
        elif behaviour == "cut":
            self._raw(text[: len(text) // 2], len(text))
        elif behaviour == "reply":
            self._raw(self.server.reply, len(self.server.reply))
        elif behaviour == "endless":
            self._raw(b"[", 1 << 40)
            while True:
                self.wfile.write(b" " * 65536)
        elif behaviour == "drip":
            self._raw(b"", len(text))
            for n in range(len(text)):
                self.wfile.write(text[n : n + 1])
                self.wfile.flush()
                time.sleep(0.05)
        else:
            self._raw(text, len(text))

    def _raw(self, data: bytes, claimed: int) -> None:
        """Data under a length that may be more than it is; the connection ends behind it, so that this is noticed."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(claimed))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()
        self.close_connection = len(data) != claimed and bool(data)

    def _send(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serve_teacher(behaviours: Sequence[str] = ("ok",), *, seed: int = 0) -> Iterator[TeacherServer]:
    server = TeacherServer(behaviours, seed)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
