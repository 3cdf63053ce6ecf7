"""What every benchmark shares: the machine, its matrix-product peak, contenders in processes of their own, the result file.

A contender runs alone, in its own process, and prints one JSON object as its last line. Ratios are ours over theirs, within
one call: absolute figures of a shared machine are noisy.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
RANK, ALPHA, RATE = 16, 32, 2e-4
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALPACA = ROOT.parent / "shared" / "data" / "alpaca" / "alpaca_data.json"


def machine() -> dict[str, Any]:
    """CPU, cores, threads, and the versions that matter."""
    import torch
    import transformers

    from pacos.models.load import has_native_bf16
    from pacos.training.record import cpu_name

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "native_bf16": has_native_bf16(device),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def matmul_gflops(dtype_name: str, shapes: tuple[tuple[int, int, int], ...], seconds: float = 1.0) -> float:
    """Measured rate of matrix products (m, k) x (k, n), in GFLOP/s, the mean over the shapes."""
    import torch

    rates = []
    for m, k, n in shapes:
        a, b = (torch.randn(rows, k).to(getattr(torch, dtype_name)) for rows in (m, n))
        for _ in range(3):
            torch.nn.functional.linear(a, b)
        began, runs = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            torch.nn.functional.linear(a, b)
            runs += 1
        rates.append(2 * m * k * n * runs / (time.perf_counter() - began) / 1e9)
    return sum(rates) / len(rates)


def peak_rss_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def forget_peak() -> None:
    """What `recent_peak_gb` says from now on began now. Linux alone; elsewhere the peak is that of the whole process."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def recent_peak_gb() -> float:
    """Highest resident memory since `forget_peak`."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e9
    return peak_rss_gb()


def our_steps(
    model: Any, method: str, batches: Sequence[Sequence[Any]], *, pack_tokens: int = 2048, checkpointing: bool = False
) -> list[dict[str, float]]:
    """Our training step as `pacos train` runs it, one a batch of rows: loss, seconds, tokens and necessary work of each."""
    import torch

    from pacos.models import LoraSpec, Network, attach
    from pacos.models.packs import make_packs
    from pacos.training.optimizer import Masters, make_optimizer
    from pacos.training.train import masked_cross_entropy, update

    network = Network(model)
    if method == "full":
        masters = Masters(model.named_parameters())
    else:
        spec = LoraSpec(RANK, ALPHA, 0.0, tuple(TARGETS))
        masters = Masters(attach(model, spec, torch.Generator().manual_seed(0)).named_parameters())
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = make_optimizer(masters, "adamw", learning_rate=RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    model.train()
    steps = []
    for number, rows in enumerate(batches):
        began = time.perf_counter()
        packs = make_packs(rows, pack_tokens)
        loss, _ = update(network, masters, optimizer, packs, RATE, 1.0, masked_cross_entropy, number)
        seconds = time.perf_counter() - began
        work = sum(necessary_flops(model, pack) for pack in packs) / 1e9
        tokens = sum(len(row.ids) for row in rows)
        computed = sum(pack.num_tokens for pack in packs)
        steps.append({"loss": loss, "seconds": seconds, "tokens": tokens, "computed": computed, "gflop": work})
    return steps


def necessary_flops(model: Any, pack: Any) -> float:
    """2 a weight and token forward, 2 for the gradient of the activations, 2 for that of a trained weight; the head on
    targets alone; attention's products, three times. What is computed again in the backward pass does not count."""
    from pacos.models.quantize import count_parameters

    config, layers = model.config, model.get_decoder().layers
    trained = sum(p.numel() for p in layers.parameters() if p.requires_grad and p.ndim == 2)
    frozen = count_parameters(layers) - trained
    head = config.vocab_size * config.hidden_size * (6 if model.get_output_embeddings().weight.requires_grad else 4)
    spans = zip(pack.layout.lengths, pack.layout.depths(), strict=True)
    pairs = sum(n * (depth + n / 2) for n, depth in spans)
    attention = 12 * config.num_hidden_layers * config.hidden_size * pairs
    return pack.num_tokens * (4 * frozen + 6 * trained) + head * pack.num_targets + attention


def trl_steps(model: Any, rows: Sequence[Any], batch: int, per_device: int, **settings: Any) -> dict[str, Any]:
    """TRL's SFTTrainer on the same ids and labels: the loss of each step and the seconds from the end of one to that of
    the next. The first one warms up, and has no time."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    labels = [[i if m else -100 for i, m in zip(r.ids, r.loss_mask, strict=True)] for r in rows]
    table = Dataset.from_dict({"input_ids": [list(r.ids) for r in rows], "labels": labels})
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            use_cpu=True,
            per_device_train_batch_size=per_device,
            gradient_accumulation_steps=batch // per_device,
            num_train_epochs=1,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            dataset_kwargs={"skip_prepare_dataset": True},
            report_to="none",
            save_strategy="no",
            logging_steps=1,
            logging_nan_inf_filter=False,
            disable_tqdm=True,
            **settings,
        )
        trainer = SFTTrainer(model, config, train_dataset=table, processing_class=padding_tokenizer())
        return timed(trainer)


def timed(trainer: Any) -> dict[str, Any]:
    """Train: the loss of each step and the seconds from the end of one to that of the next."""
    from transformers import TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    trainer.add_callback(Clock())
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return {"losses": losses, "seconds": [b - a for a, b in pairwise(ends)]}


def padding_tokenizer() -> Any:
    """The tokenizer of the embedded model; TRL takes the padding id from it."""
    from pacos.models import load_tokenizer

    return load_tokenizer("smollm2-135m-instruct")


def alpaca_rows(count: int, max_length: int = 512) -> list[Any]:
    """The first rows of Alpaca (the starter set where ../shared is absent), rendered by the Alpaca template."""
    from pacos.data import load_examples
    from pacos.prompts import Renderer

    data = load_examples(ALPACA if ALPACA.exists() else "starter", limit=count)
    return list(Renderer(padding_tokenizer(), "alpaca").render_examples(data.examples, max_length))


def data_name() -> str:
    return "Alpaca" if ALPACA.exists() else "starter"


def peak_gflops(shapes: tuple[tuple[int, int, int], ...]) -> tuple[float, str]:
    """Rate of matrix products in the dtype that this machine multiplies fastest, and that dtype."""
    dtype = "bfloat16" if machine()["native_bf16"] else "float32"
    return matmul_gflops(dtype, shapes), dtype


def in_own_process(script: Path, contender: str, timeout_seconds: int) -> dict[str, Any]:
    """The last line of `python SCRIPT --one CONTENDER` as JSON; what went wrong where it did not end well."""
    command = [sys.executable, str(script), "--one", contender]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRANSFORMERS_VERBOSITY": "error"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_seconds, env=environment)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {timeout_seconds} s"}
    if done.returncode:
        return {
            "failed": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
        }
    return json.loads(done.stdout.strip().splitlines()[-1])


def write_result(name: str, figures: Mapping[str, Any], ratios: Mapping[str, float]) -> Path:
    """benchmarks/results/NAME.json: the machine, the figures, the ratios."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    tree = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "figures": dict(figures),
        "ratios": dict(ratios),
    }
    path.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
    return path


def run_one(contenders: Mapping[str, Callable[[], dict[str, Any]]]) -> bool:
    """Whether this process was started for one contender; if so it has run and printed its figures."""
    if "--one" not in sys.argv:
        return False
    result = contenders[sys.argv[sys.argv.index("--one") + 1]]()
    print(json.dumps(result))
    return True
