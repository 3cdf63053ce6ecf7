"""A transformers causal LM, called in the two pieces that training and inference need.

    hidden = network.hidden(ids, positions, layout)     every token, without the head
    network.logits(hidden[wanted])                      the head, only where it is wanted

The head's share of a small model's work is large (SmolLM2: a fifth of the weights), and most positions need none of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pacos.errors import UsageError
from pacos.models.attention import Layout, use_layouts
from pacos.models.norms import use_fused_norms

PLAIN_HEAD = ("llama", "phi3", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "smollm3", "olmo2")
"""Model types whose logits are one linear map of the last hidden state, soft-capped where the config says so."""


class Network:
    """`model` (a transformers CausalLM) with attention by layout and the head apart."""

    def __init__(self, model: Any):
        kind = model.config.model_type
        if kind not in PLAIN_HEAD:
            raise UsageError(f"model type '{kind}' is not supported; supported: {', '.join(PLAIN_HEAD)}")
        use_layouts(model)
        use_fused_norms(model)
        self.model = model
        self.decoder: nn.Module = getattr(model, model.base_model_prefix)
        self.softcap: float | None = getattr(model.config, "final_logit_softcapping", None)

    @property
    def head(self) -> nn.Linear:
        return self.model.get_output_embeddings()

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.head.weight.dtype

    def hidden(self, ids: Tensor, positions: Tensor, layout: Layout) -> Tensor:
        """Last hidden states (B, T, C) of token ids (B, T) at `positions` (B, T)."""
        out = self.decoder(input_ids=ids, position_ids=positions, use_cache=False, layout=layout)
        return out.last_hidden_state

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden (..., C) -> logits (..., V), soft-capped as the family does."""
        return soft_cap(self.head(hidden), self.softcap)


def soft_cap(logits: Tensor, cap: float | None) -> Tensor:
    """cap * tanh(logits / cap), Gemma 2's bound on its logits; unchanged where cap is None."""
    return logits if cap is None else torch.tanh(logits / cap) * cap
