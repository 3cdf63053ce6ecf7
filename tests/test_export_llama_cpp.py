"""llama.cpp on our files, where llama-cpp-python is installed: same outputs, same ids, same stops, LoRA, K-quants."""

from __future__ import annotations

from pathlib import Path

import pytest

from pacos.export import llama_cpp
from pacos.export.gguf_export import export_gguf, write_type
from pacos.export.gguf_lora import write_lora
from pacos.export.gguf_names import Names
from pacos.export.gguf_read import GgufTensors, distance
from pacos.export.gguf_write import write_gguf
from pacos.export.merge import merged_weights
from pacos.export.observe import observe, rows_of
from pacos.export.origin import open_origin
from pacos.export.receipts import compare
from pacos.models.network import Network
from pacos.prompts.templates import conversation_of_messages, full_text
from tests.exporting import ROPES, quiet, save_base, save_random_adapter, with_adapter
from tests.tiny import FAMILIES

pytest.importorskip("llama_cpp", reason="needs pip install 'pacos[gguf]'")


@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpp_computes_what_transformers_does(family: str, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", family)
    origin = with_adapter(base, save_random_adapter(base, tmp_path / "adapter"))
    tree = export_gguf(origin, tmp_path / "out", type="f32", say=quiet)
    receipt = tree["receipts"][-1]
    assert receipt["step"] == "gguf -> served"
    assert receipt["top1_agreement"] > 0.98
    assert receipt["mean_logit_difference"] < 0.02
    assert receipt["same_stop"] == receipt["num_same"] > 0


@pytest.mark.parametrize("kind", ROPES)
def test_llama_cpp_turns_positions_as_transformers_does(kind: str, tmp_path: Path) -> None:
    family, more = ROPES[kind]
    origin = open_origin(str(save_base(tmp_path / "base", family, **more)))
    receipt = export_gguf(origin, tmp_path / "out", type="f32", say=quiet)["receipts"][-1]
    assert receipt["step"] == "gguf -> served"
    assert receipt["top1_agreement"] > 0.98
    assert receipt["mean_logit_difference"] < 0.02


def test_llama_cpp_makes_the_trained_ids_of_a_rendered_prompt(tmp_path: Path) -> None:
    origin = open_origin(str(save_base(tmp_path / "base", "llama")))
    path = tmp_path / "a.gguf"
    write_gguf(origin, merged_weights(origin, "fp32"), path, "f32")
    from pacos.export.ollama import messages_of

    compared = 0
    for probe in origin.contract["probes"]:
        text = full_text(origin.renderer.template, conversation_of_messages(messages_of(probe)))
        if probe["name"] != "control tokens typed":  # which a server reads in the text
            assert llama_cpp.tokenize(path, text, add_bos=False) == probe["prompt_ids"], probe["name"]
            compared += 1
    assert compared == 19


def test_the_adapter_over_a_gguf_of_the_base_is_the_merged_model(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama")
    origin = with_adapter(base, save_random_adapter(base, tmp_path / "adapter"))
    bare = open_origin(str(base))
    write_gguf(bare, merged_weights(bare, "fp32"), tmp_path / "base.gguf", "f32")
    write_lora(origin, tmp_path / "lora.gguf")
    network: Network = origin.network()
    rows = rows_of(origin.contract, origin.renderer, None, 512)
    served = llama_cpp.observe(tmp_path / "base.gguf", rows, lora=tmp_path / "lora.gguf")
    without = llama_cpp.observe(tmp_path / "base.gguf", rows)
    live = observe(network, rows)
    assert compare("a", "served", live, served).top1_agreement > 0.98
    assert compare("a", "served", live, without).top1_agreement < 0.7


def test_a_k_quant_is_written_by_llama_cpp(tmp_path: Path) -> None:
    origin = open_origin(str(save_base(tmp_path / "base", "llama", hidden_size=256, intermediate_size=256)))
    weights = merged_weights(origin, "fp32")
    write_type(origin, tmp_path / "a.gguf", "q6_k")
    read, names = GgufTensors(tmp_path / "a.gguf"), Names(origin.config)
    assert "Q6_K" in {read.type(name) for name in read.names}
    for source, name in names.all(weights.slots).items():
        expected = names.to_gguf(name, weights.read(source))
        assert distance(expected, read.read(name)) < 0.03
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gguf", "base"]
