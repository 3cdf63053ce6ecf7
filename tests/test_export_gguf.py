"""GGUF: every family there and back, types, tokenizers, the adapter alone; proved through transformers' reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prompts_tokenizers import PHI3_JINJA, PHI3_TOKENS, real_tokenizer, sentencepiece_tokenizer, with_tokens
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from pacos.errors import GateError, UsageError
from pacos.export import gguf_export
from pacos.export.gguf_export import export_gguf
from pacos.export.gguf_lora import write_lora
from pacos.export.gguf_metadata import metadata
from pacos.export.gguf_names import Names
from pacos.export.gguf_read import GgufTensors, as_model, contract_in, probes_that_differ
from pacos.export.gguf_tokenizer import cut_name, tokenizer_metadata
from pacos.export.gguf_write import write_gguf
from pacos.export.merge import merged_weights
from pacos.export.origin import open_origin
from pacos.export.tensors import Slot
from pacos.models.gguf_head import read_head
from pacos.prompts import Renderer, make_contract
from tests.exporting import LONGROPE, UNWINDOWED, YARN, quiet, save_base, save_random_adapter, with_adapter
from tests.tiny import FAMILIES, tiny_model, tiny_tokenizer

pytest.importorskip("gguf")
PLAIN_JINJA = (
    "{{ bos_token }}{% for m in messages %}{{ '<' + m['role'] + '> ' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant> ' }}{% endif %}"
)
MERGES = 4000
TYPES = {"f16": 5e-4, "bf16": 4e-3, "q8_0": 0.01, "q5_1": 0.06, "q5_0": 0.08, "q4_1": 0.12, "q4_0": 0.16}


@pytest.fixture(autouse=True)
def _not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """What llama.cpp does is tested by itself (test_export_llama_cpp.py)."""
    monkeypatch.setattr(gguf_export.llama_cpp, "is_there", lambda: False)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_in_f32_gives_the_logits_of_base_and_adapter(family: str, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", family)
    origin = with_adapter(base, save_random_adapter(base, tmp_path / "adapter"))
    tree = export_gguf(origin, tmp_path / "out", type="f32", say=quiet)
    receipt = tree["receipts"][-1]
    assert receipt["max_logit_difference"] < 1e-3
    assert receipt["top1_agreement"] == 1.0
    assert receipt["num_positions"] > 500
    assert receipt["same_stop"] == receipt["num_same"] == receipt["num_answers"]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_comes_back_to_the_bit_from_f32(family: str, tmp_path: Path) -> None:
    origin = open_origin(str(save_base(tmp_path / "base", family)))
    weights = merged_weights(origin, "fp32")
    path = tmp_path / "a.gguf"
    plans = write_gguf(origin, weights, path, "f32")
    names, read = Names(origin.config), GgufTensors(path)
    assert len(plans) == len(read.names) > 10
    for plan in plans:
        back = names.from_gguf(plan.name, read.read(plan.name))
        assert torch.allclose(back, weights.read(plan.source), rtol=0, atol=1e-6 if family == "gemma2" else 0)


@pytest.mark.parametrize("type", TYPES)
def test_each_type_is_as_near_as_its_bits_allow(type: str, tmp_path: Path) -> None:
    origin = open_origin(str(save_base(tmp_path / "base", "llama")))
    weights = merged_weights(origin, "fp32")
    plans = write_gguf(origin, weights, tmp_path / "a.gguf", type)
    read, names = GgufTensors(tmp_path / "a.gguf"), Names(origin.config)
    kinds = {read.type(plan.name) for plan in plans}
    assert kinds == {type.upper(), "F32"} | ({"Q8_0"} if type[0] == "q" else set())
    off = []
    for plan in plans:
        expected = names.to_gguf(plan.name, weights.read(plan.source))
        off.append(float((read.read(plan.name) - expected).norm() / expected.norm()))
    assert 0 < max(off) < TYPES[type]


@given(heads=st.integers(1, 6), half=st.integers(1, 5), width=st.integers(1, 4), kind=st.sampled_from(["q", "k"]))
@settings(max_examples=60, deadline=None)
def test_turned_rows_come_back(heads: int, half: int, width: int, kind: str) -> None:
    shape = {"num_attention_heads": heads, "num_key_value_heads": heads, "num_hidden_layers": 1}
    names = Names({"model_type": "llama", **shape})
    tensor = torch.arange(heads * 2 * half * width, dtype=torch.float32).reshape(heads * 2 * half, width)
    turned = names.to_gguf(f"blk.0.attn_{kind}.weight", tensor)
    assert torch.equal(names.from_gguf(f"blk.0.attn_{kind}.weight", turned), tensor)
    by_llama_cpp = tensor.numpy().reshape(heads, 2, half, width).swapaxes(1, 2).reshape(tensor.shape)
    assert np.array_equal(turned.numpy(), by_llama_cpp)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_of_a_family_has_a_name_of_its_own(family: str) -> None:
    model = tiny_model(family, **UNWINDOWED.get(family, {}))
    names = Names(model.config.to_dict())
    slots = {name: Slot(name, t.dtype, tuple(t.shape)) for name, t in model.state_dict().items()}
    found = names.all(slots)
    assert set(slots) - set(found) == ({"lm_head.weight"} if model.config.tie_word_embeddings else set())
    assert len(set(found.values())) == len(found) > 10


def test_the_tokenizer_of_the_file_gives_the_trained_ids_and_stops(tmp_path: Path) -> None:
    origin = open_origin(str(save_base(tmp_path / "base", "llama")))
    write_gguf(origin, merged_weights(origin, "fp32"), tmp_path / "a.gguf", "f16")
    head = read_head(tmp_path / "a.gguf")
    assert contract_in(head) == origin.contract
    assert head.values["tokenizer.ggml.eos_token_id"] == 2
    assert head.values["tokenizer.ggml.add_bos_token"] is False
    with as_model(tmp_path / "a.gguf") as (_, tokenizer):
        assert make_contract(Renderer(tokenizer, origin.renderer.template))["probes"] == origin.contract["probes"]


def test_a_sentencepiece_vocabulary_comes_back_with_its_merges_and_its_space(tmp_path: Path) -> None:
    tokenizer = with_tokens(sentencepiece_tokenizer("legacy", PHI3_JINJA), *PHI3_TOKENS, rstrip=True)
    base = save_base(tmp_path / "base", "phi3", tokenizer=tokenizer, vocab_size=640)
    tree = export_gguf(open_origin(str(base)), tmp_path / "out", type="f32", say=quiet)
    values = read_head(next((tmp_path / "out").glob("*.gguf"))).values
    assert values["tokenizer.ggml.model"] == "llama"
    assert values["tokenizer.ggml.add_space_prefix"] is True
    assert "phi-3" in values["general.name"]
    assert tree["contract"]["stop"][0]["token"] == "<|end|>"


def test_scores_give_the_order_of_merges() -> None:
    renderer = Renderer(with_tokens(sentencepiece_tokenizer("first", PHI3_JINJA), *PHI3_TOKENS), "chat")
    found = tokenizer_metadata(renderer, make_contract(renderer), 640, "")
    merges, scores = found["tokenizer.ggml.merges"], found["tokenizer.ggml.scores"]
    made = [found["tokenizer.ggml.tokens"].index(merge.replace(" ", "")) for merge in merges]
    assert [scores[id] for id in made] == sorted((scores[id] for id in made), reverse=True)
    assert found["tokenizer.ggml.token_type"][639:] == [5]


def test_a_cut_that_llama_cpp_does_not_name_is_refused() -> None:
    assert cut_name({"type": "ByteLevel", "use_regex": True}) == "gpt-2"
    with pytest.raises(UsageError, match=r"llama\.cpp has no name here for how this tokenizer cuts text"):
        cut_name({"type": "Whitespace"})


def test_the_adapter_alone_multiplies_to_the_update(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama")
    origin = with_adapter(base, save_random_adapter(base, tmp_path / "adapter"))
    updates = write_lora(origin, tmp_path / "a.gguf")
    head, read, names = read_head(tmp_path / "a.gguf"), GgufTensors(tmp_path / "a.gguf"), Names(origin.config)
    assert head.values["general.type"] == "adapter"
    assert len(read.names) == 2 * len(updates) == 24
    for name, update in updates.items():
        a, b = read.read(f"{name}.lora_a"), read.read(f"{name}.lora_b")
        delta = head.values["adapter.lora.alpha"] / a.shape[0] * b @ a
        assert torch.allclose(names.from_gguf(name, delta), update.delta(), atol=1e-6)


def test_a_fused_adapter_keeps_each_scale(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "phi3")
    origin = with_adapter(base, save_random_adapter(base, tmp_path / "adapter"))
    updates = write_lora(origin, tmp_path / "a.gguf")
    read, alpha = GgufTensors(tmp_path / "a.gguf"), read_head(tmp_path / "a.gguf").values["adapter.lora.alpha"]
    ranks = set()
    for name, update in updates.items():
        a, b = read.read(f"{name}.lora_a"), read.read(f"{name}.lora_b")
        ranks.add(a.shape[0])
        assert torch.allclose(alpha / a.shape[0] * b @ a, update.delta(), atol=1e-6)
    assert ranks == {4, 12}


def test_a_file_beyond_its_gate_keeps_nothing_and_names_the_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = open_origin(str(save_base(tmp_path / "base", "llama")))
    right, write = Names.to_gguf, gguf_export.write_gguf

    def unturned(self: Names, name: str, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if name == "blk.1.attn_k.weight" else right(self, name, tensor)

    def write_wrong(*arguments: object) -> object:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Names, "to_gguf", unturned)
            return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(gguf_export, "write_gguf", write_wrong)
    with pytest.raises(GateError, match=r"first tensor that differs: blk\.1\.attn_k\.weight \(F16\), by"):
        export_gguf(origin, tmp_path / "out", type="f16", say=quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_what_gguf_cannot_say_is_refused() -> None:
    gemma = tiny_model("gemma2", query_pre_attn_scalar=32).config.to_dict()
    with pytest.raises(UsageError, match="query_pre_attn_scalar 32 cannot be said"):
        metadata(gemma, "a")
    llama = tiny_model("llama").config.to_dict()
    with pytest.raises(UsageError, match="rope scaling 'dynamic' is not written here for llama"):
        metadata(llama | {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "a")
    with pytest.raises(UsageError, match="rope scaling 'longrope' is not written here for llama"):
        metadata(llama | {"rope_parameters": LONGROPE}, "a")
    with pytest.raises(UsageError, match="yarn without 'truncate' cannot be said"):
        metadata(llama | {"rope_parameters": YARN | {"truncate": False}}, "a")
    with pytest.raises(UsageError, match="model type 'gptj' has no GGUF form here; known: llama, mistral, phi3"):
        Names({"model_type": "gptj"})


def test_mistrals_window_becomes_the_context_length() -> None:
    config = tiny_model("mistral").config.to_dict()
    assert metadata(config, "a")["llama.context_length"] == config["sliding_window"] == 8


def test_tokens_and_rows_of_the_embedding_agree() -> None:
    renderer = Renderer(tiny_tokenizer(), "chat")
    with pytest.raises(UsageError, match="the tokenizer has ids up to 319, and the model has 300 rows"):
        tokenizer_metadata(renderer, make_contract(renderer), 300, "")


def with_fewer_merges(tokenizer: Any) -> Any:
    """The same tokenizer with the tokens that its first MERGES merges make, and with all merges between these."""
    tree = json.loads(tokenizer.backend_tokenizer.to_str())
    model = tree["model"]
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    kept = model["vocab"].keys() - {a + b for a, b in pairs}
    for a, b in pairs[:MERGES]:
        if a in kept and b in kept:
            kept.add(a + b)
    model["merges"] = [[a, b] for a, b in pairs if kept.issuperset((a, b, a + b))]
    added = {token["content"] for token in tree["added_tokens"]}
    by_id = sorted(
        {**model["vocab"], **{token["content"]: token["id"] for token in tree["added_tokens"]}}.items(),
        key=lambda e: e[1],
    )
    ids = {text: i for i, text in enumerate(text for text, _ in by_id if text in added or text in kept)}
    model["vocab"] = {text: ids[text] for text in model["vocab"] if text in ids}
    for token in tree["added_tokens"]:
        token["id"] = ids[token["content"]]
    post = tree["post_processor"] or {}
    for step in (post, *post.get("processors", [])):
        for special in (step.get("special_tokens") or {}).values():
            special["ids"] = [ids[text] for text in special["tokens"]]
    names = {key: value for key, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
    fewer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(tree)), **names)
    fewer.chat_template = tokenizer.chat_template
    return fewer


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("llama2", "llama"),
        ("mistral-v1", "mistral"),
        ("phi-3-mini", "phi3"),
        ("llama3", "llama"),
        ("qwen2.5", "qwen2"),
    ],
)
def test_a_real_tokenizer_gives_its_ids_from_the_file(name: str, family: str, tmp_path: Path) -> None:
    """Its cut, its kinds of tokens and its merges up to MERGES; with all of them reading takes a minute and proves no more."""
    tokenizer = with_fewer_merges(real_tokenizer(name, "file"))
    if not tokenizer.chat_template:
        tokenizer.chat_template = PLAIN_JINJA
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    base = save_base(tmp_path / "base", family, tokenizer=tokenizer, vocab_size=len(tokenizer), **small)
    origin = open_origin(str(base))
    write_gguf(origin, merged_weights(origin, "fp32"), tmp_path / "a.gguf", "f16")
    with as_model(tmp_path / "a.gguf") as (_, again):
        assert probes_that_differ(origin.contract, again) == []
