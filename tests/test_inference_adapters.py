"""Several adapters on one base, each request with its own: what each writes is what it writes alone."""

from __future__ import annotations

import random
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch

from pacos.errors import DataError, UsageError
from pacos.inference import Engine, Sampling
from pacos.models import LoraSpec, Network, attach, load_adapter, save_adapter, unwrap
from pacos.models.kernels import native
from pacos.models.switch import Switch
from pacos.prompts import Rendered
from tests.families import tiny_of
from tests.tiny import tiny_model

FAMILIES = ("llama", "phi3", "gemma2")
GREEDY = Sampling(max_new_tokens=12)
BEGINNING = list(range(10, 30))
TARGETS = {"poet": ("q_proj", "v_proj", "o_proj"), "clerk": ("q_proj", "k_proj", "down_proj")}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folders(family: str, tmp_path: Path) -> dict[str, Path]:
    """Two random adapters on different matrices, saved."""
    for number, (name, targets) in enumerate(TARGETS.items()):
        model = tiny_model(family)
        generator = torch.Generator().manual_seed(number)
        adapter = attach(model, LoraSpec(2 + number, 8.0, 0.0, targets), generator)
        for _, parameter in adapter.named_parameters():
            parameter.data.normal_(0, 0.5, generator=generator)
        (tmp_path / name).mkdir()
        save_adapter(adapter, tmp_path / name, base_name=family)
    return {name: tmp_path / name for name in TARGETS}


def prompts() -> list[list[int]]:
    """Some begin alike: a prefix must not be shared between adapters."""
    drawn = random.Random(0)
    tails = [[drawn.randrange(3, 320) for _ in range(n)] for n in (3, 9, 1, 17, 5, 30, 2, 4, 8, 6, 7, 11)]
    return [BEGINNING + tail if i % 4 else tail for i, tail in enumerate(tails)]


def written_alone(family: str, folder: Path | None) -> list[tuple[int, ...]]:
    model = tiny_model(family)
    if folder is not None:
        load_adapter(model, folder)
    return [completion.ids for completion in Engine(Network(model), ()).generate(prompts(), GREEDY)]


@pytest.mark.parametrize("slots", [1, 4, 12])
@pytest.mark.parametrize("kernels", [nullcontext, native.plain])
def test_each_request_is_written_with_its_adapter(
    family: str, folders: dict[str, Path], slots: int, kernels: type[AbstractContextManager[None]]
) -> None:
    alone = {name: written_alone(family, folders.get(name or "")) for name in ("poet", "clerk", None)}
    names = [("poet", None, "clerk", "poet")[i % 4 if i < 8 else 3 - i % 4] for i in range(12)]
    model = tiny_model(family)
    engine = Engine(Network(model), (), slots=slots, switch=Switch(model, folders))
    with kernels():
        found = engine.generate(prompts(), GREEDY, adapter=names)
    assert [completion.ids for completion in found] == [alone[name][i] for i, name in enumerate(names)]
    assert sum(a != b for a, b in zip(alone["poet"], alone["clerk"], strict=True)) > 2


def test_scores_and_streams_are_those_of_the_adapter(family: str, folders: dict[str, Path]) -> None:
    model, single = tiny_model(family), tiny_model(family)
    switch = Switch(model, folders)
    engine = Engine(Network(model), (), switch=switch)
    rows = [Rendered(tuple(p), (True,) * len(p)) for p in prompts()]
    base = Engine(Network(single), ()).score(rows)
    assert [s.nll for s in engine.score(rows)] == pytest.approx([s.nll for s in base])
    load_adapter(single, folders["clerk"])
    alone = Engine(Network(single), ())
    assert [s.nll for s in engine.score(rows, adapter="clerk")] == pytest.approx([s.nll for s in alone.score(rows)])
    prompt = prompts()[3]
    assert [*engine.stream(prompt, GREEDY, adapter="clerk")] == [*alone.stream(prompt, GREEDY)]


def test_a_model_is_its_base_again(family: str, folders: dict[str, Path]) -> None:
    model = tiny_model(family)
    modules = {name: type(module) for name, module in model.named_modules()}
    Switch(model, folders).remove()
    assert {name: type(module) for name, module in model.named_modules()} == modules


def test_an_adapter_that_is_not_loaded_is_named(family: str, folders: dict[str, Path]) -> None:
    model = tiny_model(family)
    engine = Engine(Network(model), (), switch=Switch(model, folders))
    with pytest.raises(UsageError) as error:
        engine.generate([[3, 4]], GREEDY, adapter="clerc")
    assert str(error.value) == "adapter 'clerc' is not loaded; did you mean 'clerk'?; loaded: poet, clerk"
    with pytest.raises(UsageError) as error:
        Engine(Network(tiny_model(family)), ()).score([Rendered((3, 4), (True, True))], adapter="poet")
    assert str(error.value) == "adapter 'poet' is not loaded; this engine has one model alone"


def test_an_adapter_that_does_not_fit_leaves_the_model_as_it_was(folders: dict[str, Path]) -> None:
    model = tiny_model("llama", hidden_size=32)
    modules = {name: type(module) for name, module in model.named_modules()}
    with pytest.raises(DataError, match="does not fit this base model"):
        Switch(model, folders)
    assert {name: type(module) for name, module in model.named_modules()} == modules


def test_rows_that_are_written_alone_have_adapters_too(tmp_path: Path) -> None:
    """GPT-2's matrices are Conv1D, RWKV's rows cannot share a sequence."""
    for kind, target in (("gpt2", "attn.c_attn"), ("rwkv", "attention.key")):
        model = tiny_of(kind)
        adapter = attach(model, LoraSpec(2, 8.0, 0.0, (target,)), torch.Generator().manual_seed(0))
        for _, parameter in adapter.named_parameters():
            parameter.data.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
        folder = tmp_path / kind
        folder.mkdir()
        save_adapter(adapter, folder, base_name=kind)
        expected = [c.ids for c in Engine(Network(model), ()).generate(prompts()[:3], GREEDY)]
        unwrap(model, adapter)
        engine = Engine(Network(model), (), switch=Switch(model, {"own": folder}))
        found = engine.generate(prompts()[:3], GREEDY, adapter="own")
        assert [c.ids for c in found] == expected
        assert [c.ids for c in engine.generate(prompts()[:3], GREEDY)] != expected
