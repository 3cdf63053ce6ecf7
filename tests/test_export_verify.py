"""verify: ours and other tools' artifacts get the same report; what is wrong with them is found and named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from pacos.errors import UsageError
from pacos.export import gguf_export, llama_cpp
from pacos.export.card import export_card
from pacos.export.gguf_export import export_gguf
from pacos.export.merge import merge
from pacos.export.origin import open_origin
from pacos.export.verify import verify
from tests.conftest import Cli
from tests.exporting import edit_json, failed, quiet, save_base, save_random_adapter, with_adapter


@pytest.fixture(autouse=True)
def _not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_export.llama_cpp, "is_there", lambda: False)


def test_a_folder_of_another_tool_is_compared_with_its_base(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama")
    same = tmp_path / "same"
    shutil.copytree(base, same)
    report = verify(same, str(base))
    assert report.passed
    assert report.receipts[0].max_logit_difference == 0
    assert [c.name for c in report.checks] == [
        "template",
        "bos",
        "stops",
        "tensors",
        "tokens",
        "missing tensors",
        "parity",
    ]


def test_dead_tensors_wrong_stops_and_other_weights_are_named(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama")
    broken = tmp_path / "broken"
    shutil.copytree(base, broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"].zero_()
    tensors["model.layers.0.self_attn.q_proj.weight"] *= -1
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    (broken / "generation_config.json").write_text('{"eos_token_id": 7}')
    found = failed(verify(broken, str(base)))
    assert found["tensors"] == "model.layers.1.mlp.up_proj.weight is the same value throughout"
    assert found["stops"] == "generation_config ends on [7], trained on [2, 0]"
    assert found["parity"].startswith("top-1 agreement ")


def test_an_adapter_of_another_tool_says_which_matrices_it_leaves_alone(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama")
    adapter = save_random_adapter(base, tmp_path / "adapter")
    assert verify(adapter, str(base)).passed
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors["base_model.model.model.layers.0.mlp.down_proj.lora_B.weight"].zero_()
    save_file(tensors, path)
    assert failed(verify(adapter, str(base))) == {
        "tensors": "adds to 12 matrices of rank [4]; 1 of them unchanged: model.layers.0.mlp.down_proj.weight"
    }
    assert verify(adapter).checks[-1].verdict == "not told"


def test_a_gguf_is_verified_alone_and_against_what_it_was_made_from(tmp_path: Path, cli: Cli) -> None:
    base = save_base(tmp_path / "base", "qwen2")
    export_gguf(open_origin(str(base)), tmp_path / "out", type="f16", say=quiet)
    path = next((tmp_path / "out").glob("*.gguf"))
    alone = verify(path)
    assert alone.passed
    assert alone.checks[-1].found == "20 of 20 probes give the ids of the contract"
    other = save_base(tmp_path / "other", "qwen2", seed=1)
    code, told, error = cli("export", "verify", path, "--against", other)
    assert code == 5
    assert "first difference: token_embd.weight (F16), by " in told
    assert error.endswith("failed: parity, first difference\n")
    code, told, _ = cli("export", "verify", tmp_path / "out", "--against", base, "--json")
    assert code == 0
    tree = json.loads(told)
    assert tree["passed"]
    assert {c["name"] for c in tree["checks"]} >= {"manifest", "ollama template", "parity", "tokens"}


def test_a_modelfile_of_another_tool_is_rendered_on_the_probes(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama")
    path = tmp_path / "Modelfile"
    path.write_text(
        'FROM llama3\nTEMPLATE """{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}'
        '<|im_start|>user\n{{ .Prompt }}<|im_end|>\n<|im_start|>assistant\n"""\nPARAMETER stop <|im_end|>\n'
    )
    found = failed(verify(path, str(base)))
    assert found.keys() == {"ollama template"}
    assert found["ollama template"].startswith("0 of 20 probes render the trained text; not: instruction")


def test_a_damaged_export_fails_by_its_manifest(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama")
    origin = with_adapter(base, save_random_adapter(base, tmp_path / "adapter"))
    merge(origin, tmp_path / "merged", dtype="fp32", say=quiet)
    assert verify(tmp_path / "merged").passed
    edit_json(tmp_path / "merged" / "generation_config.json", eos_token_id=9)
    assert "generation_config.json has " in failed(verify(tmp_path / "merged"))["manifest"]


def test_what_is_no_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to verify; give a model or adapter folder"):
        verify(tmp_path)


def test_the_whole_chain_of_a_run_through_the_command_line(tmp_path: Path, cli: Cli, tiny_run: list[str]) -> None:
    assert cli(*tiny_run, "--set=lora.rank=8", "--out=run")[0] == 0
    assert cli("export", "merge", "run", "--out", "merged", "--dtype", "fp32")[0] == 0
    code, told, _ = cli("export", "gguf", "merged", "--type", "f16", "--out", "f16", "--json")
    assert code == 0
    tree = json.loads(told)
    assert [r["step"] for r in tree["receipts"]] == ["live -> saved", "saved -> merged", "merged -> gguf f16"]
    assert tree["receipts"][-1]["num_rows"] > 5
    assert tree["receipts"][-1]["top1_agreement"] > 0.99
    code, told, _ = cli("export", "card", "f16", "--push", "someone/thing")
    assert code == 0
    assert "base_model_relation: quantized" in told
    assert "| saved -> merged | 100.00% of " in told
    code, _, error = cli("export", "merge", "run", "--out", "merged")
    assert code == 2
    assert "nothing is overwritten" in error
    assert cli("export", "ollama", "run", "--type", "f16", "--out", "ollama")[1].endswith(
        f"next: ollama create run -f {Path('ollama') / 'Modelfile'}\n"
    )


def test_a_run_on_another_base_or_without_one_is_one_clear_line(
    tmp_path: Path, cli: Cli, tiny_run: list[str], tiny_base: Path
) -> None:
    base = tmp_path / "moving"
    shutil.copytree(tiny_base, base)
    run = [word.replace(str(tiny_base), str(base)) for word in tiny_run]
    assert cli(*run, "--out=run")[0] == 0
    base.rename(tmp_path / "moved")
    code, _, error = cli("export", "merge", "run")
    assert (code, error.splitlines()[0]) == (2, f"pacos: {base}: no such folder")
    assert cli("export", "merge", "run", "--base", "moved", "--dtype", "fp32")[0] == 0
    tensors = load_file(tmp_path / "moved" / "model.safetensors")
    tensors["model.norm.weight"] += 1
    save_file(tensors, tmp_path / "moved" / "model.safetensors", metadata={"format": "pt"})
    code, _, error = cli("export", "merge", "run", "--base", "moved", "--out", "again")
    assert code == 5
    assert error.startswith("pacos: moved: these are not the weights that the run was trained on (sha256 ")
    assert not (tmp_path / "again").exists()


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    base = save_base(tmp_path / "base", "llama")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf_export, "write_gguf", full)
    code, _, error = cli("export", "gguf", base, "--out", "out")
    assert code == 4
    assert error.splitlines()[-1].startswith("pacos: out: no space left on the device; nothing was kept.")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "cache") == ["base"]


def test_without_llama_cpp_a_k_quant_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_cpp, "is_there", lambda: False)
    base = save_base(tmp_path / "base", "llama")
    with pytest.raises(UsageError, match=r"--type q4_k_m needs llama\.cpp: pip install 'pacos\[gguf\]'"):
        export_gguf(open_origin(str(base)), tmp_path / "out", type="q4_k_m", say=quiet)


@pytest.mark.parametrize(
    ("data", "licence"),
    [("yahma/alpaca-cleaned", "cc-by-nc-4.0"), ("someone/rows", None), ("/home/me/rows.json", None)],
)
def test_a_card_says_the_licence_of_alpacas_data(data: str, licence: str | None) -> None:
    tree: dict[str, Any] = {
        "kind": "merged",
        "name": "mine",
        "created": "2026-01-01T00:00:00",
        "libraries": {"pacos": "0.1"},
        "about": {"base": {"name": "a/b", "sha256": "0" * 64}, "method": "lora", "data": data},
        "receipts": [],
        "contract": {"template": {"name": "alpaca"}, "stop": [{"token": "</s>"}]},
    }
    card = export_card(tree)
    assert ("license: cc-by-nc-4.0" in card) == (licence is not None)
    assert ("text-davinci-003" in card) == (licence is not None)
    assert ("- yahma/alpaca-cleaned" in card) == (data == "yahma/alpaca-cleaned")
    assert "base_model_relation: finetune" in card
