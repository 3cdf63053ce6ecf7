"""The log of a run: append-only JSONL, from which all of it can be told again. The dataset is made from it.

    {"kind": "start", "run": "5f0c", "settings": {...}}                     once; another run's options are refused
    {"kind": "sent", "request": 12, "attempt": 15, "tokens": ..., ...}      before it is sent: what it may cost
    {"kind": "request", "request": 12, "attempt": 15, "answer": ..., "tasks": [...], ...}     one for each request answered
    {"kind": "failed", "request": 12, "attempt": 15, "why": ..., ...}       an attempt without an answer

`request` records are on the disk (fsync) before their rows count. What was sent and never settled, because the process
was killed, counts at its worst against the budget. A last line that was torn is cut off; it never counted. The file is
locked while it is written to, by the kernel, so that the lock ends with the process.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pacos.errors import DataError, ResourceError, UsageError
from pacos.files import sync
from pacos.self_instruct.budget import Spent

VERSION = 1
Record = Mapping[str, Any]


@dataclass
class History:
    """What a log tells: requests with their tasks, what is settled, what is open, what it has cost."""

    run: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    """The `request` records without the teachers' words, in the order they were written."""
    done: set[int] = field(default_factory=set)
    """Numbers of requests that were answered."""
    open: dict[int, dict[str, Any]] = field(default_factory=dict)
    """attempt -> its `sent` record, where nothing came of it yet."""
    spent: Spent = field(default_factory=Spent)
    excess: dict[str, int] = field(default_factory=dict)
    """Tokens by which each teacher passed its worst case."""
    attempts: int = 0
    failures: int = 0

    @property
    def worst(self) -> Spent:
        """Spent, with everything that is open at its worst."""
        return sum((spent_of(record) for record in self.open.values()), self.spent)

    def add(self, record: dict[str, Any]) -> None:
        """Raises KeyError, TypeError or ValueError for what is no record."""
        kind = record["kind"]
        if kind == "start":
            self._start(record)
            return
        attempt, cost = int(record["attempt"]), spent_of(record)
        if kind == "sent":
            self.open[attempt] = {**record, "request": int(record["request"]), "teacher": str(record["teacher"])}
            self.attempts = max(self.attempts, attempt)
            return
        if kind not in ("request", "failed"):
            raise ValueError(f"kind {kind!r}")
        sent = self.open.pop(attempt, None)
        self.spent += cost
        self.failures += kind == "failed"
        if kind == "request":
            self._answered(record, cost, spent_of(sent or record))

    def _start(self, record: dict[str, Any]) -> None:
        if record["version"] != VERSION:
            raise ValueError(f"version {record['version']}; this pacos writes version {VERSION}")
        self.run, self.settings = str(record["run"]), dict(record["settings"])

    def _answered(self, record: dict[str, Any], cost: Spent, worst: Spent) -> None:
        teacher = str(record["teacher"])
        self.excess[teacher] = self.excess.get(teacher, 0) + max(0, cost.tokens - worst.tokens)
        self.done.add(int(record["request"]))
        wanted = {"made": record["made"], "extra": dict(record["extra"]), "seeds": [*map(str, record["seeds"])]}
        tasks = [{name: str(task[name]) for name in TASK} for task in record["tasks"]]
        rest = {"request": record["request"], "teacher": teacher, "dollars": cost.dollars}
        self.requests.append({**rest, **wanted, "tasks": tasks})


TASK = ("verdict", "instruction", "input", "output")


def spent_of(record: Record) -> Spent:
    return Spent(int(record["requests"]), int(record["tokens"]), float(record["dollars"]))


class Log:
    """An open, locked log. `append` returns when the record is written, and on the disk where `durable`."""

    def __init__(self, path: Path, settings: Mapping[str, Any]):
        """Open or begin the log at `path`. Raises UsageError where it belongs to a run with other settings."""
        self.path = path
        self._file = _locked(path)
        try:
            self.history = _read(self._file, path)
            if self.history.run and self.history.settings != dict(settings) and not self.history.attempts:
                self._file.truncate(0)  # nothing was asked: the command that began it was mistaken
                self.history = History()
            if self.history.run:
                _refuse_other(path, self.history.settings, settings)
            else:
                start = {"kind": "start", "version": VERSION, "run": secrets.token_hex(4), "settings": dict(settings)}
                self.append(start, durable=True)
                self.history.add(start)
                sync(path.parent)
        except BaseException:
            self.close()
            raise

    @property
    def is_bare(self) -> bool:
        """Whether it holds nothing behind its start: nothing was ever asked."""
        return self.path.read_bytes().count(b"\n") <= 1

    def append(self, record: Record, *, durable: bool) -> None:
        """Add a record. Raises ResourceError where the disk does not take it."""
        line = (json.dumps({**record, "time": stamp()}) + "\n").encode()
        end = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if durable:
                os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(end)  # another lane may write behind it
            raise ResourceError(f"{self.path}: cannot be written: {error.strerror or error}") from None

    def close(self) -> None:
        self._file.close()


class Unlogged:
    """In place of a log, for what is not kept: the `request` records are there while it is."""

    def __init__(self) -> None:
        self.history = History(run="preview")
        self.answered: list[Record] = []

    def append(self, record: Record, *, durable: bool) -> None:
        """Keep an answer in memory."""
        if record["kind"] == "request":
            self.answered.append(record)


def stamp() -> str:
    """Now, as in 2025-01-31T12:00:00Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _locked(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise UsageError(f"{path}: another process is writing to it; wait for it, or give another --out") from None
    return file


def _read(file: IO[bytes], path: Path) -> History:
    """The history in a log; what stands behind the last line end is cut off. Raises DataError for a log that is not one."""
    history, end = History(), 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                file.truncate(end)
                break
            end += len(line)
            try:
                history.add(json.loads(line))
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
                raise DataError(
                    f"{path}:{number}: not a record of `pacos generate` ({type(error).__name__}: {error}); "
                    "mend the line, or give another --out"
                ) from None
            if not history.run:
                raise DataError(
                    f"{path}:{number}: a log begins with its start; this is another file: give another --out"
                )
    return history


def _refuse_other(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    names = [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]
    if names:
        changes = "; ".join(f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in names)
        raise UsageError(
            f"{path}: was begun with other options: {changes}\n"
            "give the same ones to go on, or another --out to begin anew"
        )
