"""Merging: equal to base and adapter, for every family, in shards, with its receipt; and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pacos.errors import DataError, GateError, UsageError
from pacos.export import merge as merging
from pacos.export.merge import first_difference, merge, merged_weights
from pacos.export.origin import open_origin
from pacos.export.tensors import Slot, TensorFiles, tensors_sha256, write_shards
from pacos.export.updates import read_updates
from pacos.models.load import load_model
from tests.conftest import Cli
from tests.exporting import quiet, save_base, save_random_adapter, with_adapter
from tests.tiny import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_a_merged_model_gives_the_logits_of_base_and_adapter(family: str, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", family)
    origin = with_adapter(base, save_random_adapter(base, tmp_path / "adapter"))
    tree = merge(origin, tmp_path / "merged", dtype="fp32", say=quiet)
    receipt = tree["receipts"][-1]
    assert receipt["max_logit_difference"] < 1e-3
    assert receipt["top1_agreement"] == 1.0
    assert receipt["num_positions"] > 500
    assert receipt["greedy_agreement_length"] == receipt["greedy_length"]
    assert receipt["failures"] == []
    changed = set(origin.updates)
    written = TensorFiles(tmp_path / "merged")
    for name in written.slots:
        assert torch.equal(written.read(name), origin.weights.read(name)) == (name not in changed)


def test_merging_is_what_peft_does(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base = save_base(tmp_path / "base", "phi3")
    origin = with_adapter(base, save_random_adapter(base, tmp_path / "adapter"))
    theirs = peft.PeftModel.from_pretrained(load_model(str(base), dtype="fp32").model, tmp_path / "adapter")
    theirs = theirs.merge_and_unload().state_dict()
    ours = merged_weights(origin, "fp32")
    assert len(origin.updates) == 8
    for name in origin.updates:
        assert torch.allclose(ours.read(name), theirs[name], atol=1e-6)


def test_sixteen_bits_are_rounded_once_and_the_folder_says_how(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama", dtype=torch.bfloat16)
    origin = with_adapter(base, save_random_adapter(base, tmp_path / "adapter", size=0.02))
    tree = merge(origin, tmp_path / "merged", say=quiet)
    written = TensorFiles(tmp_path / "merged")
    name = "model.layers.1.self_attn.v_proj.weight"
    exact = origin.weights.read(name).float() + origin.updates[name].delta()
    assert torch.equal(written.read(name), exact.to(torch.bfloat16))
    assert tree["about"]["dtype"] == "bfloat16"
    assert json.loads((tmp_path / "merged" / "generation_config.json").read_text())["eos_token_id"] == [2, 0]
    assert (tmp_path / "merged" / "README.md").read_text().startswith("---\nbase_model: ")


def test_shards_divide_where_they_are_full_and_read_back_the_same(tmp_path: Path) -> None:
    base = TensorFiles(save_base(tmp_path / "base", "qwen2"))
    folder = tmp_path / "shards"
    folder.mkdir()
    files = write_shards(folder, base.slots.values(), base.read, shard_bytes=40_000)
    assert len(files) > 3
    assert files[0].name == f"model-00001-of-{len(files):05}.safetensors"
    again = TensorFiles(folder)
    assert tensors_sha256(again) == tensors_sha256(base)
    assert load_model(str(_with_rest(tmp_path / "base", folder))).identity.num_parameters > 0


def _with_rest(source: Path, target: Path) -> Path:
    for path in source.iterdir():
        if path.suffix != ".safetensors":
            (target / path.name).write_bytes(path.read_bytes())
    return target


def test_a_merge_beyond_its_gate_keeps_nothing_and_names_the_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = save_base(tmp_path / "base", "llama")
    origin = with_adapter(base, save_random_adapter(base, tmp_path / "adapter"))

    def spoiled(folder: Path, plan: list[Slot], read: object, shard_bytes: int) -> object:
        weights = merged_weights(origin, "fp32")
        weights.updates["model.layers.1.mlp.down_proj.weight"].b.mul_(-30)
        return write_shards(folder, plan, weights.read, shard_bytes)

    monkeypatch.setattr(merging, "write_shards", spoiled)
    exact = merged_weights(with_adapter(base, tmp_path / "adapter"), "fp32")
    monkeypatch.setattr(merging, "first_difference", lambda _, written: first_difference(exact, written))
    with pytest.raises(GateError, match=r"first tensor that differs: model\.layers\.1\.mlp\.down_proj\.weight, by"):
        merge(origin, tmp_path / "merged", dtype="fp32", say=quiet)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base"]


def test_an_adapter_of_another_base_is_named_matrix_by_matrix(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama")
    other = save_base(tmp_path / "other", "llama", hidden_size=32)
    adapter = save_random_adapter(base, tmp_path / "adapter")
    with pytest.raises(DataError, match=r"does not fit this base model") as error:
        read_updates(adapter, TensorFiles(other))
    assert len(error.value.problems) == 12
    assert "model.layers.0.mlp.down_proj adds to a matrix [64, 96]; the base's is [32, 96]" in str(error.value)


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama")
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="is there already, and nothing is overwritten"):
        merge(open_origin(str(base)), tmp_path / "out", say=quiet)


def test_a_corrupt_shard_is_one_clear_error(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama")
    path = base / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"model\.safetensors has \d+ bytes; its header says"):
        open_origin(str(base))


def test_a_run_on_nf4_is_merged_onto_either_base_and_both_are_measured(cli: Cli, tiny_run: list[str]) -> None:
    pytest.importorskip("bitsandbytes")
    assert cli(*tiny_run, "--set=method=qlora", "--out=run")[0] == 0
    differences = {}
    for onto in ("dequantized", "original"):
        code, told, error = cli("export", "merge", "run", "--dtype=fp32", f"--onto={onto}", f"--out={onto}", "--json")
        assert code == 0, error
        tree = json.loads(told)
        assert tree["about"]["onto"] == onto
        differences[onto] = tree["receipts"][-1]["max_logit_difference"]
    assert differences["dequantized"] < 1e-3 < 0.05 < differences["original"]


def test_onto_has_no_effect_without_nf4_so_it_is_refused(tmp_path: Path) -> None:
    origin = open_origin(str(save_base(tmp_path / "base", "llama")))
    with pytest.raises(UsageError, match="--onto dequantized: the run was not trained on NF4"):
        merge(origin, tmp_path / "out", onto="dequantized", say=quiet)
