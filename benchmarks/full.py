"""Full fine-tuning of SmolLM2-135M on a CPU: ours beside TRL's. `make bench-full`.

All weights are trained, in fp32 masters, on batches of 16 Alpaca rows. Contenders run in processes of their own on the same
rows and weights; the first step warms up. `necessary FLOPs` are 6 a weight of the layers and token, and 6 a weight of the
head and target. The aim of five times TRL was set for machines that multiply bf16 natively.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import (
    alpaca_rows,
    data_name,
    forget_peak,
    in_own_process,
    machine,
    our_steps,
    peak_gflops,
    recent_peak_gb,
    run_one,
    trl_steps,
    write_result,
)

STEPS, BATCH, ROWS_AT_ONCE = 3, 16, 4
SHAPES = ((2048, 576, 576), (2048, 576, 1536), (2048, 1536, 576))
TIMEOUT_SECONDS = 1500


def load(dtype: str = "auto") -> Any:
    from pacos.models import load_model

    return load_model("smollm2-135m-instruct", dtype=dtype).model


def figures(seconds: Sequence[float], tokens: Sequence[int], losses: Sequence[float]) -> dict[str, Any]:
    """Medians of the steps behind the first. Tokens are the rows' own, without padding."""
    rates = [count / took for count, took in zip(tokens, seconds, strict=True)]
    return {
        "examples_per_second": statistics.median(BATCH / took for took in seconds),
        "useful_tokens_per_second": statistics.median(rates),
        "seconds_per_step": statistics.median(seconds),
        "losses": [round(loss, 5) for loss in losses],
        "peak_rss_gb": recent_peak_gb(),
    }


def batches(rows: Sequence[Any]) -> list[list[Any]]:
    return [list(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)]


def ours() -> dict[str, Any]:
    """Our step, as `pacos train` runs it."""
    made, groups = load(), batches(alpaca_rows(STEPS * BATCH))
    before, _ = peak_gflops(SHAPES)
    forget_peak()
    steps = our_steps(made, "full", groups)
    after, _ = peak_gflops(SHAPES)
    timed, peak = steps[1:], (before + after) / 2
    rate = statistics.median(step["gflop"] / step["seconds"] for step in timed)
    tokens = [int(step["tokens"]) for step in timed]
    told = figures([step["seconds"] for step in timed], tokens, [step["loss"] for step in steps])
    return told | {"necessary_gflops_per_second": rate, "peak_gflops": peak, "fraction_of_peak": rate / peak}


def trl(*, dtype: str, grouped: bool, autocast: bool = False, checkpointing: bool = False) -> dict[str, Any]:
    """TRL's SFTTrainer without PEFT; `grouped` puts rows of like length side by side within each batch."""
    groups = batches(alpaca_rows(STEPS * BATCH))
    rows = [row for group in groups for row in (sorted(group, key=lambda r: len(r.ids)) if grouped else group)]
    forget_peak()
    took = trl_steps(
        load(dtype).requires_grad_(True),
        rows,
        BATCH,
        ROWS_AT_ONCE,
        bf16=autocast,
        gradient_checkpointing=checkpointing,
        train_sampling_strategy="sequential",
        weight_decay=0.0,
    )
    tokens = [sum(len(row.ids) for row in group) for group in groups[1:]]
    return figures(took["seconds"], tokens, took["losses"])


CONTENDERS: dict[str, Callable[[], dict[str, Any]]] = {
    "pacos": ours,
    "trl, fastest valid": lambda: trl(dtype="fp32", grouped=True),
    "trl, in order": lambda: trl(dtype="fp32", grouped=False),
}
NATIVE_BF16: dict[str, Callable[[], dict[str, Any]]] = {
    "trl, bf16 weights": lambda: trl(dtype="bf16", grouped=True),
    "trl, as it comes": lambda: trl(dtype="fp32", grouped=False, autocast=True, checkpointing=True),
}
"""Where bf16 is emulated these take many times longer, so they are left out. bf16 weights without masters lose updates."""


def main() -> None:
    native = bool(machine()["native_bf16"])
    contenders = {**CONTENDERS, **(NATIVE_BF16 if native else {})}
    results: dict[str, Any] = {"rows": STEPS * BATCH, "data": data_name(), "dtype": "bf16" if native else "fp32"}
    for name in contenders:
        results[name] = in_own_process(Path(__file__), name, TIMEOUT_SECONDS)
        print(f"{name}: {results[name]}", flush=True)
    mine = results["pacos"].get("useful_tokens_per_second", 0.0)
    others = {name: results[name] for name in contenders if name != "pacos" and "failed" not in results[name]}
    ratios = {name: mine / other["useful_tokens_per_second"] for name, other in others.items()}
    print(f"ratios: {ratios}\nwritten to {write_result('full', results, ratios)}")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not run_one({**CONTENDERS, **NATIVE_BF16}):
        main()
