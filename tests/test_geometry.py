"""Random models of known shapes: their sizes are those published, and NF4 ones are built within the memory they take."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pacos.errors import UsageError
from pacos.models.geometry import GEOMETRIES, STD, model_bytes, random_model
from pacos.models.lora import LoraSpec, attach
from pacos.models.network import Network
from pacos.models.packs import make_packs
from pacos.models.quantize import count_parameters, dequantize_weight, quantized_linears
from pacos.prompts import Rendered
from pacos.training.train import accumulate

PARAMETERS = {"phi-3-mini": 3_821_079_552, "llama-2-7b": 6_738_415_616, "smollm2-135m": 134_515_008}
SMALL: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "vocab_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ROWS = [Rendered((1, *range(10, 10 + n)), (False, *[True] * n)) for n in (7, 12)]


def small(name: str = "phi-3-mini", method: str = "qlora", seed: int = 0, **more: Any) -> Any:
    generator = torch.Generator().manual_seed(seed)
    where: dict[str, Any] = {"dtype": torch.float32, "device": torch.device("cpu"), "generator": generator}
    return random_model(name, method, **where, **{**SMALL, **more})


@pytest.mark.parametrize("name", GEOMETRIES)
def test_shapes_have_the_published_number_of_parameters(name: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    geometry = GEOMETRIES[name]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(geometry.kind, **geometry.shape))
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("method", ["full", "qlora"])
def test_a_random_model_of_each_shape_takes_a_training_step(name: str, method: str) -> None:
    model = small(name, method)
    attach(model, LoraSpec(4, 8.0, 0.0, ("q_proj", "o_proj")), torch.Generator().manual_seed(0))
    assert accumulate(Network(model), make_packs(ROWS, 64)) == pytest.approx(5.5, abs=0.3)  # ln 256, at random


def test_weights_are_normal_and_norms_are_ones() -> None:
    model = small(method="full", hidden_size=512)
    weight = model.model.layers[1].mlp.down_proj.weight
    assert float(weight.std()) == pytest.approx(STD, rel=0.02)
    assert float(weight.mean().abs()) < STD / 50
    assert torch.equal(model.model.norm.weight, torch.ones(512))


def test_the_same_seed_draws_the_same_weights_and_layers_differ() -> None:
    first, again, other = small(seed=1), small(seed=1), small(seed=2)
    name = "mlp.down_proj"
    one, same, different = (dequantize_weight(m.model.layers[0].get_submodule(name)) for m in (first, again, other))
    assert torch.equal(one, same)
    assert not torch.equal(one, different)
    assert not torch.equal(one, dequantize_weight(first.model.layers[1].get_submodule(name)))


def test_alike_layers_hold_the_same_values_in_memory_of_their_own() -> None:
    model = small(alike=True)
    layers = model.model.layers
    weights = [layer.mlp.down_proj.weight.data for layer in layers]
    assert torch.equal(weights[0], weights[2])
    assert len({w.data_ptr() for w in weights}) == 3
    assert [layer.self_attn.layer_idx for layer in layers] == [0, 1, 2]


def test_method_qlora_quantizes_the_layers_and_not_the_head() -> None:
    model = small()
    assert len(quantized_linears(model)) == 3 * 4
    assert type(model.lm_head) is nn.Linear
    assert quantized_linears(small(method="lora")) == {}
    assert count_parameters(model) == count_parameters(small(method="lora"))
    assert not any(p.requires_grad for p in model.parameters())
    assert not any(p.is_meta for p in model.parameters())


def test_tied_weights_stay_tied() -> None:
    model = small("smollm2-135m", "full")
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_bytes_of_packed_weights_are_four_bits_and_their_scales() -> None:
    linears = quantized_linears(small()).values()
    weights = sum(m.weight.quant_state.shape.numel() for m in linears)
    packed = sum(model_bytes(m) for m in linears)
    codes = 16 * 4 + 256 * 4  # of NF4 and of the scales, kept by each matrix
    scales = weights // 64 + 4 * (weights // 64 // 256 + 1)
    assert weights // 2 < packed <= weights // 2 + scales + codes * len(linears) + 4 * len(linears)


def test_an_unknown_shape_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(UsageError) as told:
        small("phi-3-mni")
    assert str(told.value) == (
        "geometry 'phi-3-mni' is not known; did you mean 'phi-3-mini'?\n  known: phi-3-mini, llama-2-7b, smollm2-135m"
    )


class Alive(TorchDispatchMode):
    """Bytes of all tensors made inside that are alive, at the most."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._storages: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and not tensor.is_meta:
                storage = tensor.untyped_storage()
                self._storages[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self._storages = {key: kept for key, kept in self._storages.items() if not kept[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._storages.values()))
        return out


@pytest.mark.parametrize("alike", [False, True])
def test_building_in_nf4_needs_little_more_than_the_packed_model(alike: bool) -> None:
    """Beyond the packed model: one layer as it is drawn, and what quantizing its largest matrix takes."""
    shape = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 12}
    with Alive() as alive:
        model = small(alike=alike, **shape)
    matrix = 4 * 256 * 1024
    layer = 4 * (256 * 768 + 256 * 256 + 256 * 1024 + 512 * 256)
    packed = model_bytes(model)
    assert packed < 12 * layer / 5
    assert packed < alive.peak < packed + layer + matrix
    with Alive() as alive:
        small(method="full", **shape)
    assert alive.peak >= 12 * layer
