"""The log: killed at any moment it loses no acknowledged row and repeats none; a torn line is cut off; one process writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pacos.errors import DataError, ResourceError, UsageError, UserError
from pacos.self_instruct import Answer, Books, Failure, Limits, Log, Pool, Price
from pacos.self_instruct.filters import RULES
from tests.teacher_server import serve_teacher, task_list
from tests.test_self_instruct_loop import SEEDS, source

SETTINGS = {"seeds": "abc", "similar": 0.7}


def filled(path: Path, *, requests: int = 4) -> Books:
    """A log with answers, a failure, and an attempt that nothing came of."""
    import random

    books = Books(Pool(SEEDS, RULES, 0.7), Log(path, SETTINGS), Limits())
    for number in range(requests):
        sent = books.send(source().request(number), "t", Price(1, 2), 400)
        assert sent is not None
        books.answered(sent, Answer(task_list(random.Random(number), 3, 7), "stop", 0.5, 100, 50))
    failed = books.send(source().request(requests), "t", Price(1, 2), 400)
    assert failed is not None
    books.failed(failed, Failure("HTTP 500", "request"))
    books.send(source().request(requests + 1), "t", Price(1, 2), 400)
    return books


def reopened(path: Path) -> Books:
    log = Log(path, SETTINGS)
    books = Books(Pool(SEEDS, RULES, 0.7), log, Limits())
    log.close()
    return books


def test_everything_is_told_again_from_the_log(tmp_path: Path) -> None:
    books = filled(tmp_path / "log.jsonl")
    books.log.close()  # type: ignore[union-attr]
    again = reopened(tmp_path / "log.jsonl")
    assert again.pool.accepted == books.pool.accepted
    assert again.pool.rejected == books.pool.rejected
    assert again.done == books.done == {0, 1, 2, 3}
    assert (again.attempts, again.failures) == (books.attempts, books.failures) == (6, 1)
    assert again.budget.spent == books.budget.spent + books.budget.reserved


def test_a_record_holds_the_answer_as_it_was_and_a_verdict_on_every_task(tmp_path: Path) -> None:
    filled(tmp_path / "log.jsonl").log.close()  # type: ignore[union-attr]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    record = next(line for line in lines if line["kind"] == "request")
    request = source().request(0)
    assert record["seeds"] == list(request.lineage)
    assert record["sha256"] == request.sha256
    assert record["answer"].startswith("###\n3. Instruction: ")
    assert (record["tokens"], record["dollars"], record["seconds"]) == (150, 0.0002, 0.5)
    assert [set(task) >= {"verdict", "instruction", "input", "output"} for task in record["tasks"]] == [True] * 5
    assert [line["kind"] for line in lines[:3]] == ["start", "sent", "request"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6))
def test_a_log_torn_at_any_byte_gives_the_rows_of_its_whole_records(tmp_path: Path, at: int) -> None:
    whole, torn = tmp_path / "whole.jsonl", tmp_path / "torn.jsonl"
    if not whole.exists():
        filled(whole).log.close()  # type: ignore[union-attr]
    data = whole.read_bytes()
    start = data.index(b"\n") + 1
    data = data[: start + at % (len(data) - start)]
    torn.write_bytes(data)
    answered = [line for line in map(json.loads, data.split(b"\n")[:-1]) if line["kind"] == "request"]
    accepted = [t["instruction"] for line in answered for t in line["tasks"] if t["verdict"] == "accepted"]
    books = reopened(torn)
    assert [row.instruction for row in books.pool.accepted] == accepted
    assert torn.read_bytes() == data[: data.rfind(b"\n") + 1]


def test_a_log_torn_in_its_first_line_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(b'{"kind": "sta')
    assert reopened(tmp_path / "log.jsonl").pool.accepted == []
    assert json.loads((tmp_path / "log.jsonl").read_text())["settings"] == SETTINGS


def test_a_log_in_which_nothing_was_asked_takes_other_options(tmp_path: Path) -> None:
    Log(tmp_path / "log.jsonl", {**SETTINGS, "similar": 0.8}).close()
    Log(tmp_path / "log.jsonl", SETTINGS).close()
    (start,) = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert start["settings"] == SETTINGS


def test_other_options_are_refused_by_name(tmp_path: Path) -> None:
    filled(tmp_path / "log.jsonl").log.close()  # type: ignore[union-attr]
    with pytest.raises(UsageError, match=r"begun with other options: similar was 0.7, is 0.8\ngive the same"):
        Log(tmp_path / "log.jsonl", {**SETTINGS, "similar": 0.8})


@pytest.mark.parametrize(
    ("line", "told"),
    [("nonsense", "not a record"), ('{"kind": "request"}', "not a record"), ("[]", "not a record")],
)
def test_a_damaged_line_is_named(line: str, told: str, tmp_path: Path) -> None:
    filled(tmp_path / "log.jsonl").log.close()  # type: ignore[union-attr]
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    (tmp_path / "log.jsonl").write_text("\n".join([*lines[:2], line, *lines[2:]]) + "\n")
    with pytest.raises(DataError, match=rf"log.jsonl:3: {told}"):
        reopened(tmp_path / "log.jsonl")


def test_a_file_that_is_no_log_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"instruction": "x"}\n')
    with pytest.raises(DataError, match=r"rows.jsonl:1: not a record"):
        Log(tmp_path / "rows.jsonl", SETTINGS)
    assert (tmp_path / "rows.jsonl").read_text() == '{"instruction": "x"}\n'


def test_two_processes_cannot_write_one_log(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.jsonl", SETTINGS)
    with pytest.raises(UsageError, match=r"log.jsonl: another process is writing to it"):
        Log(tmp_path / "log.jsonl", SETTINGS)
    log.close()
    Log(tmp_path / "log.jsonl", SETTINGS).close()


def command(url: str, out: Path, count: int) -> list[str]:
    arguments = ["generate", "--out", str(out), "--count", str(count), "--tasks", "4", "--teacher", f"m@{url}"]
    return [
        sys.executable,
        "-c",
        "import sys; from pacos.cli.main import main; sys.exit(main(sys.argv[1:]))",
        *arguments,
    ]


def test_killed_again_and_again_no_acknowledged_row_is_lost_and_none_is_there_twice(tmp_path: Path) -> None:
    out, log = tmp_path / "rows.jsonl", tmp_path / "rows.jsonl.log.jsonl"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "NO_PROXY": "127.0.0.1"}
    acknowledged: list[str] = []
    with serve_teacher(["ok", "slower"]) as server:
        for _ in range(2):
            process = subprocess.Popen(command(server.url, out, 400), env=environment, stderr=subprocess.DEVNULL)
            wait_for_rows(log, len(acknowledged) + 8, process)
            process.send_signal(signal.SIGKILL)
            process.wait()
            now = accepted_in(log)
            assert now[: len(acknowledged)] == acknowledged
            acknowledged = now
        done = subprocess.run(
            command(server.url, out, len(acknowledged) + 10), env=environment, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["instruction"] for row in rows[: len(acknowledged)]] == acknowledged
    assert len(rows) == len({row["id"] for row in rows}) == len(acknowledged) + 10


def accepted_in(log: Path) -> list[str]:
    """Accepted instructions in the whole lines of a log that is being written."""
    lines = log.read_bytes().split(b"\n")[:-1] if log.exists() else []
    tasks = [task for line in map(json.loads, lines) if line["kind"] == "request" for task in line["tasks"]]
    return [task["instruction"] for task in tasks if task["verdict"] == "accepted"]


def wait_for_rows(log: Path, number: int, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while len(accepted_in(log)) < number:
        assert process.poll() is None, "the command ended early"
        assert time.monotonic() < until
        time.sleep(0.02)


def told_on_reading(path: Path) -> str:
    try:
        reopened(path)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("value", [None, "x", [], {}, float("inf")], ids=repr)
def test_a_record_with_any_value_spoiled_is_read_or_named(value: object, tmp_path: Path) -> None:
    """Whatever is wrong in a log, it is a DataError of that line, or a value that nothing depends on."""
    path = tmp_path / "log.jsonl"
    filled(path, requests=1).log.close()  # type: ignore[union-attr]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    named = 0
    for number, line in enumerate(lines):
        for key in line:
            spoiled = [*lines[:number], {**line, key: value}, *lines[number + 1 :]]
            path.write_text("".join(json.dumps(each) + "\n" for each in spoiled))
            told = told_on_reading(path)
            assert f"log.jsonl:{number + 1}: " in told or "was begun with other options" in told or not told
            named += "not a record" in told
    assert named >= 15


def test_a_log_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"kind": "start", "version": 2, "run": "a", "settings": {}}\n')
    with pytest.raises(DataError, match=r"log.jsonl:1: .*version 2; this pacos writes version 1"):
        Log(tmp_path / "log.jsonl", {})


def test_a_full_disk_is_told_and_leaves_whole_records(tmp_path: Path) -> None:
    import resource

    books = filled(tmp_path / "log.jsonl")
    before, size = (tmp_path / "log.jsonl").read_bytes(), (tmp_path / "log.jsonl").stat().st_size
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, limits[1]))
    try:
        with pytest.raises(ResourceError, match=r"log.jsonl: cannot be written: "):
            books.send(source().request(9), "t", Price(1, 2), 400)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "log.jsonl").read_bytes() == before
    books.send(source().request(9), "t", Price(1, 2), 400)
    books.log.close()  # type: ignore[union-attr]
    assert (tmp_path / "log.jsonl").read_bytes().startswith(before)
    assert reopened(tmp_path / "log.jsonl").attempts == 8
