"""A random two-layer model of any family that transformers knows, from one shape under all the names that configs use.

model = tiny_of("gptj")                    hidden size 32, 320 entries, no dropout
model = tiny_of("granite", logits_scaling=4.0)
"""

from __future__ import annotations

from typing import Any

import torch

from tests.tiny import WINDOW

WIDTH: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "embedding_size", "word_embed_proj_dim"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "d_ff", "attention_hidden_size"), 48),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("head_dim", "kv_channels"), 8),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len"), 128),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 16),
}
DROPOUTS = (
    "dropout",
    "attention_dropout",
    "hidden_dropout",
    "residual_dropout",
    "embedding_dropout",
    "activation_dropout",
)
REST: dict[str, Any] = {
    "vocab_size": 320,
    **dict.fromkeys((*DROPOUTS, "resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts"), 1),
    **dict.fromkeys(("state_size", "mamba_d_state"), 8),
    **dict.fromkeys(("rotary_dim", "time_step_rank", "mamba_dt_rank"), 4),
    **dict.fromkeys(("initializer_range", "init_std"), 0.15),
    "n_inner": None,
    "num_experts_per_tok": 2,
    "sliding_window": WINDOW,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OWN: dict[str, dict[str, Any]] = {
    "cohere": {"logit_scale": 0.3},
    "cohere2": {"logit_scale": 0.3},
    "granite": {"logits_scaling": 6.0, "embedding_multiplier": 3.0, "residual_multiplier": 0.5},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "recurrent_gemma": {"num_hidden_layers": 3, "attention_window_size": WINDOW},
    "rwkv": {"attention_hidden_size": 32},
    "gemma3_text": {"query_pre_attn_scalar": 8},
}


def tiny_config(family: str, **overrides: Any) -> Any:
    """The family's default config, with those of our names that it knows, and two of its kinds of layer."""
    from transformers import AutoConfig

    kind = type(AutoConfig.for_model(family))
    default = kind().to_dict()
    known = default.keys() | kind.attribute_map.keys()
    options = {name: value for name, value in (WIDTH | REST).items() if name in known}
    for name in ("layer_types", "layers_block_type"):
        if isinstance(default.get(name), list):
            options[name] = (list(dict.fromkeys(default[name])) * 2)[:2]
    return kind(**(options | OWN.get(family, {}) | overrides))


def tiny_of(family: str, *, seed: int = 0, **overrides: Any) -> Any:
    """A random transformers model with a language-modeling head, in fp32, eval mode. Same seed, same weights."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(tiny_config(family, **overrides), dtype=torch.float32)
    return model.eval()
