"""QLoRA at Phi-3-mini's real geometry on a CPU, with random weights: ours beside TRL + bitsandbytes. `make bench-qlora`.

One optimizer step on Alpaca rows of 1,024 tokens in all, LoRA r16 on q, k, v, o. The same weights, ids and adapters, each in
a process of its own; the first step is on a few tokens and warms up. What was tried is measured on two layers of the same
shape, where a step takes seconds. `necessary FLOPs` are 4 a frozen weight and token; recomputation does not count.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import (
    ALPHA,
    RANK,
    alpaca_rows,
    data_name,
    forget_peak,
    in_own_process,
    our_steps,
    peak_gflops,
    peak_rss_gb,
    recent_peak_gb,
    run_one,
    trl_steps,
    write_result,
)

TOKENS, PACK, WARM_TOKENS = 1024, 512, 16
ROWS_AT_ONCE = 2
SHAPES = ((PACK, 3072, 9216), (PACK, 3072, 16384), (PACK, 8192, 3072))
TIMEOUT_SECONDS = 1500
TRIED_LAYERS = 2


def rows(vocabulary: int) -> list[Any]:
    """Alpaca's rows up to 1,024 tokens in all, shortest first; ids are taken modulo the vocabulary, as no text is needed."""
    chosen: list[Any] = []
    for row in alpaca_rows(400):
        if sum(len(r.ids) for r in chosen) + len(row.ids) <= TOKENS:
            chosen.append(replace(row, ids=tuple(i % vocabulary for i in row.ids)))
    chosen = chosen[: len(chosen) // ROWS_AT_ONCE * ROWS_AT_ONCE]
    return sorted(chosen, key=lambda row: len(row.ids))


def warm(everything: Sequence[Any]) -> list[Any]:
    """The ends of the rows: as many rows, few tokens."""
    return [replace(r, ids=r.ids[-WARM_TOKENS:], loss_mask=r.loss_mask[-WARM_TOKENS:]) for r in everything]


def model(layers: int = 32) -> Any:
    import torch

    from pacos.models.geometry import random_model
    from pacos.models.load import pick_dtype

    place = torch.device("cpu")
    where: dict[str, Any] = {"dtype": pick_dtype("auto", place), "device": place}
    drawn = torch.Generator().manual_seed(0)
    return random_model("phi-3-mini", "qlora", **where, generator=drawn, alike=True, num_hidden_layers=layers)


def ours(
    layers: int = 32, pack_tokens: int = TOKENS, checkpointing: bool = False, stock: bool = False
) -> dict[str, Any]:
    """Our step; with `stock`, 4-bit layers are bitsandbytes' own."""
    from pacos.models.geometry import model_bytes

    made = model(layers)
    weights = model_bytes(made) / 1e9
    if stock:
        as_bitsandbytes(made)
    everything = rows(made.config.vocab_size)
    forget_peak()
    before, _ = peak_gflops(SHAPES)
    steps = our_steps(
        made, "qlora", [warm(everything), everything], pack_tokens=pack_tokens, checkpointing=checkpointing
    )
    after, _ = peak_gflops(SHAPES)
    step = steps[-1]
    rate, peak = step["gflop"] / step["seconds"], (before + after) / 2
    return {
        "seconds_per_step": step["seconds"],
        "tokens": step["tokens"],
        "tokens_computed": step["computed"],
        "tokens_per_second": step["tokens"] / step["seconds"],
        "losses": [round(step["loss"], 5) for step in steps],
        "necessary_gflops_per_second": rate,
        "peak_gflops": peak,
        "fraction_of_peak": rate / peak,
        "weights_gb": weights,
        "peak_rss_gb": recent_peak_gb(),
        "peak_rss_gb_building_included": peak_rss_gb(),
    }


def as_bitsandbytes(made: Any) -> None:
    """Every 4-bit layer as it comes, without our forward."""
    from pacos.models.quantize import quantized_linears

    for linear in quantized_linears(made).values():
        vars(linear).pop("forward", None)


def trl(layers: int = 32) -> dict[str, Any]:
    """TRL + PEFT + bitsandbytes, no checkpointing, rows side by side that are of like length."""
    from peft import LoraConfig, get_peft_model

    made = model(layers)
    as_bitsandbytes(made)
    made.is_loaded_in_4bit = True  # PEFT then takes its own 4-bit layers
    everything = rows(made.config.vocab_size)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["qkv_proj", "o_proj"], task_type="CAUSAL_LM")
    forget_peak()
    took = trl_steps(
        get_peft_model(made, config),
        [*warm(everything), *everything],
        len(everything),
        ROWS_AT_ONCE,
        bf16=False,
        gradient_checkpointing=False,
        train_sampling_strategy="sequential",
    )
    tokens = sum(len(row.ids) for row in everything)
    return {
        "seconds_per_step": took["seconds"][0],
        "tokens": tokens,
        "tokens_per_second": tokens / took["seconds"][0],
        "losses": [round(loss, 5) for loss in took["losses"]],
        "peak_rss_gb": recent_peak_gb(),
        "peak_rss_gb_building_included": peak_rss_gb(),
    }


def tried(**settings: Any) -> Callable[[], dict[str, Any]]:
    """One way to take the step, on two layers."""
    return lambda: ours(TRIED_LAYERS, **settings)


def whole() -> dict[str, Any]:
    """All layers; in one pack where activations take 2 bytes a number, and so fit into 8 GB with the weights."""
    import torch

    from pacos.models.load import pick_dtype

    return ours(pack_tokens=TOKENS if pick_dtype("auto", torch.device("cpu")) == torch.bfloat16 else PACK)


WHOLE: dict[str, Callable[[], dict[str, Any]]] = {"pacos": whole, "trl + bitsandbytes": trl}
TRIED = {
    "packs of 512 tokens": tried(pack_tokens=512),
    "packs of 256 tokens": tried(pack_tokens=256),
    "one pack of 1,024 tokens": tried(pack_tokens=1024),
    "one pack, layers computed again": tried(pack_tokens=1024, checkpointing=True),
    "packs of 512, unpacking by bitsandbytes": tried(pack_tokens=512, stock=True),
}


def unpacking() -> dict[str, float]:
    """Weights a second, in G, of a matrix of 25 M: by bitsandbytes as it comes, and into kept memory."""
    import time

    import torch
    from torch import nn

    from pacos.models.quantize import dequantize_weight, quantize_linears, unpack

    holder = nn.Sequential(nn.Linear(3072, 8192, bias=False))
    quantize_linears(holder, double_quant=True, compute_dtype=torch.float32)
    weight: Any = holder[0].weight
    ways: dict[str, Callable[[], Any]] = {
        "bitsandbytes": lambda: dequantize_weight(holder[0]),
        "into kept memory": lambda: unpack(weight.data, weight.quant_state, torch.float32),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(7):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            rates[name].append(3072 * 8192 / (time.perf_counter() - began) / 1e9)
    return {f"unpacking {name}, G weights/s": statistics.median(of) for name, of in rates.items()}


def main() -> None:
    _, dtype = peak_gflops(SHAPES)
    results: dict[str, Any] = {"data": data_name(), "dtype": dtype, **unpacking()}
    for name in [*TRIED, *WHOLE]:
        label = name if name in WHOLE else f"{TRIED_LAYERS} layers, {name}"
        results[label] = in_own_process(Path(__file__), name, TIMEOUT_SECONDS)
        print(f"{label}: {results[label]}", flush=True)
    mine, theirs = results["pacos"], results["trl + bitsandbytes"]
    ratios = {}
    if "failed" not in mine and "failed" not in theirs:
        ratios["trl + bitsandbytes"] = mine["tokens_per_second"] / theirs["tokens_per_second"]
    print(f"ratios: {ratios}\nwritten to {write_result('qlora', results, ratios)}")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not run_one({**WHOLE, **TRIED}):
        main()
