"""Rotary positions as GGUF has them, and back: scaling by metadata, or by a factor for each frequency.

    linear     rope.scaling.type, factor
    yarn       the same, with the original context; attn_factor is what is left of transformers' over 1 + 0.1 ln(factor),
               which llama.cpp multiplies by itself (Peng et al. 2023, arXiv:2309.00071)
    llama3     tensor rope_freqs: what each frequency is divided by
    longrope   tensors rope_factors_short and rope_factors_long, attn_factor, the original context; Phi-3 only. llama.cpp
               takes the long ones where its context is set beyond the original, transformers where a text is longer

Read back, factors become transformers' longrope, which is the general form of all that divide frequencies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pacos.errors import UsageError

KNOWN = ("default", "linear", "llama3", "yarn", "longrope")
FREQS, SHORT, LONG = "rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"


def rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """theta and scaling, as newer configs (rope_parameters) or older ones (rope_theta, rope_scaling) have them."""
    both = {"rope_theta": config.get("rope_theta")} | dict(config.get("rope_scaling") or {})
    found = both | dict(config.get("rope_parameters") or {})
    kind = found.get("rope_type") or found.get("type") or "default"
    if kind == "su" or (kind == "yarn" and config["model_type"] == "phi3"):  # older names
        kind = "longrope"
    if kind not in KNOWN or (kind == "longrope") > (config["model_type"] == "phi3"):
        raise UsageError(
            f"GGUF: rope scaling '{kind}' is not written here for {config['model_type']}; known: {', '.join(KNOWN[:-1])}, "
            "for phi3 longrope"
        )
    return found | {"rope_type": kind, "rope_theta": float(found.get("rope_theta") or 10000.0)}


def rotated(config: Mapping[str, Any], head_size: int) -> int:
    """How many values of a head are turned; all of them but for some of the Phi family. Raises UsageError for others."""
    share = rope(config).get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    if share != 1.0 and config["model_type"] != "phi3":
        raise UsageError(f"GGUF: partial_rotary_factor {share} is not written here for {config['model_type']}")
    return int(head_size * share)


def original_context(config: Mapping[str, Any]) -> int:
    """The context before scaling; of Phi-3 a key of the config itself counts, as in transformers."""
    own = config.get("original_max_position_embeddings") if config["model_type"] == "phi3" else None
    return int(own or rope(config).get("original_max_position_embeddings") or config["max_position_embeddings"])


def scaling_metadata(config: Mapping[str, Any], arch: str) -> dict[str, Any]:
    """The `rope.scaling.*` keys."""
    scaling, place = rope(config), f"{arch}.rope.scaling"
    kind = scaling["rope_type"]
    if kind in ("default", "llama3"):
        return {}
    if kind == "linear":
        return {f"{place}.type": "linear", f"{place}.factor": float(scaling["factor"])}
    original = {f"{place}.original_context_length": original_context(config)}
    if kind == "longrope":
        return {**original, f"{place}.attn_factor": _longrope_attention(config)}
    if scaling.get("truncate") is False:
        raise UsageError("GGUF: yarn without 'truncate' cannot be said; llama.cpp rounds the range of its ramp")
    factor = float(scaling.get("factor") or config["max_position_embeddings"] / original_context(config))
    found = {f"{place}.type": "yarn", f"{place}.factor": factor, **original}
    found |= {f"{place}.yarn_{key}": float(scaling[key]) for key in ("beta_fast", "beta_slow") if scaling.get(key)}
    rest = _yarn_attention(scaling, factor) / _mscale(factor)
    return found if rest == 1.0 else {**found, f"{place}.attn_factor": rest}


def _mscale(factor: float, mscale: float = 1.0) -> float:
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def _yarn_attention(scaling: Mapping[str, Any], factor: float) -> float:
    """What cosine and sine are multiplied by, as transformers computes it."""
    if scaling.get("attention_factor") is not None:
        return float(scaling["attention_factor"])
    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        return _mscale(factor, scaling["mscale"]) / _mscale(factor, scaling["mscale_all_dim"])
    return _mscale(factor)


def _longrope_attention(config: Mapping[str, Any]) -> float:
    scaling, original = rope(config), original_context(config)
    if scaling.get("attention_factor") is not None:
        return float(scaling["attention_factor"])
    factor = float(scaling.get("factor") or config["max_position_embeddings"] / original)
    return math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0


def factor_tensors(config: Mapping[str, Any], head_size: int) -> dict[str, Tensor]:
    """GGUF name -> what each frequency is divided by, (turned values / 2,); empty where metadata says it all."""
    scaling = rope(config)
    if scaling["rope_type"] == "llama3":
        return {FREQS: _llama3(scaling, rotated(config, head_size))}
    if scaling["rope_type"] != "longrope":
        return {}
    found = {LONG: scaling["long_factor"], SHORT: scaling["short_factor"]}
    if any(len(factors) != rotated(config, head_size) // 2 for factors in found.values()):
        raise UsageError(
            f"config.json: short_factor and long_factor need {rotated(config, head_size) // 2} numbers each"
        )
    return {name: torch.tensor(factors, dtype=torch.float32) for name, factors in found.items()}


def _llama3(scaling: Mapping[str, Any], size: int) -> Tensor:
    factor, low, high = (float(scaling[k]) for k in ("factor", "low_freq_factor", "high_freq_factor"))
    old = float(scaling["original_max_position_embeddings"])
    factors = []
    for i in range(0, size, 2):
        wavelength = 2 * math.pi * scaling["rope_theta"] ** (i / size)
        if wavelength < old / high:
            factors.append(1.0)
        elif wavelength > old / low:
            factors.append(factor)
        else:
            smooth = (old / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return torch.tensor(factors, dtype=torch.float32)


def rope_facts(values: Mapping[str, Any], names: Sequence[str], read: Callable[[str], Tensor]) -> dict[str, Any]:
    """What a file says of scaling, as keys of transformers' config; empty where it says nothing."""
    arch = values.get("general.architecture")
    said = {
        key.removeprefix(f"{arch}.rope.scaling."): value for key, value in values.items() if ".rope.scaling." in key
    }
    parameters: dict[str, Any] = {"rope_theta": float(values.get(f"{arch}.rope.freq_base", 10000.0))}
    whole = values.get(f"{arch}.context_length", 0)
    original = int(said.get("original_context_length", whole))
    if arch == "phi3":
        parameters["partial_rotary_factor"] = _turned_share(values)
    if FREQS in names or SHORT in names:
        short, long = (FREQS, FREQS) if FREQS in names else (SHORT, LONG)
        parameters |= {"rope_type": "longrope", "original_max_position_embeddings": original}
        parameters |= {"short_factor": read(short).tolist(), "long_factor": read(long).tolist()}
        parameters["attention_factor"] = float(said.get("attn_factor", 1.0))
    elif said.get("type") in ("linear", "yarn"):
        factor = float(said["factor"])
        parameters |= {"rope_type": said["type"], "factor": factor}
        if said["type"] == "yarn":
            parameters["original_max_position_embeddings"] = original
            parameters["attention_factor"] = float(said.get("attn_factor", 1.0)) * _mscale(factor)
            parameters |= {k: float(said[f"yarn_{k}"]) for k in ("beta_fast", "beta_slow") if f"yarn_{k}" in said}
    elif parameters.get("partial_rotary_factor", 1.0) == 1.0:
        return {}
    found: dict[str, Any] = {"rope_parameters": {"rope_type": "default", **parameters}}
    return found | ({"original_max_position_embeddings": original} if arch == "phi3" else {})


def _turned_share(values: Mapping[str, Any]) -> float:
    """Of a Phi-3's heads, how much is turned."""
    size = values.get("phi3.attention.key_length")
    size = size or values["phi3.embedding_length"] // values["phi3.attention.head_count"]
    return float(values.get("phi3.rope.dimension_count", size) / size)
