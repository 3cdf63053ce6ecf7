"""Adapters that PEFT itself made: merged, written as GGUF LoRA and verified, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from pacos.errors import DataError
from pacos.export.gguf_lora import write_lora
from pacos.export.gguf_names import Names
from pacos.export.gguf_read import GgufTensors
from pacos.export.merge import merge
from pacos.export.origin import open_origin
from pacos.export.verify import verify
from pacos.models.gguf_head import read_head
from tests.conftest import Cli
from tests.exporting import edit_json, save_base

IDS = torch.arange(3, 43).reshape(2, 20)
PLAIN = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("llama", {}),
    "fused": ("phi3", {"target_modules": ["qkv_proj", "o_proj"]}),
    "every linear map": ("qwen2", {"target_modules": "all-linear"}),
    "ranks": (
        "llama",
        {
            "rank_pattern": {"layers.0.self_attn.q_proj": 2, "q_proj": 6},
            "alpha_pattern": {"layers.1.mlp.down_proj": 3, "down_proj": 5, "v_proj": 1},
        },
    ),
    "rslora": ("llama", {"use_rslora": True, "rank_pattern": {"v_proj": 2}}),
}


def peft_adapter(base: Path, folder: Path, **options: Any) -> None:
    """An adapter as PEFT makes, trains and saves it."""
    torch.manual_seed(0)
    model = get_peft_model(bare(base), LoraConfig(task_type="CAUSAL_LM", **(PLAIN | options)))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(2):
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)


def bare(base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    """(2, 20, V)"""
    return model.eval()(input_ids=IDS).logits


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_of_peft_is_merged_to_what_peft_computes(kind: str, tmp_path: Path) -> None:
    family, options = KINDS[kind]
    base = save_base(tmp_path / "base", family)
    peft_adapter(base, tmp_path / "adapter", **options)
    expected = logits(PeftModel.from_pretrained(bare(base), tmp_path / "adapter"))
    assert verify(tmp_path / "adapter", str(base)).passed
    tree = merge(open_origin(str(tmp_path / "adapter")), tmp_path / "merged", dtype="fp32", say=lambda _: None)
    assert tree["receipts"][-1]["top1_agreement"] == 1.0
    assert torch.allclose(logits(bare(tmp_path / "merged")), expected, atol=1e-4)
    assert not torch.allclose(logits(bare(base)), expected, atol=1e-2)
    assert "with the adapter `adapter`" in (tmp_path / "merged" / "README.md").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_of_peft_as_gguf_lora_multiplies_to_the_same_update(kind: str, tmp_path: Path) -> None:
    family, options = KINDS[kind]
    peft_adapter(save_base(tmp_path / "base", family), tmp_path / "adapter", **options)
    origin = open_origin(str(tmp_path / "adapter"))
    updates = write_lora(origin, tmp_path / "a.gguf")
    alpha = read_head(tmp_path / "a.gguf").values["adapter.lora.alpha"]
    read, names = GgufTensors(tmp_path / "a.gguf"), Names(origin.config)
    assert len(updates) == len(origin.updates) >= 4
    for name, update in updates.items():
        a, b = read.read(f"{name}.lora_a"), read.read(f"{name}.lora_b")
        assert torch.allclose(names.from_gguf(name, alpha / a.shape[0] * b @ a), update.delta(), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"bias": "lora_only"}, "bias is 'lora_only'; only 'none' is supported"),
        ({"lora_bias": True}, "'lora_bias' is set; it is not supported"),
        ({"modules_to_save": ["lm_head"]}, "'modules_to_save' is set; it is not supported"),
        ({"use_dora": True}, "'use_dora' is set; it is not supported"),
        ({"layers_to_transform": [0]}, "'layers_to_transform' is set; it is not supported"),
        ({"exclude_modules": ["down_proj"]}, "'exclude_modules' is set; it is not supported"),
        ({"trainable_token_indices": [1, 2]}, "'trainable_token_indices' is set; it is not supported"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa', which starts from other base weights"),
        ({"init_lora_weights": "olora"}, "init_lora_weights is 'olora', which starts from other base weights"),
        ({"target_modules": r".*\.(q|v)_proj"}, r"target_modules is '.*\\.(q|v)_proj'; a list of plain module names"),
    ],
)
def test_what_is_more_than_lora_is_refused_by_name(options: dict[str, Any], named: str, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama")
    peft_adapter(base, tmp_path / "adapter", **options)
    with pytest.raises(DataError) as error:
        open_origin(str(tmp_path / "adapter"))
    assert len(error.value.problems) == 1
    assert named in error.value.problems[0]


def test_the_command_line_merges_an_adapter_whose_base_has_moved(tmp_path: Path, cli: Cli) -> None:
    base = save_base(tmp_path / "base", "llama")
    peft_adapter(base, tmp_path / "adapter")
    base.rename(tmp_path / "moved")
    code, _, error = cli("export", "merge", "adapter", "--dtype", "fp32")
    assert code == 2
    assert f"pacos: {base}: no such folder\n  it is the base that adapter/adapter_config.json names" in error
    assert cli("export", "merge", "adapter", "--dtype", "fp32", "--base", "moved", "--out", "merged")[0] == 0
    assert cli("export", "verify", "merged", "--against", "moved")[0] == 5
    edit_json(tmp_path / "adapter" / "adapter_config.json", base_model_name_or_path=None)
    code, _, error = cli("export", "gguf", "adapter")
    assert code == 2
    assert error.endswith("pacos: adapter: adapter_config.json names no base model; give it with --base\n")
