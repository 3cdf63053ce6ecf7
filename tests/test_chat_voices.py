"""A chat's stops, and its change from one adapter of a base to another without loading the base again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pacos.cli import chat
from pacos.cli.chat_voices import open_voices
from pacos.errors import UsageError
from pacos.inference import ChatSession, Engine, Sampling
from pacos.models import Network
from pacos.prompts import Renderer
from tests.conftest import Cli
from tests.tiny import tiny_model, tiny_tokenizer

QUESTION = "What is the capital of France?"
STRONG = ("--set=train.max_steps=6", "--set=train.learning_rate=0.05", "--set=lora.alpha=64")


def session_of(stop: tuple[str, ...] = (), **sampled: Any) -> ChatSession:
    renderer = Renderer(tiny_tokenizer(), "chat")
    network = Network(tiny_model("llama", tie_word_embeddings=False))
    engine = Engine(network, renderer.stop_ids, slots=1)
    return ChatSession(engine, renderer, Sampling(max_new_tokens=60, **sampled), stop=stop)


def test_an_answer_ends_before_a_stop_and_so_does_what_is_remembered() -> None:
    whole = "".join(session_of().send(QUESTION))
    for stop in (whole[20:24], whole[9], whole[30:]):
        session = session_of((stop, "not in it at all"))
        pieces = list(session.send(QUESTION))
        assert "".join(pieces) == whole[: whole.index(stop)]
        assert session.history[1].content == whole[: whole.index(stop)]
        assert len(pieces) > 5 or whole.index(stop) < 10


def test_a_stop_that_only_begins_is_given_out_in_the_end() -> None:
    whole = "".join(session_of().send(QUESTION))
    assert "".join(session_of((whole[-3:] + "never",)).send(QUESTION)) == whole


def talk_to(voices: Any, lines: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is printed for these lines, one answer a line that is no command."""
    capsys.readouterr()
    session = ChatSession(voices.first.engine, voices.first.renderer, Sampling(max_new_tokens=12))
    session.use(*voices.first.parts)
    answers = []
    for line in lines:
        session.reset()
        chat.converse(session, iter([line]), False, voices)
        if not line.startswith("/"):
            answers.append(capsys.readouterr().out)
    return answers


@pytest.fixture
def runs(cli: Cli, tiny_run: list[str]) -> tuple[str, str]:
    """Two runs on one base, with templates of their own, that answer differently."""
    for name, more in (("one", ("--set=prompt.template=chat",)), ("two", ("--set=train.seed=7",))):
        assert cli(*tiny_run, *STRONG, *more, "--out", f"runs/{name}")[0] == 0
    return "runs/one", "two"


def test_another_run_of_the_base_answers_without_loading_it_again(
    cli: Cli, runs: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (talk_to(open_voices(run, False), [QUESTION], capsys)[0] for run in runs)
    base = talk_to(open_voices(runs[0], True), [QUESTION], capsys)[0]
    assert len({one, two, base}) == 3
    voices = open_voices(runs[0], False)
    monkeypatch.setattr("pacos.models.load_model", None)
    lines = [
        QUESTION,
        "/adapter two",
        QUESTION,
        "/adapter",
        QUESTION,
        "/adapter runs/one",
        QUESTION,
        "/adapter two",
        QUESTION,
    ]
    assert talk_to(voices, lines, capsys) == [one, two, base, one, two]


def test_a_chat_that_begins_with_the_base_can_go_on_with_its_runs(
    runs: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    voices = open_voices(runs[0], True)
    found = talk_to(voices, [QUESTION, "/adapter one", QUESTION], capsys)
    assert found[1] == talk_to(open_voices(runs[0], False), [QUESTION], capsys)[0] != found[0]


def test_runs_that_cannot_be_changed_to_are_named_and_the_chat_goes_on(
    cli: Cli, runs: tuple[str, str], tiny_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.conftest import save_tiny

    other = save_tiny(tmp_path / "another-base", seed=5)
    assert cli(*tiny_run, f"--set=model.base={other}", "--set=train.max_steps=1", "--out", "runs/other")[0] == 0
    assert (
        cli(*tiny_run, "--set=method=full", "--set=lora=null", "--set=train.max_steps=1", "--out", "runs/full")[0] == 0
    )
    voices = open_voices(runs[0], False)
    expected = talk_to(voices, [QUESTION], capsys)
    for name, message in (
        ("other", "other: was trained on "),
        ("full", "full: a model of its own, not an adapter; talk to it with: pacos chat full"),
        ("none", "none"),
    ):
        with pytest.raises(UsageError, match=message):
            voices.find(name)
    assert talk_to(voices, [QUESTION], capsys) == expected
    with pytest.raises(
        UsageError, match=r"^one: this chat's model takes no adapters; start one with the run: pacos chat one$"
    ):
        open_voices("full", False).find("one")


def test_stops_are_offered_on_the_command_line(
    cli: Cli, runs: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = []
    for stops in ((), ("--stop", "x", "--stop", "e")):
        lines = tmp_path / "lines"
        lines.write_text(f"{QUESTION}\n")
        with lines.open(encoding="utf-8") as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            code, out, _ = cli("chat", runs[0], "--temperature", 1, "--seed", 2, "--max-new-tokens", 60, *stops)
        assert code == 0
        said.append(out.removesuffix("\n"))
    cut = min(said[0].index(stop) for stop in ("x", "e") if stop in said[0])
    assert said[1] == said[0][:cut]
    code, _, err = cli("chat", runs[0], "--stop", "")
    assert (code, err) == (2, "pacos: --stop: a text is empty; give at least one character\n")
