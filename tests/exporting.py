"""Tiny models with a random adapter, ready to export: the real formats, without a training run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pacos.export.origin import Origin, open_origin
from pacos.export.report import Report
from pacos.export.updates import read_updates
from pacos.models import LoraSpec, attach, load_model, save_adapter
from tests.tiny import tiny_model, tiny_tokenizer

UNWINDOWED = {"mistral": {"sliding_window": None}, "phi3": {"sliding_window": None}, "gemma2": {"sliding_window": 64}}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 128}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.1, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0],
    "long_factor": [1.0, 1.5, 3.0, 6.0, 12.0, 24.0, 48.0, 64.0],
}
HALF = {key: value[:4] if isinstance(value, list) else value for key, value in LONGROPE.items()} | {
    "partial_rotary_factor": 0.5
}
ROPES: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("mistral", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0}}),
    "llama3": ("llama", {"rope_parameters": LLAMA3}),
    "yarn": ("qwen2", {"rope_parameters": YARN}),
    "yarn with its own attention": (
        "llama",
        {"rope_parameters": YARN | {"attention_factor": 1.3, "beta_fast": 16.0, "beta_slow": 2.0}},
    ),
    "yarn with mscale": ("llama", {"rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 0.5}}),
    "longrope": ("phi3", {"rope_parameters": LONGROPE, "original_max_position_embeddings": 256}),
    "longrope of a half": ("phi3", {"rope_parameters": HALF, "original_max_position_embeddings": 256}),
    "half": ("phi3", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}),
}
"""Name -> family and config of each scaling of rotary positions that GGUF can say."""
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "down_proj")


def quiet(_: str) -> None:
    pass


def failed(report: Report) -> dict[str, str]:
    return {check.name: check.found for check in report.checks if check.verdict == "failed"}


def save_base(
    folder: Path, family: str, *, dtype: torch.dtype = torch.float32, tokenizer: Any = None, **more: Any
) -> Path:
    """A tiny random model of a family as a folder."""
    model = tiny_model(family, **(UNWINDOWED.get(family, {}) | more))
    model.to(dtype).save_pretrained(folder)
    (tokenizer or tiny_tokenizer()).save_pretrained(folder)
    return folder


def save_random_adapter(base: Path, folder: Path, *, rank: int = 4, size: float = 0.1) -> Path:
    """An adapter on every projection, fused ones too, whose B is not zero."""
    loaded = load_model(str(base), dtype="fp32")
    generator = torch.Generator().manual_seed(7)
    adapter = attach(loaded.model, LoraSpec(rank, 2.0 * rank, 0.0, TARGETS), generator)
    for name, parameter in adapter.named_parameters():
        if name.endswith("lora_B"):
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * size)
    folder.mkdir(parents=True)
    save_adapter(adapter, folder, base_name=str(base))
    return folder


def with_adapter(base: Path, adapter: Path) -> Origin:
    """The origin that a run of these two would be."""
    origin = open_origin(str(base))
    return replace(origin, folder=adapter, updates=read_updates(adapter, origin.weights))


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes), encoding="utf-8")
