"""The workspace: the folder where one works, and its database `pacos.db`.

The folder is the one given, or PACOS_WORKSPACE, or the current one. The database is SQLite in write-ahead mode: several
processes read and write at once, and what was committed is there after a crash. Each room that keeps something in it
brings its own tables as numbered steps; a step is applied once, and old databases are brought up to date when opened:

    with database(find_workspace(None), room="evaluation", steps=(FIRST, SECOND)) as connection:
        with writing(connection): ...
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from pacos.errors import DataError, ResourceError, UsageError, UserError

FILE = "pacos.db"
VARIABLE = "PACOS_WORKSPACE"
WAIT_SECONDS = 30.0
_VERSIONS = "CREATE TABLE IF NOT EXISTS steps (room TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (room, number))"


def find_workspace(given: str | Path | None) -> Path:
    """The workspace folder: as given, or as PACOS_WORKSPACE says, or the current folder."""
    return Path(given or os.environ.get(VARIABLE) or ".")


@contextmanager
def database(folder: Path, *, room: str, steps: Sequence[str]) -> Iterator[sqlite3.Connection]:
    """The database of a workspace, made or brought up to date. `steps` are SQL scripts, applied in order, each once.

    Raises UsageError where it cannot be made, DataError where it is no such database or a newer pacos's, ResourceError
    for a full disk, UserError where another process holds it.
    """
    path = folder / FILE
    with _told(path):
        folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            _write_ahead(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            _bring_up_to_date(connection, path, room, steps)
            yield connection


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """One transaction: all of it is kept, or nothing. Within another it is part of that one."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """SQLite does not wait for a lock where two processes switch a new database at once; here they do."""
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _bring_up_to_date(connection: sqlite3.Connection, path: Path, room: str, steps: Sequence[str]) -> None:
    if _applied(connection, room) == len(steps):
        return
    with writing(connection):
        connection.execute(_VERSIONS)
        done = _applied(connection, room)
        if done > len(steps):
            raise DataError(f"{path}: was written by a newer pacos; update pacos, or give another --workspace")
        for number, script in enumerate(steps[done:], start=done + 1):
            for statement in filter(str.strip, script.split(";")):
                connection.execute(statement)
            connection.execute("INSERT INTO steps VALUES (?, ?)", (room, number))


def _applied(connection: sqlite3.Connection, room: str) -> int:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'steps'").fetchone():
        return 0
    return int(connection.execute("SELECT coalesce(max(number), 0) FROM steps WHERE room = ?", (room,)).fetchone()[0])


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """SQLite's errors as those that a person can mend."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise  # ours to mend
    except sqlite3.DatabaseError as error:
        text = str(error)
        if "full" in text:
            raise ResourceError(
                f"{path}: no space left; nothing was written. Free some space and run it again"
            ) from None
        if "locked" in text:
            raise UserError(
                f"{path}: another process holds it for {WAIT_SECONDS:g} s; wait for it, or end it"
            ) from None
        if "readonly" in text or "unable to open" in text:
            raise UsageError(f"{path}: cannot be written; give another folder with --workspace") from None
        if "not a database" in text or "malformed" in text:
            raise DataError(f"{path}: is not a whole pacos database ({text}); move it away or restore it") from None
        raise
    except (NotADirectoryError, FileExistsError, PermissionError):
        raise UsageError(f"{path.parent}: is no folder that can be written to; give one with --workspace") from None
