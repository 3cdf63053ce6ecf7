"""Loading a base: folders, the hub, GGUF files, and what can be wrong with them, by the text of the error."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import COMMIT, serve
from tiny import FAMILIES, tiny_model, tiny_tokenizer

from pacos.errors import DataError, UsageError, UserError
from pacos.models.gguf_head import read_head
from pacos.models.identity import weight_files, weights_sha256
from pacos.models.load import has_native_bf16, load_model, load_shape, load_tokenizer, pick_device, pick_dtype
from pacos.models.source import resolve

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "tokenizers"
IDS = torch.tensor([[1, 40, 7, 99, 250, 31, 8, 2]])


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACOS_CACHE", str(tmp_path / "cache"))


def save(folder: Path, family: str = "llama", **options: Any) -> Any:
    """A tiny model and its tokenizer in `folder`; returns the model."""
    model = tiny_model(family)
    model.save_pretrained(folder, **options)
    tiny_tokenizer().save_pretrained(folder)
    return model


def same_model(a: Any, b: Any) -> bool:
    """The same weights under the same names, bit for bit, and the logits that they give with one kind of attention."""
    ours, theirs = a.state_dict(), b.state_dict()
    a.set_attn_implementation("eager")
    same_weights = ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    return same_weights and torch.equal(a(IDS).logits, b(IDS).logits)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "tiny")
    return tmp_path / "tiny"


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_gives_the_logits_of_the_model_that_was_saved(tmp_path: Path, family: str) -> None:
    saved = save(tmp_path / "m", family)
    loaded = load_model(str(tmp_path / "m"), dtype="fp32", device="cpu")
    assert same_model(loaded.model, saved)
    assert loaded.identity.architecture == type(saved).__name__
    assert loaded.identity.num_parameters == sum(p.numel() for p in saved.parameters())


def test_a_loaded_model_is_frozen_and_in_eval_mode(folder: Path) -> None:
    loaded = load_model(str(folder), dtype="bf16", device="cpu")
    assert not loaded.model.training
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}
    assert (loaded.compute_dtype, loaded.device) == (torch.bfloat16, torch.device("cpu"))


def test_shards_load_as_one_file_does(tmp_path: Path) -> None:
    saved = save(tmp_path / "m", max_shard_size="100KB")
    assert len(weight_files(tmp_path / "m")) > 2
    assert same_model(load_model(str(tmp_path / "m"), dtype="fp32", device="cpu").model, saved)


def test_the_identity_is_the_hash_of_the_weight_files(folder: Path) -> None:
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    expected = hashlib.sha256(f"model.safetensors {digest}\n".encode()).hexdigest()
    identity = load_model(str(folder), device="cpu").identity
    assert (identity.weights_sha256, identity.revision, identity.name) == (expected, "", str(folder))


def test_a_known_hash_is_not_computed_again_until_the_file_changes(folder: Path, tmp_path: Path) -> None:
    files, cache = weight_files(folder), tmp_path / "hashes.json"
    first = weights_sha256(files, cache)
    edit(
        cache, **{str(files[0].resolve()): [*json.loads(cache.read_text())[str(files[0].resolve())][:2], "remembered"]}
    )
    assert weights_sha256(files, cache) == hashlib.sha256(b"model.safetensors remembered\n").hexdigest()
    files[0].touch()
    assert weights_sha256(files, cache) == first


def test_a_name_that_is_nothing_says_what_a_name_can_be() -> None:
    with pytest.raises(UsageError) as error:
        resolve("smollm2-135m-instuct")
    assert str(error.value) == (
        "smollm2-135m-instuct: no such model; did you mean 'smollm2-135m-instruct'?\n"
        "  give a hub id (owner/name), a folder, a .gguf file, or: smollm2-135m-instruct"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/no/such/place", "/no/such/place: no such folder"),
        ("none.gguf", "none.gguf: no such file"),
    ],
)
def test_a_path_that_is_not_there_is_one_line(name: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        resolve(name)
    assert str(error.value) == message


def test_a_revision_of_a_folder_is_an_error(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.revision 'v1' has no effect: only hub models have revisions"):
        load_model(str(folder), revision="v1")


def test_pickled_weights_are_refused_with_the_way_to_convert_them(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UsageError) as error:
        load_model(str(folder))
    first, second = str(error.value).splitlines()
    assert first == (
        f"{folder}: holds only pytorch_model.bin, which are pickles; pacos loads safetensors alone (model.safetensors)"
    )
    assert second.startswith("  if you trust the files: python -c ")


def test_an_empty_folder_and_an_adapter_are_told_from_a_model(tmp_path: Path, folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(UsageError, match=r"has no config\.json$"):
        load_model(str(folder))
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"holds an adapter, not a base model; name its base, or use --adapter-path$"):
        load_model(str(folder))
    with pytest.raises(UsageError, match="holds no weights; pacos loads safetensors alone"):
        load_model(str(tmp_path))


def test_a_truncated_file_says_its_size_and_the_size_it_should_have(folder: Path) -> None:
    path = folder / "model.safetensors"
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError) as error:
        load_model(str(folder))
    assert error.value.problems == (f"model.safetensors has {whole - 100} bytes; its header says {whole}",)


def test_a_file_that_is_no_safetensors_is_named(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"<html>not found</html>" * 9)
    with pytest.raises(DataError) as error:
        load_model(str(folder))
    assert error.value.problems == ("model.safetensors is not a safetensors file: its header cannot be read",)


def test_every_bad_shard_is_named_at_once(tmp_path: Path) -> None:
    save(tmp_path / "m", max_shard_size="100KB")
    first, second, third, *_ = weight_files(tmp_path / "m")
    first.unlink()
    second.write_bytes(b"short")
    shutil.copyfile(weight_files_of_another(tmp_path), third)
    with pytest.raises(DataError) as error:
        load_model(str(tmp_path / "m"))
    assert error.value.problems[:2] == (
        f"{first.name} is missing",
        f"{second.name} is not a safetensors file: its header cannot be read",
    )
    assert all(p.startswith(f"{third.name} lacks '") for p in error.value.problems[2:])
    assert len(error.value.problems) > 2


def weight_files_of_another(tmp_path: Path) -> Path:
    from safetensors.torch import save_file

    save_file({"other": torch.zeros(3)}, tmp_path / "other.safetensors")
    return tmp_path / "other.safetensors"


def test_an_index_that_points_outside_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../secret.safetensors"}}')
    with pytest.raises(DataError, match=r"names '\.\./\.\./secret\.safetensors', which is no safetensors file of this"):
        weight_files(tmp_path)


def test_weights_that_do_not_fit_the_config_are_all_named(folder: Path) -> None:
    edit(folder / "config.json", num_hidden_layers=1, intermediate_size=64)
    with pytest.raises(DataError) as error:
        load_model(str(folder), device="cpu")
    assert "model.layers.0.mlp.up_proj.weight is [96, 64] in the files, [64, 64] by config.json" in error.value.problems
    assert (
        "model.layers.1.mlp.up_proj.weight is in the files, and the model has no place for it" in error.value.problems
    )


def test_missing_weights_are_never_made_up(folder: Path) -> None:
    edit(folder / "config.json", num_hidden_layers=3)
    with pytest.raises(DataError) as error:
        load_model(str(folder), device="cpu")
    assert "model.layers.2.mlp.up_proj.weight is not in the files" in error.value.problems
    assert len(error.value.problems) == 9


def test_a_config_is_refused_where_it_is_broken_or_nothing_that_can_be_trained(folder: Path) -> None:
    config = folder / "config.json"
    edit(config, model_type="mystery", auto_map={"AutoModelForCausalLM": "modeling_mystery.Mystery"})
    with pytest.raises(
        UsageError, match="it brings its own code, which pacos never runs, and model type 'mystery' is not"
    ):
        load_model(str(folder))
    edit(config, model_type="llama", quantization_config={"quant_method": "gptq"})
    with pytest.raises(UsageError, match=r"already quantized \(gptq\); take the unquantized model"):
        load_model(str(folder))
    config.write_text("{")
    with pytest.raises(DataError, match=r"config\.json: not valid JSON"):
        load_model(str(folder))


def test_code_in_a_model_folder_is_not_run(folder: Path, tmp_path: Path) -> None:
    edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_own.Own", "AutoConfig": "modeling_own.C"})
    (folder / "modeling_own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert load_model(str(folder), device="cpu").identity.architecture == "LlamaForCausalLM"
    assert not (tmp_path / "ran").exists()


def test_options_that_are_not_there_are_named() -> None:
    for device, message in [("tpu", "'tpu' is not known; known: auto, cpu, cuda, cuda:N"), ("cuda:99", "is not there")]:
        with pytest.raises(UsageError, match=message):
            pick_device(device)
    with pytest.raises(UsageError, match=r"model\.dtype: 'fp8' is not known; known: auto, bf16, fp32"):
        pick_dtype("fp8", torch.device("cpu"))
    with pytest.raises(UsageError, match="quantization 'int3' is not known; known: none, nf4"):
        load_model("any", quantization="int3", device="cpu")


def test_auto_takes_bf16_only_where_the_machine_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for native, expected in [(True, torch.bfloat16), (False, torch.float32)]:
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert has_native_bf16(cpu) is native
        assert pick_dtype("auto", cpu) is expected


def test_the_shape_of_a_model_has_no_weights(folder: Path) -> None:
    model, width = load_shape(str(folder), dtype="bf16")
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert (sum(p.numel() for p in model.parameters()), width) == (
        sum(p.numel() for p in tiny_model("llama").parameters()),
        2,
    )


def test_a_folder_with_only_a_tokenizer_gives_it(tmp_path: Path) -> None:
    tiny_tokenizer().save_pretrained(tmp_path / "t")
    assert load_tokenizer(str(tmp_path / "t"))("Sort these").input_ids == tiny_tokenizer()("Sort these").input_ids


def test_missing_and_broken_tokenizers_are_one_line_each(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer\.json: not a tokenizer: "):
        load_tokenizer(str(folder))
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(UsageError, match=r"has no tokenizer files; add the tokenizer\.json of the model$"):
        load_tokenizer(str(folder))
    (folder / "tokenizer.model").write_bytes(b"not a sentencepiece model")
    with pytest.raises(UsageError, match=r"has only a tokenizer\.model; add its tokenizer\.json"):
        load_tokenizer(str(folder))


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data/tokenizers")
@pytest.mark.parametrize("family", ["llama2", "mistral-v1", "phi-3", "phi-3-mini", "qwen2.5"])
def test_text_is_cut_exactly_as_the_tokenizer_file_says(family: str) -> None:
    from tokenizers import Tokenizer

    raw = Tokenizer.from_file(str(SHARED / family / "tokenizer.json"))
    tokenizer = load_tokenizer(str(SHARED / family))
    for text in ["  lead", "a\n\n1. In 2024", "x</s> y", "<|end|> z", "\u2581ab", "\U0001f999 don't"]:
        assert tokenizer(text).input_ids == raw.encode(text).ids


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def hub(folder: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "modeling_own.py").write_text("raise SystemExit")
    with serve({"tiny/llama": folder}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_a_hub_model_is_known_by_the_commit_its_branch_stood_at(hub: Any, folder: Path) -> None:
    loaded = load_model("tiny/llama", revision="v1", dtype="fp32", device="cpu")
    assert same_model(loaded.model, tiny_model("llama"))
    assert (loaded.identity.name, loaded.identity.revision) == ("tiny/llama", COMMIT)
    assert loaded.identity.weights_sha256 == load_model(str(folder), device="cpu").identity.weights_sha256


def test_neither_pickles_nor_code_are_downloaded(hub: Any) -> None:
    names = {path.name for path in resolve("tiny/llama").folder.iterdir()}
    assert "model.safetensors" in names
    assert not names & {"pytorch_model.bin", "modeling_own.py"}


def test_a_tokenizer_is_had_without_the_weights(hub: Any) -> None:
    assert load_tokenizer("tiny/llama")("Sort").input_ids == tiny_tokenizer()("Sort").input_ids
    assert not [path for path in hub.requests if path.endswith(".safetensors")]


def test_a_cached_hub_model_loads_where_the_hub_is_out_of_reach(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    there = resolve("tiny/llama")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert resolve("tiny/llama") == there
    with pytest.raises(UserError, match=r"^tiny/other: the hub cannot be reached, and the model is not in its cache; "):
        resolve("tiny/other")


def test_a_hub_id_that_may_be_a_path_says_first_what_is_in_the_folder_here(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("alpaca", "other-2", ".cache"):
        (tmp_path / "tiny" / name).mkdir(parents=True)
    hub.refuse = "RepoNotFound"
    here = "tiny/other: no such folder here; in tiny/ there are: other-2, alpaca\n  and "
    with pytest.raises(UserError, match=f"^{here}the hub has no such model"):
        resolve("tiny/other")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=f"^{here}the hub cannot be reached"):
        resolve("tiny/other")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("GatedRepo", "tiny/llama: the hub asks you to accept this model's terms first; do so on its page"),
        ("RepoNotFound", "tiny/llama: the hub has no such model, or it is private; check the name"),
    ],
)
def test_a_refusal_of_the_hub_says_what_to_do(hub: Any, code: str, message: str) -> None:
    hub.refuse = code
    with pytest.raises(UserError, match=message):
        resolve("tiny/llama")


def test_a_revision_that_is_not_there_is_named(hub: Any) -> None:
    with pytest.raises(UsageError, match="tiny/llama: has no revision 'v9'; give one of its branches, tags or commits"):
        resolve("tiny/llama", "v9")


def write_gguf(path: Path, model: Any, kind: str) -> Path:
    """A tiny llama as llama.cpp's converter writes it: q and k rows re-ordered for its rotary layout."""
    import gguf

    config, tokenizer = model.config, tiny_tokenizer()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(512)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    tree = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(sorted(tree["vocab"], key=tree["vocab"].get))
    writer.add_token_types([3, 3, 3, *[1] * (len(tree["vocab"]) - 3)])
    writer.add_token_merges([" ".join(pair) for pair in tree["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(tokenizer.chat_template)
    for name, tensor in model.state_dict().items():
        data = as_llama_cpp(name, tensor, config).numpy()
        matrix = data.ndim == 2
        writer.add_tensor(
            gguf_name(name),
            gguf.quantize(data, gguf.GGMLQuantizationType[kind]) if matrix else data,
            raw_dtype=gguf.GGMLQuantizationType[kind] if matrix else None,
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def as_llama_cpp(name: str, tensor: torch.Tensor, config: Any) -> torch.Tensor:
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None:
        return tensor
    return tensor.reshape(heads, 2, -1, tensor.shape[-1]).transpose(1, 2).reshape(tensor.shape).contiguous()


def gguf_name(name: str) -> str:
    for old, new in [
        ("model.layers.", "blk."),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.", "attn_"),
        ("post_attention_layernorm", "ffn_norm"),
        ("input_layernorm", "attn_norm"),
        ("mlp.", "ffn_"),
        ("_proj", ""),
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
    ]:
        name = name.replace(old, new)
    return name


def test_a_gguf_file_gives_the_logits_of_the_model_it_was_made_from(tmp_path: Path) -> None:
    model = tiny_model("llama")
    path = write_gguf(tmp_path / "tiny.gguf", model, "F32")
    loaded = load_model(str(path), dtype="fp32", device="cpu")
    assert torch.allclose(loaded.model(IDS).logits, model(IDS).logits, atol=1e-5)
    assert loaded.identity.name == str(path)
    assert loaded.tokenizer.chat_template == tiny_tokenizer().chat_template
    assert resolve(str(path)).folder == resolve(str(path)).folder
    assert len(list((tmp_path / "cache" / "gguf").iterdir())) == 1


def test_quantized_gguf_weights_are_the_values_they_stand_for(tmp_path: Path) -> None:
    import gguf

    model = tiny_model("llama")
    loaded = load_model(str(write_gguf(tmp_path / "tiny.gguf", model, "Q8_0")), dtype="fp32", device="cpu")
    kind = gguf.GGMLQuantizationType.Q8_0
    for name in ("model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight"):
        stored = gguf.dequantize(gguf.quantize(model.state_dict()[name].numpy(), kind), kind)
        assert torch.equal(loaded.model.state_dict()[name], torch.from_numpy(stored).bfloat16().float())


def test_a_gguf_tokenizer_cuts_digits_one_by_one_where_the_file_says_so(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(write_gguf(tmp_path / "tiny.gguf", tiny_model("llama"), "F32")))
    pieces = [piece for piece, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a\n\n12  3")]
    assert pieces == ["a", "\u010a\u010a", "1", "2", "\u0120\u0120", "3"]


def test_a_gguf_file_that_cuts_text_in_an_unknown_way_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tiny_model("llama"), "F32")
    path.write_bytes(
        path.read_bytes().replace(b"\x06\x00\x00\x00\x00\x00\x00\x00smollm", b"\x06\x00\x00\x00\x00\x00\x00\x00zzzzzz")
    )
    with pytest.raises(UserError, match=r"how its tokenizer cuts text \('zzzzzz'\) is not known here"):
        load_tokenizer(str(path))
    assert list((tmp_path / "cache" / "gguf").iterdir()) == []


def test_the_head_of_a_gguf_file_tells_dense_matrices_from_packed_ones(tmp_path: Path) -> None:
    dense = read_head(write_gguf(tmp_path / "a.gguf", tiny_model("llama"), "F16"))
    packed = read_head(write_gguf(tmp_path / "b.gguf", tiny_model("llama"), "Q8_0"))
    assert (dense.has_dense_matrices, packed.has_dense_matrices) == (True, False)
    assert packed.values["tokenizer.ggml.pre"] == "smollm"
    assert packed.values["tokenizer.ggml.tokens"] == 320
    assert len(packed.tensors) == len(tiny_model("llama").state_dict())


@pytest.mark.parametrize("cut", [3, 20, 400, 3000])
def test_a_cut_gguf_file_is_one_line(tmp_path: Path, cut: int) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tiny_model("llama"), "F32")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"tiny\.gguf: (not a GGUF file|cut short or damaged: its head cannot be read)"):
        load_model(str(path))


def test_a_gguf_file_without_its_last_tensors_is_one_line(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tiny_model("llama"), "F32")
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(DataError, match=r"tiny\.gguf: this GGUF file cannot be read"):
        load_model(str(path))
