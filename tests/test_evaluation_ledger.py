"""The ledger: what goes in comes out, whole or not at all, with several processes at it, and old ones are brought along."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pacos.errors import DataError, UsageError
from pacos.evaluation.comparison import evaluation_of
from pacos.evaluation.ledger import (
    Column,
    Entry,
    Prompt,
    Subject,
    Written,
    add_evaluation,
    answer_of,
    difference,
    open_ledger,
    paired,
    read_column,
    written,
)
from pacos.workspace import FILE, database, find_workspace, writing
from tests.test_evaluation_report import row

BASE = Subject("tiny", "tiny", weights_sha256="ab")
TUNED = Subject("mine", "tiny", weights_sha256="ab", adapter="runs/mine", adapter_sha256="cd", contract_sha256="ef")
ENTRY = Entry(
    kind="eval", name="mine", created="2025-01-01T00:00:00+00:00", verdict="better", sides={"base": BASE, "tuned": TUNED},
    data="rows.jsonl", dataset_sha256="01", split_sha256="02", sampling={"temperature": 0.0}, seed=7,
    versions={"pacos": "1"}, record={"a": [1]}, result={"metrics": []},
)  # fmt: skip


def diff(ledger, *columns):
    return difference(paired(ledger, *columns), rng=np.random.default_rng(0), resamples=200)


def told(rows):
    return evaluation_of(tuple(rows), rng=np.random.default_rng(0), resamples=100, record={})


def with_ids(one):
    return replace(one, base=replace(one.base, ids=(1, 70_000), prompt_ids=(5,)), cluster="c", groups={"family": "f"})


def test_an_evaluation_comes_out_as_it_went_in(tmp_path: Path) -> None:
    rows = [with_ids(row(i)) for i in range(3)]
    with open_ledger(tmp_path) as ledger:
        number = add_evaluation(ledger, ENTRY, told(rows))
    with open_ledger(tmp_path, to_read=True) as ledger:
        assert ledger.entry(number) == replace(ENTRY, id=number, num_prompts=3)
        assert ledger.entries() == [ledger.entry(number)]
        first = ledger.prompts(number)[0]
        assert first == Prompt("id000", "Give answer 0", "", "answer number 0", {"family": "f"}, "c")
        assert [answer_of(a) for a in ledger.answers(number, "base")] == [r.base for r in rows]
        assert [answer_of(a) for a in ledger.answers(number, "tuned")] == [r.tuned for r in rows]
        assert ledger.answers(number, "base")[0].scores["exact_match"] == (0.0, 1.0)


def test_prompts_and_models_are_kept_once_however_often_they_are_evaluated(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        for _ in range(3):
            add_evaluation(ledger, ENTRY, told([row(0), row(1)]))
        counts = {
            t: ledger.connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("prompts", "subjects")
        }
        assert counts == {"prompts": 2, "subjects": 2}
        assert [entry.id for entry in ledger.entries()] == [3, 2, 1]


def test_one_side_without_a_reference_is_kept_too(tmp_path: Path) -> None:
    entry = replace(ENTRY, kind="suite", sides={"tuned": TUNED})
    answer = Written("I will not.", finish_reason="stop", scores={"refused": (1.0, 1.0)})
    with open_ledger(tmp_path) as ledger:
        number = ledger.add(entry, [Prompt("p1", "half a pair: \ud83d")], {"tuned": [answer]})
        assert ledger.answers(number, "tuned") == [answer]
        assert ledger.prompts(number)[0].instruction == "half a pair: ?"
        other = ledger.add(entry, [Prompt("p1", "x"), Prompt("p2", "y")], {"tuned": [answer, answer]})
        third = ledger.add(entry, [Prompt("p1", "x"), Prompt("p2", "y")], {"tuned": [answer, answer]})
        with pytest.raises(DataError, match=f"evaluation {other} is a suite"):
            diff(ledger, Column(other), Column(third))


def test_two_evaluations_are_paired_by_prompt_whatever_their_order(tmp_path: Path) -> None:
    before = [row(i, tuned="no idea") for i in range(12)]
    after = [row(i) for i in reversed(range(2, 14))]
    with open_ledger(tmp_path) as ledger:
        first, second = (add_evaluation(ledger, ENTRY, told(rows)) for rows in (before, after))
        found = diff(ledger, Column(first), Column(second))
    assert [r.id for r in found.rows] == [f"id{i:03}" for i in range(2, 12)]
    assert {(r.base.text, r.tuned.text == r.reference) for r in found.rows} == {("no idea", True)}
    exact = found.metric("exact_match")
    assert (exact.base, exact.tuned, exact.verdict) == (0.0, 1.0, "better")
    assert found.record["shared prompts"] == "10 of 12 and 12"
    assert found.metric("perplexity").difference == 0


def test_evaluations_without_common_prompts_are_not_compared(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        first = add_evaluation(ledger, ENTRY, told([row(0), row(1)]))
        second = add_evaluation(ledger, ENTRY, told([row(1), row(2)]))
        with pytest.raises(DataError, match="evaluations 1 and 2 share 1 of 2 and 2 prompts"):
            diff(ledger, Column(first), Column(second))
        with pytest.raises(UsageError, match="no evaluation 9; the newest are 2, 1: see pacos eval list"):
            ledger.entry(9)


def test_any_two_sides_are_compared(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        first = add_evaluation(ledger, ENTRY, told([row(i, base="no idea", tuned="nearly") for i in range(12)]))
        second = add_evaluation(ledger, ENTRY, told([row(i, base="nothing") for i in range(12)]))
        own = diff(ledger, Column(first, "base"), Column(first))
        bases = diff(ledger, Column(first, "base"), Column(second, "base"))
        mixed = diff(ledger, Column(second), Column(first, "base"))
        assert [{(r.base.text, r.tuned.text) for r in found.rows} for found in (own, bases)] == [
            {("no idea", "nearly")}, {("no idea", "nothing")},
        ]  # fmt: skip
        assert mixed.metric("exact_match").difference == -1.0
        assert bases.record["base"] == f"evaluation 1:base: {BASE.name}, {ENTRY.created}"
        with pytest.raises(UsageError, match="1:tuned is given twice; give two sides, as in 1:base 1"):
            paired(ledger, Column(first), Column(first))
        with pytest.raises(UsageError, match="evaluation 1 has no side 'new'; it has: base, tuned"):
            paired(ledger, Column(first, "new"), Column(first))
        suite = add_evaluation(ledger, replace(ENTRY, kind="redteam"), told([row(i) for i in range(3)]))
        with pytest.raises(
            UsageError, match=f"evaluation {first} is of kind eval, {suite} of redteam; give two of one kind"
        ):
            paired(ledger, Column(first), Column(suite))
    assert [read_column(text) for text in ("12", "12:base", "runs/12", "x")] == [
        Column(12, "tuned"), Column(12, "base"), None, None,
    ]  # fmt: skip


def test_what_fails_halfway_leaves_nothing(tmp_path: Path) -> None:
    broken = [*map(written, [row(0).base]), replace(written(row(1).base), text=None)]
    with open_ledger(tmp_path) as ledger, pytest.raises(AttributeError):
        ledger.add(ENTRY, [Prompt("a", "x"), Prompt("b", "y")], {"base": broken, "tuned": broken})
    with open_ledger(tmp_path) as ledger:
        assert ledger.entries() == []
        assert ledger.connection.execute("SELECT count(*) FROM prompts").fetchone()[0] == 0


WRITER = """
import sys
from pathlib import Path
from tests.test_evaluation_ledger import ENTRY, told, row
from pacos.evaluation.ledger import add_evaluation, open_ledger
shown = told([row(i) for i in range(20)])
print("ready", flush=True)
for _ in range(int(sys.argv[2])):
    with open_ledger(Path(sys.argv[1])) as ledger:
        print(add_evaluation(ledger, ENTRY, shown), flush=True)
"""


def start(folder: Path, times: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(times)],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1], env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_several_processes_make_and_write_one_ledger(tmp_path: Path) -> None:
    writers = [start(tmp_path, 5) for _ in range(3)]
    numbers = [int(line) for writer in writers for line in writer.communicate()[0].split()[1:]]
    assert sorted(numbers) == list(range(1, 16))
    with open_ledger(tmp_path) as ledger:
        assert len(ledger.entries()) == 15
        assert all(len(ledger.answers(n, side)) == 20 for n in numbers for side in ("base", "tuned"))


def test_a_writer_killed_at_any_time_loses_nothing_that_it_was_told_is_kept(tmp_path: Path) -> None:
    writer = start(tmp_path, 10_000)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    acknowledged = [int(writer.stdout.readline()) for _ in range(4)]
    time.sleep(0.003)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    acknowledged += [int(line) for line in writer.stdout.read().split()]
    with open_ledger(tmp_path) as ledger:
        kept = [entry.id for entry in ledger.entries()]
        assert set(acknowledged) <= set(kept)
        assert len(kept) - len(acknowledged) in (0, 1)
        assert {len(ledger.answers(n, "tuned")) for n in kept} == {20}
        assert ledger.connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_steps_are_applied_once_and_old_databases_are_brought_along(tmp_path: Path) -> None:
    one, two = "CREATE TABLE a (x)", "ALTER TABLE a ADD COLUMN y; CREATE TABLE b (z)"
    with database(tmp_path, room="r", steps=(one,)) as connection, writing(connection):
        connection.execute("INSERT INTO a VALUES (1)")
    for _ in range(2):
        with database(tmp_path, room="r", steps=(one, two)) as connection:
            assert [tuple(r) for r in connection.execute("SELECT x, y FROM a")] == [(1, None)]
    with database(tmp_path, room="other", steps=("CREATE TABLE c (x)",)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1
    with pytest.raises(DataError, match="was written by a newer pacos"), database(tmp_path, room="r", steps=(one,)):
        pass


def test_a_file_that_is_no_database_is_one_clear_line_and_stays(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"hello, this is text" * 100)
    with pytest.raises(DataError, match=r"pacos\.db: is not a whole pacos database"), open_ledger(tmp_path):
        pass
    assert (tmp_path / FILE).read_bytes().startswith(b"hello")
    with pytest.raises(UsageError, match="is no folder that can be written to"), open_ledger(tmp_path / FILE):
        pass


def test_a_database_of_something_else_is_left_alone_but_for_its_own_tables(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / FILE)
    other.execute("CREATE TABLE mine (x)")
    other.commit()
    other.close()
    with open_ledger(tmp_path) as ledger:
        assert ledger.entries() == []
        assert ledger.connection.execute("SELECT count(*) FROM mine").fetchone()[0] == 0


def test_the_workspace_is_as_given_or_as_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PACOS_WORKSPACE", raising=False)
    assert find_workspace(None) == Path(".")
    monkeypatch.setenv("PACOS_WORKSPACE", "/some/where")
    assert find_workspace(None) == Path("/some/where")
    assert find_workspace(tmp_path) == tmp_path


def test_reading_makes_no_database(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="no evaluations yet; make one with: pacos eval"),
        open_ledger(tmp_path, to_read=True),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
