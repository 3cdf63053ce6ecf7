"""`pacos train`, from the command line to the finished folder: resumable, whole or absent, and never lossy."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import Cli, save_tiny

ARTIFACT = [
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    "chat_template.jinja",
    "loss.svg",
    "manifest.json",
    "metrics.jsonl",
    "pacos.json",
    "recipe.yaml",
    "split.json",
    "test.jsonl",
    "tokenizer.json",
    "tokenizer_config.json",
    "validation.jsonl",
]
DROPOUT = ["--set=lora.dropout=0.2", "--set=train.epochs=100", "--set=train.max_steps=12"]
ROOT = Path(__file__).parents[1]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def equal(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_writes_everything_and_its_manifest_holds(cli: Cli, tiny_run: list[str], tmp_path: Path) -> None:
    from pacos.models.artifact import verify

    code, out, _ = cli(*tiny_run)
    folder = tmp_path / "runs" / "quickstart"
    assert code == 0
    assert "written to runs/quickstart" in out
    assert sorted(p.name for p in folder.iterdir() if p.is_file()) == ARTIFACT
    assert not (tmp_path / "runs" / "quickstart.partial").exists()
    verify(folder)
    record = json.loads((folder / "pacos.json").read_text())
    assert record["result"]["steps"] == 6
    assert record["data"]["num_train"] + record["data"]["num_test"] + record["data"]["num_validation"] == 64
    assert len(record["contract"]["probes"]) == 20
    assert record["receipts"][0]["step"] == "live -> saved"
    assert record["receipts"][0]["max_logit_difference"] < 1e-4
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [s["step"] for s in steps] == [1, 2, 3, 4, 5, 6]
    assert {"loss", "learning_rate", "grad_norm", "tokens", "targets", "seconds"} <= steps[0].keys()
    assert (folder / "loss.svg").read_text().startswith("<svg")


def test_the_saved_recipe_repeats_the_run_bit_for_bit(cli: Cli, tiny_run: list[str], tmp_path: Path) -> None:
    assert cli(*tiny_run, *DROPOUT, "--out", "a")[0] == 0
    assert cli("train", "a/recipe.yaml", "--out", "b")[0] == 0
    assert equal(tmp_path / "a", tmp_path / "b")


def test_a_flipped_bit_in_the_artifact_is_an_error_and_no_worse_model(
    cli: Cli, tiny_run: list[str], tmp_path: Path
) -> None:
    cli(*tiny_run)
    path = tmp_path / "runs" / "quickstart" / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    code, _, err = cli("eval", "quickstart")
    assert code == 3
    assert "adapter_model.safetensors has changed" in err


def start(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PACOS_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "pacos", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_step(folder: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Return when metrics.jsonl shows `step`."""
    path = folder / "runs" / "quickstart.partial" / "metrics.jsonl"
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        if path.exists() and len(path.read_text().splitlines()) >= step:
            return
        time.sleep(0.005)
    raise AssertionError(f"step {step} was not seen; the process said: {process.communicate()[0]}")


def test_killed_at_any_moment_it_resumes_to_the_same_weights(cli: Cli, tiny_run: list[str], tmp_path: Path) -> None:
    arguments = [*tiny_run, *DROPOUT, "--set=train.max_steps=60", "--set=train.save_every=3"]
    for step in (4, 30):
        process = start([*arguments, "--resume"], tmp_path)
        wait_for_step(tmp_path, step, process)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "runs" / "quickstart").exists()
    assert cli(*arguments, "--resume")[0] == 0
    assert cli(*arguments, "--out", "whole")[0] == 0
    assert equal(tmp_path / "runs" / "quickstart", tmp_path / "whole")
    lines = [json.loads(line) for line in (tmp_path / "runs/quickstart/metrics.jsonl").read_text().splitlines()]
    whole = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 61))
    assert [line["loss"] for line in lines] == [line["loss"] for line in whole]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_ends(
    tiny_run: list[str], tmp_path: Path, sent: signal.Signals, code: int, cli: Cli
) -> None:
    arguments = [*tiny_run, *DROPOUT, "--set=train.max_steps=400", "--set=train.eval_every=200"]
    process = start(arguments, tmp_path)
    wait_for_step(tmp_path, 3, process)
    process.send_signal(sent)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "stopped and saved; continue with" in said
    saved = list((tmp_path / "runs" / "quickstart.partial" / "checkpoints").iterdir())
    assert len(saved) == 1


def test_resume_takes_the_newest_checkpoint_that_verifies(
    cli: Cli, tiny_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pacos.training import run as runs

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "finish", killed)
    assert cli(*tiny_run, *DROPOUT)[0] == 130
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    checkpoints = tmp_path / "runs" / "quickstart.partial" / "checkpoints"
    newest = checkpoints / "step-12" / "weights.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    code, _, err = cli(*tiny_run, *DROPOUT, "--resume")
    assert code == 0
    assert "step-12 is passed over: weights.safetensors has" in err
    assert "continuing behind step 10" in err
    assert cli(*tiny_run, *DROPOUT, "--out", "whole")[0] == 0
    assert equal(tmp_path / "runs" / "quickstart", tmp_path / "whole")


def test_resume_refuses_other_rows(
    cli: Cli, tiny_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pacos.training import run as runs

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "finish", killed)
    cli(*tiny_run)
    code, _, err = cli(*tiny_run, "--set=data.limit=50", "--resume")
    assert code == 3
    assert "it was made on other rows (the data, its split or the template has changed since)" in err


def test_nothing_that_exists_is_overwritten(cli: Cli, tiny_run: list[str], tmp_path: Path) -> None:
    (tmp_path / "runs" / "quickstart").mkdir(parents=True)
    code, _, err = cli(*tiny_run)
    assert (code, "runs/quickstart: exists; give another place with --out" in err) == (2, True)
    (tmp_path / "other.partial").mkdir()
    (tmp_path / "other.partial" / "recipe.yaml").write_text("method: lora\n", encoding="utf-8")
    code, _, err = cli(*tiny_run, "--out", "other")
    assert (code, "other.partial: holds an unfinished run; continue it with --resume" in err) == (2, True)


def test_a_dry_run_says_what_would_happen_and_writes_no_run(cli: Cli, tiny_run: list[str], tmp_path: Path) -> None:
    code, out, _ = cli(*tiny_run, "--dry-run")
    assert code == 0
    assert "learning_rate: 0.001" in out
    assert "6 steps" in out
    assert "memory at the peak, by the step run on shapes: " in out
    assert not (tmp_path / "runs").exists()
    figures = json.loads(cli(*tiny_run, "--dry-run", "--json")[1])
    assert figures["steps"] == 6
    assert sum(figures["rows"].values()) == 64
    assert figures["memory_bytes"]["total"] == sum(v for k, v in figures["memory_bytes"].items() if k != "total")


def test_rows_are_shown_with_the_ids_that_serving_sends(cli: Cli, tiny_run: list[str]) -> None:
    code, out, _ = cli(*tiny_run, "--show-rows", 2)
    assert code == 0
    assert out.count("      the same ") == 2
    assert "first difference" not in out
    assert "<|im_start|>user\nSay the colour of thing" in out
    train, serve = (next(line for line in out.splitlines() if line.startswith(word)) for word in ("train ", "serve "))
    assert train.removeprefix("train ").startswith(serve.removeprefix("serve "))


def test_a_split_is_made_once_and_reused(cli: Cli, tiny_run: list[str], tmp_path: Path) -> None:
    cli(*tiny_run, "--dry-run")
    (path,) = (tmp_path / "splits").iterdir()
    before = path.stat().st_mtime_ns
    cli(*tiny_run, "--dry-run")
    assert path.stat().st_mtime_ns == before


def test_too_many_cut_rows_are_an_error_that_names_them(cli: Cli, tiny_run: list[str]) -> None:
    code, _, err = cli(*tiny_run, "--set=train.max_length=48", "--set=prompt.template=plain", "--dry-run")
    assert code == 3
    assert "rows (100.0%) are longer than train.max_length=48" in err
    assert "raise train.max_length, or allow it with --set data.max_cut_share=1.00" in err
    assert "rows.jsonl:1 (" in err


def test_full_fine_tuning_saves_a_model_that_evaluates_against_its_base(
    cli: Cli, tiny_run: list[str], tmp_path: Path
) -> None:
    arguments = [a for a in tiny_run if "lora" not in a]
    recipe = tmp_path / "full.yaml"
    recipe.write_text("method: full\nprompt: {template: plain}\n")
    arguments[1] = str(recipe)
    code, _, err = cli(*arguments)
    assert code == 0, err
    folder = tmp_path / "runs" / "full"
    assert (folder / "model.safetensors").is_file()
    assert json.loads((folder / "pacos.json").read_text())["receipts"][0]["max_logit_difference"] < 1e-4
    code, out, err = cli("eval", folder, "--json")
    assert code == 0, err
    metrics = {m["name"]: m for m in json.loads(out)["metrics"]}
    assert metrics["perplexity"]["base"] != metrics["perplexity"]["tuned"]


@pytest.mark.parametrize("family", ["phi3", "gemma2"])
def test_qlora_trains_and_evaluates_on_a_cpu(cli: Cli, tiny_run: list[str], tmp_path: Path, family: str) -> None:
    base = save_tiny(tmp_path / f"tiny-{family}", family)
    code, _, err = cli(*tiny_run, f"--set=model.base={base}", "--set=method=qlora")
    assert code == 0, err
    code, out, err = cli("eval", "quickstart", "--json")
    assert code == 0, err
    assert json.loads(out)["num_rows"] == len((tmp_path / "runs/quickstart/test.jsonl").read_text().splitlines()) == 9


def test_a_trackers_package_that_is_not_there_is_said_before_training(
    cli: Cli, tiny_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pacos.training import trackers

    monkeypatch.setattr(trackers, "_installed", lambda name: False)
    code, _, err = cli(*tiny_run, "--set=track.to=[wandb, mlflow]")
    assert code == 2
    assert "track.to: wandb, mlflow not installed; run: pip install wandb mlflow" in err
