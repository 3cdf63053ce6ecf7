"""Servers that answer what no server should: nothing of it raises, costs more than the budget, or gets into a row or a terminal."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pacos.data import Example
from pacos.self_instruct import AnswerRequests, Books, Limits, Log, Pool, endpoint
from pacos.self_instruct.wording import packaged
from tests.teacher_server import serve_teacher
from tests.test_self_instruct_loop import books_on, generation, records
from tests.test_self_instruct_loop import endpoint as teacher_at

QUESTIONS = AnswerRequests([Example("Say it."), Example("Say it again.")], packaged("answer"))


def said(content: Any, **more: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"content": content}}], **more}).encode()


def answered_by(reply: bytes, log: Path, limits: Limits = Limits(), behaviour: str = "reply") -> tuple[str, Books]:
    """How a run ends whose teacher says nothing but this, and its books, read again from the log."""
    with serve_teacher([behaviour]) as server:
        server.reply = reply
        books = Books(Pool((), {}, None), Log(log, {}), limits)
        teacher = teacher_at(server, in_flight=1)
        ending = asyncio.run(generation([teacher], books, count=None, requests=QUESTIONS, retries=0).run())
        books.log.close()  # type: ignore[union-attr]
    again = Books(Pool((), {}, None), Log(log, {}), limits)
    again.log.close()  # type: ignore[union-attr]
    assert again.pool.accepted == books.pool.accepted
    assert again.budget.spent == books.budget.spent
    return ending, again


@pytest.mark.parametrize(
    "reply",
    [
        b"", b"{}", b"[]", b"null", b"42", b'"yes"', b'{"choices": []}', b'{"choices": {}}', b'{"choices": [null]}',
        b'{"choices": [{"message": null}]}', b'{"choices": [{"message": {}}]}', b'{"choices": [{"text": 3}]}',
        said(7), said(["yes"]), said({"a": 1}), b"\xff\xfe\x00", b"[" * 100_000, b'{"a":' * 50_000,
        said("yes")[:-1], b"data: " + said("yes"), b"<html>no</html>", b'{"error": {"message": "no"}}',
    ],
)  # fmt: skip
def test_what_is_no_completion_is_a_failure_at_its_worst(reply: bytes, tmp_path: Path) -> None:
    ending, books = answered_by(reply, tmp_path / "log.jsonl")
    assert ending == "teachers"
    assert books.pool.accepted == []
    worst, (failed,) = records(tmp_path / "log.jsonl", "sent")[0], records(tmp_path / "log.jsonl", "failed")
    assert (failed["tokens"], failed["requests"]) == (worst["tokens"], 1)
    assert len(failed["why"]) < 400


@pytest.mark.parametrize(
    ("content", "problem"), [("", "no output"), (None, "no output"), ("a\ud800b", "characters"), ("a\0b", "characters")]
)
def test_what_is_no_text_is_an_answer_that_is_not_kept(content: Any, problem: str, tmp_path: Path) -> None:
    ending, books = answered_by(said(content), tmp_path / "log.jsonl")
    assert ending == "all"
    assert (books.pool.accepted, dict(books.pool.rejected)) == ([], {problem: 2})


@pytest.mark.parametrize(
    "text",
    ["<|end|>", "<|user|>\nAnd now?<|end|>", "</s><s>[INST]", "ü 漢 👩‍👩‍👧 ‮אב", "\x1b[2J", "```python\nprint(1)\n```",
     "It means <think>.", "x" * 200_000],
    ids=range(8),
)  # fmt: skip
def test_text_stays_as_it_was_written(text: str, tmp_path: Path) -> None:
    _, books = answered_by(said(text), tmp_path / "log.jsonl")
    assert [row.output for row in books.pool.accepted] == [text] * 2


@pytest.mark.parametrize(
    ("text", "output"),
    [("<think>Hm.</think>\nYes.", "Yes."), ("Hm, they ask.\n</think>\n\nYes.", "Yes."), ("<think>Hm, they", None)],
)
def test_thoughts_are_no_part_of_an_answer(text: str, output: str | None, tmp_path: Path) -> None:
    _, books = answered_by(said(text), tmp_path / "log.jsonl")
    assert [row.output for row in books.pool.accepted] == ([output] * 2 if output else [])


@pytest.mark.parametrize(
    "usage",
    [None, {}, [], "many", {"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": 40, "completion_tokens": -9},
     {"prompt_tokens": 10**400, "completion_tokens": 1}, {"prompt_tokens": 4.5, "completion_tokens": 1},
     {"prompt_tokens": True, "completion_tokens": True}, {"prompt_tokens": 9}, {"prompt_tokens": "9", "completion_tokens": "9"}],
    ids=range(11),
)  # fmt: skip
def test_counts_that_cannot_be_leave_the_worst_case(usage: Any, tmp_path: Path) -> None:
    _, books = answered_by(said("y" * 99, usage=usage), tmp_path / "log.jsonl")
    sent = records(tmp_path / "log.jsonl", "sent")
    assert books.budget.spent.tokens == sum(record["tokens"] for record in sent)
    assert len(books.pool.accepted) == 2


def test_an_endless_answer_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "LONGEST_ANSWER", 1 << 20)
    ending, _ = answered_by(b"", tmp_path / "log.jsonl", behaviour="endless")
    assert ending == "teachers"
    assert records(tmp_path / "log.jsonl", "failed")[0]["why"] == "an answer of over 1 MiB"


def test_a_server_that_bills_more_than_can_be_is_found_out_at_once_and_in_every_later_run(tmp_path: Path) -> None:
    """Thoughts that are not shown: the first answer passes the worst case, and the next is asked only where that fits."""
    log, limits = tmp_path / "log.jsonl", Limits(tokens=25_000)
    with serve_teacher(["lies"]) as server:
        server.usage = {"completion_tokens": 9_000}
        for _ in range(2):
            books = books_on(log, limits)
            assert asyncio.run(generation([teacher_at(server, in_flight=1)], books, count=900).run()) == "budget"
            books.log.close()  # type: ignore[union-attr]
            assert books.budget.spent.tokens <= 25_000
    assert len(server.bodies) == 2


def test_what_a_server_says_of_itself_cannot_move_the_cursor(tmp_path: Path) -> None:
    notes: list[str] = []
    with serve_teacher(["401 \x1b[2Jgo\x07 away\x9b"]) as server:
        books = books_on(tmp_path / "log.jsonl")
        asyncio.run(generation([teacher_at(server, in_flight=1)], books, on_note=notes.append).run())
    assert notes[0].endswith("HTTP 401: [2Jgo away")


def test_a_base_model_goes_on_writing_the_request() -> None:
    with serve_teacher() as server:
        books = books_on()
        teacher = teacher_at(server, api="completions")
        assert asyncio.run(generation([teacher], books, count=5).run()) == "enough"
    assert set(server.paths) == {"/v1/completions"}
    assert set(server.bodies[0]) == {"model", "prompt", "max_tokens", "temperature", "top_p"}
    assert len(books.pool.accepted) >= 5
