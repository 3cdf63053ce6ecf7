"""An adapter as what it adds to tensors of its base: W' = W + s B A, a matrix at a time.

The names of modules and of tensors are not always the same (`transformer.h.0...` in the model, `h.0...` in its files), so
a tensor is found by its whole name, or by the one name that it ends with. Everything that does not fit is named at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pacos.errors import DataError
from pacos.export.tensors import Slot, Weights
from pacos.models.adapters import PREFIX, WEIGHTS, rank_and_scale, read_config, read_tensors


@dataclass(frozen=True)
class Update:
    """a (rank, in), b (out, rank); `transposed` where the weight is stored as (in, out), as GPT-2's are."""

    name: str
    a: Tensor
    b: Tensor
    scale: float
    transposed: bool

    def delta(self) -> Tensor:
        """What is added to the weight, in fp32."""
        product = self.scale * (self.b.float() @ self.a.float())
        return product.T if self.transposed else product


def read_updates(adapter: Path, base: Weights) -> dict[str, Update]:
    """Tensor name of the base -> its update. Raises DataError with everything that does not fit."""
    config, tensors = read_config(adapter), read_tensors(adapter)
    updates: dict[str, Update] = {}
    problems = []
    for key in sorted(tensors):
        module = key.removeprefix(PREFIX).removesuffix(".lora_A.weight")
        if key != f"{PREFIX}{module}.lora_A.weight":
            if not key.endswith(".lora_B.weight") or key.replace("lora_B", "lora_A") not in tensors:
                problems.append(f"{WEIGHTS}: {key} is no half of a pair of lora_A and lora_B")
            continue
        found = _update(module, key, config, tensors, base)
        if isinstance(found, str):
            problems.append(f"{WEIGHTS}: {found}")
        elif found.name in updates:
            problems.append(f"{WEIGHTS}: {module} and another module both add to {found.name}")
        else:
            updates[found.name] = found
    problems = problems or _missing(config["target_modules"], updates, base)
    if problems:
        raise DataError(f"{adapter}: the adapter does not fit this base model", problems)
    if not any(update.b.any() for update in updates.values()):
        raise DataError(
            f"{adapter}: every lora_B is zero, so the adapter changes nothing; it was saved before training"
        )
    return updates


def _update(module: str, key: str, config: dict[str, Any], tensors: dict[str, Tensor], base: Weights) -> Update | str:
    """The update of one matrix, or why there is none."""
    a, b = tensors[key], tensors.get(key.replace("lora_A", "lora_B"))
    name = tensor_of(module, base)
    if b is None:
        return f"{module}.lora_B is missing"
    if name is None:
        return f"{module}: the base has no tensor of its own for it (tied to another, or another model)"
    slot = base.slots[name]
    rank, scale = rank_and_scale(config, module)
    if a.dim() != 2 or b.dim() != 2 or a.shape[0] != rank or b.shape[1] != rank:
        return f"{module} has rank {a.shape[0]} and {b.shape[-1]}, and adapter_config.json says {rank}"
    transposed = bool(config.get("fan_in_fan_out"))
    shape = (a.shape[1], b.shape[0]) if transposed else (b.shape[0], a.shape[1])
    if slot.shape != shape:
        return f"{module} adds to a matrix {list(shape)}; the base's is {list(slot.shape)}"
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        return f"{module} holds NaN or infinity"
    return Update(name, a, b, scale, transposed)


def tensor_of(module: str, base: Weights) -> str | None:
    """The tensor that holds the weight of a module."""
    return tensor_called(f"{module}.weight", base.slots)


def tensor_called(name: str, slots: Mapping[str, Slot]) -> str | None:
    """The tensor that a model calls `name`: of that name, of the end of it, or the only one whose name ends with it."""
    pieces = name.split(".")
    for start in range(len(pieces) - 1):
        if (ending := ".".join(pieces[start:])) in slots:
            return ending
    longer = [found for found in slots if found.endswith(f".{name}")]
    return longer[0] if len(longer) == 1 else None


def _missing(targets: list[str], updates: dict[str, Update], base: Weights) -> list[str]:
    """Matrices that are named as targets, as PEFT matches them, and that the adapter holds nothing for."""
    return [
        f"{WEIGHTS}: holds nothing for {name}, which target_modules asks for"
        for name, slot in base.slots.items()
        if len(slot.shape) == 2 and name not in updates and _is_target(name.removesuffix(".weight"), targets)
    ]


def _is_target(module: str, targets: list[str]) -> bool:
    return any(module == target or module.endswith(f".{target}") for target in targets)


class Merged:
    """The weights of a base with an adapter added, in `dtype` or as the base has them; reads as TensorFiles does."""

    def __init__(self, base: Weights, updates: dict[str, Update], dtype: torch.dtype | None = None):
        self.base, self.updates = base, updates
        self.slots = {name: Slot(name, _kept(slot.dtype, dtype), slot.shape) for name, slot in base.slots.items()}

    def read(self, name: str) -> Tensor:
        return self.exact(name).to(self.slots[name].dtype)

    def exact(self, name: str) -> Tensor:
        """The tensor before it is rounded: fp32 where something is added."""
        weight = self.base.read(name)
        update = self.updates.get(name)
        return weight if update is None else weight.float().add_(update.delta())


def _kept(own: torch.dtype, asked: torch.dtype | None) -> torch.dtype:
    return asked if asked is not None and own.is_floating_point else own
