"""The memory estimate against what is really made: weights, adapters, gradients and optimizer state, byte for byte.

The estimate knows the model's configuration alone; the test loads the same model and counts. Activations are a rule of thumb
and are checked for how they grow.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from pacos.errors import UsageError
from pacos.models import LoraSpec, Network, attach, load_model
from pacos.models.load import load_shape
from pacos.models.packs import make_packs
from pacos.models.quantize import quantized_linears
from pacos.recipes import Recipe, recipe_from_tree
from pacos.training.memory import Memory, adapter_parameters, estimate_memory
from pacos.training.optimizer import optimizer_tensors
from pacos.training.train import accumulate
from pacos.training.trainee import Trainee, set_up
from tests.conftest import save_tiny
from tests.rows import random_rows
from tests.tiny import FAMILIES, tiny_model

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
TARGETS = [ATTENTION, ("q_proj", "v_proj"), ("k_proj", "up_proj"), (*ATTENTION, "gate_proj", "up_proj", "down_proj")]
ROW = 24


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {family: save_tiny(folder / family, family) for family in FAMILIES}


def recipe_of(base: Path, method: str = "lora", **sections: dict[str, Any]) -> Recipe:
    model = {"base": str(base), "dtype": "fp32", "device": "cpu", **sections.pop("model", {})}
    return recipe_from_tree({"method": method, "model": model, **sections}, "test")


def trained(recipe: Recipe) -> Trainee:
    """What the recipe trains, after one step: gradients and optimizer state are there."""
    nf4 = "nf4" if recipe.method == "qlora" else "none"
    loaded = load_model(recipe.model.base, dtype=recipe.model.dtype, device="cpu", quantization=nf4)
    trainee = set_up(recipe, loaded)
    accumulate(trainee.network, make_packs(random_rows(2), 64))
    trainee.optimizer.step()
    return trainee


def num_bytes(tensors: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("targets", TARGETS, ids="-".join)
def test_the_adapter_is_counted_as_it_is_attached(
    family: str, targets: tuple[str, ...], bases: dict[str, Path]
) -> None:
    recipe = recipe_of(bases[family], lora={"rank": 3, "targets": list(targets)})
    counted = adapter_parameters(load_shape(recipe.model.base)[0], recipe)
    adapter = attach(tiny_model(family), LoraSpec(3, 6.0, 0.0, targets), torch.Generator())
    assert counted == adapter.num_parameters
    assert counted > 0


def test_phi3_s_fused_parts_are_counted_each_with_its_own_rows(bases: dict[str, Path]) -> None:
    recipe = recipe_of(bases["phi3"], lora={"rank": 3, "targets": ["q_proj", "v_proj"]})
    rows_of_q, rows_of_v, layers = 64, 32, 2
    expected = layers * 3 * ((64 + rows_of_q) + (64 + rows_of_v))
    assert adapter_parameters(load_shape(recipe.model.base)[0], recipe) == expected


def test_a_target_that_the_model_lacks_is_an_error_before_any_weight_is_loaded(bases: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="no layer has 'w_pack'"):
        estimate_memory(recipe_of(bases["llama"], lora={"targets": ["w_pack"]}), ROW)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_weights_gradients_and_optimizer_state_are_counted_to_the_byte(
    method: str, dtype: str, family: str, bases: dict[str, Path]
) -> None:
    recipe = recipe_of(bases[family], method, model={"dtype": dtype})
    memory, trainee = estimate_memory(recipe, ROW), trained(recipe)
    adapters = {id(p) for _, p in trainee.adapter.named_parameters()} if trainee.adapter else set()
    weights = [p for p in trainee.loaded.model.parameters() if id(p) not in adapters]
    assert memory.weights == num_bytes(weights)
    masters = list(trainee.masters.masters.values())
    of_their_own = {id(p) for p in weights}
    beyond = [m for m in masters if id(m) not in of_their_own]
    gradients = [m.grad for m in masters if m.grad is not None]
    assert len(gradients) == len(masters)
    assert memory.trained == num_bytes(beyond) + num_bytes(gradients)
    state, _ = optimizer_tensors(trainee.optimizer, trainee.masters)
    assert memory.optimizer == num_bytes(t for name, t in state.items() if not name.endswith("/step"))


@pytest.mark.parametrize("family", FAMILIES)
def test_nf4_weights_are_counted_within_a_few_percent(family: str, bases: dict[str, Path]) -> None:
    recipe = recipe_of(bases[family], "qlora", model={"double_quant": False, "dtype": "bf16"})
    loaded = load_model(str(bases[family]), dtype="bf16", device="cpu", quantization="nf4", double_quant=False)
    packed = num_bytes(
        t
        for linear in quantized_linears(loaded.model).values()
        for t in (linear.weight, linear.weight.quant_state.absmax)
    )
    rest = num_bytes(p for p in loaded.model.parameters() if p.dtype != torch.uint8)
    assert estimate_memory(recipe, ROW).weights == pytest.approx(packed + rest, rel=0.01)


def test_the_total_is_the_sum_of_the_parts(bases: dict[str, Path]) -> None:
    memory = estimate_memory(recipe_of(bases["gemma2"]), ROW)
    parts = [getattr(memory, field.name) for field in fields(Memory)]
    assert all(part > 0 for part in parts)
    assert memory.total == sum(parts)
    assert Memory(1, 20, 300, 4000, 50000).total == 54321


def test_eight_bit_moments_take_a_quarter(bases: dict[str, Path]) -> None:
    plain, small = (
        estimate_memory(recipe_of(bases["llama"], train={"optimizer": kind}), ROW) for kind in ("adamw", "adamw_8bit")
    )
    assert plain.optimizer == 4 * small.optimizer
    assert plain.total - small.total == plain.optimizer - small.optimizer


def test_activations_grow_with_the_pack_or_with_a_row_that_is_longer(bases: dict[str, Path]) -> None:
    def activations(pack: int, row: int, **more: Any) -> int:
        return estimate_memory(recipe_of(bases["llama"], train={"pack_tokens": pack, **more}), row).activations

    assert activations(200, 50) == 2 * activations(100, 50)
    assert activations(100, 150) == activations(150, 50)
    assert activations(100, 50, gradient_checkpointing=True) < activations(100, 50)
    assert activations(100, 50) > 100 * 64 * 4 * 2


def test_the_estimate_leaves_the_weights_where_they_are(bases: dict[str, Path]) -> None:
    model, width = load_shape(str(bases["phi3"]), dtype="bf16")
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert width == 2
    Network(model)
