"""The memory plan against what is really made: weights, adapters, gradients and optimizer state byte for byte, activations by
the very tensors that the real step makes, and the whole against a process that trains.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pacos.errors import UsageError
from pacos.models import LoraSpec, Network, attach, load_model, quantize
from pacos.models.host_memory import CACHES
from pacos.models.load import has_native_bf16, load_shape, read_config
from pacos.models.packs import Pack, make_packs
from pacos.models.quantize import quantized_linears
from pacos.models.source import resolve
from pacos.recipes import Recipe, recipe_from_tree
from pacos.training.memory import EIGHT_BIT, Demand, Memory, demand_of, layer_period, shallow, trace_deep
from pacos.training.optimizer import optimizer_tensors
from pacos.training.shapes import num_bytes, shape_of, tensors_of
from pacos.training.sharding import decoder_layers
from pacos.training.symbolic import Ledger, Trace, peaks, run_phases, trace
from pacos.training.train import accumulate
from pacos.training.trainee import Trainee, set_up
from tests.conftest import save_tiny
from tests.rows import random_rows
from tests.tiny import FAMILIES, tiny_model

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
TARGETS = [ATTENTION, ("q_proj", "v_proj"), ("k_proj", "up_proj"), (*ATTENTION, "gate_proj", "up_proj", "down_proj")]
ROOT = Path(__file__).parents[1]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {family: save_tiny(folder / family, family) for family in FAMILIES}


def recipe_of(base: Path, method: str = "lora", **sections: dict[str, Any]) -> Recipe:
    model = {"base": str(base), "dtype": "fp32", "device": "cpu", **sections.pop("model", {})}
    return recipe_from_tree({"method": method, "model": model, **sections}, "test")


def a_pack(tokens: int = 200) -> Pack:
    return make_packs(random_rows(12, longest=20), tokens)[0]


def traced(recipe: Recipe, pack: Pack) -> Trace:
    return trace(recipe, config_of(recipe), DTYPES[recipe.model.dtype], pack)


def config_of(recipe: Recipe) -> Any:
    return read_config(resolve(recipe.model.base))


def demanded(recipe: Recipe, pack: Pack | None = None) -> Demand:
    return demand_of(recipe, config_of(recipe), DTYPES[recipe.model.dtype], [pack or a_pack()])


def loaded_trainee(recipe: Recipe) -> Trainee:
    nf4 = "nf4" if recipe.method == "qlora" else "none"
    loaded = load_model(
        recipe.model.base,
        dtype=recipe.model.dtype,
        device="cpu",
        quantization=nf4,
        double_quant=recipe.model.double_quant,
    )
    return set_up(recipe, loaded)


def size(tensors: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("targets", TARGETS, ids="-".join)
def test_the_adapter_is_counted_as_it_is_attached(
    family: str, targets: tuple[str, ...], bases: dict[str, Path]
) -> None:
    recipe = recipe_of(bases[family], lora={"rank": 3, "targets": list(targets)})
    adapter = attach(tiny_model(family), LoraSpec(3, 6.0, 0.0, targets), torch.Generator())
    found = traced(recipe, a_pack())
    assert found.adapters == found.trained == adapter.num_parameters
    assert found.peaks["load"]["trained"] == 4 * adapter.num_parameters


def test_a_target_that_the_model_lacks_is_an_error_before_any_weight_is_loaded(bases: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="no layer has 'w_pack'"):
        demanded(recipe_of(bases["llama"], lora={"targets": ["w_pack"]}))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_weights_gradients_and_optimizer_state_are_counted_to_the_byte(
    method: str, dtype: str, family: str, bases: dict[str, Path]
) -> None:
    recipe = recipe_of(bases[family], method, model={"dtype": dtype})
    demand, trainee = demanded(recipe), loaded_trainee(recipe)
    weights = [p for p in trainee.loaded.model.parameters() if not is_adapter(trainee, p)]
    buffers = list(trainee.loaded.model.buffers())
    accumulate(trainee.network, [a_pack()])
    masters = list(trainee.masters.masters.values())
    own = {id(p) for p in weights}
    at_step = demand.trace.peaks["step"]
    assert at_step["weights"] == size(weights) + size(buffers)
    assert at_step.get("trained", 0) == size(m for m in masters if id(m) not in own)
    assert at_step["gradients"] == size(m.grad for m in masters if m.grad is not None)
    trainee.optimizer.step()
    state, _ = optimizer_tensors(trainee.optimizer, trainee.masters)
    assert demand.optimizer == size(t for name, t in state.items() if not name.endswith("/step"))


def is_adapter(trainee: Trainee, parameter: Any) -> bool:
    return trainee.adapter is not None and any(p is parameter for _, p in trainee.adapter.named_parameters())


@pytest.mark.parametrize("double_quant", [False, True])
@pytest.mark.parametrize("family", ["llama", "phi3", "gemma2"])
def test_nf4_weights_are_counted_to_the_byte(family: str, double_quant: bool, bases: dict[str, Path]) -> None:
    loaded = load_model(str(bases[family]), dtype="bf16", device="cpu", quantization="nf4", double_quant=double_quant)
    assert len(quantized_linears(loaded.model)) >= 8
    shape = shape_of(loaded.model.config, torch.bfloat16, nf4=True, double_quant=double_quant)
    assert num_bytes(shape) == num_bytes(loaded.model)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
@pytest.mark.parametrize("family", ["llama", "phi3", "gemma2"])
def test_the_step_on_shapes_makes_the_very_tensors_that_the_real_step_makes(
    family: str, method: str, checkpointing: bool, bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize, "_memory", threading.local())  # what unpacked matrices lie in: none was unpacked yet
    recipe = recipe_of(bases[family], method, train={"gradient_checkpointing": checkpointing})
    expected = traced(recipe, a_pack()).peaks
    trainee, ledger = loaded_trainee(recipe), Ledger(320)
    ledger.name(tensors_of(trainee.loaded.model), "weights")
    with ledger:
        marks = list(run_phases(trainee, a_pack(), ledger))
    for phase, live in peaks(ledger, marks).items():
        assert live["activations"] + live.get("logits", 0) == pytest.approx(
            expected[phase]["activations"] + expected[phase].get("logits", 0), rel=0.02, abs=4096
        ), phase


@pytest.mark.parametrize(
    ("family", "method", "checkpointing"),
    [
        ("llama", "full", False),
        ("llama", "full", True),
        ("llama", "lora", False),
        ("phi3", "qlora", True),
        ("gemma2", "lora", True),
    ],
)
def test_two_shallow_models_tell_what_a_deep_one_takes(
    method: str, checkpointing: bool, family: str, bases: dict[str, Path]
) -> None:
    recipe = recipe_of(bases[family], method, train={"gradient_checkpointing": checkpointing})
    config = tiny_model(family, num_hidden_layers=9).config
    pack = a_pack()
    deep, whole = (tell(recipe, config, torch.float32, pack) for tell in (trace_deep, trace))
    deep_peak, peak = (Demand(recipe, t, pack.num_tokens, 4).memory(0) for t in (deep, whole))
    assert deep_peak == peak
    assert (deep.layers, deep.trained, deep.head) == (whole.layers, whole.trained, whole.head)


def test_layers_of_kinds_that_take_turns_are_planned_by_whole_turns() -> None:
    config = tiny_model("gemma2", num_hidden_layers=6).config
    assert layer_period(config) == 2
    assert layer_period(tiny_model("llama").config) == 1
    assert shallow(config, 4).layer_types == config.layer_types[:4]


def test_the_total_is_the_sum_of_the_parts() -> None:
    memory = Memory(1, 20, 300, 4000, 50000, 600000, 7000000, "step")
    assert memory.total == 7654321
    assert list(memory.parts) == ["weights", "trained", "gradients", "optimizer", "activations", "logits", "runtime"]


def test_eight_bit_moments_take_a_quarter(bases: dict[str, Path]) -> None:
    plain, small = (demanded(recipe_of(bases["llama"], train={"optimizer": kind})) for kind in ("adamw", "adamw_8bit"))
    assert plain.optimizer == 8 * plain.trace.trained
    assert small.optimizer == round(EIGHT_BIT * plain.trace.trained)
    assert small.optimizer < 0.26 * plain.optimizer


def test_activations_grow_with_the_pack_and_shrink_by_checkpointing(bases: dict[str, Path]) -> None:
    def activations(tokens: int, **more: Any) -> int:
        pack = make_packs(random_rows(40, longest=20), tokens)[0]
        return traced(recipe_of(bases["llama"], train=more), pack).peaks["forward"]["activations"]

    assert activations(400) > 1.7 * activations(200)
    assert activations(400, gradient_checkpointing=True) < activations(400)


def test_what_is_run_on_shapes_leaves_the_pack_as_it_was(bases: dict[str, Path]) -> None:
    pack = a_pack()
    traced(recipe_of(bases["llama"]), pack)
    assert pack.layout.kept == {}
    assert {p.device.type for p in (pack.ids, pack.sources, pack.targets)} == {"cpu"}


def test_the_shape_of_a_model_leaves_its_weights_where_they_are(bases: dict[str, Path]) -> None:
    model, width = load_shape(str(bases["phi3"]), dtype="bf16")
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert width == 2
    Network(model)


TRAINS = """
import json, sys
from pacos.recipes import recipe_from_tree
from memory import measured, planned
from pacos.models.packs import make_packs
from pacos.training.memory import resident_bytes
from tests.rows import random_rows
recipe, packs = recipe_from_tree(json.loads(sys.argv[1]), "test"), make_packs(random_rows(20, longest=60), 256)
pacos_alone = resident_bytes()
print(json.dumps([planned(recipe, packs, pacos_alone).total, measured(recipe, [packs] * 3)["peak"]]))
"""


def test_a_process_that_trains_takes_what_was_planned(tmp_path: Path) -> None:
    """Within 10 % on a model whose tensors, not the libraries, are most of it: a large vocabulary on few layers."""
    base = save_tiny(tmp_path / "base", "llama", hidden_size=512, vocab_size=24_000)
    recipe = {"method": "full", "model": {"base": str(base), "dtype": "fp32", "device": "cpu"}}
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'benchmarks'}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", TRAINS, json.dumps(recipe)], capture_output=True, text=True, check=True, env=environment
    )
    planned, peak = json.loads(done.stdout.splitlines()[-1])
    assert planned == pytest.approx(peak, rel=0.1)


def test_the_second_pass_of_a_step_comes_on_top_of_the_gradients_of_the_first(bases: dict[str, Path]) -> None:
    recipe, pack = recipe_of(bases["llama"], "full"), a_pack()
    once, twice = (demand_of(recipe, config_of(recipe), torch.float32, [pack] * n).trace.peaks for n in (1, 2))
    for phase in once.keys() - {"gradients"}:  # which lasts until the second pass turns back
        assert twice[phase] == once[phase]
    assert twice.keys() - once.keys() == {"next backward", "next gradients"}
    assert twice["gradients"]["gradients"] == twice["next backward"]["gradients"] == once["step"]["gradients"]
    assert sum(twice["next backward"].values()) > sum(once["backward"].values())


def test_a_layer_s_experts_are_no_layers() -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(2, 2) for _ in range(8))

    model = nn.Module()
    model.layers = nn.ModuleList(Layer() for _ in range(2))
    assert decoder_layers(model) == list(model.layers)


SHAPES = """
import torch
import pacos.models
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
weight = torch.ones(64, 64, dtype=torch.bfloat16)
for rows in range(1, 400):
    weight @ torch.ones(64, rows, dtype=torch.bfloat16)
    if rows == 40:
        before = resident()
print(resident() - before)
"""


@pytest.mark.skipif(
    not has_native_bf16(torch.device("cpu")), reason="oneDNN compiles products of bf16 where it is native"
)
def test_products_of_many_shapes_take_little_more_memory_than_a_few() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in CACHES} | {"PYTHONPATH": str(ROOT)}
    by_itself, bounded = (
        int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment).stdout)
        for code in (SHAPES.replace("import pacos.models", ""), SHAPES)
    )
    assert bounded < by_itself / 3
