"""Greedy answers to 64 real prompts beside transformers' `generate` and llama.cpp's server: `make bench-generate`.

The first 64 prompts of Alpaca by the Alpaca template, SmolLM2-135M-Instruct in bf16. Every answer is exactly as many tokens
as asked for, stop tokens or not, so all do the same work. transformers gets its prompts sorted by length, which is its
best; each contender warms up first. Also: memory over 1,000 prompts, and scoring beside the forward pass of training.

llama.cpp is measured by its server (llama_server.py) and by the rows of its library (llama_rows.py), where they are there.
`python benchmarks/generate.py WORD ...` measures the contenders that have a word in their name, and keeps the others' figures.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.common import (
    ALPACA,
    RESULTS,
    alpaca_rows,
    forget_peak,
    in_own_process,
    recent_peak_gb,
    run_one,
    write_result,
)
from benchmarks.llama_rows import Llama
from benchmarks.llama_server import llama_server

MODEL = "smollm2-135m-instruct"
PROMPTS, STREAM = 64, 4
BATCHES = {64: (1, 16, 32, 64), 128: (1, 32, 64)}
"""New tokens an answer -> how many prompts transformers gets at once."""
ROOM = 384
"""Tokens of a slot of llama.cpp: prompt and answer."""

TYPES = ("bf16", "q8_0")
"""Of the GGUF files that llama.cpp reads."""


def real_prompts(count: int) -> list[list[int]]:
    """Prompts of the first rows of Alpaca (the starter set where ../shared is absent), in ids."""
    from pacos.data import load_examples
    from pacos.models import load_tokenizer
    from pacos.prompts import Renderer

    examples = load_examples(ALPACA if ALPACA.exists() else "starter", limit=count).examples
    renderer = Renderer(load_tokenizer(MODEL), "alpaca")
    return [list(renderer.render_prompt(example)) for example in itertools.islice(itertools.cycle(examples), count)]


def timed(
    answer: Callable[[Sequence[list[int]], int], int], prompts: Sequence[list[int]], tokens: int
) -> dict[str, Any]:
    """Seconds and new tokens a second, behind a short run that warms up: the best of three, where they take no 15 s each."""
    answer(prompts[: min(4, len(prompts))], 4)
    runs: list[float] = []
    while len(runs) < 3 and sum(runs) < 15 * len(runs) + 1:
        began = time.perf_counter()
        written = answer(prompts, tokens)
        runs.append(time.perf_counter() - began)
        assert written == len(prompts) * tokens, f"{written} tokens written"
    return {"prompts": len(prompts), "tokens": tokens, "seconds": runs, "tokens_per_second": written / min(runs)}


def load() -> Any:
    from pacos.models import load_model

    return load_model(MODEL, dtype="bf16", device="cpu").model


def ours(slots: int, tokens: int) -> dict[str, Any]:
    from pacos.inference import Engine, Sampling
    from pacos.models import Network

    engine = Engine(Network(load()), (), slots=slots)

    def answer(prompts: Sequence[list[int]], tokens: int) -> int:
        return sum(len(c.ids) for c in engine.generate(prompts, Sampling(max_new_tokens=tokens)))

    return timed(answer, real_prompts(PROMPTS if slots > 1 else STREAM), tokens)


def transformers(batch: int, tokens: int) -> dict[str, Any]:
    import torch

    model = load()

    def answer(prompts: Sequence[list[int]], tokens: int) -> int:
        written, order = 0, sorted(prompts, key=len)
        for at in range(0, len(order), batch):
            rows = order[at : at + batch]
            width = max(map(len, rows))
            ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
            out = model.generate(
                ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, eos_token_id=None, pad_token_id=0
            )
            written += out[:, width:].numel()
        return written

    return timed(answer, real_prompts(PROMPTS if batch > 1 else STREAM), tokens)


def memory() -> dict[str, Any]:
    """Resident memory after each hundred of 1,000 prompts."""
    from pacos.inference import Engine, Sampling
    from pacos.models import Network

    engine, peaks = Engine(Network(load()), (), slots=64), []
    prompts = real_prompts(1000)
    for at in range(0, 1000, 100):
        forget_peak()
        engine.generate(prompts[at : at + 100], Sampling(max_new_tokens=8))
        peaks.append(recent_peak_gb())
    return {"peak_gb_of_each_hundred": peaks}


def scoring() -> dict[str, Any]:
    """Answers scored, beside the forward pass of a training step on the same packs, head and loss with it."""
    import torch

    from pacos.inference import Engine
    from pacos.models import Network
    from pacos.models.packs import make_packs
    from pacos.training.train import masked_cross_entropy

    network, rows = Network(load()), alpaca_rows(128)
    engine, packs = Engine(network, ()), make_packs(rows)

    def forward() -> None:
        with torch.inference_mode():
            for pack in packs:
                masked_cross_entropy(network, pack)

    seconds = {}
    for name, work in {"score": partial(engine.score, rows), "forward": forward}.items():
        work()
        began = time.perf_counter()
        work()
        seconds[name] = time.perf_counter() - began
    return {"rows": len(rows), "tokens": sum(len(row.ids) for row in rows), "seconds": seconds}


@contextmanager
def gguf_file(type: str) -> Iterator[Path]:
    """The model as a GGUF file of one type."""
    from pacos.export.gguf_write import write_gguf
    from pacos.export.merge import merged_weights
    from pacos.export.origin import open_origin

    origin = open_origin(MODEL)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        write_gguf(origin, merged_weights(origin, "bf16"), path, type)
        yield path


def llama_cpp(slots: int, tokens: int, type: str) -> dict[str, Any]:
    """The rows of llama.cpp's library: all prompts read, then a token of each row a step."""
    with gguf_file(type) as path:
        return timed(Llama(path, slots, ROOM).answer, real_prompts(PROMPTS if slots > 1 else STREAM), tokens)


def llama_cpp_server(slots: int, tokens: int, type: str) -> dict[str, Any]:
    """llama.cpp's server with as many slots."""
    with gguf_file(type) as path, llama_server(path, slots, ROOM) as server:
        return timed(server.answer, real_prompts(PROMPTS if slots > 1 else STREAM), tokens)


LLAMAS = {"llama.cpp server": llama_cpp_server, "llama.cpp": llama_cpp}
CONTENDERS: dict[str, Callable[[], dict[str, Any]]] = {
    **{f"ours, {slots} at once, {n} tokens": partial(ours, slots, n) for n in BATCHES for slots in (1, 64)},
    **{
        f"{name} {t}, {slots} at once, {n} tokens": partial(run, slots, n, t)
        for name, run in LLAMAS.items()
        for n in BATCHES
        for t in TYPES
        for slots in (1, 64)
    },
    **{f"transformers, {b} at once, {n} tokens": partial(transformers, b, n) for n in BATCHES for b in BATCHES[n]},
    "memory": memory,
    "scoring": scoring,
}


def main(words: Sequence[str]) -> None:
    path = RESULTS / "generate.json"
    figures = json.loads(path.read_text(encoding="utf-8"))["figures"] if words else {}
    figures = {name: figure for name, figure in figures.items() if name in CONTENDERS}
    for name in CONTENDERS:
        if not words or any(word in name for word in words):
            began = datetime.now(UTC).isoformat(timespec="minutes")
            figures[name] = {"began": began, **in_own_process(Path(__file__), name, 600)}
            print(name, figures[name], flush=True)
            write_result("generate", figures, ratios_of(figures))


def ratios_of(figures: dict[str, Any]) -> dict[str, float]:
    """Ours over theirs where both were measured, and the highest peak of a hundred prompts over the first."""
    rate = {name: figure["tokens_per_second"] for name, figure in figures.items() if "tokens_per_second" in figure}
    ratios = {}
    for n, batches in BATCHES.items():
        for slots, what, taken in ((64, "all prompts", batches), (1, "one stream", (1,))):
            own, at = rate.get(f"ours, {slots} at once, {n} tokens"), f"{slots} at once, {n} tokens"
            best = [x for b in taken if (x := rate.get(f"transformers, {b} at once, {n} tokens"))]
            theirs = {f"{name} {t}": rate.get(f"{name} {t}, {at}") for name in LLAMAS for t in TYPES}
            theirs["transformers at its best" if slots > 1 else "transformers"] = max(best, default=None)
            ratios |= {f"{what}, {n} tokens: ours / {name}": own / x for name, x in theirs.items() if own and x}
    if "peak_gb_of_each_hundred" in (kept := figures.get("memory", {})):
        peaks = kept["peak_gb_of_each_hundred"]
        ratios["memory: last hundred of 1,000 prompts / second"] = peaks[-1] / peaks[1]
    if "seconds" in (scored := figures.get("scoring", {})):
        ratios["scoring: training's forward pass / ours"] = scored["seconds"]["forward"] / scored["seconds"]["score"]
    return ratios


if __name__ == "__main__" and not run_one(CONTENDERS):
    main(sys.argv[1:])
