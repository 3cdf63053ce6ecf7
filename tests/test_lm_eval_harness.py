"""lm-evaluation-harness drives `/v1/completions` with `echo` and `logprobs`: its likelihoods are our own scores.

It is in no extra of pacos, for the weight of what it brings; `pip install lm_eval aiohttp tenacity` and this runs. The harness
talks to a server of the test's own, which shows that the engine gives what the protocol asks for, and to `pacos serve`.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from pacos.inference import Engine, Sampling
from pacos.inference.reading import Reading
from pacos.models import Network, load_model, load_tokenizer
from pacos.prompts import Rendered
from tests.conftest import save_tiny

ROOT = Path(__file__).resolve().parents[1]
TASK = {
    "task": "capitals",
    "dataset_path": "json",
    "test_split": "train",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{label}}",
    "target_delimiter": "",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}
ROWS = [
    {
        "question": f"The capital of {country} is",
        "choices": [" Paris", " a healthy apple, sorted", " x"],
        "label": i % 3,
    }
    for i, country in enumerate(("France", "the list", "some text", "Input", "a day"))
]


@contextlib.contextmanager
def own_server(folder: Path) -> Iterator[str]:
    """The part of the protocol that the harness asks for, from the engine's `read`."""
    engine, tokenizer = engine_of(folder), load_tokenizer(str(folder))

    def choice(index: int, ids: list[int], reading: Reading) -> dict[str, Any]:
        """The prompt and the token behind it, with log-probabilities; nothing predicts the first."""
        next_id, next_logprob = reading.top[-1][0]
        texts = [tokenizer.decode([id]) for id in (*ids, next_id)]
        likeliest = [{tokenizer.decode([id]): logprob for id, logprob in likely} for likely in reading.top]
        told = {
            "tokens": texts,
            "token_logprobs": [None, *reading.logprobs, next_logprob],
            "top_logprobs": [None, *likeliest],
        }
        return {"index": index, "text": "".join(texts), "logprobs": told, "finish_reason": "length"}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert (asked["echo"], asked["max_tokens"], asked["temperature"]) == (True, 1, 0)
            prompts = asked["prompt"]
            readings = engine.read(prompts, top=asked["logprobs"])
            choices = [choice(i, *pair) for i, pair in enumerate(zip(prompts, readings, strict=True))]
            body = json.dumps({"object": "text_completion", "choices": choices}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def pacos_serve(folder: Path) -> Iterator[str]:
    """`pacos serve` on a free port, which it names in its first line with an address."""
    from pacos.cli.main import app

    if "serve" not in {command.name for command in app.registered_commands}:
        pytest.skip("pacos serve is not there yet")
    command = [sys.executable, "-m", "pacos", "serve", str(folder), "--base", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            found = (re.search(r"http://[\w.]+:\d+", line) for line in process.stdout)
            yield next(match[0] for match in found if match)
        finally:
            process.terminate()


def engine_of(folder: Path) -> Engine:
    loaded = load_model(str(folder), dtype="fp32", device="cpu")
    return Engine(Network(loaded.model), ())


def likelihoods(engine: Engine, tokenizer: Any, context: str, continuation: str) -> tuple[float, bool]:
    """What the harness asks of a pair, by our own scoring: ids of the whole, cut where those of the context end."""
    whole, start = (tokenizer(text)["input_ids"] for text in (context + continuation, context))
    asked = whole[len(start) :]
    score = engine.score([Rendered(tuple(whole), tuple(i >= len(start) for i in range(len(whole))))])[0]
    written = engine.generate([whole[: len(start)]], Sampling(max_new_tokens=len(asked)))[0].ids
    return -score.nll, list(written) == asked


@pytest.mark.parametrize("server", [own_server, pacos_serve])
def test_the_harness_s_likelihoods_are_our_own_scores(
    server: Callable[[Path], AbstractContextManager[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm_eval = pytest.importorskip("lm_eval", reason="lm-evaluation-harness (lm_eval) is not installed")
    for name in ("aiohttp", "tenacity"):
        pytest.importorskip(name, reason=f"lm_eval's client of servers needs {name}, which is not installed")
    from lm_eval.tasks import TaskManager

    folder = save_tiny(tmp_path / "model", tie_word_embeddings=False)
    engine, tokenizer = engine_of(folder), load_tokenizer(str(folder))
    rows, data, tasks = greedy_rows(engine, tokenizer), tmp_path / "rows.jsonl", tmp_path / "tasks"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tasks.mkdir()
    kwargs = {"data_files": str(data), "cache_dir": str(tmp_path / "cache")}
    (tasks / "capitals.yaml").write_text(yaml.safe_dump({**TASK, "dataset_kwargs": kwargs}))
    with server(folder) as url:
        results = lm_eval.simple_evaluate(
            "local-completions",
            {
                "model": "tiny",
                "base_url": f"{url}/v1/completions",
                "tokenizer": str(folder),
                "tokenizer_backend": "huggingface",
                "max_length": 512,
            },
            tasks=["capitals"],
            batch_size=4,
            task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
            bootstrap_iters=0,
        )
    samples = results["samples"]["capitals"]
    assert len(samples) == len(rows)
    greedy = []
    for sample in samples:
        pairs = [tuple(argument) for argument in sample["arguments"]]
        assert len(pairs) == len(sample["resps"]) == 3
        for (context, continuation), ((logprob, is_greedy),) in zip(pairs, sample["resps"], strict=True):
            expected, as_written = likelihoods(engine, tokenizer, context, continuation)
            assert logprob == pytest.approx(expected, abs=1e-3)
            assert is_greedy == as_written
            greedy.append(is_greedy)
    assert 0 < sum(greedy) < len(greedy), "some answers are the greedy ones and some are not"
    right = sum(max(range(3), key=lambda i: s["resps"][i][0][0]) == s["doc"]["label"] for s in samples)
    assert results["results"]["capitals"]["acc,none"] == pytest.approx(right / len(samples))


def greedy_rows(engine: Engine, tokenizer: Any) -> list[dict[str, Any]]:
    """The rows, and one whose last choice is what the model itself writes, where that comes back as the ids written."""
    for number in range(300):
        question = f"The capital of country {number} is"
        written = engine.generate([tokenizer(question)["input_ids"]], Sampling(max_new_tokens=2))[0].ids
        text = tokenizer.decode(written)
        if len(text) > 1 and likelihoods(engine, tokenizer, question, text)[1]:
            return [*ROWS, {"question": question, "choices": [" Paris", " x", text], "label": 2}]
    raise AssertionError("no text that this model writes is read back as written")
