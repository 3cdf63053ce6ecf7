"""Rotary positions, gated products, Gemma's norms and the rows of the cross entropy on a GPU, each in one pass through memory.

Their plain forms are chains of small operations, each a trip through memory. `fused` hands out what a run was switched to:

    torch.compile   a kernel made from the plain form itself: one for all layers, lengths of packs vary
    liger-kernel    the gated product (arXiv:2410.10989), where torch.compile is off or has no compiler
    nothing         the plain form, as on a CPU

Products, 4-bit weights, adapters and attention (cuda.py) are large kernels of their own and are not traced.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from pacos.errors import UsageError
from pacos.models.kernels.cuda import has_compiler

Function = TypeVar("Function", bound=Callable[..., Any])
LIGER = {
    "silu": ("liger_kernel.ops.swiglu", "LigerSiLUMulFunction"),
    "gelu": ("liger_kernel.ops.geglu", "LigerGELUMulFunction"),
}
"""Activation -> where liger-kernel has act(gate) * up."""

_way = ""


def use_cuda_kernels(device: torch.device, compile: str = "auto") -> list[str]:
    """Switch this process to fused operations on `device`; returns what was taken, a line each. On a CPU nothing is.

    `compile`: auto (where it can be done), on, off. Raises UsageError where `on` cannot be done.
    """
    global _way
    able = device.type == "cuda" and has_compiler()
    if compile == "on" and not able:
        why = f"this run is on '{device.type}'" if device.type != "cuda" else "Triton is not installed"
        raise UsageError(f"train.compile: 'on' needs a CUDA device and Triton, and {why}; use auto or off")
    _way = "torch.compile" if able and compile != "off" else "liger-kernel" if able and has_liger() else ""
    what = {
        "torch.compile": "rotary positions, gated products and losses are compiled",
        "liger-kernel": "gated products are liger-kernel's",
    }
    return [what[_way]] if _way else []


def has_liger() -> bool:
    return importlib.util.find_spec("liger_kernel") is not None


def fused(function: Function, x: Tensor) -> Function:
    """`function`, or the kernel that takes its place where `x` lies."""
    if not x.is_cuda or not _way:
        return function
    if _way == "torch.compile":
        return compiled(function)
    return liger_gated if function.__name__ == "reference_gated" else function  # type: ignore[return-value]


@functools.cache
def compiled(function: Function, backend: str = "inductor") -> Function:
    """One kernel for all lengths. It may not fall apart into several: what cannot be traced is an error."""
    return torch.compile(function, fullgraph=True, backend=backend)  # type: ignore[return-value]


def liger_gated(gate: Tensor, up: Tensor, kind: str) -> Tensor:
    """act(gate) * up; the backward pass overwrites both."""
    file, name = LIGER[kind]
    return getattr(importlib.import_module(file), name).apply(gate, up)
