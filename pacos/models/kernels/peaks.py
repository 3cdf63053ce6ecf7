"""The largest of each row of logits and the logarithm of their mass, log sum exp, in one pass while the row is near."""

from __future__ import annotations

import torch
from torch import Tensor

from pacos.models.kernels import native


def peaks(logits: Tensor) -> tuple[Tensor, Tensor]:
    """logits (N, V) in fp32 -> where the largest of each row is, (N,), and log sum exp, (N,), in nats."""
    if not native.fits(logits):
        return reference_peaks(logits)
    at, mass = torch.empty(len(logits), dtype=torch.long), torch.empty(len(logits))
    native.call("peaks", logits, *logits.shape, at, mass)
    return at, mass


def reference_peaks(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The same by torch."""
    return logits.argmax(dim=-1), logits.logsumexp(dim=-1)
