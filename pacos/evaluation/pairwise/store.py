"""Comparisons in the workspace's database. Every vote is a transaction of its own: what was voted is there after a kill.

with open_comparisons(workspace) as store:
    number = store.add(comparison, prompts, answers, questions)
    store.vote(number, "ann", question, "left")
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pacos.errors import UsageError
from pacos.evaluation.ledger import Entry, Ledger, Prompt, Written, open_ledger
from pacos.evaluation.pairwise.records import Choice, Question
from pacos.evaluation.pairwise.schema import ROOM, STEPS
from pacos.workspace import FILE, database, writing


@dataclass(frozen=True)
class Stored:
    """A comparison without its prompts. `key` names what is compared, so that the same command finds it again."""

    id: int
    key: str
    evaluation: int
    created: str
    contestants: tuple[str, ...]
    prompts: str
    seed: int


@dataclass(frozen=True)
class Vote:
    """`swapped`: the sides stood the other way round than the question says."""

    question: int
    rater: str
    swapped: bool
    choice: Choice
    comment: str
    seconds: float


@dataclass(frozen=True)
class Spending:
    """What a judge has cost so far, over all runs."""

    requests: int = 0
    tokens: int = 0
    dollars: float = 0.0


@contextmanager
def open_comparisons(workspace: Path, *, to_read: bool = False) -> Iterator[Comparisons]:
    """Raises as `workspace.database`, and UsageError where there is nothing to read."""
    if to_read and not (workspace / FILE).exists():
        raise UsageError(f"{workspace / FILE}: no comparisons yet; make one with: pacos compare A B --prompts FILE")
    with open_ledger(workspace):  # its tables come first: ours point at them
        pass
    with database(workspace, room=ROOM, steps=STEPS) as connection:
        yield Comparisons(connection)


class Comparisons:
    """Comparisons by number."""

    def __init__(self, connection: sqlite3.Connection):
        self.connection, self.ledger = connection, Ledger(connection)

    def add(
        self,
        key: str,
        contestants: Sequence[str],
        entry: Entry,
        prompts: Sequence[Prompt],
        answers: Sequence[Sequence[Written]],
        questions: Sequence[Question],
    ) -> int:
        """Keep a comparison; `answers` (contestants, prompts). Its number, or that of the one with this key which another
        process has kept in the meantime."""
        with writing(self.connection):
            if found := self.find(key):
                return found.id
            evaluation = self.ledger.add(entry, prompts, {str(i): side for i, side in enumerate(answers)})
            number = self.connection.execute(
                "INSERT INTO comparisons (key, evaluation, created, contestants, prompts, seed) VALUES (?, ?, ?, ?, ?, ?)",
                (key, evaluation, entry.created, json.dumps(list(contestants)), entry.data, entry.seed),
            ).lastrowid
            self.connection.executemany(
                "INSERT INTO questions VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(number, q.number, q.position, q.left, q.right, q.repeat_of, q.same) for q in questions],
            )
        assert number is not None
        return number

    def find(self, key: str) -> Stored | None:
        row = self.connection.execute("SELECT * FROM comparisons WHERE key = ?", (key,)).fetchone()
        return None if row is None else _stored(row)

    def get(self, number: int) -> Stored:
        """Raises UsageError for a number that is not there."""
        row = self.connection.execute("SELECT * FROM comparisons WHERE id = ?", (number,)).fetchone()
        if row is None:
            known = ", ".join(str(each.id) for each in self.all()[:5])
            there = f"the newest are {known}" if known else "there are none yet"
            raise UsageError(f"no comparison {number}; {there}: see pacos compare list")
        return _stored(row)

    def all(self) -> list[Stored]:
        """The newest first."""
        return [_stored(row) for row in self.connection.execute("SELECT * FROM comparisons ORDER BY id DESC")]

    def questions(self, number: int) -> list[Question]:
        rows = self.connection.execute("SELECT * FROM questions WHERE comparison = ? ORDER BY number", (number,))
        return [
            Question(r["number"], r["position"], r["left"], r["right"], r["repeat_of"], bool(r["same"])) for r in rows
        ]

    def votes(self, number: int, rater: str | None = None) -> list[Vote]:
        """In the order they were cast, of one rater or of all."""
        where, values = ("AND rater = ?", (number, rater)) if rater is not None else ("", (number,))
        rows = self.connection.execute(f"SELECT * FROM votes WHERE comparison = ? {where} ORDER BY id", values)
        names = ("question", "rater", "choice", "comment", "seconds")
        return [Vote(**{name: row[name] for name in names}, swapped=bool(row["swapped"])) for row in rows]

    def vote(self, number: int, votes: Sequence[Vote], created: str) -> None:
        """Keep votes, all or none. Raises UsageError where one of them is there already."""
        try:
            with writing(self.connection):
                self.connection.executemany(
                    "INSERT INTO votes (comparison, question, rater, swapped, choice, comment, seconds, created)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    [
                        (number, v.question, v.rater, v.swapped, v.choice, _text(v.comment), v.seconds, created)
                        for v in votes
                    ],
                )
        except sqlite3.IntegrityError:
            raise UsageError(
                f"comparison {number}: a question that {votes[0].rater} has voted on, or that it does not have; "
                "is the same rater voting twice at once? Give each a name: --rater"
            ) from None

    def take_back(self, number: int, rater: str) -> int | None:
        """Remove the last vote of a rater; the number of its question, None where there is none."""
        with writing(self.connection):
            row = self.connection.execute(
                "SELECT id, question FROM votes WHERE comparison = ? AND rater = ? ORDER BY id DESC LIMIT 1",
                (number, rater),
            ).fetchone()
            if row is not None:
                self.connection.execute("DELETE FROM votes WHERE id = ?", (row["id"],))
        return None if row is None else int(row["question"])

    def texts(self, stored: Stored, question: Question) -> tuple[Prompt, str, str]:
        """What is asked, and the answers on the left and on the right."""
        row = self.connection.execute(
            "SELECT p.* FROM items i JOIN prompts p ON p.id = i.prompt WHERE i.evaluation = ? AND i.position = ?",
            (stored.evaluation, question.position),
        ).fetchone()
        left, right = (
            self.connection.execute(
                "SELECT text FROM answers WHERE evaluation = ? AND side = ? AND position = ?",
                (stored.evaluation, str(side), question.position),
            ).fetchone()["text"]
            for side in (question.left, question.right)
        )
        return Prompt(row["id"], row["instruction"], row["input"], row["reference"]), left, right

    def spend(self, number: int, rater: str, total: Spending) -> None:
        """Keep what a judge has cost so far."""
        with writing(self.connection):
            self.connection.execute(
                "INSERT OR REPLACE INTO spending VALUES (?, ?, ?, ?, ?)",
                (number, rater, total.requests, total.tokens, total.dollars),
            )

    def spending(self, number: int) -> Mapping[str, Spending]:
        rows = self.connection.execute("SELECT * FROM spending WHERE comparison = ?", (number,))
        return {row["rater"]: Spending(row["requests"], row["tokens"], row["dollars"]) for row in rows}


def _stored(row: Any) -> Stored:
    names = ("id", "key", "evaluation", "created", "prompts", "seed")
    return Stored(**{name: row[name] for name in names}, contestants=tuple(json.loads(row["contestants"])))


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
