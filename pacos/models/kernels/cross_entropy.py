"""Cross entropy of the head without its logits: (N, V) never exists at once.

    loss = sum_n  logsumexp(z_n) - z_n[target_n],      z = cap(h W^T)

Pieces of `chunk` tokens are multiplied, reduced and differentiated in the forward pass, since d loss / d z is
softmax(z) - onehot(target) and needs nothing from later; the backward pass only scales. The idea is Liger's fused linear
cross entropy (arXiv:2410.10989) and Cut Cross-Entropy (arXiv:2411.09009).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pacos.models.kernels import native
from pacos.models.kernels.cuda_layers import fused

CHUNK = 512


def reference_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float | None = None) -> Tensor:
    """The same sum written plainly; what `linear_cross_entropy` is tested against."""
    logits = hidden.float() @ weight.float().T
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    return torch.nn.functional.cross_entropy(logits, targets, reduction="sum")


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float | None = None) -> Tensor:
    """Summed negative log-likelihood in nats, a scalar in fp32. hidden (N, C), weight (V, C), targets (N,)."""
    return _LinearCrossEntropy.apply(hidden, weight, targets, softcap)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float | None) -> Tensor:
        want_hidden, want_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if want_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if want_weight else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, hidden.shape[0], CHUNK):
            piece = slice(start, start + CHUNK)
            total += _piece(hidden[piece], weight, targets[piece], softcap, grad_hidden, grad_weight, piece)
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        by = upstream[0]
        return (
            None if grad_hidden is None else grad_hidden * by.to(grad_hidden.dtype),
            None if grad_weight is None else (grad_weight * by).to(ctx.weight_dtype),
            None,
            None,
        )


def _piece(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    softcap: float | None,
    grad_hidden: Tensor | None,
    grad_weight: Tensor | None,
    piece: slice,
) -> Tensor:
    """Loss of one piece; its gradients are written into the buffers that are there."""
    logits = hidden @ weight.T
    wanted = grad_hidden is not None or grad_weight is not None
    nll, grad = _rows(logits, targets, softcap, wanted)
    if grad_hidden is not None:
        torch.mm(grad, weight, out=grad_hidden[piece])
    if grad_weight is not None:
        grad_weight += grad.T @ hidden
    return nll.sum()


def _rows(logits: Tensor, targets: Tensor, softcap: float | None, wanted: bool) -> tuple[Tensor, Tensor]:
    """Loss of each row, (n,) in fp32; where it is wanted also the gradient of the logits, which takes their place.

    Raises IndexError or torch's RuntimeError for a target that is none of the V columns.
    """
    if targets.shape != logits.shape[:1]:
        raise ValueError(f"{tuple(targets.shape)} targets for {logits.shape[0]} rows of logits")
    if softcap is None and native.fits(logits) and _int64_beside(targets, logits):
        nll = torch.empty(len(targets))
        native.call("cross_entropy_rows", logits, targets, nll, *logits.shape, wanted, native.wide(logits))
        return nll, logits
    return fused(reference_rows, logits)(logits, targets, softcap, wanted)


def _int64_beside(targets: Tensor, logits: Tensor) -> bool:
    """Whether targets are what the kernel reads."""
    return targets.dtype == torch.int64 and targets.device == logits.device and targets.is_contiguous()


def reference_rows(logits: Tensor, targets: Tensor, softcap: float | None, wanted: bool) -> tuple[Tensor, Tensor]:
    """The same by torch."""
    wide, targets = logits.float(), targets.long()
    slope = None
    if softcap is not None:
        squashed = torch.tanh(wide / softcap)
        wide, slope = squashed * softcap, 1 - squashed.square()
    lse = torch.logsumexp(wide, dim=-1, keepdim=True)
    nll = lse.squeeze(1) - wide.gather(1, targets[:, None]).squeeze(1)
    if not wanted:
        return nll, logits
    grad = wide.sub_(lse).exp_()
    grad[torch.arange(len(targets), device=grad.device), targets] -= 1
    return nll, (grad if slope is None else grad.mul_(slope)).to(logits.dtype)


@torch.no_grad()
def token_nll(hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float | None = None) -> Tensor:
    """Negative log-likelihood of each target in nats, (N,) fp32, for scoring. hidden (N, C), weight (V, C)."""
    pieces = []
    for start in range(0, hidden.shape[0], CHUNK):
        logits = hidden[start : start + CHUNK] @ weight.T
        pieces.append(_rows(logits, targets[start : start + CHUNK], softcap, False)[0])
    return torch.cat(pieces) if pieces else torch.zeros(0, device=hidden.device)
