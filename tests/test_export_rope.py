"""Rotary positions in GGUF: every scaling there and back, to transformers' own frequencies and logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pacos.export import gguf_export
from pacos.export.gguf_export import export_gguf
from pacos.export.gguf_metadata import metadata
from pacos.export.gguf_read import as_model
from pacos.export.gguf_rope import factor_tensors
from pacos.export.ollama import read_modelfile
from pacos.export.origin import open_origin
from pacos.models.load import load_model
from tests.exporting import LLAMA3, LONGROPE, ROPES, save_base
from tests.tiny import tiny_model

pytest.importorskip("gguf")


@pytest.fixture(autouse=True)
def _not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_export.llama_cpp, "is_there", lambda: False)


@pytest.mark.parametrize("kind", ROPES)
def test_a_scaling_comes_back_with_its_frequencies_and_logits(kind: str, tmp_path: Path) -> None:
    family, more = ROPES[kind]
    base = save_base(tmp_path / "base", family, **more)
    tree = export_gguf(open_origin(str(base)), tmp_path / "out", type="f32", say=lambda _: None)
    assert tree["receipts"][-1]["max_logit_difference"] < 1e-3
    assert tree["receipts"][-1]["top1_agreement"] == 1.0
    ours = load_model(str(base), dtype="fp32", device="cpu").model.model.rotary_emb
    plain = tiny_model(family).model.rotary_emb
    assert ours.inv_freq.shape != plain.inv_freq.shape or not torch.allclose(ours.inv_freq, plain.inv_freq)
    with as_model(next((tmp_path / "out").glob("*.gguf"))) as (network, _):
        theirs = network.model.model.rotary_emb
        assert torch.allclose(theirs.inv_freq, ours.inv_freq, rtol=1e-5)
        assert theirs.attention_scaling == pytest.approx(ours.attention_scaling)
        if kind == "longrope":
            assert network.model.config.rope_parameters["long_factor"] == LONGROPE["long_factor"]
            assert network.model.config.original_max_position_embeddings == 256


def test_longrope_is_served_up_to_where_llama_cpp_takes_other_factors(tmp_path: Path) -> None:
    family, more = ROPES["longrope"]
    base = save_base(tmp_path / "base", family, **more)
    export_gguf(open_origin(str(base)), tmp_path / "out", type="f32", say=lambda _: None)
    assert read_modelfile(tmp_path / "out" / "Modelfile")["parameters"]["num_ctx"] == "256"
    config = tiny_model(family, **more).config.to_dict()
    assert metadata(config, "a")["phi3.context_length"] == 512


def test_llama3s_factors_go_from_one_to_all() -> None:
    config = tiny_model("llama", rope_parameters=LLAMA3, hidden_size=512).config.to_dict()
    factors = factor_tensors(config, 128)["rope_freqs.weight"]
    assert (float(factors.min()), float(factors.max()), len(factors)) == (1.0, 32.0, 64)
