"""RMSNorm by torch's fused operator, in place of transformers' chain of small ones.

y = x / sqrt(mean(x^2) + eps) * w            (Zhang and Sennrich 2019, arXiv:1910.07467)

Only for modules whose forward is that formula with the plain weight; Gemma's (1 + w) keeps its own.
"""

from __future__ import annotations

import types

import torch
from torch import Tensor, nn

PLAIN = ("LlamaRMSNorm", "Phi3RMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm", "SmolLM3RMSNorm")


def use_fused_norms(model: nn.Module) -> int:
    """Switch every plain RMSNorm of the model; returns how many."""
    plain = [m for m in model.modules() if type(m).__name__ in PLAIN]
    for module in plain:
        module.forward = types.MethodType(_fused, module)
    return len(plain)


def _fused(self: nn.Module, hidden_states: Tensor) -> Tensor:
    weight: Tensor = self.weight  # type: ignore[assignment]
    eps: float = self.variance_epsilon  # type: ignore[assignment]
    return torch.nn.functional.rms_norm(hidden_states, weight.shape, weight, eps)
