"""The ledger: every evaluation with its prompts, answers and scores, in the workspace's database.

    with open_ledger(workspace) as ledger:
        number = ledger.add(entry, prompts, {"base": [...], "tuned": [...]})
        ledger.entries(); ledger.entry(number); ledger.prompts(number); ledger.answers(number, "tuned")

An evaluation is written in one transaction, so it is there whole or not at all.
"""

from __future__ import annotations

import array
import json
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from pacos.errors import UsageError
from pacos.evaluation.ledger.records import Entry, Prompt, Subject, Written
from pacos.evaluation.ledger.schema import ROOM, STEPS
from pacos.workspace import FILE, database, writing

SUBJECT_COLUMNS = tuple(field.name for field in fields(Subject))
PLAIN_COLUMNS = ("kind", "name", "created", "verdict", "data", "dataset_sha256", "split_sha256", "seed")
JSON_COLUMNS = ("sampling", "versions", "record", "result")
ANSWER_COLUMNS = ("text", "finish_reason", "tokens", "generated_tokens", "seconds", "nll", "nll_tokens")


@contextmanager
def open_ledger(workspace: Path, *, to_read: bool = False) -> Iterator[Ledger]:
    """The ledger of a workspace folder, made where there is none. Raises as `workspace.database`, and a UsageError where
    there is nothing to read."""
    if to_read and not (workspace / FILE).exists():
        raise UsageError(f"{workspace / FILE}: no evaluations yet; make one with: pacos eval, or give --workspace")
    with database(workspace, room=ROOM, steps=STEPS) as connection:
        yield Ledger(connection)


class Ledger:
    """Evaluations by number."""

    def __init__(self, connection: sqlite3.Connection):
        self.connection = connection

    def add(self, entry: Entry, prompts: Sequence[Prompt], answers: Mapping[str, Sequence[Written]]) -> int:
        """Keep an evaluation; each side's answers are in the order of the prompts. Its number."""
        assert set(answers) == set(entry.sides)
        assert all(len(side) == len(prompts) for side in answers.values())
        with writing(self.connection):
            number = self._insert_entry(entry)
            self._insert_prompts(number, prompts)
            for side, subject in entry.sides.items():
                self._insert("sides", (number, side, self._subject(subject)))
                self._insert_answers(number, side, answers[side])
        return number

    def entries(self) -> list[Entry]:
        """All evaluations, the newest first."""
        rows = self.connection.execute("SELECT id FROM evaluations ORDER BY id DESC").fetchall()
        return [self.entry(row["id"]) for row in rows]

    def entry(self, number: int) -> Entry:
        """Raises UsageError for a number that is not there."""
        row = self.connection.execute("SELECT * FROM evaluations WHERE id = ?", (number,)).fetchone()
        if row is None:
            known = [r["id"] for r in self.connection.execute("SELECT id FROM evaluations ORDER BY id DESC LIMIT 5")]
            there = f"the newest are {', '.join(map(str, known))}" if known else "there are none yet"
            raise UsageError(f"no evaluation {number}; {there}: see pacos eval list")
        count = self.connection.execute("SELECT count(*) FROM items WHERE evaluation = ?", (number,)).fetchone()[0]
        plain = {name: row[name] for name in PLAIN_COLUMNS}
        decoded = {name: json.loads(row[name]) for name in JSON_COLUMNS}
        return Entry(**plain, **decoded, sides=self._sides(number), id=number, num_prompts=count)

    def prompts(self, number: int) -> list[Prompt]:
        """The prompts of an evaluation, in order."""
        rows = self.connection.execute(
            "SELECT p.*, i.groups, i.cluster FROM items i JOIN prompts p ON p.id = i.prompt"
            " WHERE i.evaluation = ? ORDER BY i.position",
            (number,),
        )
        return [
            Prompt(r["id"], r["instruction"], r["input"], r["reference"], json.loads(r["groups"]), r["cluster"])
            for r in rows
        ]

    def answers(self, number: int, side: str) -> list[Written]:
        """One side's answers, in the order of the prompts."""
        where = "WHERE evaluation = ? AND side = ?"
        scores: dict[int, dict[str, tuple[float, ...]]] = {}
        for row in self.connection.execute(f"SELECT * FROM scores {where}", (number, side)):
            scores.setdefault(row["position"], {})[row["metric"]] = tuple(json.loads(row["counts"]))
        rows = self.connection.execute(f"SELECT * FROM answers {where} ORDER BY position", (number, side))
        return [
            Written(
                **{name: row[name] for name in ANSWER_COLUMNS},
                prompt_ids=_ids(row["prompt_ids"]),
                ids=_ids(row["ids"]),
                scores=scores.get(row["position"], {}),
            )
            for row in rows
        ]

    def _sides(self, number: int) -> dict[str, Subject]:
        rows = self.connection.execute(
            "SELECT side, subjects.* FROM sides JOIN subjects ON subjects.id = subject WHERE evaluation = ? ORDER BY side",
            (number,),
        )
        return {row["side"]: Subject(**{name: row[name] for name in SUBJECT_COLUMNS}) for row in rows}

    def _insert_entry(self, entry: Entry) -> int:
        values = [getattr(entry, name) for name in PLAIN_COLUMNS]
        values += [_json(getattr(entry, name)) for name in JSON_COLUMNS]
        columns = ", ".join((*PLAIN_COLUMNS, *JSON_COLUMNS))
        marks = ", ".join("?" * len(values))
        number = self.connection.execute(f"INSERT INTO evaluations ({columns}) VALUES ({marks})", values).lastrowid
        assert number is not None
        return number

    def _insert_prompts(self, number: int, prompts: Sequence[Prompt]) -> None:
        self.connection.executemany(
            "INSERT OR IGNORE INTO prompts VALUES (?, ?, ?, ?)",
            [(p.id, *map(_text, (p.instruction, p.input, p.reference))) for p in prompts],
        )
        self.connection.executemany(
            "INSERT INTO items VALUES (?, ?, ?, ?, ?)",
            [(number, i, p.id, _json(p.groups), _text(p.cluster)) for i, p in enumerate(prompts)],
        )

    def _insert_answers(self, number: int, side: str, answers: Sequence[Written]) -> None:
        names = ("evaluation", "side", "position", "prompt_ids", "ids", *ANSWER_COLUMNS)  # the text comes first
        self.connection.executemany(
            f"INSERT INTO answers ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
            [
                (number, side, i, _blob(a.prompt_ids), _blob(a.ids), _text(a.text), *_rest(a))
                for i, a in enumerate(answers)
            ],
        )
        self.connection.executemany(
            "INSERT INTO scores VALUES (?, ?, ?, ?, ?)",
            [
                (number, side, i, metric, json.dumps(counts))
                for i, answer in enumerate(answers)
                for metric, counts in answer.scores.items()
            ],
        )

    def _subject(self, subject: Subject) -> int:
        """Its number, given at its first evaluation."""
        self.connection.execute(
            f"INSERT OR IGNORE INTO subjects ({', '.join(SUBJECT_COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?, ?)",
            astuple(subject),
        )
        where = " AND ".join(f"{name} = ?" for name in SUBJECT_COLUMNS)
        return int(self.connection.execute(f"SELECT id FROM subjects WHERE {where}", astuple(subject)).fetchone()[0])

    def _insert(self, table: str, values: Sequence[Any]) -> None:
        self.connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)


def _rest(answer: Written) -> tuple[Any, ...]:
    return tuple(getattr(answer, name) for name in ANSWER_COLUMNS[1:])


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _text(text: str) -> str:
    """Half a surrogate pair, which SQLite cannot hold, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _blob(ids: Sequence[int]) -> bytes:
    """Token ids as little-endian uint32."""
    packed = array.array("I", ids)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _ids(blob: bytes) -> tuple[int, ...]:
    packed = array.array("I", blob)
    if sys.byteorder == "big":
        packed.byteswap()
    return tuple(packed)
