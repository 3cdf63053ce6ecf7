"""llama.cpp's own server with parallel slots, asked over HTTP with prompts as token ids.

The program is the one that PACOS_LLAMA_SERVER names, or `llama-server` on the PATH; it is part of no Python package, and is
built from llama.cpp's source with `cmake --build . --target llama-server`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_SECONDS = 60
PROGRAM = "PACOS_LLAMA_SERVER"


def find_server() -> str:
    """The program. Raises FileNotFoundError where there is none."""
    found = os.environ.get(PROGRAM) or shutil.which("llama-server")
    if not found:
        raise FileNotFoundError(f"llama-server is not on the PATH; name it with {PROGRAM}")
    return found


class LlamaServer:
    """One that runs: `answer` writes `tokens` ids behind each prompt, as many at once as it has slots."""

    def __init__(self, url: str, slots: int):
        self.url, self.slots = url, slots

    def answer(self, prompts: Sequence[list[int]], tokens: int) -> int:
        """How many ids were written, by the server's own count."""
        with ThreadPoolExecutor(self.slots) as pool:
            return sum(pool.map(lambda prompt: self._ask(prompt, tokens), prompts))

    def _ask(self, prompt: list[int], tokens: int) -> int:
        told = self.post(
            "/completion",
            {"prompt": prompt, "n_predict": tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": False},
        )
        return int(told["tokens_predicted"])

    def post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=600) as response:
            return json.load(response)


@contextmanager
def llama_server(model: Path, slots: int, room: int) -> Iterator[LlamaServer]:
    """The server on a GGUF file, with `slots` slots of `room` tokens each, on as many threads as torch takes."""
    import torch

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "--model": model,
        "--port": port,
        "--parallel": slots,
        "--ctx-size": slots * room,
        "--threads": torch.get_num_threads(),
        "--cache-ram": 0,
    }
    command = [find_server(), *(str(word) for pair in options.items() for word in pair)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            server = LlamaServer(f"http://127.0.0.1:{port}", slots)
            _wait(server, process)
            yield server
        finally:
            process.terminate()


def _wait(server: LlamaServer, process: subprocess.Popen[bytes]) -> None:
    """Return when the model is loaded."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(f"{server.url}/health", timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise RuntimeError(f"llama-server did not start in {START_SECONDS} s, or ended: {process.poll()}")
