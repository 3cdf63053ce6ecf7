"""The gated MLP, y = (act(x G^T) * (x U^T)) D^T, keeping only x G^T and x U^T for the backward pass.

Where the matrices are frozen and plain the whole MLP is one function. Matrices that carry adapters, that are trained, or that
are packed in 4 bits stay modules of their own, with act(g) * u fused between them. SiLU makes it SwiGLU (Shazeer 2020,
arXiv:2002.05202), GELU by tanh is Gemma's.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pacos.models.kernels import native
from pacos.models.kernels.cuda_layers import fused
from pacos.models.kernels.native import Address, address

KNOWN = (
    "LlamaMLP",
    "MistralMLP",
    "Phi3MLP",
    "Qwen2MLP",
    "Qwen3MLP",
    "GemmaMLP",
    "Gemma2MLP",
    "SmolLM3MLP",
    "Olmo2MLP",
)
"""Modules whose forward is that formula and nothing else; others of the same parts scale, clamp or drop in between."""
ACTIVATIONS = {"SiLUActivation": "silu", "SiLU": "silu", "GELUTanh": "gelu", "PytorchGELUTanh": "gelu"}


def use_gated_mlps(model: nn.Module) -> int:
    """Switch every gate/up/down MLP of the model; returns how many."""
    known = [m for m in model.modules() if _is_gated(m)]
    for module in known:
        module.forward = types.MethodType(_forward, module)
    return len(known)


def _is_gated(module: Any) -> bool:
    parts = ("gate_up_proj",) if hasattr(module, "gate_up_proj") else ("gate_proj", "up_proj")
    return (
        type(module).__name__ in KNOWN
        and all(isinstance(getattr(module, part, None), nn.Linear) for part in (*parts, "down_proj"))
        and type(_activation(module)).__name__ in ACTIVATIONS
    )


def _activation(module: Any) -> Any:
    return getattr(module, "act_fn", None) or getattr(module, "activation_fn", None)


def _forward(self: Any, x: Tensor) -> Tensor:
    kind = ACTIVATIONS[type(_activation(self)).__name__]
    joined = hasattr(self, "gate_up_proj")
    first = (self.gate_up_proj,) if joined else (self.gate_proj, self.up_proj)
    linears = (*first, self.down_proj)
    if all(_is_frozen(linear) for linear in linears) and native.fits(x):
        return _FrozenMLP.apply(x, kind, *(linear.weight for linear in linears))
    made = [linear(x) for linear in first]
    return self.down_proj(gated_halves(made[0], kind) if joined else gated(made[0], made[1], kind))


def _is_frozen(linear: nn.Module) -> bool:
    """A plain matrix that nothing is trained of."""
    return type(linear) is nn.Linear and linear.bias is None and not linear.weight.requires_grad


def reference_gated(gate: Tensor, up: Tensor, kind: str) -> Tensor:
    """act(gate) * up, by torch."""
    if kind == "silu":
        return nn.functional.silu(gate) * up
    return nn.functional.gelu(gate, approximate="tanh") * up


def gated(gate: Tensor, up: Tensor, kind: str) -> Tensor:
    """act(gate) * up, each (..., I)."""
    return _Gated.apply(kind, gate, up) if native.fits(gate, up) else fused(reference_gated, gate)(gate, up, kind)


def gated_halves(both: Tensor, kind: str) -> Tensor:
    """The same where gate and up lie side by side, (..., 2 I)."""
    if native.fits(both):
        return _Gated.apply(kind, both)
    gate, up = both.chunk(2, dim=-1)
    return fused(reference_gated, gate)(gate, up, kind)


class _Gated(torch.autograd.Function):
    """Of gate and up, or of both side by side."""

    @staticmethod
    def forward(ctx: Any, kind: str, *made: Tensor) -> Tensor:
        ctx.save_for_backward(*made)
        ctx.kind = kind
        return act_times_up(made, kind)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return None, *gate_gradients(ctx.saved_tensors, upstream[0].contiguous(), ctx.kind)


class _FrozenMLP(torch.autograd.Function):
    """The whole MLP of frozen matrices: (gate, up, down), or (gate and up in one, down)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: str, *weights: Tensor) -> Tensor:
        made = [nn.functional.linear(x, weight) for weight in weights[:-1]]
        ctx.save_for_backward(*made, *weights)
        ctx.kind = kind
        return nn.functional.linear(act_times_up(made, kind), weights[-1])

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: checkpointing computes them anew at each look
        made, weights = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        dy = upstream[0].reshape(-1, upstream[0].shape[-1])
        grads = gate_gradients(made, dy @ weights[-1], ctx.kind)
        dx = grads[0].view(len(dy), -1) @ weights[0]
        if len(grads) > 1:
            dx.addmm_(grads[1].view(len(dy), -1), weights[1])
        return dx.view_as(upstream[0]), None, *(None for _ in weights)


def act_times_up(made: Sequence[Tensor], kind: str) -> Tensor:
    """act(gate) * up of (gate, up) or of (both,), by the kernel."""
    gate, up, size, stride = _places(made)
    out = made[0].new_empty(*made[0].shape[:-1], size)
    native.call("gated_forward", gate, up, out, out.numel() // size, size, stride, kind == "gelu", native.wide(out))
    return out


def gate_gradients(made: Sequence[Tensor], dout: Tensor, kind: str) -> list[Tensor]:
    """The gradients of `made`, from that of act(gate) * up."""
    grads = [torch.empty_like(x) for x in made]
    gate, up, size, stride = _places(made)
    dgate, dup, _, _ = _places(grads)
    rows = dout.numel() // size
    native.call("gated_backward", gate, up, dout, dgate, dup, rows, size, stride, kind == "gelu", native.wide(dout))
    return grads


def _places(made: Sequence[Tensor]) -> tuple[Address, Address, int, int]:
    """Where gate and up lie, how wide a row of each is, and how far apart their rows are."""
    width = made[0].shape[-1]
    if len(made) == 2:
        return address(made[0]), address(made[1]), width, width
    return address(made[0]), address(made[0], width // 2), width // 2, width
