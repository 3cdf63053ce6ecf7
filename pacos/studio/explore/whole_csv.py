"""The CSV of an SQL query with all of its rows, written as SQLite finds them; datasette's own ends at what a page may show.

SQLite has as long for it as for a page. Where that is over in the middle, the answer breaks off, and the browser says so.
"""

from __future__ import annotations

import asyncio
import csv
import io
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager

from datasette.database import Database
from datasette.utils import InvalidSql, validate_sql_select
from starlette.responses import PlainTextResponse, Response, StreamingResponse

BATCH = 1000
"""Rows fetched at a time."""
LOOK = 10_000
"""Steps of SQLite between two looks at the clock."""


class Reader:
    """A query under way on a connection of its own. `seconds` is what SQLite may take in all."""

    def __init__(self, database: Database, sql: str, values: Mapping[str, str], seconds: float):
        self.connection, self.left, self.until = database.connect(), seconds, 0.0
        self.connection.set_progress_handler(lambda: time.monotonic() > self.until, LOOK)
        self.sql, self.values, self.busy = sql, values, threading.Lock()

    def start(self) -> tuple[list[str], list[sqlite3.Row]]:
        """Columns, and the first rows. Raises sqlite3.Error."""
        with self._clock():
            self.cursor = self.connection.execute(self.sql, _Blank(self.values))
            rows = self.cursor.fetchmany(BATCH)
        return [column[0] for column in self.cursor.description], rows

    def more(self) -> list[sqlite3.Row]:
        """The next rows; empty at the end. Raises sqlite3.Error."""
        with self._clock():
            return self.cursor.fetchmany(BATCH)

    def close(self) -> None:
        """End it, whatever it is about: who asked may be gone."""
        self.until = 0.0
        with self.busy:
            self.connection.close()

    @contextmanager
    def _clock(self) -> Iterator[None]:
        with self.busy:
            began = time.monotonic()
            self.until = began + self.left
            yield
            self.left -= time.monotonic() - began


class _Blank(dict[str, str]):
    """Parameters of a query; one that is not given is empty, as on its page."""

    def __missing__(self, name: str) -> str:
        return ""


async def whole_csv(
    database: Database, sql: str, values: Mapping[str, str], seconds: float, *, download: str = ""
) -> Response | None:
    """All rows of a query, as the file `download` where that is given; None where it is no SELECT, which datasette refuses."""
    try:
        validate_sql_select(sql)
        reader = Reader(database, sql, values, seconds)
    except InvalidSql:
        return None
    try:
        columns, rows = await asyncio.to_thread(reader.start)
    except (sqlite3.Error, sqlite3.Warning, ValueError, TypeError) as error:
        reader.close()
        return PlainTextResponse(f"{error}\n", 400)  # datasette's would be an empty file

    async def lines() -> AsyncIterator[str]:
        found = rows
        try:
            yield as_csv([columns])
            while found:
                yield as_csv(found)
                found = await asyncio.to_thread(reader.more)
        finally:
            reader.close()

    headers = {"content-disposition": f'attachment; filename="{download}"'} if download else {}
    kind = "text/csv" if download else "text/plain"
    return StreamingResponse(lines(), media_type=f"{kind}; charset=utf-8", headers=headers)


def as_csv(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([cell.hex() if isinstance(cell, bytes) else cell for cell in row] for row in rows)
    return text.getvalue()
