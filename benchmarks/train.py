"""LoRA fine-tuning of SmolLM2-135M on a CPU: ours beside TRL and phi3-lora-alpaca's way. `make bench-train`.

The same rows of real Alpaca (the starter set where ../shared is absent), the same model, adapters and batch, in one process
after another. The first step warms up and is not timed. `necessary FLOPs` are those of the rows with their shared beginning
computed once: 4 a frozen weight and token, the head on response tokens only; the fraction is of the measured peak.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import ALPACA, in_own_process, machine, matmul_gflops, peak_rss_gb, run_one, write_result

ROWS, BATCH, RANK, ALPHA, RATE = 48, 16, 16, 32, 2e-4
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
SHAPES = ((2048, 576, 576), (2048, 576, 1536), (2048, 1536, 576))
TIMEOUT_SECONDS = 1500


def rows(tokenizer: Any) -> list[Any]:
    """The first rows of Alpaca that carry loss, rendered by the Alpaca template."""
    from pacos.data import load_examples
    from pacos.prompts import Renderer

    data = load_examples(ALPACA if ALPACA.exists() else "starter", limit=ROWS)
    return Renderer(tokenizer, "alpaca").render_examples(data.examples, 512)


def load(dtype: str = "auto") -> Any:
    from pacos.models import load_model

    return load_model("smollm2-135m-instruct", dtype=dtype)


def pacos(*, pack_tokens: int = 2048) -> dict[str, Any]:
    """Our step, as `pacos train` runs it."""
    import torch

    from pacos.models import LoraSpec, Network, attach
    from pacos.models.packs import make_packs
    from pacos.training.optimizer import Masters, make_optimizer
    from pacos.training.train import masked_cross_entropy, update

    loaded = load()
    network = Network(loaded.model)
    adapter = attach(loaded.model, LoraSpec(RANK, ALPHA, 0.0, tuple(TARGETS)), torch.Generator().manual_seed(0))
    masters = Masters(adapter.named_parameters())
    optimizer = make_optimizer(masters, "adamw", learning_rate=RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    network.model.train()
    everything = rows(loaded.tokenizer)
    losses, seconds, flops, tokens, computed = [], 0.0, 0.0, 0, 0
    for step, start in enumerate(range(0, ROWS, BATCH)):
        began = time.perf_counter()
        packs = make_packs(everything[start : start + BATCH], pack_tokens)
        loss, _ = update(network, masters, optimizer, packs, RATE, 1.0, masked_cross_entropy, step)
        losses.append(loss)
        if step:
            seconds += time.perf_counter() - began
            flops += sum(necessary_flops(network.model, pack) for pack in packs)
            tokens += sum(len(row.ids) for row in everything[start : start + BATCH])
            computed += sum(pack.num_tokens for pack in packs)
    ours = {"necessary_gflops_per_second": flops / seconds / 1e9, "tokens_computed": computed, "tokens": tokens}
    return figures(seconds, tokens, losses) | ours


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


def necessary_flops(model: Any, pack: Any) -> float:
    """4 a frozen weight of the layers and token (forward, and the gradient of the activations), 4 a weight of the head and
    target, attention's products, three times 2 a weight of the adapters and token."""
    config = model.config
    frozen = sum(
        p.numel() for n, p in model.named_parameters() if ".layers." in n and p.ndim == 2 and not p.requires_grad
    )
    adapters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    head = config.vocab_size * config.hidden_size
    spans = [n * (depth + n / 2) for n, depth in zip(pack.layout.lengths, pack.layout.depths(), strict=True)]
    attention = 12 * config.num_hidden_layers * config.hidden_size * sum(spans)
    return pack.num_tokens * (4 * frozen + 6 * adapters) + 4 * head * pack.num_targets + attention


def figures(seconds: float, tokens: int, losses: Sequence[float]) -> dict[str, Any]:
    """What every contender reports: rows and their own tokens a second, without the warm-up step."""
    return {
        "examples_per_second": (ROWS - BATCH) / seconds,
        "useful_tokens_per_second": tokens / seconds,
        "peak_rss_gb": peak_rss_gb(),
        "losses": [round(loss, 5) for loss in losses],
    }


def trl(*, dtype: str, checkpointing: bool, autocast: bool, grouped: bool, per_device: int) -> dict[str, Any]:
    """TRL's SFTTrainer with PEFT on the same ids and labels."""
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from trl import SFTConfig, SFTTrainer

    loaded = load(dtype)
    everything = rows(loaded.tokenizer)
    labels = [[i if m else -100 for i, m in zip(r.ids, r.loss_mask, strict=True)] for r in everything]
    table = Dataset.from_dict({"input_ids": [list(r.ids) for r in everything], "labels": labels})
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS, task_type="CAUSAL_LM")
    model = get_peft_model(loaded.model, config, autocast_adapter_dtype=True)
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder,
            use_cpu=True,
            bf16=autocast,
            gradient_checkpointing=checkpointing,
            train_sampling_strategy="group_by_length" if grouped else "sequential",
            per_device_train_batch_size=per_device,
            gradient_accumulation_steps=BATCH // per_device,
            num_train_epochs=1,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            dataset_kwargs={"skip_prepare_dataset": True},
            report_to="none",
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
        )
        trainer = SFTTrainer(model, settings, train_dataset=table, processing_class=loaded.tokenizer)
        return timed(trainer, sum(len(r.ids) for r in everything))


def padded_trainer() -> dict[str, Any]:
    """phi3-lora-alpaca's way: transformers' Trainer, rows padded to 256, loss on every token, 2 rows x 8."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainingArguments

    loaded = load()
    everything = rows(loaded.tokenizer)
    table = []
    for row in everything:
        ids = list(row.ids)[:256]
        pad = 256 - len(ids)
        table.append(
            {"input_ids": ids + [2] * pad, "attention_mask": [1] * len(ids) + [0] * pad, "labels": ids + [-100] * pad}
        )
    model = get_peft_model(
        loaded.model, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS, task_type="CAUSAL_LM")
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
            model,
            settings,
            train_dataset=table,
            data_collator=lambda b: {k: torch.tensor([r[k] for r in b]) for k in b[0]},
        )
        return timed(trainer, sum(len(r.ids) for r in everything))


def timed(trainer: Any, tokens: int) -> dict[str, Any]:
    """Train, and take the time from the end of the first optimizer step to that of the last."""
    from transformers import TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    trainer.add_callback(Clock())
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return figures(ends[-1] - ends[0], round(tokens * (ROWS - BATCH) / ROWS), losses)


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
    dtype = "bfloat16" if machine()["native_bf16"] else "float32"
    peak = matmul_gflops(dtype, SHAPES)
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
    data = "Alpaca" if ALPACA.exists() else "starter"
    about = {"rows": ROWS, "batch": BATCH, "data": data, "peak_gflops": peak, "dtype": dtype}
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
