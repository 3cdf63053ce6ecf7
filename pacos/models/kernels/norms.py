"""RMSNorm in one pass forward and one back, in place of transformers' chain of small operations.

y = x / sqrt(mean(x^2) + eps) * w            (Zhang and Sennrich 2019, arXiv:1910.07467; Gemma multiplies by 1 + w)

The backward pass keeps x and one number a row:  dx = rstd (w dy - x rstd^2 mean(x w dy)).
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor, nn

from pacos.models.kernels import native
from pacos.models.kernels.cuda_layers import fused

PLAIN = (
    "LlamaRMSNorm",
    "Phi3RMSNorm",
    "MistralRMSNorm",
    "Qwen2RMSNorm",
    "Qwen3RMSNorm",
    "SmolLM3RMSNorm",
)
SHIFTED = ("GemmaRMSNorm", "Gemma2RMSNorm")
"""Those that multiply by 1 + w."""


def use_fused_norms(model: nn.Module) -> int:
    """Switch every RMSNorm of the model that is known; returns how many."""
    known = [m for m in model.modules() if type(m).__name__ in PLAIN + SHIFTED]
    for module in known:
        module.forward = types.MethodType(_shifted if type(module).__name__ in SHIFTED else _plain, module)
    return len(known)


def _plain(self: Any, hidden_states: Tensor) -> Tensor:
    return rms_norm(hidden_states, self.weight, self.variance_epsilon)


def _shifted(self: Any, hidden_states: Tensor) -> Tensor:
    return rms_norm(hidden_states, 1.0 + self.weight.float(), self.eps)


def reference_rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The same by torch, at the precision that the kernel has: fp32 inside, rounded once."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x (..., C) in its dtype, weight (C,) -> like x."""
    if native.fits(x):
        return _RMSNorm.apply(x, weight, eps)
    if weight.dtype == x.dtype:
        return torch.nn.functional.rms_norm(x, weight.shape, weight, eps)
    return fused(reference_rms_norm, x)(x, weight, eps)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        rows, size = x.numel() // x.shape[-1], x.shape[-1]
        y, rstd = torch.empty_like(x), torch.empty(rows)
        native.call("rms_norm_forward", x, weight.float().contiguous(), y, rstd, rows, size, float(eps), native.wide(x))
        ctx.save_for_backward(x, weight, rstd)
        return y

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, rstd = ctx.saved_tensors
        dy, rows, size = upstream[0].contiguous(), rstd.numel(), x.shape[-1]
        dx = dweight = None
        if ctx.needs_input_grad[0]:
            dx = torch.empty_like(x)
            scale = weight.float().contiguous()
            native.call("rms_norm_backward", dy, x, scale, rstd, dx, rows, size, native.wide(x))
        if ctx.needs_input_grad[1]:
            normed = x.view(rows, size).float() * rstd[:, None]
            dweight = (normed * dy.view(rows, size)).sum(0).to(weight.dtype)
        return dx, dweight, None
