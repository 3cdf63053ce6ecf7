"""Rows one after another, the sound and the malformed, from everything that `load_examples` reads.

    read_rows("data.jsonl") -> Row(number, place, example, problem, raw), ...

JSONL is read line by line, so that a million rows take no more memory than one; the other formats are held whole while they
are read. A row with a blank output is an example here: a rule finds it. Unlike `load_examples`, reading goes on past rows
that are malformed; they are yielded with what is wrong, and with what stood there.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pacos.data.fields import kind_of
from pacos.data.layouts import Layout, detect_layout
from pacos.data.load import LOOKED_AT, DataFile, find_files
from pacos.data.raw import RawRow, decode, open_raw
from pacos.data.records import Example
from pacos.data.sides import side_of_file
from pacos.errors import DataError, UsageError

CONVERSATIONS = ("messages", "sharegpt")


class Row(NamedTuple):
    """One row of the whole data: `number` from 0, `place` is file:line; `example` is None where `problem` says why."""

    number: int
    place: str
    example: Example | None
    problem: str
    raw: Any
    layout: str


def read_rows(names: Iterable[str]) -> Iterator[Row]:
    """All rows behind the names (files, folders, hub datasets, `starter`), numbered on. Raises UsageError, DataError."""
    counter = itertools.count()
    for name in names:
        files = find_files(name)
        sides = [side_of_file(file.path.name) for file in files]
        declared = all(sides) and len(set(sides)) > 1
        for file, side in zip(files, sides, strict=True):
            for row in _rows_of(file, {"split": side} if declared else {}):
                yield row._replace(number=next(counter))


def _rows_of(file: DataFile, declared: Mapping[str, Any]) -> Iterator[Row]:
    rows = _raw_rows(file)
    looked_at = list(itertools.islice(rows, LOOKED_AT))
    usable = [row.value for row in looked_at if isinstance(row.value, Mapping)]
    layout = detect_layout(usable, file.shown) if usable else None
    for raw in itertools.chain(looked_at, rows):
        yield from _examples(raw, layout, declared)


def _examples(raw: RawRow, layout: Layout | None, declared: Mapping[str, Any]) -> Iterator[Row]:
    place = raw.place.partition(" (row")[0]
    name = layout.name if layout else ""
    if raw.error or layout is None or not isinstance(raw.value, Mapping):
        problem = raw.error or f"the row is {kind_of(raw.value)}; give an object with named columns"
        yield Row(0, place, None, problem, raw.value, name)
        return
    wrong: list[str] = []
    made = layout.read({**declared, **raw.value}, raw.source, layout, wrong)
    if wrong:
        yield Row(0, place, None, "; ".join(wrong), raw.value, name)
    for example in made:
        yield Row(0, place, example, "", None, name)


def _raw_rows(file: DataFile) -> Iterator[RawRow]:
    if file.path.suffix.lower() == ".jsonl" and not _packed(file):
        return _lines(file)
    try:
        return open_raw(file.path.read_bytes(), file.shown, file.name).rows
    except OSError as error:
        raise UsageError(f"{file.shown}: cannot be read: {error.strerror or error}") from None


def _packed(file: DataFile) -> bool:
    """Whether a .jsonl file is something else: an array, or no text. `decode` says what, where it can be no data."""
    try:
        with file.path.open("rb") as opened:
            head = opened.read(4096)
    except OSError as error:
        raise UsageError(f"{file.shown}: cannot be read: {error.strerror or error}") from None
    decode(head.decode("utf-8", "ignore").encode() if head[:2] not in (b"\xff\xfe", b"\xfe\xff") else head, file.shown)
    return not head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")


def _lines(file: DataFile) -> Iterator[RawRow]:
    """The lines of a JSONL file. A line that is no JSON is yielded as the text that it is."""
    with file.path.open("rb") as opened:
        for number, data in enumerate(opened, 1):
            place, source = f"{file.shown}:{number}", f"{file.name}:{number}"
            try:
                line = data.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                byte = f"byte {data[error.start]:#04x} is not UTF-8; save the file as UTF-8"
                yield RawRow(place, source, data.decode("utf-8", "backslashreplace"), byte)
                continue
            if not line.strip():
                continue
            try:
                yield RawRow(place, source, json.loads(line))
            except (ValueError, RecursionError) as error:
                reason = f" at column {error.pos + 1}: {error.msg}" if isinstance(error, json.JSONDecodeError) else ""
                yield RawRow(place, source, line.rstrip("\r\n"), f"not valid JSON{reason}; give one JSON object a line")


def read_examples(name: str) -> list[Row]:
    """The sound rows of a dataset that is compared with. Raises DataError where there is none."""
    rows = [row for row in read_rows([name]) if row.example is not None]
    if not rows:
        raise DataError(f"{name}: no row can be used")
    return rows
