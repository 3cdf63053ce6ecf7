"""LoRA fine-tuning of SmolLM2-135M on a CPU: ours beside TRL and phi3-lora-alpaca's way. `make bench-train`.

The same rows of real Alpaca (the starter set where ../shared is absent), the same model, adapters and batch, in one process
after another. The first step warms up and is not timed. `necessary FLOPs` are those of the rows with their shared beginning
computed once: 4 a frozen weight and token, the head on response tokens only; the fraction is of the measured peak.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import (
    ALPHA,
    RANK,
    RATE,
    TARGETS,
    alpaca_rows,
    data_name,
    in_own_process,
    our_steps,
    peak_gflops,
    peak_rss_gb,
    run_one,
    timed,
    trl_steps,
    write_result,
)

ROWS, BATCH = 48, 16
SHAPES = ((2048, 576, 576), (2048, 576, 1536), (2048, 1536, 576))
TIMEOUT_SECONDS = 1500


def load(dtype: str = "auto") -> Any:
    from pacos.models import load_model

    return load_model("smollm2-135m-instruct", dtype=dtype).model


def with_adapters(model: Any) -> Any:
    """PEFT's LoRA on the same matrices."""
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS, task_type="CAUSAL_LM"))


def pacos(*, pack_tokens: int = 2048) -> dict[str, Any]:
    """Our step, as `pacos train` runs it."""
    rows = alpaca_rows(ROWS)
    batches = [rows[start : start + BATCH] for start in range(0, ROWS, BATCH)]
    steps = our_steps(load(), "lora", batches, pack_tokens=pack_tokens)
    gflop, computed, tokens = (sum(step[key] for step in steps[1:]) for key in ("gflop", "computed", "tokens"))
    seconds = [step["seconds"] for step in steps[1:]]
    ours = {"necessary_gflops_per_second": gflop / sum(seconds), "tokens_computed": computed, "tokens": tokens}
    return figures(seconds, tokens, [step["loss"] for step in steps]) | ours


def pacos_small_packs() -> dict[str, Any]:
    """The same with packs of 512 tokens: slower, and less memory."""
    return pacos(pack_tokens=512)


def pacos_unshared() -> dict[str, Any]:
    """The same with nothing shared: each row whole in its pack."""
    from pacos.models import packs

    packs.SHORTEST_PREFIX = 1 << 30
    return pacos()


def pacos_plain() -> dict[str, Any]:
    """The same where there is no C compiler."""
    from pacos.models.kernels import native

    with native.plain():
        return pacos()


def figures(seconds: Sequence[float], tokens: float, losses: Sequence[float]) -> dict[str, Any]:
    """What every contender reports: rows and their own tokens a second, without the warm-up step."""
    return {
        "examples_per_second": (ROWS - BATCH) / sum(seconds),
        "useful_tokens_per_second": tokens / sum(seconds),
        "peak_rss_gb": peak_rss_gb(),
        "losses": [round(loss, 5) for loss in losses],
    }


def of_trainer(took: dict[str, Any], rows: Sequence[Any]) -> dict[str, Any]:
    """The figures of a trainer that puts rows into batches by itself: of their tokens, the share that its timed steps have."""
    tokens = sum(len(row.ids) for row in rows)
    return figures(took["seconds"], round(tokens * (ROWS - BATCH) / ROWS), took["losses"])


def trl(*, dtype: str, checkpointing: bool, autocast: bool, grouped: bool, per_device: int) -> dict[str, Any]:
    """TRL's SFTTrainer with PEFT on the same ids and labels."""
    rows = alpaca_rows(ROWS)
    took = trl_steps(
        with_adapters(load(dtype)),
        rows,
        BATCH,
        per_device,
        bf16=autocast,
        gradient_checkpointing=checkpointing,
        train_sampling_strategy="group_by_length" if grouped else "sequential",
    )
    return of_trainer(took, rows)


def padded_trainer() -> dict[str, Any]:
    """phi3-lora-alpaca's way: transformers' Trainer, rows padded to 256, loss on every token, 2 rows x 8."""
    import torch
    from transformers import Trainer, TrainingArguments

    rows = alpaca_rows(ROWS)
    table = []
    for row in rows:
        ids = list(row.ids)[:256]
        pad = 256 - len(ids)
        table.append(
            {"input_ids": ids + [2] * pad, "attention_mask": [1] * len(ids) + [0] * pad, "labels": ids + [-100] * pad}
        )
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            use_cpu=True,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=8,
            num_train_epochs=1,
            learning_rate=RATE,
            report_to="none",
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
        )
        trainer = Trainer(
            with_adapters(load()),
            settings,
            train_dataset=table,
            data_collator=lambda b: {k: torch.tensor([r[k] for r in b]) for k in b[0]},
        )
        return of_trainer(timed(trainer), rows)


def trl_fastest() -> dict[str, Any]:
    """The fastest valid setting found: weights in the dtype that this machine multiplies fastest, no checkpointing, by length."""
    return trl(dtype="auto", checkpointing=False, autocast=False, grouped=True, per_device=4)


def trl_bf16() -> dict[str, Any]:
    """bf16 weights whatever the machine: its fastest where bf16 is native, among its slowest where it is emulated."""
    return trl(dtype="bf16", checkpointing=False, autocast=False, grouped=True, per_device=4)


def trl_in_order() -> dict[str, Any]:
    """The same without grouping, rows in order: its losses are those of our steps."""
    return trl(dtype="auto", checkpointing=False, autocast=False, grouped=False, per_device=4)


def trl_default() -> dict[str, Any]:
    """As it comes: fp32 weights, bf16 autocast, gradient checkpointing."""
    return trl(dtype="fp32", checkpointing=True, autocast=True, grouped=False, per_device=8)


OURS = {
    "pacos": pacos,
    "pacos, packs of 512 tokens": pacos_small_packs,
    "pacos, nothing shared": pacos_unshared,
    "pacos, no C compiler": pacos_plain,
}
PEERS = {
    "trl, fastest valid": trl_fastest,
    "trl, in order": trl_in_order,
    "trl, bf16": trl_bf16,
    "trl, as it comes": trl_default,
    "phi3-lora-alpaca's way": padded_trainer,
}
SAME_LOSSES = ("pacos, packs of 512 tokens", "pacos, nothing shared", "pacos, no C compiler", "trl, in order")
"""Those that take our batches in our order at our precision: their losses must be ours."""
LARGEST_DIFFERENCE = 2e-3
"""Of a loss, relative; in fp32 it is about 1e-5, and TRL logs three digits behind the point."""


def main() -> None:
    peak, dtype = peak_gflops(SHAPES)
    print(f"matrix-product peak: {peak:.0f} GFLOP/s in {dtype}", flush=True)
    results: dict[str, Any] = {}
    for name in (*OURS, *PEERS):
        results[name] = in_own_process(Path(__file__), name, TIMEOUT_SECONDS)
        print(f"{name}: {line(results[name])}", flush=True)
    for name in OURS:
        if "failed" not in results[name]:
            results[name]["fraction_of_peak"] = results[name]["necessary_gflops_per_second"] / peak
    done = {name: r for name, r in results.items() if "failed" not in r}
    ours = done["pacos"]
    ratios = {name: ours["examples_per_second"] / r["examples_per_second"] for name, r in done.items() if r is not ours}
    for name, ratio in ratios.items():
        print(f"pacos over {name}: {ratio:.2f}")
    print(f"fraction of the peak, in necessary FLOPs: {ours['fraction_of_peak']:.0%}")
    about = {"rows": ROWS, "batch": BATCH, "data": data_name(), "peak_gflops": peak, "dtype": dtype}
    losses = {name: loss_difference(ours, done[name]) for name in SAME_LOSSES if name in done}
    for name, by in losses.items():
        results[name]["loss_difference"] = by
    print(f"written to {write_result('train', {**about, **results}, ratios)}")
    apart = [f"{name}: {by:.1e}" for name, by in losses.items() if by > LARGEST_DIFFERENCE]
    if apart:
        raise SystemExit(f"losses differ by more than {LARGEST_DIFFERENCE:g}: {'; '.join(apart)}")


def loss_difference(ours: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest relative difference of a step's loss."""
    return max(abs(a - b) / a for a, b in zip(ours["losses"], other["losses"], strict=True))


def line(result: dict[str, Any]) -> str:
    if "failed" in result:
        return f"failed: {result['failed']}"
    return (
        f"{result['examples_per_second']:.2f} examples/s, {result['useful_tokens_per_second']:.0f} useful tokens/s, "
        f"{result['peak_rss_gb']:.2f} GB, losses {result['losses']}"
    )


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not run_one({**OURS, **PEERS}):
        main()
