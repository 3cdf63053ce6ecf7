"""Query, key and value of a layer as one function, with their adapters and rotary positions.

transformers' attention modules call q_proj, k_proj and v_proj one after another and turn the results by a chain of small
operations. For the families named here the same is done in two kernels (kernels/low_rank.py, kernels/rotary.py); all that
is known of a family is in the table. Other families keep their own forward, with LoRA's kernel alone.
"""

from __future__ import annotations

import types
from typing import Any

from torch import Tensor, nn

from pacos.models.attention import NAME
from pacos.models.kernels.rotary import Region, rotate
from pacos.models.lora import project

WINDOW_IN = {
    "LlamaAttention": None,
    "MistralAttention": "config",
    "Phi3Attention": "config",
    "Qwen2Attention": "self",
    "Gemma2Attention": "self",
}
"""Attention modules that have q, k, v and o projections, rotary positions, and nothing else; and where their window is."""


def use_joint_projections(model: nn.Module) -> int:
    """Switch every attention module that is known; returns how many. Others' forward passes stay as they are."""
    known = [m for m in model.modules() if type(m).__name__ in WINDOW_IN and "forward" not in vars(m)]
    for module in known:
        module.forward = types.MethodType(_forward, module)
    return len(known)


def _forward(
    self: Any,
    hidden_states: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    attention_mask: Tensor | None = None,
    past_key_values: Any = None,
    **rest: Any,
) -> tuple[Tensor, Any]:
    layout = rest.get("layout")
    if layout is None or past_key_values is not None or self.config._attn_implementation != NAME:
        options = {"attention_mask": attention_mask, "past_key_values": past_key_values, **rest}
        return type(self).forward(self, hidden_states, position_embeddings=position_embeddings, **options)
    query, key, value = _turned(self, hidden_states, *position_embeddings)
    softcap = getattr(self, "attn_logit_softcapping", None)
    options = {"scaling": self.scaling, "window": window_of(self), "softcap": softcap}
    out = layout.attend(self.layer_idx, query, key, value, **options)
    return self.o_proj(out.reshape(*hidden_states.shape[:-1], -1)), None


def _turned(self: Any, x: Tensor, cos: Tensor, sin: Tensor) -> list[Tensor]:
    """Query, key and value, (B, heads, T, D), the first two turned to their positions."""
    config, size = self.config, self.head_dim
    q, kv = config.num_attention_heads, config.num_key_value_heads
    if hasattr(self, "qkv_proj"):
        regions = (Region(0, 0, q, size), Region(0, q * size, kv, size))
        both = rotate(project(x, [self.qkv_proj]), regions, cos, sin)
        parts = both[0].split([q * size, kv * size, kv * size], dim=-1)
    else:
        query, key, value = project(x, [self.q_proj, self.k_proj, self.v_proj])
        parts = (*rotate([query, key], (Region(0, 0, q, size), Region(1, 0, kv, size)), cos, sin), value)
    return [part.unflatten(-1, (-1, size)).transpose(1, 2) for part in parts]


def window_of(self: Any) -> int | None:
    place = {None: None, "config": self.config, "self": self}[WINDOW_IN[type(self).__name__]]
    return getattr(place, "sliding_window", None)
