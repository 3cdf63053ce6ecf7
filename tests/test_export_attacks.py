"""What users bring and what befalls them: artifacts of other tools, damage, short memory and disk, a kill in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pacos.errors import ResourceError, UserError
from pacos.export import gguf_export, llama_cpp, memory, push
from pacos.export.gguf_export import export_gguf
from pacos.export.merge import merge
from pacos.export.origin import open_origin
from pacos.export.verify import verify
from pacos.files import locked
from pacos.models import host_memory
from tests.conftest import Cli
from tests.exporting import edit_json, failed, quiet, save_base, save_random_adapter, with_adapter
from tests.tiny import tiny_tokenizer


@pytest.fixture(autouse=True)
def _not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_export.llama_cpp, "is_there", lambda: False)


def gguf_of(base: Path, out: Path) -> Path:
    export_gguf(open_origin(str(base)), out, type="f32", say=quiet)
    return next(out.glob("*.gguf"))


def rewritten(
    path: Path, target: Path, change: dict[str, float], drop: tuple[str, ...] = (), ends: int | None = None
) -> Path:
    """A copy of a GGUF file as another tool would write it: tensors of one value throughout, or left out; other ends."""
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(target, "llama")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            kind = field.types[0]
            is_end = name in ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")
            value = ends if is_end and ends is not None else field.contents()
            writer.add_key_value(name, value, kind, field.types[-1] if len(field.types) > 1 else None)
    for tensor in reader.tensors:
        if tensor.name not in drop:
            values = np.array(tensor.data)
            writer.add_tensor(
                tensor.name, np.full_like(values, change[tensor.name]) if tensor.name in change else values
            )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def test_a_gguf_with_dead_broken_and_missing_tensors_names_each(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama")
    whole = gguf_of(base, tmp_path / "out")
    assert verify(rewritten(whole, tmp_path / "same.gguf", {}), str(base)).passed
    broken = {"blk.0.attn_q.weight": float("nan"), "blk.1.ffn_up.weight": 0.0}
    found = failed(verify(rewritten(whole, tmp_path / "b.gguf", broken, ("blk.1.ffn_down.weight",)), str(base)))
    assert "blk.0.attn_q.weight holds NaN or infinity" in found["tensors"]
    assert "blk.1.ffn_up.weight is the same value throughout" in found["tensors"]
    assert found["missing tensors"] == "1: blk.1.ffn_down.weight"
    assert "opens" in found or "parity" in found


def test_a_gguf_cut_anywhere_is_one_clear_error(tmp_path: Path, cli: Cli) -> None:
    base = save_base(tmp_path / "base", "llama")
    data = gguf_of(base, tmp_path / "out").read_bytes()
    for size in (0, 3, 20, 5000, len(data) // 2, len(data) - 1):
        path = tmp_path / f"{size}.gguf"
        path.write_bytes(data[:size])
        code, _, error = cli("export", "verify", path, "--against", base)
        assert code in (3, 5), (size, error)
        assert "pacos: " in error, (size, error)
        assert "Traceback" not in error


def test_a_merged_folder_with_another_tokenizer_fails(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama")
    other = tmp_path / "other"
    shutil.copytree(base, other)
    path = other / "tokenizer.json"
    tokenizer = tiny_tokenizer()
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    swapped = {vocabulary[100]: 101, vocabulary[101]: 100}
    import json

    tree = json.loads(path.read_text(encoding="utf-8"))
    tree["model"]["vocab"] |= swapped
    path.write_text(json.dumps(tree), encoding="utf-8")
    found = failed(verify(other, str(base)))
    assert set(found) == {"tokens"}
    assert "of 20 probes give the ids of base" in found["tokens"]


def test_a_modelfile_without_a_stop_or_with_a_template_that_does_not_parse_fails(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama")
    path = tmp_path / "Modelfile"
    path.write_text('FROM llama3\nTEMPLATE """{{ if .System }}{{ .Prompt }}"""\n')
    found = failed(verify(path, str(base)))
    assert "ollama template" in found
    path.write_text("FROM llama3\nPARAMETER stop WRONG\n")
    assert set(failed(verify(path, str(base)))) == {"stops"}
    path.write_text("FROM llama3\n")
    assert {check.name: check for check in verify(path, str(base)).checks}["stops"].verdict == "not told"


def test_the_trained_stop_is_in_the_modelfile_or_the_file_ends_on_it(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama")
    whole = gguf_of(base, tmp_path / "out")
    stop = open_origin(str(base)).contract["stop"][0]
    path = tmp_path / "Modelfile"

    def stops(text: str) -> tuple[str, str]:
        path.write_text(text)
        found = next(check for check in verify(path, str(base)).checks if check.name == "stops")
        return found.verdict, found.found

    assert stops(f"FROM {whole}\n")[0] == "ok"
    rewritten(whole, tmp_path / "other.gguf", {}, ends=7)
    assert stops("FROM ./other.gguf\n") == (
        "failed",
        f"none given; trained on {stop['token']}, id {stop['id']}, which the file does not end on either (eos 7, eot 7)",
    )
    assert stops("FROM ./other.gguf\nPARAMETER stop WRONG\n")[0] == "failed"
    assert stops(f"FROM ./other.gguf\nPARAMETER stop {stop['token']}\n")[0] == "ok"


def test_an_adapter_that_is_not_lora_or_holds_nan_is_refused(tmp_path: Path, cli: Cli) -> None:
    base = save_base(tmp_path / "base", "llama")
    adapter = save_random_adapter(base, tmp_path / "adapter")
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    save_file(tensors | {name: torch.full_like(tensors[name], float("nan"))}, path)
    assert "model.layers.0.self_attn.q_proj holds NaN or infinity" in failed(verify(adapter, str(base)))["tensors"]
    edit_json(adapter / "adapter_config.json", peft_type="IA3")
    assert "IA3" in failed(verify(adapter, str(base)))["tensors"]
    for text in ("", "[]", "{", "null"):
        (adapter / "adapter_config.json").write_text(text)
        code, told, error = cli("export", "verify", adapter, "--against", base)
        assert code == 5, (text, error)
        assert "adapter_config.json" in told


def test_short_memory_is_said_before_a_gguf_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = save_base(tmp_path / "base", "llama")
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9999 kB\nMemAvailable:  10 kB\nSwapFree: 5 kB\n")
    monkeypatch.setattr(host_memory, "MEMINFO", meminfo)
    monkeypatch.setattr(memory, "pick_device", lambda _: torch.device("cpu"))
    assert host_memory.free_memory(swap=True) == 15 * 1024
    with pytest.raises(ResourceError, match=r"^base: measuring it takes 1\.1 GB, since it is run in fp32, and 0\.0 GB"):
        export_gguf(open_origin(str(base)), tmp_path / "out", type="f32", say=quiet)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "meminfo"]
    monkeypatch.setattr(host_memory, "MEMINFO", tmp_path / "nowhere")
    merge(open_origin(str(base)), tmp_path / "out", dtype="fp32", say=quiet)


def test_a_full_disk_while_a_file_is_read_back_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers' writer of safetensors raises an error of its own kind."""
    from safetensors import SafetensorError

    from pacos.models import read_gguf

    base = save_base(tmp_path / "base", "llama")

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(read_gguf, "_write_model", full)
    with pytest.raises(ResourceError, match="no space left on the device"):
        export_gguf(open_origin(str(base)), tmp_path / "out", type="f32", say=quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


KILLED = """
import os, signal, sys
from pacos.cli.main import main
from pacos.export import merge
signal.signal(signal.SIGINT, signal.default_int_handler)
merge.observe_folder = lambda *_: os.kill(os.getpid(), int(sys.argv[1]))
sys.exit(main(["export", "merge", sys.argv[2], "--out", sys.argv[3], "--dtype", "fp32"]))
"""


def ended_by(number: signal.Signals, base: Path, out: Path) -> int:
    """The exit code of a merge that gets this signal when everything is written and nothing is measured."""
    command = [sys.executable, "-c", KILLED, str(int(number)), str(base), str(out)]
    return subprocess.run(command, capture_output=True, cwd=Path(__file__).parents[1], env=dict(os.environ)).returncode


def test_a_kill_in_the_middle_leaves_nothing_under_the_final_name_and_the_next_export_sweeps(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama")
    assert ended_by(signal.SIGKILL, base, tmp_path / "out") == -signal.SIGKILL
    left = [path for path in tmp_path.iterdir() if path.name.startswith(".out.tmp-")]
    assert len(left) == 1
    assert not (tmp_path / "out").exists()
    living = tmp_path / f".other.tmp-{os.getpid()}"
    living.mkdir()
    elsewhere = tmp_path / f".third.tmp-{left[0].name.rpartition('-')[2]}"  # of a process of another machine
    elsewhere.mkdir()
    with locked(elsewhere):
        merge(open_origin(str(base)), tmp_path / "out", dtype="fp32", say=quiet)
    assert verify(tmp_path / "out").passed
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([living.name, elsewhere.name, "base", "out"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_export_that_is_asked_to_end_leaves_no_draft(number: signal.Signals, code: int, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama")
    assert ended_by(number, base, tmp_path / "out") == code
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_a_mistyped_run_lists_the_runs_that_there_are(tmp_path: Path, cli: Cli) -> None:
    code, _, error = cli("export", "merge", "runs/none")
    assert (code, error) == (2, "pacos: runs/none: no such run; make one with: pacos train quickstart\n")
    for name in ("alpaca", "mine-2", "other"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "pacos.json").touch()
    code, _, error = cli("export", "merge", "runs/mine")
    assert (code, error) == (2, "pacos: runs/mine: no such run; runs there: mine-2, other, alpaca\n")
    code, _, error = cli("export", "gguf", "othr")
    assert code == 2
    assert error.startswith("pacos: othr: no such run; runs there: other, ")
    assert "give a hub id (owner/name), a folder, a .gguf file, or: smollm2-135m-instruct" in error
    (tmp_path / "a.gguf").touch()
    assert "mine-2, other, alpaca" in cli("export", "verify", "a.gguf", "--against", "mine")[2]


def test_a_type_that_is_not_known_is_refused_before_the_source_is_looked_for(cli: Cli) -> None:
    code, _, error = cli("export", "gguf", "runs/none", "--type", "q9")
    assert code == 2
    assert error.startswith("pacos: --type q9: not known; known, nearest first: q8_0, q5_1, ")
    assert "nearest first: q4_k_m, " in cli("export", "ollama", "runs/none", "--type", "Q4_KM")[2]


def test_a_push_without_a_token_sends_nothing(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    base = save_base(tmp_path / "base", "llama")
    merge(
        with_adapter(base, save_random_adapter(base, tmp_path / "adapter")), tmp_path / "out", dtype="fp32", say=quiet
    )
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(push, "_logged_in", lambda: False)
    code, _, error = cli("export", "card", tmp_path / "out", "--push", "someone/thing", "--no-dry-run")
    assert (code, error.splitlines()[-1]) == (2, "pacos: no token for the hub: set HF_TOKEN, or run: hf auth login")


def test_what_llama_cpp_does_not_open_is_one_clear_error(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF" + b"\0" * 64)
    with pytest.raises(UserError, match=r"a\.gguf: llama\.cpp does not load it"), llama_cpp.opened(path, 16):
        pass
