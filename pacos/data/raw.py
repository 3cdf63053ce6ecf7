"""Files -> raw rows, each with the place it was found at.

    JSON array, JSONL, CSV, TSV, Parquet  ->  RawRow(place, source, value)

Parquet is known by its magic bytes, JSON and JSONL by their first characters, and only a table by its suffix. Rows are
yielded one by one, so that `limit` reads no more than it needs. A row that cannot be read is yielded with `error` set;
a file that cannot be read at all raises DataError with the place and what to do.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pacos.errors import DataError, UsageError

SUFFIXES = (".jsonl", ".json", ".parquet", ".csv", ".tsv")
MAGIC = {
    b"\x1f\x8b": "gzip-compressed; unpack it first (gunzip)",
    b"PK\x03\x04": "a zip archive; unpack it first (unzip)",
    b"BZh": "bzip2-compressed; unpack it first (bunzip2)",
    b"\xfd7zXZ\x00": "xz-compressed; unpack it first (unxz)",
    b"\x28\xb5\x2f\xfd": "zstd-compressed; unpack it first (zstd -d)",
    b"ARROW1": "an Arrow file; save it as Parquet or JSONL",
    b"SQLite format 3": "an SQLite database; export the table as CSV or JSONL",
}
LONGEST_CELL = 1 << 27
_SPACE = re.compile(r"[ \t\r\n]*")
_AFTER_ITEM = re.compile(r"[ \t\r\n]*([,\]]?)[ \t\r\n]*")


class RawRow(NamedTuple):
    """`place` heads messages (`a.json:17 (row 3)`), `source` is what the example keeps (`a.json:17`)."""

    place: str
    source: str
    value: Any
    error: str = ""


class RawFile(NamedTuple):
    kind: str
    """JSON, JSONL, CSV, TSV or Parquet."""
    rows: Iterator[RawRow]


def open_raw(data: bytes, path: str, name: str) -> RawFile:
    """Rows of one file's bytes. `path` heads messages, `name` goes into `source`. Raises DataError."""
    if data[:4] == b"PAR1":
        return RawFile("Parquet", _parquet_rows(data, path, name))
    text = decode(data, path)
    suffix = Path(path).suffix.lower()
    if suffix in (".csv", ".tsv"):
        delimiter = "\t" if suffix == ".tsv" else ","
        return RawFile(suffix[1:].upper(), _table_rows(text, path, name, delimiter))
    start = _SPACE.match(text).end()  # type: ignore[union-attr]
    if text[start] == "[":
        return RawFile("JSON", _array_rows(text, start + 1, path, name))
    if text[start] == "{":
        rows = None if suffix == ".jsonl" else _whole_object(text, path, name)
        return RawFile("JSON", iter(rows)) if rows is not None else RawFile("JSONL", _line_rows(text, path, name))
    raise DataError(f"{path}: starts with {text[start : start + 20]!r}; give JSON, JSONL, CSV, TSV or Parquet")


def decode(data: bytes, path: str) -> str:
    """UTF-8 text, byte order mark removed. Raises DataError for empty, binary and differently encoded files."""
    for magic, what in MAGIC.items():
        if data.startswith(magic):
            raise DataError(f"{path}: is {what}")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
    if b"\0" in data[:4096]:
        raise DataError(f"{path}: is a binary file; give JSON, JSONL, CSV, TSV or Parquet")
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: byte {data[error.start]:#04x} at offset {error.start} is not UTF-8; save the file as UTF-8"
        ) from None
    if not text.strip():
        raise DataError(f"{path}: is empty; give a file with rows")
    return text


def _array_rows(text: str, position: int, path: str, name: str) -> Iterator[RawRow]:
    """Elements of a JSON array, decoded one at a time so that each has its line."""
    scan, line, counted, number = json.JSONDecoder().raw_decode, 1, 0, 0
    position = _SPACE.match(text, position).end()  # type: ignore[union-attr]
    if text[position : position + 1] == "]":
        raise DataError(f"{path}: is an empty array; give a file with rows")
    while True:
        number += 1
        line, counted = line + text.count("\n", counted, position), position
        place = f"{path}:{line} (row {number})"
        try:
            value, position = scan(text, position)
        except (ValueError, RecursionError) as error:
            raise _broken(text, path, place, number - 1, error) from None
        yield RawRow(place, f"{name}:{line}", value)
        after = _AFTER_ITEM.match(text, position)
        position = after.end()  # type: ignore[union-attr]
        match after.group(1):  # type: ignore[union-attr]
            case "]":
                return _nothing_follows(text, position, path)
            case "":
                raise _broken(text, path, place, number, ValueError("expected ',' or ']' after the row"))


def _broken(text: str, path: str, place: str, whole: int, error: Exception) -> DataError:
    reason = _json_reason(error)
    cut = "" if text.rstrip().endswith("]") else "; the file seems cut off: fetch or write it again"
    return DataError(f"{place}: not valid JSON ({reason}), after {whole} whole rows{cut}")


def _json_reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
    return reason[:1].lower() + reason[1:]


def _nothing_follows(text: str, position: int, path: str) -> None:
    if text[position:].strip():
        line = text.count("\n", 0, position) + 1
        raise DataError(
            f"{path}:{line}: {text[position : position + 20]!r} follows the array; keep one array in a file"
        )


def _whole_object(text: str, path: str, name: str) -> list[RawRow] | None:
    """Rows of a file that is one JSON object: `{"data": [...]}`, or a single row. None where it is JSONL."""
    if _is_object(text[: text.find("\n")] if "\n" in text.strip() else ""):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    lists = [key for key, rows in value.items() if isinstance(rows, list) and rows and isinstance(rows[0], dict)]
    if len(lists) == 1 and lists[0] not in ("messages", "conversations", "conversation", "instances"):
        rows = value[lists[0]]
        return [RawRow(f"{path} ({lists[0]}, row {n})", f"{name}:{n}", row) for n, row in enumerate(rows, 1)]
    return [RawRow(f"{path}:1", f"{name}:1", value)]


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _line_rows(text: str, path: str, name: str) -> Iterator[RawRow]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            yield RawRow(place, f"{name}:{number}", json.loads(line))
        except (ValueError, RecursionError) as error:
            column = f" at column {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
            yield RawRow(place, "", None, f"not valid JSON{column}: {_json_reason(error)}; give one JSON object a line")


def _table_rows(text: str, path: str, name: str, delimiter: str) -> Iterator[RawRow]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    line = 1
    try:
        for cells in _with_long_cells(reader):
            place, source, line = f"{path}:{line}", f"{name}:{line}", reader.line_num + 1
            if not header:
                header = _header(cells, place)
            elif len(cells) == len(header):
                yield RawRow(place, source, dict(zip(header, cells, strict=True)))
            elif cells:
                yield RawRow(
                    place, "", None, f"has {len(cells)} columns, the header {len(header)}; quote cells with commas"
                )
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not valid CSV: {error}; mend the quotes around this line") from None


def _with_long_cells(reader: Iterator[list[str]]) -> Iterator[list[str]]:
    """The csv module refuses cells over 128 KiB; that limit is global, so it is lifted for each step alone."""
    while True:
        usual = csv.field_size_limit(LONGEST_CELL)
        try:
            cells = next(reader, None)
        finally:
            csv.field_size_limit(usual)
        if cells is None:
            return
        yield cells


def _header(cells: list[str], place: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{place}: column {twice[0]!r} appears twice in the header; rename one")
    return names


def _parquet_rows(data: bytes, path: str, name: str) -> Iterator[RawRow]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise UsageError(f"{path}: reading Parquet needs pyarrow; run: pip install 'pacos[hub]'") from None
    number = 0
    try:
        for batch in parquet.ParquetFile(io.BytesIO(data)).iter_batches():
            for value in batch.to_pylist():
                number += 1
                yield RawRow(f"{path} (row {number})", f"{name}:{number}", value)
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not a whole Parquet file: {reason}; fetch or write it again") from None
    if not number:
        raise DataError(f"{path}: holds no rows; give a file with rows")
