"""Models of known shapes with random weights: what a run costs can be measured without a download.

    model = random_model("phi-3-mini", "qlora", dtype=torch.bfloat16, device=torch.device("cpu"), generator=generator)

Time and memory depend on shapes and dtypes alone. With method qlora one decoder layer is drawn, quantized and dropped
before the next, so the peak is the NF4 model and one layer of it unquantized:

    Phi-3-mini: 3.8 G weights, 15.3 GB in fp32, 7.6 GB in bf16; 2.2 GB in NF4 (head and embedding in bf16)
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pacos.errors import UsageError, did_you_mean
from pacos.models.quantize import quantize_linears, quantized_linears

STD = 0.02
"""Of the drawn weights, as in Llama's and Phi's initialisation."""


@dataclass(frozen=True)
class Geometry:
    """A transformers model type and the shapes of one member of it."""

    kind: str
    shape: dict[str, Any]


GEOMETRIES = {
    "phi-3-mini": Geometry(
        "phi3",
        {
            "vocab_size": 32064,
            "hidden_size": 3072,
            "intermediate_size": 8192,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "max_position_embeddings": 4096,
            "sliding_window": 2047,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": False,
        },
    ),
    "llama-2-7b": Geometry(
        "llama",
        {
            "vocab_size": 32000,
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": False,
        },
    ),
    "smollm2-135m": Geometry(
        "llama",
        {
            "vocab_size": 49152,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True,
        },
    ),
}


def random_model(
    name: str,
    method: str,
    *,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator,
    alike: bool = False,
    **overrides: Any,
) -> Any:
    """The transformers model, frozen and in eval mode; its layers in NF4 where `method` is qlora. Raises UsageError.

    `alike` draws one layer and copies it for the others, each in memory of its own: NF4 takes a minute of two CPU cores
    for Phi-3's 3.6 G weights otherwise. `overrides` replace shapes. `generator` is on `device`.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    geometry = find_geometry(name)
    config = AutoConfig.for_model(geometry.kind, **{**geometry.shape, **overrides})
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    decoder = getattr(model, model.base_model_prefix)
    decoder.rotary_emb = type(decoder.rotary_emb)(config=config).to(device)
    fill_layers(decoder.layers, method == "qlora", dtype, device, generator, alike)
    draw(model, device, generator)
    model.tie_weights()
    return model.eval().requires_grad_(False)


def find_geometry(name: str) -> Geometry:
    """Raises UsageError, which lists those that are known."""
    if name not in GEOMETRIES:
        known = ", ".join(GEOMETRIES)
        raise UsageError(f"geometry '{name}' is not known{did_you_mean(name, list(GEOMETRIES))}\n  known: {known}")
    return GEOMETRIES[name]


def fill_layers(
    layers: nn.ModuleList, nf4: bool, dtype: torch.dtype, device: torch.device, generator: torch.Generator, alike: bool
) -> None:
    """Draw the layers one by one, each in NF4 before the next is begun."""
    for i, layer in enumerate(layers):
        if alike and i:
            layers[i] = copied(layers[0], i)
            continue
        draw(layer, device, generator)
        if nf4:
            quantize_linears(layer, double_quant=True, compute_dtype=dtype)


def copied(layer: nn.Module, number: int) -> nn.Module:
    """The same values as layer `number`, in memory of its own."""
    new = copy.deepcopy(layer)
    parts: list[Any] = [module for module in new.modules() if hasattr(module, "layer_idx")]
    for part in parts:
        part.layer_idx = number
    return new


def draw(module: nn.Module, device: torch.device, generator: torch.Generator) -> None:
    """Give each parameter on the meta device its values: matrices normal, vectors (the norms) ones. Tied ones share."""
    made: dict[int, nn.Parameter] = {}
    for owner in module.modules():
        for name, empty in owner.named_parameters(recurse=False):
            if empty.is_meta:
                if id(empty) not in made:
                    made[id(empty)] = nn.Parameter(drawn(empty, device, generator), requires_grad=False)
                setattr(owner, name, made[id(empty)])


def drawn(empty: Tensor, device: torch.device, generator: torch.Generator) -> Tensor:
    full = torch.empty(empty.shape, dtype=empty.dtype, device=device)
    return full.normal_(0.0, STD, generator=generator) if empty.ndim >= 2 else full.fill_(1.0)


def model_bytes(model: nn.Module) -> int:
    """Memory of the weights: packed ones with their scales, tied ones once."""
    kept: dict[int, Tensor] = {}
    for tensor in [*model.parameters(), *model.buffers()]:
        kept[tensor.data_ptr()] = tensor
    for linear in quantized_linears(model).values():
        state = linear.weight.quant_state
        for tensor in (state.absmax, *((state.state2.absmax,) if state.nested else ())):
            kept[tensor.data_ptr()] = tensor
    return sum(tensor.numel() * tensor.element_size() for tensor in kept.values())
