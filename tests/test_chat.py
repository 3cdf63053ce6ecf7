"""A conversation with a tiny random model: in pieces, in turns, within the context, and in a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pacos.cli import chat
from pacos.cli.show import safe
from pacos.data.records import Message
from pacos.errors import UsageError
from pacos.inference import ChatSession, Engine, Sampling
from pacos.models import Network
from pacos.prompts import Renderer
from tests.conftest import Cli, save_tiny
from tests.tiny import tiny_model, tiny_tokenizer

ROOT = Path(__file__).resolve().parents[1]


def session_of(*, max_length: int | None = None, tokens: int = 12, system: str = "", seed: int = 0) -> ChatSession:
    renderer = Renderer(tiny_tokenizer(), "chat")
    network = Network(tiny_model("llama", seed=seed, tie_word_embeddings=False))
    engine = Engine(network, renderer.stop_ids, slots=1, max_length=max_length)
    return ChatSession(engine, renderer, Sampling(max_new_tokens=tokens), system)


def expected_answer(session: ChatSession, messages: list[Message]) -> str:
    """What the engine writes behind these messages, decoded whole."""
    prompt = session.renderer.render_chat(messages)
    return session.renderer.decode(session.engine.generate([prompt], session.sampling)[0].ids)


def test_the_pieces_of_an_answer_are_the_answer() -> None:
    session = session_of(tokens=60)
    pieces = list(session.send("What is the capital of France?"))
    assert len(pieces) > 10
    assert "".join(pieces) == expected_answer(session, [Message("user", "What is the capital of France?")])


def test_a_second_turn_is_answered_with_the_first_before_it() -> None:
    session = session_of(system="Be brief.")
    first = "".join(session.send("Name a fruit."))
    second = "".join(session.send("Another."))
    before = [Message("system", "Be brief."), Message("user", "Name a fruit."), Message("assistant", first)]
    assert second == expected_answer(session, [*before, Message("user", "Another.")])
    assert session.history == [*before[1:], Message("user", "Another."), Message("assistant", second)]


def test_reset_forgets_what_was_said_and_keeps_the_system_message() -> None:
    session = session_of(system="Be brief.")
    first = "".join(session.send("Name a fruit."))
    session.reset()
    assert "".join(session.send("Name a fruit.")) == first
    session.reset()
    session.set_system("Answer at length, with examples.")
    assert "".join(session.send("Name a fruit.")) != first


def test_an_answer_that_is_stopped_stays_as_far_as_it_was_written() -> None:
    session = session_of(tokens=100)
    pieces = session.send("Name a fruit.")
    said = next(pieces) + next(pieces)
    pieces.close()
    assert session.history == [Message("user", "Name a fruit."), Message("assistant", said)]
    assert session.engine.cache_bytes > 0, "the engine has its cache back"


def test_the_oldest_turns_are_left_out_when_the_context_is_full() -> None:
    session = session_of(max_length=120, tokens=20)
    left_out = []
    for i in range(6):
        list(session.send(f"Question number {i}: which one comes next?"))
        left_out.append(session.turns_left_out)
    assert left_out[0] == 0
    assert left_out == sorted(left_out)
    assert left_out[-1] >= 3
    assert len(session.history) == 12
    kept = session.history[2 * left_out[-1] : -1]
    assert len(session.renderer.render_chat(kept)) <= 100
    assert len(session.renderer.render_chat(session.history[2 * (left_out[-1] - 1) : -1])) > 100


def test_a_message_longer_than_the_context_is_refused_and_the_conversation_goes_on() -> None:
    session = session_of(max_length=64)
    list(session.send("hello"))
    before = list(session.history)
    tokens = len(session.renderer.render_chat([Message("user", "pear " * 90)]))
    with pytest.raises(UsageError) as error:
        session.send("pear " * 90)
    assert str(error.value) == f"the message takes {tokens} tokens, this model reads fewer than 64; shorten it"
    assert (session.history, session.turns_left_out) == (before, 0)


@pytest.mark.parametrize("word", ["quit", "exit", "q", " Quit \n"])
def test_the_words_that_end_end(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    session = session_of()
    chat.converse(session, iter([word, "hello"]), live=True)
    assert session.history == []
    assert capsys.readouterr().out == ""


def test_commands_do_what_help_says(capsys: pytest.CaptureFixture[str]) -> None:
    session = session_of()
    lines = ["hello", "/system Be brief.", "/reset", "/rest", "/help", "", "   "]
    chat.converse(session, iter(lines), live=True)
    assert (session.system, session.history) == ("Be brief.", [])
    captured = capsys.readouterr()
    assert captured.out.count("\n") >= 1
    assert captured.err == (
        "system message: Be brief.\nthe conversation is forgotten\n"
        "/rest: unknown command; did you mean '/reset'?; known: /reset, /system, /adapter, /help\n" + chat.HELP + "\n"
    )
    chat.converse(session, iter(["/system"]), live=True)
    assert session.system == ""


def test_control_characters_of_an_answer_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    session = session_of(tokens=120, seed=1)
    chat.answer(session, "hello", live=True)
    said = session.history[1].content
    assert "\x07" in said, "this model rings the bell, or nothing is tested"
    printed = capsys.readouterr().out
    assert printed == "".join(c for c in said if c in "\t\n" or (ord(c) >= 32 and not 127 <= ord(c) < 160)) + "\n"


def test_escape_sequences_are_printed_as_harmless_text() -> None:
    assert safe("a\x1b[31mb\x1b]0;t\x07c\x9b1md\r\te\n") == "a[31mb]0;tc1md\te\n"
    turned = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    assert safe(f"a{turned}b") == "a" + "".join(f"\\u{ord(sign):04x}" for sign in turned) + "b"
    assert safe("\u05e9\u05dc\u05d5\u05dd") == "\u05e9\u05dc\u05d5\u05dd"


def test_it_is_said_once_that_old_turns_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    session = session_of(max_length=120, tokens=20)
    chat.converse(session, iter([f"Question number {i}: which one comes next?" for i in range(6)]), live=True)
    assert session.turns_left_out >= 3
    assert capsys.readouterr().err == (
        "the conversation has outgrown the model's context: the oldest turns are left out from here on\n"
    )


def test_a_message_that_is_too_long_is_told_on_a_terminal_and_fails_off_it(capsys: pytest.CaptureFixture[str]) -> None:
    session = session_of(max_length=64)
    chat.converse(session, iter(["pear " * 90]), live=True)
    assert "shorten it" in capsys.readouterr().err
    with pytest.raises(UsageError, match="shorten it"):
        chat.converse(session, iter(["pear " * 90]), live=False)


def test_ctrl_c_stops_the_answer_and_the_conversation_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of(tokens=40)
    stream = session.engine.stream

    def interrupted(prompt: Any, sampling: Any, **options: Any) -> Iterator[int]:
        for count, id in enumerate(stream(prompt, sampling, **options)):
            if count == 9:
                signal.raise_signal(signal.SIGINT)
            yield id

    monkeypatch.setattr(session.engine, "stream", interrupted)
    with pytest.raises(KeyboardInterrupt):
        chat.converse(session, iter(["hello"]), live=False)
    session.reset()
    capsys.readouterr()
    chat.answer(session, "hello", live=True)
    assert capsys.readouterr().err == "\nstopped\n"
    monkeypatch.undo()
    partial = session.history[1].content
    assert expected_answer(session, [Message("user", "hello")]).startswith(partial)
    chat.answer(session, "and now?", live=True)
    assert [message.role for message in session.history] == ["user", "assistant"] * 2


def test_lines_of_a_pipe_are_answered_plainly(
    cli: Cli, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = tmp_path / "lines"
    lines.write_bytes(b"hello\n\xff\xfe\nquit\nnever read\n")
    with lines.open(encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        code, out, _ = cli("chat", tiny_base, "--base", "--max-new-tokens", "8")
    session = session_of(tokens=8)
    session.engine = Engine(Network(tiny_model("llama")), session.renderer.stop_ids)
    answers = ["".join(session.send("hello")), "".join(session.send("\ufffd\ufffd"))]
    assert code == 0
    assert out == "".join(safe(answer) + "\n" for answer in answers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs/none"], "none"),
        (["--adapter-path", "runs/none"], "none"),
        (["--adapter_path", "runs/none"], "none"),
        (["--temperature", "-1"], "temperature: -1.0 is not accepted; give 0 (greedy) or more"),
        (["a", "--adapter-path", "b"], "two runs given"),
    ],
)
def test_what_was_asked_wrongly_is_one_line_and_exit_code_2(cli: Cli, arguments: list[str], message: str) -> None:
    code, out, err = cli("chat", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


class Terminal:
    """A process on a pseudo-terminal of its own."""

    def __init__(self, command: list[str]):
        self.side, inner = pty.openpty()
        self.seen = ""

        def take_terminal() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a run in the background is started with it ignored
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            command,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            cwd=ROOT,
            env={**os.environ, "TERM": "dumb", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            start_new_session=True,
            preexec_fn=take_terminal,
        )
        os.close(inner)

    def type(self, text: str) -> None:
        os.write(self.side, text.encode())

    def press_ctrl_c(self, done: Callable[[], bool], tries: int = 10) -> None:
        """Press until `done`: one that arrives while readline sets itself up waits there for the next key."""
        for _ in range(tries):
            self.type("\x03")
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                if done():
                    return
                self._read(0.1)
        raise AssertionError(f"Ctrl-C did nothing: {self.seen!r}")

    def _read(self, seconds: float) -> None:
        """Take in what is shown, waiting for it a while; a terminal that closed shows nothing more."""
        if select.select([self.side], [], [], seconds)[0]:
            with contextlib.suppress(OSError):
                self.seen += os.read(self.side, 4096).decode("utf-8", "replace")

    def until(self, done: Callable[[str], bool], seconds: float = 90) -> str:
        """What has been shown since the last call, once `done` says so of it."""
        deadline = time.monotonic() + seconds
        while not done(self.seen):
            assert time.monotonic() < deadline, f"not shown in {seconds} s: {self.seen!r}"
            self._read(1)
        shown, self.seen = self.seen, ""
        return shown


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """`pacos chat` with a model that would write thousands of tokens."""
    base = save_tiny(tmp_path / "base", tie_word_embeddings=False, max_position_embeddings=8192)
    terminal = Terminal([sys.executable, "-m", "pacos", "chat", str(base), "--base", "--max-new-tokens", "4000"])
    try:
        yield terminal
    finally:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.side)


def test_in_a_terminal_ctrl_c_stops_an_answer_and_twice_at_the_prompt_ends(terminal: Terminal) -> None:
    terminal.until(lambda seen: seen.endswith("> "))
    terminal.type("/help\n")
    assert "forget the conversation" in terminal.until(lambda seen: seen.endswith("> "))
    terminal.type("hello\n")
    terminal.until(lambda seen: len(seen) > 100)
    terminal.type("\x03")
    shown = terminal.until(lambda seen: seen.endswith("> "))
    assert "stopped" in shown
    assert "\x1b" not in shown
    terminal.press_ctrl_c(lambda: "Ctrl-C once more ends" in terminal.seen and terminal.seen.endswith("> "))
    terminal.press_ctrl_c(lambda: terminal.process.poll() is not None)
    assert terminal.process.returncode == 130
