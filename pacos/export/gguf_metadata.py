"""The metadata of a GGUF file from config.json: shapes, positions, windows, caps; what it cannot say is refused.

A sliding window that llama.cpp does not apply (Mistral's) becomes the context length: up to there both are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pacos.errors import UsageError
from pacos.export.gguf_names import ARCHITECTURES
from pacos.export.gguf_rope import original_context, rope, rotated, scaling_metadata

Value = int | float | str | bool | list[Any]


def metadata(config: Mapping[str, Any], name: str, swallows: bool = False) -> dict[str, Value]:
    """Key -> value, architecture and name first. Raises UsageError for what GGUF or llama.cpp cannot express."""
    kind = config["model_type"]
    arch = ARCHITECTURES[kind]
    heads = int(config["num_attention_heads"])
    size = head_size(config)
    found: dict[str, Value] = {
        "general.architecture": arch,
        "general.name": shown_name(name, swallows),
        "general.type": "model",
        f"{arch}.context_length": context_length(config),
        f"{arch}.embedding_length": int(config["hidden_size"]),
        f"{arch}.block_count": int(config["num_hidden_layers"]),
        f"{arch}.feed_forward_length": int(config["intermediate_size"]),
        f"{arch}.attention.head_count": heads,
        f"{arch}.attention.head_count_kv": int(config.get("num_key_value_heads") or heads),
        f"{arch}.attention.key_length": size,
        f"{arch}.attention.value_length": size,
        f"{arch}.attention.layer_norm_rms_epsilon": float(config.get("rms_norm_eps", 1e-6)),
        f"{arch}.vocab_size": int(config["vocab_size"]),
        f"{arch}.rope.dimension_count": rotated(config, size),
        f"{arch}.rope.freq_base": rope(config)["rope_theta"],
    }
    found |= scaling_metadata(config, arch)
    if kind == "phi3" and config.get("sliding_window"):
        found[f"{arch}.attention.sliding_window"] = int(config["sliding_window"])
    if kind == "gemma2":
        found |= _gemma2(config, size)
    return found


def shown_name(name: str, swallows: bool) -> str:
    """general.name. llama.cpp lets control tokens swallow the line end behind them, as Phi-3's do, where it says phi-3."""
    return f"{name} (phi-3)" if swallows and "phi-3" not in name.lower() else name


def head_size(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def context_length(config: Mapping[str, Any]) -> int:
    length = int(config["max_position_embeddings"])
    window = config.get("sliding_window")
    return min(length, int(window)) if config["model_type"] == "mistral" and window else length


def served_context(config: Mapping[str, Any]) -> int:
    """Up to which context llama.cpp computes what transformers does: beyond the original it takes longrope's other factors."""
    length = context_length(config)
    return min(length, original_context(config)) if rope(config)["rope_type"] == "longrope" else length


def _gemma2(config: Mapping[str, Any], size: int) -> dict[str, Value]:
    """Caps and window. llama.cpp takes the scale of attention from the head size, so another one is refused."""
    scalar = config.get("query_pre_attn_scalar", size)
    # of the 46-layer model llama.cpp takes hidden size / heads
    own = config["hidden_size"] // config["num_attention_heads"] if config["num_hidden_layers"] == 46 else size
    if scalar != own:
        raise UsageError(f"GGUF: query_pre_attn_scalar {scalar} cannot be said; llama.cpp takes {own} for this shape")
    return {
        "gemma2.attn_logit_softcapping": float(config["attn_logit_softcapping"]),
        "gemma2.final_logit_softcapping": float(config["final_logit_softcapping"]),
        "gemma2.attention.sliding_window": int(config["sliding_window"]),
    }


def config_facts(values: Mapping[str, Any]) -> dict[str, Any]:
    """What transformers' reader leaves out of the metadata it reads, as names of its config: windows, caps, head size."""
    arch = values.get("general.architecture")
    names = {
        "attn_logit_softcapping": "attn_logit_softcapping",
        "final_logit_softcapping": "final_logit_softcapping",
        "attention.sliding_window": "sliding_window",
    }
    found = {name: values[f"{arch}.{key}"] for key, name in names.items() if f"{arch}.{key}" in values}
    if arch == "phi3" and "sliding_window" not in found:
        found["sliding_window"] = None
    if arch in ("llama", "gemma2", "qwen2", "phi3") and (size := values.get(f"{arch}.attention.key_length")):
        found["head_dim"] = size
    if arch == "gemma2" and size:
        layers, width = values["gemma2.block_count"], values["gemma2.embedding_length"]
        found["query_pre_attn_scalar"] = width // values["gemma2.attention.head_count"] if layers == 46 else size
    return found
