"""A dataset as an SQLite file with full-text search, made once and kept under the hash of what it was made from.

    rows        one row an example (see `table.py`), rows_fts its FTS5 index, an index for each facet
    findings    row, rule, why; where there are any
    about       what the site says of the dataset, as JSON

The file appears whole or not at all, and is never written again: the site opens it as immutable.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pacos.data import find_files, load_examples, load_split
from pacos.errors import ResourceError, UsageError
from pacos.files import sync
from pacos.studio.explore.findings import Finding, read_findings, rules_by_row
from pacos.studio.explore.table import TEXTS, Column, Table, make_table, sound

VERSION = 3
KEPT = 8
"""Databases that stay in the cache; the one that was not used for longest goes first."""
FTS = """create virtual table rows_fts using fts5(
    {texts}, content="rows", content_rowid="number", tokenize="porter unicode61 remove_diacritics 2")"""


@dataclass(frozen=True)
class Sources:
    """What a database is made from: a dataset by any name that pacos reads, a split, findings of `pacos curate`."""

    data: str
    split: Path | None = None
    findings: Path | None = None
    limit: int | None = None

    def key(self) -> str:
        """Hash of everything that the database depends on, without reading a row."""
        files = [(file.name, _sha256(file.path)) for file in find_files(self.data)]
        others = [path and _sha256(path) for path in (self.split, self.findings)]
        return hashlib.sha256(json.dumps([VERSION, files, others, self.limit]).encode()).hexdigest()[:24]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None


@dataclass(frozen=True)
class Built:
    """A database and what it says of itself. `reused`: it was there already."""

    path: Path
    about: dict[str, Any]
    reused: bool


def open_database(
    sources: Sources, cache: Path, keep: Path | None = None, meanwhile: Callable[[], object] = lambda: None
) -> Built:
    """The database of the sources: from the cache, or made; at `keep` where that is given.

    `meanwhile` is called while SQLite indexes, on another core. Raises UsageError where `keep` is another file, and what
    reading the data raises.
    """
    key = sources.key()
    path = keep or cache / f"{key}.db"
    about = read_about(path)
    if about and about.get("key") == key:
        with suppress(OSError):
            os.utime(path)
        return Built(path, about, reused=True)
    if keep and keep.exists():
        raise UsageError(f"--keep {keep}: is there already, and holds something else; remove it, or give another name")
    built = _build(sources, key, path, meanwhile)
    if not keep:
        _forget_oldest(cache)
    return built


def read_about(path: Path) -> dict[str, Any]:
    """What a database says of itself; empty where the file is none of ours."""
    if not path.is_file():
        return {}
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as connection:
            return {name: json.loads(value) for name, value in connection.execute("select name, value from about")}
    except (sqlite3.Error, ValueError):
        return {}


def _forget_oldest(cache: Path) -> None:
    """Another pacos may do the same at the same time."""
    used = []
    for path in (*cache.glob("*.db"), *cache.glob(".*.part")):
        with suppress(OSError):
            used.append((path.stat().st_mtime, path))
    kept = [path for _, path in sorted(used, reverse=True) if path.suffix == ".db"][:KEPT]
    for changed, path in used:
        # What a killed pacos left half written goes after a day.
        if path not in kept and (path.suffix == ".db" or changed < time.time() - 86_400):
            with suppress(OSError):
                path.unlink()


def _build(sources: Sources, key: str, path: Path, meanwhile: Callable[[], object]) -> Built:
    loaded = load_examples(sources.data, limit=sources.limit, skip_bad=True, keep_blank=True)
    findings = read_findings(sources.findings) if sources.findings else None
    sides = load_split(sources.split).side_of() if sources.split else None
    table = make_table(loaded.examples, sides, None if findings is None else rules_by_row(findings))
    about = {
        "key": key,
        "name": Path(sources.data).name if Path(sources.data).exists() else sources.data,
        "format": loaded.format,
        "rows": len(loaded.examples),
        "findings": None if findings is None else len(findings),
        "duplicates": loaded.duplicates,
        "problems": loaded.problems[:20],
        "skipped": len(loaded.problems),
        "columns": {c.name: c.about for c in table.columns if c.about},
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(temporary, check_same_thread=False)) as connection:
            _write(connection, table, findings, about, meanwhile)
        sync(temporary)
        os.replace(temporary, path)
    except (OSError, sqlite3.OperationalError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ResourceError(
            f"{path}: cannot be written: {reason}; free some space, or name another place: --keep FILE, or PACOS_CACHE"
        ) from None
    finally:
        with suppress(OSError):
            temporary.unlink()
    return Built(path, about, reused=False)


def _write(
    connection: sqlite3.Connection,
    table: Table,
    findings: Sequence[Finding] | None,
    about: dict[str, Any],
    meanwhile: Callable[[], object],
) -> None:
    connection.executescript("pragma journal_mode=off; pragma synchronous=off; pragma cache_size=-200000")
    columns = ", ".join(f"{quoted(c.name)} {'integer' if c.integer else 'text'}" for c in table.columns)
    connection.execute(f"create table rows (number integer primary key, {columns})")
    marks = ", ".join("?" * (1 + len(table.columns)))
    connection.executemany(f"insert into rows values ({marks})", table.rows())
    connection.execute(FTS.format(texts=", ".join(TEXTS)))
    with ThreadPoolExecutor(1) as pool:
        indexing = pool.submit(_index, connection, table, findings)
        meanwhile()
        indexing.result()
    about["facets"] = [
        {"array": c.name} if c.array else c.name for c in table.columns if c.facet and _varies(connection, c)
    ]
    connection.execute("create table about (name text primary key, value text)")
    connection.executemany("insert into about values (?, ?)", [(name, json.dumps(v)) for name, v in about.items()])
    connection.commit()


def _varies(connection: sqlite3.Connection, column: Column) -> bool:
    """Whether rows differ in a column: else counting by it says nothing."""
    name = quoted(column.name)
    return len(connection.execute(f"select distinct {name} from rows limit 2").fetchall()) > 1


def _index(connection: sqlite3.Connection, table: Table, findings: Sequence[Finding] | None) -> None:
    """What SQLite does by itself, outside the interpreter's lock, and the findings, which need the index of ids."""
    connection.execute("insert into rows_fts(rows_fts) values ('rebuild')")
    for column in ("id", *(c.name for c in table.columns if c.facet and not c.array)):
        connection.execute(f"create index {quoted(f'by {column}')} on rows ({quoted(column)})")
    if findings is not None:
        connection.execute("create table findings (row integer references rows(number), rule text, why text)")
        connection.executemany(
            "insert into findings select number, ?, ? from rows where id = ?",
            [(f.rule, sound(f.why), f.id) for f in findings],
        )
        connection.execute("create index [findings by row] on findings (row)")
        connection.execute("create index [findings by rule] on findings (rule)")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
