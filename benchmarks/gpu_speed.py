"""Speed on a GPU: our step, on models of true shapes and rows of Alpaca's lengths. Part of `make gpu-check`.

The rows are made from the texts of real Alpaca (the starter set where ../shared is absent): so many tokens as the text has
characters / 4.65, behind a preamble of 24 tokens, 33 with an input, that is the same ids in every row, as Alpaca's template
has with SmolLM2's tokenizer. What the ids are does not matter to the time.

    utilization = necessary FLOPs / seconds / dense bf16 peak
    FLOPs a token: 4 a frozen weight, 6 a trained one; the head on targets only; a shared beginning counted once
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from common import ALPACA

WARM_UP, STEPS = 3, 8
BATCH, PACK = 128, 8192
RATE = 2e-4
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
CHARACTERS, PREAMBLES, HEADINGS = 4.65, (24, 33), 9
TINY = {
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "pad_token_id": 0,
}
PEAKS_TFLOPS = {
    "H200": 989,
    "H100 PCIe": 756,
    "H100": 989,
    "GH200": 989,
    "B200": 2250,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "A10": 125,
    "RTX 4090": 165,
    "RTX 3090": 71,
}
"""Dense bf16 with fp32 sums, by the makers' data sheets; the first name that is part of the device's."""


@dataclass(frozen=True)
class Case:
    geometry: str
    method: str
    optimizer: str = "adamw"


CASES = {
    "phi3-qlora": Case("phi-3-mini", "qlora"),
    "llama2-lora": Case("llama-2-7b", "lora"),
    "llama2-full": Case("llama-2-7b", "full", "adamw_8bit"),
}
OURS = {"pacos": "auto", "pacos, not compiled": "off"}
"""Name -> train.compile."""


def dry() -> bool:
    return "--cpu-dry" in sys.argv


def place() -> Any:
    import torch

    return torch.device("cpu" if dry() else "cuda")


def sizes() -> tuple[int, int, int, int]:
    """Warm-up steps, timed steps, rows a step, tokens a pack."""
    return (1, 1, 4, 256) if dry() else (WARM_UP, STEPS, BATCH, PACK)


def rows(vocabulary: int) -> list[Any]:
    """Rows enough for all steps: ids, and the answer's tokens as those that carry loss."""
    from pacos.data import load_examples

    warm, steps, batch, _ = sizes()
    source = ALPACA if ALPACA.exists() and not dry() else "starter"
    draw = random.Random(0)
    preambles = [[draw.randrange(3, vocabulary) for _ in range(n)] for n in PREAMBLES]
    made = []
    for example in load_examples(source, limit=(warm + steps) * batch).examples:
        asked = HEADINGS + round((len(example.instruction) + len(example.input)) / CHARACTERS)
        answered = 1 + round(len(example.output) / CHARACTERS)
        ids = [draw.randrange(3, vocabulary) for _ in range(asked + answered)]
        ids = preambles[bool(example.input)] + ids
        made.append(SimpleNamespace(ids=ids, loss_mask=[False] * (len(ids) - answered) + [True] * answered))
    return made


def model_of(case: Case) -> Any:
    import torch

    from pacos.models.geometry import random_model

    device = place()
    dtype = torch.float32 if dry() else torch.bfloat16
    generator = torch.Generator(device).manual_seed(0)
    return random_model(
        case.geometry, case.method, dtype=dtype, device=device, generator=generator, **(TINY if dry() else {})
    )


def ours(case: Case, compile: str) -> dict[str, Any]:
    """Our step, as `pacos train` runs it."""
    from pacos.models import LoadedModel
    from pacos.models.packs import make_packs
    from pacos.recipes import Recipe
    from pacos.training.train import masked_cross_entropy, update
    from pacos.training.trainee import set_up

    model = model_of(case)
    optimizer = "adamw" if dry() else case.optimizer
    recipe = Recipe(method=case.method, train={"optimizer": optimizer, "learning_rate": RATE, "compile": compile})
    trainee = set_up(recipe, LoadedModel(model, None, None, model.dtype, place()))
    trainee.network.model.train()
    everything, (warm, steps, batch, room) = rows(model.config.vocab_size), sizes()
    losses, ends, flops = [], [], 0.0
    for step in range(warm + steps):
        packs = make_packs(everything[step * batch : (step + 1) * batch], room)
        loss, _ = update(
            trainee.network, trainee.masters, trainee.optimizer, packs, RATE, 1.0, masked_cross_entropy, step
        )
        losses.append(loss)
        ends.append(now())
        flops += sum(necessary_flops(model, pack, case.method) for pack in packs) if step >= warm else 0.0
    result = figures(everything, ends, losses)
    peak = device_peak_tflops()
    rate = flops / (ends[-1] - ends[warm - 1]) / 1e12
    return result | {"necessary_tflops_per_second": rate, "utilization": rate / peak if peak else None}


def necessary_flops(model: Any, pack: Any, method: str) -> float:
    """FLOPs of one pack, forward and back, nothing computed twice."""
    from torch import nn

    config = model.config
    linears = [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and ".layers." in name]
    weights = sum(m.in_features * m.out_features for m in linears)
    trained = 0 if method == "full" else sum(p.numel() for p in model.parameters() if p.requires_grad)
    each = 6 if method == "full" else 4
    depths: list[int] = []
    for n, parent in zip(pack.layout.lengths, pack.layout.parents, strict=True):
        depths.append(n + (depths[parent] if parent >= 0 else 0))
    spans = sum(n * (end - n / 2) for n, end in zip(pack.layout.lengths, depths, strict=True))
    attention = 12 * config.num_hidden_layers * config.hidden_size * spans
    head = each * config.vocab_size * config.hidden_size * pack.num_targets
    return pack.num_tokens * (each * weights + 6 * trained) + head + attention


def now() -> float:
    """Seconds, when all that was asked of the device is done."""
    import torch

    if not dry():
        torch.cuda.synchronize()
    return time.perf_counter()


def figures(everything: Sequence[Any], ends: Sequence[float], losses: Sequence[float]) -> dict[str, Any]:
    """What every contender reports: rows and their own tokens a second, from the end of the warm-up on."""
    import torch

    warm, _, batch, _ = sizes()
    seconds = ends[-1] - ends[warm - 1]
    counted = everything[warm * batch :]
    return {
        "examples_per_second": len(counted) / seconds,
        "tokens_per_second": sum(len(row.ids) for row in counted) / seconds,
        "peak_gb": 0.0 if dry() else torch.cuda.max_memory_allocated() / 1e9,
        "losses": [round(loss, 3) for loss in losses],
    }


def device_peak_tflops() -> float | None:
    """The data sheet's dense bf16 rate of this device, where it is in the table."""
    import torch

    name = "" if dry() else torch.cuda.get_device_name()
    return next((float(rate) for part, rate in PEAKS_TFLOPS.items() if part in name), None)


def measured_tflops(size: int = 8192) -> float:
    """bf16 products of (size, size), the rate of ten behind three."""
    import torch

    size = 256 if dry() else size
    a, b = (torch.randn(size, size, device=place(), dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    began = now()
    for _ in range(10):
        a @ b
    return 10 * 2 * size**3 / (now() - began) / 1e12
