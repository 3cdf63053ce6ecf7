"""Measured a layer at a time: the same numbers as whole in memory, for every family; and an export that never needs the whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pacos.errors import DataError, ResourceError
from pacos.export import gguf_export, memory, observe_streamed, stream, verify_gguf
from pacos.export.gguf_export import write_type
from pacos.export.merge import merge
from pacos.export.observe import Observed, Rows, rows_of
from pacos.export.origin import Origin, open_origin
from pacos.export.stream import LayerStream
from pacos.export.subjects import measured_by_layers, saved
from pacos.export.tensors import TensorFiles
from pacos.export.verify import verify
from pacos.models import host_memory
from tests.conftest import Cli
from tests.exporting import edit_json, quiet, save_base, save_random_adapter, with_adapter
from tests.tiny import FAMILIES

HELD_OUT = [
    {"instruction": "Sort these words.", "input": "pear, apple, fig", "output": "apple, fig, pear"},
    {"instruction": "Name the capital of France.", "input": "", "output": "Paris."},
    {"instruction": "Give a tip.", "input": "", "output": "Sleep enough and move every day."},
]


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which no model fits into memory, and whose vocabulary takes four slices."""
    path = tmp_path / "meminfo"
    path.write_text("MemAvailable:  10 kB\nSwapFree: 5 kB\n")
    monkeypatch.setattr(host_memory, "MEMINFO", path)
    monkeypatch.setattr(memory, "pick_device", lambda _: torch.device("cpu"))
    monkeypatch.setattr(stream, "SLICE", 100)


def rows_for(origin: Origin, tmp_path: Path) -> Rows:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in HELD_OUT))
    rows = rows_of(origin.contract, origin.renderer, path, 512)
    assert (len(rows.probes), len(rows.held_out), len(rows.prompts)) == (20, 3, 3)
    return rows


def assert_same(found: Observed, whole: Observed) -> None:
    assert len(found.logits) == len(whole.logits) > 10
    for ours, theirs in zip(found.logits, whole.logits, strict=True):
        assert (ours - theirs).abs().max() < 1e-5
    for ours, theirs in zip(found.likeliest, whole.likeliest, strict=True):
        assert torch.equal(ours, theirs)
    assert found.losses == pytest.approx(whole.losses, rel=1e-6)
    assert found.answers == whole.answers


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_at_a_time_is_the_whole_model(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SLICE", 100)
    monkeypatch.setattr(observe_streamed, "ANSWER_TOKENS", 32)
    base = save_base(tmp_path / "base", family, dtype=torch.bfloat16)
    origin = with_adapter(base, save_random_adapter(base, tmp_path / "adapter"))
    rows = rows_for(origin, tmp_path)
    whole = saved(origin, by_layers=False).observe(rows)
    found = saved(origin, by_layers=True).observe(rows)
    assert_same(found, whole)
    assert_same(saved(origin, by_layers=True).observe(rows, like=found), whole)


def test_answers_that_are_followed_end_where_they_would_be_others(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama")
    bare, origin = open_origin(str(base)), with_adapter(base, save_random_adapter(base, tmp_path / "adapter"))
    rows = rows_for(origin, tmp_path)
    before = saved(bare, by_layers=True).observe(rows)
    followed = saved(origin, by_layers=True).observe(rows, like=before)
    written = saved(origin, by_layers=True).observe(rows)
    assert followed.answers != before.answers
    for (ids, stop), (own, own_stop), (old, _) in zip(followed.answers, written.answers, before.answers, strict=True):
        assert ids == own[: len(ids)]
        assert ids[:-1] == old[: len(ids) - 1]
        assert (ids, stop) == (own, own_stop) or ids != old[: len(ids)]


def test_a_layer_is_empty_before_and_after_its_turn(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "phi3")
    tensors = TensorFiles(base)
    walk = LayerStream(base, tensors)
    seen = []
    read = tensors.read

    def noting(name: str) -> torch.Tensor:
        filled = [n for n, p in walk.network.model.named_parameters() if ".layers." in n and not p.is_meta]
        seen.append((name.split(".")[2], {n.split(".")[2] for n in filled}))
        return read(name)

    tensors.read = noting  # type: ignore[method-assign]
    walk.states([[5, 6, 7], [8, 9]])
    assert [layer for layer, _ in seen] == sorted(layer for layer, _ in seen)
    assert len(seen) == 12
    assert all(filled <= {layer} for layer, filled in seen)
    assert all(p.is_meta for n, p in walk.network.model.named_parameters() if ".layers." in n)


@pytest.mark.usefixtures("short")
def test_a_merge_that_does_not_fit_is_measured_by_layers(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "gemma2")
    origin = with_adapter(base, save_random_adapter(base, tmp_path / "adapter"))
    told: list[str] = []
    tree = merge(origin, tmp_path / "merged", dtype="fp32", shard_bytes=40_000, say=told.append)
    assert told[0].endswith(", a layer at a time: it does not fit into memory whole")
    assert tree["about"]["measured"] == "by layers"
    receipt = tree["receipts"][-1]
    assert receipt["max_logit_difference"] < 1e-5
    assert receipt["top1_agreement"] == 1.0
    assert (receipt["greedy_agreement_length"], receipt["num_same"]) == (receipt["greedy_length"], 8)
    assert receipt["failures"] == []
    assert verify(tmp_path / "merged", str(tmp_path / "merged")).passed


@pytest.mark.usefixtures("short")
def test_what_neither_fits_nor_runs_by_layers_is_said_before_anything_is_written(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama")
    edit_json(base / "config.json", model_type="gpt2")
    with pytest.raises(ResourceError, match=r"base: measuring it takes 1\.1 GB.* model type 'gpt2' is not run a layer"):
        merge(open_origin(str(base)), tmp_path / "out", dtype="fp32", say=quiet)
    assert not (tmp_path / "out").exists()


def test_all_are_measured_the_same_way(tmp_path: Path, short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = open_origin(str(save_base(tmp_path / "base", "llama")))
    assert measured_by_layers(origin, origin)
    monkeypatch.setattr(host_memory, "MEMINFO", tmp_path / "nowhere")
    assert not measured_by_layers(origin, origin)


def test_tensors_that_do_not_fit_are_all_named(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "qwen2")
    edit_json(base / "config.json", intermediate_size=100, num_hidden_layers=1, layer_types=["full_attention"])
    with pytest.raises(DataError, match=r"do not fit its config\.json") as error:
        LayerStream(base, TensorFiles(base))
    assert "model.layers.0.mlp.down_proj.weight is [64, 96] in the files, [64, 100] by config.json" in str(error.value)
    assert len(error.value.problems) == 3 + 12
    assert "model.layers.1.mlp.up_proj.weight is in the files, and the model has no place for it" in str(error.value)


def test_a_run_on_nf4_is_measured_by_layers_as_it_was_trained(cli: Cli, tiny_run: list[str], tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    assert cli(*tiny_run, "--set=method=qlora", "--out=run")[0] == 0
    origin = open_origin("run")
    rows = rows_of(origin.contract, origin.renderer, origin.held_out, 512)
    whole = saved(origin, by_layers=False).observe(rows)
    found = saved(origin, by_layers=True).observe(rows)
    for ours, theirs in zip(found.logits, whole.logits, strict=True):
        assert (ours - theirs).abs().max() < 1e-4
    assert found.losses == pytest.approx(whole.losses, rel=1e-5)


@pytest.mark.usefixtures("short")
def test_a_gguf_that_cannot_be_measured_is_refused_before_it_is_written_or_read_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gguf")
    origin = open_origin(str(save_base(tmp_path / "base", "llama")))
    write_type(origin, tmp_path / "a.gguf", "f16")

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(gguf_export, "write_type", never)
    monkeypatch.setattr(verify_gguf, "find_dead", never)
    with pytest.raises(ResourceError, match=r"base: measuring it takes 1\.1 GB"):
        gguf_export.export_gguf(origin, tmp_path / "out", type="f16", say=quiet)
    with pytest.raises(ResourceError, match=r"a\.gguf: measuring it takes 1\.1 GB"):
        verify(tmp_path / "a.gguf", str(tmp_path / "base"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gguf", "base", "meminfo"]
