"""What goes wrong in the middle of a run: memory, numbers, signals. The run says so, keeps what was good, and continues."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pacos.models.artifact import verify
from pacos.prompts import Rendered, Renderer, table_of
from pacos.recipes import Recipe
from pacos.training import Prepared
from pacos.training.prepare import Rows
from tests.conftest import Cli, save_tiny
from tests.tiny import tiny_tokenizer

PARTIAL = Path("runs") / "quickstart.partial"
ADVICE = "  Try a lower train.learning_rate, a longer train.warmup_share, or look at the rows with --show-rows"


def python_s_own() -> None:
    raise MemoryError


def on_a_device() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def on_a_cpu() -> None:
    """The real thing: more than any machine has."""
    torch.empty(2**58)


def failing_from(call: int, fail: Callable[[], None]) -> Callable[..., Any]:
    """The loss, which fails from its `call`-th call on."""
    from pacos.models.kernels.cross_entropy import linear_cross_entropy

    calls = 0

    def loss(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= call:
            fail()
        return linear_cross_entropy(*arguments)

    return loss


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def same(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("fail", [python_s_own, on_a_device, on_a_cpu])
def test_too_little_memory_is_said_before_the_first_step_and_leaves_nothing(
    fail: Callable[[], None], cli: Cli, tiny_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("pacos.training.train.linear_cross_entropy", failing_from(1, fail))
        code, out, err = cli(*tiny_run)
    assert (code, out) == (4, "")
    first, second = err.splitlines()[-2:]
    assert first.startswith("pacos: the longest pack (")
    assert first.endswith(" tokens) does not fit in memory.")
    assert second == (
        "  Lower train.pack_tokens or train.max_length, set train.gradient_checkpointing, or use method qlora"
    )
    assert not PARTIAL.exists()
    assert cli(*tiny_run)[0] == 0


def test_the_rehearsal_takes_the_longest_rows_of_training_and_of_validation(
    cli: Cli, tiny_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pacos.training import train as loop

    lengths: list[int] = []
    real = loop.masked_cross_entropy

    def noting(network: Any, pack: Any) -> Any:
        lengths.append(pack.num_tokens)
        return real(network, pack)

    monkeypatch.setattr("pacos.training.run.masked_cross_entropy", noting)
    assert cli(*tiny_run, "--set=train.batch_size=1", "--set=train.max_steps=40", "--set=train.eval_every=40")[0] == 0
    assert lengths[0] == max(lengths[2:42])
    assert len(lengths) > 42


def test_memory_that_runs_out_later_is_one_line_and_the_run_continues_to_the_same_weights(
    cli: Cli, tiny_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*tiny_run, "--set=lora.dropout=0.2", "--set=train.pack_tokens=4096"]
    with monkeypatch.context() as patch:
        patch.setattr("pacos.training.train.linear_cross_entropy", failing_from(7, on_a_device))
        code, _, err = cli(*arguments)
    assert code == 4
    assert err.splitlines()[-2:] == [
        "pacos: out of memory, although the longest batch has fitted before: is anything else running on this device?",
        f"  What was saved is in {PARTIAL}; free some memory and continue with --resume",
    ]
    assert [path.name for path in (PARTIAL / "checkpoints").iterdir()] == ["step-2"]
    assert cli(*arguments, "--resume")[0] == 0
    assert cli(*arguments, "--out", "whole")[0] == 0
    assert same(tmp_path / "runs" / "quickstart", tmp_path / "whole")


def test_another_error_about_memory_is_not_taken_for_too_little_of_it(
    cli: Cli, tiny_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("pacos.training.train.linear_cross_entropy", failing_from(1, broken))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        cli(*tiny_run)


@pytest.mark.parametrize(
    ("eval_every", "message"),
    [
        (2, "step 4: the loss is nan and the gradient norm nan; training stopped before they reached the weights."),
        (3, "step 3: the loss on the validation rows is nan"),
    ],
)
def test_a_loss_that_is_no_number_stops_with_the_last_good_checkpoint_intact(
    eval_every: int, message: str, cli: Cli, tiny_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third step throws the weights out of all bounds."""
    from pacos.training.schedule import learning_rate

    def thrown(step: int, **options: Any) -> float:
        return math.inf if step == 2 else learning_rate(step, **options)

    monkeypatch.setattr("pacos.training.run.learning_rate", thrown)
    code, out, err = cli(*tiny_run, f"--set=train.eval_every={eval_every}", "--set=train.save_every=2")
    assert (code, out) == (1, "")
    good = PARTIAL / "checkpoints" / "step-2"
    assert err.splitlines()[-3:] == [f"pacos: {message}", ADVICE, f"  The last good checkpoint is {good}"]
    assert [path.name for path in good.parent.iterdir()] == ["step-2"]
    verify(good)
    assert all(tensor.isfinite().all() for tensor in load_file(good / "weights.safetensors").values())


def test_a_stopped_run_continues_by_the_very_command_that_it_prints(
    cli: Cli, tiny_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pacos.cli.interrupt import Asked

    arguments = [*tiny_run, "--set=name=mine", "--set=lora.dropout=0.2"]
    answers = iter([False, False, False])
    with monkeypatch.context() as patch:
        patch.setattr(Asked, "signal", 15)
        patch.setattr(Asked, "to_stop", property(lambda _: next(answers, True)))
        code, _, err = cli(*arguments, "--out", "kept/mine")
    assert code == 143
    said = "stopped and saved; continue with: pacos "
    (command,) = [line.removeprefix(said) for line in err.splitlines() if line.startswith(said)]
    assert command == "train kept/mine.partial/recipe.yaml --out kept/mine --resume"
    code, _, err = cli(*shlex.split(command))
    assert code == 0, err
    assert "continuing behind step 3" in err
    assert cli(*arguments)[0] == 0
    assert same(tmp_path / "kept" / "mine", tmp_path / "runs" / "mine")


def test_a_run_continues_with_its_own_options_or_not_at_all(
    cli: Cli, tiny_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pacos.training.run.finish", killed)
        assert cli(*tiny_run)[0] == 130
    changes = ["--set=lora.rank=8", "--set=train.learning_rate=0.5", "--set=train.save_every=1", "--set=eval.limit=3"]
    code, _, err = cli(*tiny_run, *changes, "--resume")
    assert code == 2
    assert err.splitlines()[-3:] == [
        f"pacos: {PARTIAL}: a run continues with its own options; start another with --out",
        "  lora.rank was 4, and is 8",
        "  train.learning_rate was 0.001, and is 0.5",
    ]
    assert cli(*tiny_run, *changes[2:], "--resume")[0] == 0
    folder = tmp_path / "runs" / "quickstart"
    record = json.loads((folder / "pacos.json").read_text(encoding="utf-8"))
    assert record["recipe"]["eval"]["limit"] == 3
    assert "  limit: 3\n" in (folder / "recipe.yaml").read_text(encoding="utf-8")


def test_a_tracker_that_is_not_there_leaves_no_folder(
    cli: Cli, tiny_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("pacos.training.trackers._installed", lambda name: False)
        assert cli(*tiny_run, "--set=track.to=[wandb]")[0] == 2
    assert not PARTIAL.exists()
    assert cli(*tiny_run)[0] == 0


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_of_two_runs_in_one_folder_the_second_is_refused_in_a_line(
    resume: list[str], cli: Cli, tiny_run: list[str]
) -> None:
    from pacos.training.resume import locked

    PARTIAL.mkdir(parents=True)
    with locked(PARTIAL):
        code, _, err = cli(*tiny_run, *resume)
        assert (code, err.splitlines()[-1]) == (
            2,
            f"pacos: {PARTIAL}: another process is training this run; "
            "wait for its end, or give another place with --out",
        )
        assert list(PARTIAL.iterdir()) == []
    assert cli(*tiny_run, *resume)[0] == 0


def test_a_run_holds_its_folder_from_its_first_look_to_its_end(
    cli: Cli, tiny_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pacos.errors import UsageError
    from pacos.training import run
    from pacos.training.resume import locked

    real, seen = run.finish, []

    def finish(*arguments: Any) -> Any:
        with pytest.raises(UsageError, match="another process is training this run"), locked(PARTIAL):
            pass
        seen.append(True)
        return real(*arguments)

    monkeypatch.setattr(run, "finish", finish)
    assert cli(*tiny_run)[0] == 0
    assert seen == [True]


@pytest.mark.parametrize("vocab_size", [300, 319])
def test_a_tokenizer_of_more_tokens_than_the_model_is_refused_before_training(
    vocab_size: int, cli: Cli, tiny_run: list[str], tmp_path: Path
) -> None:
    """It has 320, of which the last is in the prompt contract alone."""
    base = save_tiny(tmp_path / "small", vocab_size=vocab_size)
    code, _, err = cli(*tiny_run, f"--set=model.base={base}")
    assert (code, err.splitlines()[-1]) == (
        2,
        f"pacos: model.base: its tokenizer writes token 319, and this model of type 'llama' knows 0 to {vocab_size - 1}; "
        "give the model the tokenizer that it was trained with, or one embedding more for each token that was added",
    )
    assert not PARTIAL.exists()


def test_a_token_of_the_rows_alone_is_seen_too() -> None:
    renderer = Renderer(tiny_tokenizer(), "chat")
    rows = {
        name: Rows([], table_of([Rendered((5, id), (True, True))]))
        for name, id in (("train", 1000), ("validation", 999))
    }
    prepared = Prepared(Recipe(), None, None, None, renderer, test=[], notes=[], **rows)  # type: ignore[arg-type]
    assert prepared.largest_id == 1000
    assert replace(prepared, train=prepared.validation).largest_id == 999
