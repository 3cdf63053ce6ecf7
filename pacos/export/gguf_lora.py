"""The adapter alone as a GGUF LoRA, for llama.cpp over a GGUF of the base.

    blk.0.attn_q.weight.lora_a (rank, in)   blk.0.attn_q.weight.lora_b (out, rank), rows turned as the base's are

llama.cpp scales each by alpha / rank, with one alpha for all; where an adapter's own scale is another, B carries the rest.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torch import Tensor

from pacos.errors import UsageError
from pacos.export.gguf_names import Names
from pacos.export.gguf_write import Entry, write_file
from pacos.export.origin import Origin
from pacos.export.updates import Update


def write_lora(origin: Origin, path: Path) -> dict[str, Update]:
    """Write the adapter of a run. Returns GGUF name of the matrix -> its update. Raises UsageError without one."""
    if not origin.updates:
        raise UsageError(f"{origin.name}: has no adapter, so there is no LoRA to write; leave --lora out")
    names = Names(origin.config)
    alpha = _alpha(origin)
    updates = {_named(names, name): update for name, update in origin.updates.items()}
    values = {
        "general.architecture": names.architecture,
        "general.type": "adapter",
        "general.name": origin.name,
        "adapter.type": "lora",
        "adapter.lora.alpha": alpha,
    }
    tensors: list[Entry] = []
    for name, update in updates.items():
        a, b = halves(names, name, update, alpha)
        tensors.append((f"{name}.lora_a", "F32", tuple(a.shape), partial(_given, a)))
        tensors.append((f"{name}.lora_b", "F32", tuple(b.shape), partial(_given, b)))
    write_file(path, values, tensors)
    return updates


def halves(names: Names, name: str, update: Update, alpha: float) -> tuple[Tensor, Tensor]:
    """A (rank, in) and B (out, rank) as llama.cpp multiplies them: alpha / rank B A is the update."""
    rest = update.scale * update.a.shape[0] / alpha
    return update.a.float().contiguous(), names.to_gguf(name, update.b.float() * rest).contiguous()


def _alpha(origin: Origin) -> float:
    """Of the first matrix, so that the B of most stays as it is."""
    update = next(iter(origin.updates.values()))
    return float(update.scale * update.a.shape[0])


def _named(names: Names, name: str) -> str:
    found = names.of(name)
    if found is None:
        raise UsageError(f"GGUF architecture '{names.architecture}' has no place for {name}")
    return found


def _given(tensor: Tensor) -> Tensor:
    return tensor
