"""LoRA: exact on fused projections, strict about its targets, and a standard PEFT adapter on disk."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from pacos.errors import DataError, UsageError
from pacos.models import LoraSpec, Network, attach, load_adapter, save_adapter, unwrap
from pacos.models.lora import Adapter, LoraLinear
from pacos.models.packs import build_pack
from tests.rows import random_rows
from tests.tiny import FAMILIES, tiny_model

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
EVERYTHING = (*ATTENTION, "gate_proj", "up_proj", "down_proj")


def with_adapter(model: torch.nn.Module, targets: tuple[str, ...] = ATTENTION, alpha: float = 8.0) -> Adapter:
    """An adapter of rank 4 whose B is not zero."""
    adapter = attach(model, LoraSpec(4, alpha, 0.0, targets), torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    for name, p in adapter.named_parameters():
        if name.endswith("lora_B"):
            p.data.normal_(std=0.1)
    return adapter


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        network = Network(model)
        return network.logits(build_pack(random_rows(2)).hidden(network))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("targets", [ATTENTION, ("q_proj", "v_proj"), EVERYTHING])
def test_peft_loads_what_was_saved_and_gives_equal_logits(
    family: str, targets: tuple[str, ...], tmp_path: Path
) -> None:
    base = tiny_model(family)
    live = copy.deepcopy(base)
    adapter = with_adapter(live, targets)
    save_adapter(adapter, tmp_path, base_name="tiny")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path)
    ids = torch.tensor([random_rows(1)[0].ids])
    with torch.no_grad():
        torch.testing.assert_close(theirs(input_ids=ids).logits, live(input_ids=ids).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_loading_gives_the_live_model_s_logits_and_disabling_the_base_s(family: str, tmp_path: Path) -> None:
    live = tiny_model(family)
    before = logits(live)
    adapter = with_adapter(live, EVERYTHING)
    save_adapter(adapter, tmp_path, base_name="tiny")
    again = tiny_model(family)
    loaded = load_adapter(again, tmp_path)
    torch.testing.assert_close(logits(again), logits(live), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits(again), before, atol=1e-2)
    with loaded.disabled():
        torch.testing.assert_close(logits(again), before, rtol=1e-5, atol=1e-5)
    unwrap(again, loaded)
    assert torch.equal(logits(again), before)


def test_parts_of_a_fused_projection_are_adapted_on_their_own_rows() -> None:
    model = tiny_model("phi3")
    adapter = with_adapter(model, ("q_proj", "v_proj"))
    module = model.model.layers[0].self_attn.qkv_proj
    assert isinstance(module, LoraLinear)
    assert [(p.target, p.start, p.stop) for p in module.parts] == [("q_proj", 0, 64), ("v_proj", 96, 128)]
    x = torch.randn(3, 64)
    update = module(x) - module.base(x)
    scale = 8.0 / 4
    torch.testing.assert_close(update[:, :64], scale * x @ module.a[0].T @ module.b[0].T, rtol=1e-4, atol=1e-5)
    assert torch.equal(update[:, 64:96], torch.zeros(3, 32))
    torch.testing.assert_close(update[:, 96:], scale * x @ module.a[1].T @ module.b[1].T, rtol=1e-4, atol=1e-5)
    assert adapter.num_parameters == 2 * 4 * ((64 + 64) + (64 + 32))


def test_a_new_adapter_changes_nothing_until_it_is_trained() -> None:
    model = tiny_model("llama")
    before = logits(model)
    attach(model, LoraSpec(4, 8.0, 0.0, ATTENTION), torch.Generator().manual_seed(0))
    assert torch.equal(logits(model), before)


def test_a_target_that_matches_nothing_is_an_error_that_lists_the_real_names() -> None:
    with pytest.raises(UsageError) as caught:
        attach(tiny_model("phi3"), LoraSpec(4, 8.0, 0.0, ("q_proj", "query_proj", "o_prj")), torch.Generator())
    assert str(caught.value).splitlines() == [
        "lora.targets: no layer has 'query_proj'; did you mean 'q_proj'?",
        "  this model has: down_proj, gate_up_proj, o_proj, qkv_proj, q_proj, k_proj, v_proj, gate_proj, up_proj",
        "lora.targets: no layer has 'o_prj'; did you mean 'o_proj'?",
        "  this model has: down_proj, gate_up_proj, o_proj, qkv_proj, q_proj, k_proj, v_proj, gate_proj, up_proj",
    ]


def test_a_target_that_one_layer_lacks_is_an_error() -> None:
    model = tiny_model("llama")
    model.model.layers[1].self_attn.q_proj = torch.nn.Identity()
    with pytest.raises(UsageError, match="1 of 2 layers has 'q_proj'"):
        attach(model, LoraSpec(4, 8.0, 0.0, ("q_proj",)), torch.Generator())


def test_naming_a_fused_matrix_and_a_part_of_it_is_an_error() -> None:
    with pytest.raises(UsageError, match="name the same rows"):
        attach(tiny_model("phi3"), LoraSpec(4, 8.0, 0.0, ("qkv_proj", "q_proj")), torch.Generator())


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_adapter(with_adapter(tiny_model("llama")), tmp_path, base_name="tiny")
    return tmp_path


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("targets", ["(q|v)_proj", ".*(a+)+$", ["q_proj", ".*"], []])
def test_a_pattern_as_target_is_refused_before_it_is_run(saved: Path, targets: object) -> None:
    change_config(saved, target_modules=targets)
    with pytest.raises(DataError, match="a list of plain module names is accepted, no pattern"):
        load_adapter(tiny_model("llama"), saved)


def test_a_foreign_adapter_is_checked_for_presence_shape_and_finiteness(saved: Path) -> None:
    tensors = load_file(saved / "adapter_model.safetensors")
    names = sorted(tensors)
    del tensors[names[0]]
    tensors[names[1]][0, 0] = float("nan")
    tensors[names[2]] = torch.zeros(5, 5)
    tensors["base_model.model.other.lora_A.weight"] = torch.zeros(1)
    save_file(tensors, saved / "adapter_model.safetensors")
    with pytest.raises(DataError) as caught:
        load_adapter(tiny_model("llama"), saved)
    text = "\n".join(caught.value.problems)
    assert "lora_A is missing" in text
    assert "holds NaN or infinity" in text
    assert "has shape (5, 5)" in text
    assert "unexpected tensor base_model.model.other.lora_A.weight" in text


def test_an_adapter_whose_b_is_zero_is_refused(tmp_path: Path) -> None:
    adapter = attach(tiny_model("llama"), LoraSpec(4, 8.0, 0.0, ATTENTION), torch.Generator().manual_seed(0))
    save_adapter(adapter, tmp_path, base_name="tiny")
    with pytest.raises(DataError, match="every lora_B is zero, so the adapter changes nothing"):
        load_adapter(tiny_model("llama"), tmp_path)


def test_a_pickled_adapter_is_refused(saved: Path) -> None:
    (saved / "adapter_model.safetensors").rename(saved / "adapter_model.bin")
    with pytest.raises(UsageError, match="is a pickle and is not read"):
        load_adapter(tiny_model("llama"), saved)


def test_an_adapter_made_by_peft_loads(tmp_path: Path) -> None:
    base = tiny_model("mistral")
    config = peft.LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "down_proj"],
        use_rslora=True,
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    theirs = peft.get_peft_model(copy.deepcopy(base), config)
    theirs.save_pretrained(tmp_path)
    load_adapter(base, tmp_path)
    ids = torch.tensor([[5, 8, 13, 21]])
    with torch.no_grad():
        torch.testing.assert_close(base(input_ids=ids).logits, theirs(input_ids=ids).logits, rtol=1e-4, atol=1e-5)
