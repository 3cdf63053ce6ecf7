"""What many tests stand on: a tiny base model in a folder, data beside it, and the command line in process."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_model, tiny_tokenizer

Cli = Callable[..., tuple[int, str, str]]
COLOURS = ("red", "green", "blue", "black", "white", "pink", "brown", "grey")


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    """Tiny products are faster on one thread, and their sums are then the same everywhere."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)


def save_tiny(folder: Path, family: str = "llama", **overrides: Any) -> Path:
    """A tiny random model with its tokenizer, as a hub folder."""
    tiny_model(family, **overrides).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _ctrl_c() -> Iterator[None]:
    """Ctrl-C means what it means in a terminal, also where the tests run in the background with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("base") / "tiny-llama")


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 rows in Alpaca JSONL, all different."""
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    rows = [
        {
            "instruction": f"Say the colour of thing {i} in {i * 7 % 31} words.",
            "input": f"thing {i * i}",
            "output": COLOURS[i % 8],
        }
        for i in range(64)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in an empty workspace: (exit code, stdout, stderr)."""
    from pacos.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PACOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def tiny_run(tiny_base: Path, tiny_data: Path) -> list[str]:
    """Arguments of a run that takes a second: `pacos train quickstart` on the tiny base and data."""
    settings = {
        "model.base": tiny_base,
        "data.path": tiny_data,
        "data.test_share": 0.2,
        "data.validation_share": 0.1,
        "lora.rank": 4,
        "train.batch_size": 8,
        "train.max_steps": 6,
        "train.eval_every": 2,
        "train.max_length": 128,
        "train.pack_tokens": 128,
        "eval.limit": 10,
        "eval.max_new_tokens": 6,
    }
    return ["train", "quickstart", *(f"--set={key}={value}" for key, value in settings.items())]
