"""Greedy answers to 64 real prompts beside transformers' `generate` and llama.cpp's server: `make bench-generate`.

The first 64 prompts of Alpaca by the Alpaca template, SmolLM2-135M-Instruct in bf16. Every answer is exactly as many tokens
as asked for, stop tokens or not, so all do the same work. transformers gets its prompts sorted by length, which is its
best; each contender warms up first. Also: memory over 1,000 prompts, and scoring beside the forward pass of training.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.common import (
    ALPACA,
    alpaca_rows,
    forget_peak,
    in_own_process,
    recent_peak_gb,
    run_one,
    write_result,
)
from benchmarks.llama_rows import Llama

MODEL = "smollm2-135m-instruct"
PROMPTS, STREAM = 64, 4
BATCHES = {64: (1, 16, 32, 64)}
"""New tokens an answer -> how many prompts transformers gets at once."""

TYPES = ("bf16", "q8_0")
"""Of the GGUF files that llama.cpp reads, where llama-cpp-python is installed."""


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
    """Seconds and new tokens a second, behind a short run that warms up: the best of three, where they take no 5 s each."""
    answer(prompts[: min(4, len(prompts))], 4)
    runs: list[float] = []
    while len(runs) < 3 and sum(runs) < 5 * len(runs) + 1:
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


def llama_cpp(slots: int, tokens: int, type: str) -> dict[str, Any]:
    """The rows of llama.cpp's server with parallel slots: all prompts read, then a token of each row a step."""
    from pacos.export.gguf_write import write_gguf
    from pacos.export.merge import merged_weights
    from pacos.export.origin import open_origin

    origin = open_origin(MODEL)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        write_gguf(origin, merged_weights(origin, "bf16"), path, type)
        llama = Llama(path, slots, room=256)
        return timed(llama.answer, real_prompts(PROMPTS if slots > 1 else STREAM), tokens)


CONTENDERS: dict[str, Callable[[], dict[str, Any]]] = {
    **{f"ours, {slots} at once, {n} tokens": partial(ours, slots, n) for n in BATCHES for slots in (1, 64)},
    **{f"transformers, {b} at once, {n} tokens": partial(transformers, b, n) for n in BATCHES for b in BATCHES[n]},
    **{
        f"llama.cpp {t}, {slots} at once, 64 tokens": partial(llama_cpp, slots, 64, t)
        for t in TYPES
        for slots in (1, 64)
    },
    "memory": memory,
    "scoring": scoring,
}


def main() -> None:
    figures = {}
    for name in CONTENDERS:
        figures[name] = in_own_process(Path(__file__), name, 600)
        print(name, figures[name], flush=True)
    write_result("generate", figures, ratios_of(figures))


def ratios_of(figures: dict[str, Any]) -> dict[str, float]:
    """Ours over theirs, and the highest peak of a hundred prompts over the first."""
    rate = {name: figure.get("tokens_per_second", 0.0) for name, figure in figures.items()}
    ratios = {}
    for n, batches in BATCHES.items():
        best = max(rate[f"transformers, {batch} at once, {n} tokens"] for batch in batches)
        ratios[f"all prompts, {n} tokens: ours / transformers at its best"] = (
            rate[f"ours, 64 at once, {n} tokens"] / best
        )
        alone = rate[f"transformers, 1 at once, {n} tokens"]
        ratios[f"one stream, {n} tokens: ours / transformers"] = rate[f"ours, 1 at once, {n} tokens"] / alone
    for t in TYPES:
        for slots, what in ((64, "all prompts"), (1, "one stream")):
            theirs = rate[f"llama.cpp {t}, {slots} at once, 64 tokens"]
            if theirs:
                ratios[f"{what}, 64 tokens: ours / llama.cpp {t}"] = rate[f"ours, {slots} at once, 64 tokens"] / theirs
    peaks = figures["memory"]["peak_gb_of_each_hundred"]
    seconds = figures["scoring"]["seconds"]
    ratios["memory: last hundred of 1,000 prompts / second"] = peaks[-1] / peaks[1]
    ratios["scoring: training's forward pass / ours"] = seconds["forward"] / seconds["score"]
    return ratios


if __name__ == "__main__" and not run_one(CONTENDERS):
    main()
