"""Several processes train one run: the same losses and the same artifact as one process, killed and continued at will.

Each launch is real: torchrun or `--nproc`, gloo on the CPU. A start costs seconds, so what can share one does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pacos.training.distributed import ALONE, Peers, deal
from pacos.training.shards import Parts, part_name, rows_of
from tests.conftest import Cli, save_tiny
from tests.tiny import tiny_model

ROOT = Path(__file__).parents[1]
PACOS = [sys.executable, "-m", "pacos"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
LONG = ["--set=train.epochs=100", "--set=train.save_every=8", "--set=train.eval_every=20"]


def test_a_batch_is_dealt_out_whole_and_evenly() -> None:
    lengths = [50, 10, 40, 20, 30, 5]
    assert deal(lengths, 2) == [[0, 3, 1], [2, 4, 5]]
    shares = [Peers(rank, 4).share([[3, 1, 5], [0, 2, 4]], lengths) for rank in range(4)]
    assert shares == [[[0]], [[2]], [[4, 5]], [[3, 1]]]
    assert Peers(1, 2).share([[3, 1, 5], [0, 2, 4]], lengths) == [[3, 1, 5]]
    assert Peers(5, 6).share([[0, 1]], lengths) == []
    assert ALONE.share([[3, 1], [0]], lengths) == [[3, 1], [0]]


@pytest.mark.parametrize(("num_rows", "parts"), [(10, 1), (10, 2), (10, 3), (5, 4), (2, 4), (0, 2)])
def test_rows_are_cut_as_torch_cuts_them(num_rows: int, parts: int) -> None:
    chunks = [list(range(*rows_of(num_rows, part, parts))) for part in range(parts)]
    assert [row for chunk in chunks for row in chunk] == list(range(num_rows))
    expected = [chunk.tolist() for chunk in torch.arange(num_rows).chunk(parts)] if num_rows else []
    assert [chunk for chunk in chunks if chunk] == expected


def test_tensors_kept_by_three_are_read_by_any_number(tmp_path: Path) -> None:
    whole = {"w": torch.arange(14.0).reshape(7, 2), "b": torch.arange(2.0)}
    for part in range(3):
        mine = {name: tensor[slice(*rows_of(len(tensor), part, 3))].clone() for name, tensor in whole.items()}
        save_file(mine | {"step": torch.tensor(5.0)}, tmp_path / part_name("optimizer", part, 3))
    parts = Parts(tmp_path, "optimizer", 3, {"w": [7, 2], "b": [2]})
    for readers in (1, 2, 4):
        for rank in range(readers):
            found = parts.read(lambda name, shape: rows_of(shape[0], rank, readers) if shape else None)  # noqa: B023
            assert found.keys() == {"w", "b", "step"}
            assert found["step"] == 5
            for name, tensor in whole.items():
                assert torch.equal(found[name], tensor[slice(*rows_of(len(tensor), rank, readers))])


@pytest.fixture
def third_of_four() -> Iterator[Peers]:
    """A process among others that are not there: torch's stand-in, whose messages go nowhere."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    torch.distributed.init_process_group("fake", store=FakeStore(), rank=2, world_size=4)
    yield Peers(2, 4)
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_each_process_holds_its_part_of_the_weights_and_whole_adapters(third_of_four: Peers, method: str) -> None:
    from pacos.models import LoraSpec, Network, attach
    from pacos.models.quantize import quantize_linears
    from pacos.training.optimizer import Masters, make_optimizer
    from pacos.training.sharding import decoder_layers, shard

    model = tiny_model("llama").requires_grad_(False)
    if method == "qlora":
        quantize_linears(model, double_quant=True, compute_dtype=torch.float32)
    network, spec = Network(model), LoraSpec(3, 8.0, 0.0, ("q_proj", "down_proj"))
    adapter = None if method == "full" else attach(model, spec, torch.Generator().manual_seed(0))
    trained = set() if adapter is None else {p for _, p in adapter.named_parameters()}
    before = {name: p.numel() for name, p in model.named_parameters() if p not in trained}
    shard(network, adapter, torch.float32)
    after = {name: p for name, p in model.named_parameters() if p not in trained}
    assert {name: p.to_local().numel() * 4 for name, p in after.items()} == before
    assert all(not hasattr(p, "to_local") for p in trained)
    masters = Masters(model.named_parameters() if adapter is None else adapter.named_parameters())
    assert masters.shards == (set(after) if method == "full" else set())
    assert decoder_layers(network.model) == list(model.model.layers)
    make_optimizer(masters, "adamw", learning_rate=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)


# ---------------------------------------------------------------------------------------------------------------------
# real processes


def environment(folder: Path) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")},
        "OMP_NUM_THREADS": "1",
        "PACOS_CACHE": str(folder.parent / "cache"),  # kernels are compiled once for all of them
        "STARTED_IN": str(folder),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
    }


def start(command: list[str], folder: Path) -> subprocess.Popen[str]:
    """In a session of its own, as a terminal would."""
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_step(process: subprocess.Popen[str], work: Path, step: int) -> None:
    """Return when the run's metrics show `step`."""
    path, end = work / "metrics.jsonl", time.monotonic() + 600
    while time.monotonic() < end and process.poll() is None:
        if path.exists() and len(path.read_text().splitlines()) >= step:
            return
        time.sleep(0.005)
    process.kill()
    raise AssertionError(f"step {step} was not seen; the process said: {process.communicate()[0]}")


def processes_of(folder: Path, *variables: str) -> list[int]:
    """The processes that were started in `folder`, with these environment variables."""
    wanted = {variable.encode() for variable in (f"STARTED_IN={folder}", *variables)}
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if wanted <= set(path.read_bytes().split(b"\0")):
                found.append(int(path.parent.name))
    return found


@pytest.fixture(autouse=True)
def none_left(tmp_path: Path) -> Iterator[None]:
    """Processes outlive a test that fails, and those that they started live in sessions of their own."""
    yield
    for pid in processes_of(tmp_path):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_rank(rank: int, folder: Path) -> None:
    (pid,) = processes_of(folder, f"RANK={rank}")
    os.kill(pid, signal.SIGKILL)


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = folder.glob("*.safetensors")
    return load_file(path)


def assert_same_weights(a: Path, b: Path, tolerance: float) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.allclose(tensor, second[name], rtol=0, atol=tolerance), name


@pytest.fixture(scope="module")
def base_of_qlora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("base") / "tiny-gemma2", "gemma2")


@pytest.fixture
def recipes(tiny_run: list[str], base_of_qlora: Path) -> dict[str, list[str]]:
    """Command lines by what they train. `full` is Stanford Alpaca's recipe, on the tiny base."""
    plain = [a for a in tiny_run[2:] if "lora" not in a] + ["--set=model.dtype=fp32"]
    longer = ["--set=train.max_length=256", "--set=train.pack_tokens=256", "--set=train.learning_rate=0.001"]
    full = ["train", "alpaca-7b", *plain, *longer]
    lora = ["train", "quickstart", *plain, "--set=lora.rank=4"]
    return {
        "lora": lora,
        "qlora": [*lora, "--set=method=qlora", f"--set=model.base={base_of_qlora}"],
        "full": full,
        "full-whole": [*full, "--set=train.shard=false"],
        "full-bf16": [*full, "--set=model.dtype=bf16", "--set=train.batch_size=null", "--set=train.batch_tokens=512"],
        "dropout": [*lora, "--set=lora.dropout=0.3", *LONG, "--set=train.max_steps=24"],
    }


def begin_alone(recipe: list[str], cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process, asked to stop after three steps."""
    answers = iter([False] * 3)
    with monkeypatch.context() as patch:
        patch.setattr("pacos.cli.interrupt.Asked.signal", 15)
        patch.setattr("pacos.cli.interrupt.Asked.to_stop", property(lambda _: next(answers, True)))
        assert cli(*recipe)[0] == 143


@pytest.fixture
def two(recipes: dict[str, list[str]], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """Every recipe trained by two processes, one begun by one, then one that cannot be: the folder, and what was said."""
    begun = [*recipes["full"], "--out=two/begun"]
    begin_alone(begun, cli, monkeypatch)
    commands = [[*recipe, f"--out=two/{name}"] for name, recipe in recipes.items()] + [[*begun, "--resume"]]
    (tmp_path / "commands.json").write_text(json.dumps([*commands, commands[0]]))
    process = start([*TORCHRUN, "2", str(ROOT / "tests" / "several_runs.py"), "commands.json"], tmp_path)
    said, _ = process.communicate(timeout=1200)
    assert process.returncode == 1, said
    return tmp_path / "two", said


def test_two_processes_make_what_one_makes(
    two: tuple[Path, str], recipes: dict[str, list[str]], cli: Cli, tmp_path: Path
) -> None:
    from pacos.models.artifact import verify

    folder, said = two
    assert said.count("two/lora: exists; give another place with --out") == 1
    for name in ("lora", "qlora", "full", "full-whole", "full-bf16"):
        code, _, err = cli(*recipes[name], f"--out=one/{name}")
        assert code == 0, err
        ours, alone = folder / name, tmp_path / "one" / name
        verify(ours)
        assert sorted(p.name for p in ours.iterdir()) == sorted(p.name for p in alone.iterdir())
        tolerance = 1e-5 if name != "full-bf16" else 1e-2
        for key in ("loss", "grad_norm", "eval_loss", "targets", "learning_rate"):
            found, expected = ([row.get(key, 0.0) for row in metrics(where)] for where in (ours, alone))
            assert found == pytest.approx(expected, abs=tolerance), (name, key)
        assert_same_weights(ours, alone, tolerance)
        record = json.loads((ours / "pacos.json").read_text())
        assert record["receipts"][0]["max_logit_difference"] < 1e-4
        assert record["hardware"]["processes"] == 2
    for name in ("config.json", "generation_config.json", "tokenizer.json"):
        assert (folder / "full" / name).read_bytes() == (tmp_path / "one" / "full" / name).read_bytes()
    # the one that is refused says so too
    assert said.count("2 processes, each with its share of every batch and 1/2 of the weights") == 7
    assert said.count("2 processes, each with its share of every batch and all weights: train.shard is false") == 1
    assert said.count("trained 6 steps in") == 6
    assert said.count("continuing behind step 3") == 1
    assert_same_weights(folder / "begun", tmp_path / "one" / "full", 1e-5)
    restarts_from_the_last_checkpoint(recipes["dropout"], folder / "dropout", tmp_path)


def restarts_from_the_last_checkpoint(recipe: list[str], whole: Path, tmp_path: Path) -> None:
    """torchrun starts a killed run again, which ends with the very weights of one that was never stopped."""
    command = [*TORCHRUN, "2", "--max-restarts", "1", "-m", "pacos", *recipe, "--out=again"]
    process = start(command, tmp_path)
    wait_for_step(process, tmp_path / "again.partial", 10)
    kill_rank(1, tmp_path)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert "continuing behind step " in said
    assert_same_weights(tmp_path / "again", whole, 0.0)
    assert [row["step"] for row in metrics(tmp_path / "again")] == list(range(1, 25))


def test_a_run_goes_on_in_any_number_of_processes(recipes: dict[str, list[str]], cli: Cli, tmp_path: Path) -> None:
    """Two, one of them killed; then three, asked to stop; then one, to the end: as one that was never stopped."""
    command, work = [*recipes["full"], *LONG, "--set=train.max_steps=36"], tmp_path / "runs" / "alpaca-7b.partial"
    process = start([*PACOS, *command, "--nproc=2"], tmp_path)
    wait_for_step(process, work, 10)
    kill_rank(1, tmp_path)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 1, said
    assert "process 1 of 2 was ended by SIGKILL" in said
    again = "runs/alpaca-7b.partial/recipe.yaml --out runs/alpaca-7b --resume --nproc"
    assert f"what was saved is kept; continue with: pacos train {again} 2" in said
    assert "Traceback" not in said
    assert processes_of(tmp_path) == []
    assert (work / "checkpoints" / "step-8" / "weights-1-of-2.safetensors").is_file()

    process = start([*PACOS, *command, "--nproc=3", "--resume"], tmp_path)
    wait_for_step(process, work, 14)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 130, said
    assert "continuing behind step " in said
    assert said.count("stopping after this step, and saving") == 1
    assert said.count(f"stopped and saved; continue with: pacos train {again} 3") == 1
    assert "Traceback" not in said

    code, _, err = cli(*command, "--resume")
    assert code == 0, err
    assert cli(*command, "--out=whole")[0] == 0
    assert_same_weights(tmp_path / "runs" / "alpaca-7b", tmp_path / "whole", 1e-5)
    found, expected = ([row["loss"] for row in metrics(tmp_path / run)] for run in ("runs/alpaca-7b", "whole"))
    assert found == pytest.approx(expected, abs=1e-5)


def test_processes_that_cannot_be_had_are_refused_before_any_is_started(cli: Cli, tiny_run: list[str]) -> None:
    code, _, err = cli(*tiny_run, "--nproc", 2, "--dry-run")
    assert (code, err) == (
        2,
        "pacos: --show-rows and --dry-run train nothing, so --nproc has no effect beside them\n",
    )
    code, _, err = cli(*tiny_run, "--nproc", 2, "--set=model.device=cuda:0")
    assert (code, err) == (
        2,
        "pacos: model.device: 'cuda:0' names one device, and 2 processes train; take auto or cuda\n",
    )
    assert cli(*tiny_run, "--nproc", 2, "--set=train.epoch=1")[0] == 2
