"""Whole sets into other sets, losing nothing: merge, sample, convert.

merge     sets one after another; each row of a content once, the first
sample    N rows, the same share of every stratum (a column, the verb, the source), chosen by hash of seed and content
convert   another layout or file format, read back and compared before the file gets its name
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pacos.data.curation.mend import RowSink, check_rows_file, dumps, refuse_existing, row_of, whole_file
from pacos.data.curation.stream import Row, read_rows
from pacos.data.curation.verbs import verb_and_noun
from pacos.data.records import Example
from pacos.data.writers import alpaca_row, messages_row
from pacos.errors import DataError, ResourceError, UsageError, did_you_mean

TURNS = {"system": "system", "user": "human", "assistant": "gpt"}
BATCH = 1000


def sharegpt_row(example: Example) -> dict[str, Any]:
    """ShareGPT's `conversations`, by from and value."""
    row = messages_row(example)
    turns = [{"from": TURNS[turn["role"]], "value": turn["content"]} for turn in row.pop("messages")]
    return {"conversations": turns, **row}


LAYOUTS: dict[str, Callable[[Example], dict[str, Any]]] = {
    "alpaca": alpaca_row,
    "messages": messages_row,
    "sharegpt": sharegpt_row,
}
FORMATS = (".json", ".jsonl", ".csv", ".tsv", ".parquet")


def sound_rows(names: Iterable[str]) -> Iterator[Row]:
    """Rows that are examples. Raises DataError at the first that is none: nothing may be lost on the way."""
    for row in read_rows(names):
        if row.example is None:
            raise DataError(f"{row.place}: {row.problem}; or leave it out with: pacos curate ... --fix --out FILE")
        yield row


def merge(names: Sequence[str], output: Path, *, overwrite: bool = False) -> tuple[int, int]:
    """(rows written, rows left out because their content was there). The layout is that of the first set."""
    check_rows_file(output, names, overwrite)
    known: set[str] = set()
    left_out, layout = 0, ""
    with whole_file(output) as file:
        sink = RowSink(file, output.suffix)
        for row in sound_rows(names):
            assert row.example is not None
            layout = layout or row.layout
            if row.example.id in known:
                left_out += 1
                continue
            known.add(row.example.id)
            sink.write(row_of(row.example, layout))
        sink.close()
    return sink.count, left_out


def stratum(example: Example, by: str) -> str:
    """What a row is grouped by: `verb`, `source` (the file or dataset it came from), or any column."""
    if by == "verb":
        return verb_and_noun(example.instruction)[0]
    if by == "source":
        return example.source.rpartition(":")[0] or example.source
    return str(example.extra.get(by, ""))


def sample(
    names: Sequence[str], output: Path, count: int, *, by: str = "", seed: int = 0, overwrite: bool = False
) -> dict[str, int]:
    """{stratum: rows written}. Raises UsageError where no row has the column `by`."""
    check_rows_file(output, names, overwrite)
    places: dict[str, list[tuple[bytes, int]]] = defaultdict(list)
    columns: dict[str, None] = {}
    for row in sound_rows(names):
        assert row.example is not None
        columns |= dict.fromkeys(row.example.extra)
        drawn = hashlib.sha256(f"{seed}:{row.example.id}:{row.number}".encode()).digest()[:12]
        places[stratum(row.example, by) if by else ""].append((drawn, row.number))
    if by not in ("", "verb", "source", *columns):
        raise UsageError(f"--by {by}: no row has that column{did_you_mean(by, columns)}; or give: verb, source")
    shares = divide({name: len(rows) for name, rows in places.items()}, count)
    chosen = {number for name, rows in places.items() for _, number in sorted(rows)[: shares[name]]}
    with whole_file(output) as file:
        sink = RowSink(file, output.suffix)
        for row in sound_rows(names):
            if row.number in chosen and row.example is not None:
                sink.write(row_of(row.example, row.layout))
        sink.close()
    return {name: share for name, share in sorted(shares.items()) if share}


def divide(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """`count` rows among strata in proportion to their sizes, by largest remainder (Hamilton); all where there are fewer."""
    total = sum(sizes.values())
    count = min(count, total)
    exact = {name: count * size / total for name, size in sizes.items()} if total else {}
    shares = {name: int(share) for name, share in exact.items()}
    ranked = sorted(exact, key=lambda name: (shares[name] - exact[name], name))
    for name in ranked[: count - sum(shares.values())]:
        shares[name] += 1
    return shares


def convert(names: Sequence[str], output: Path, layout: str = "", *, overwrite: bool = False) -> int:
    """Rows written, in the layout given or their own. Raises UsageError and DataError where a row would not come back."""
    refuse_existing([output], overwrite, names)
    suffix = output.suffix.lower()
    if layout and layout not in LAYOUTS:
        raise UsageError(f"no layout '{layout}'{did_you_mean(layout, LAYOUTS)}; accepted: {', '.join(LAYOUTS)}")
    if suffix not in FORMATS:
        raise UsageError(f"{output}: no format for rows; name it {', '.join(FORMATS)}")
    rows = ((row, _layout_row(row, layout)) for row in sound_rows(names))
    fresh = output.with_name(f".{output.stem}.unchecked{suffix}")
    try:
        count = {".csv": _write_table, ".tsv": _write_table, ".parquet": _write_parquet}.get(suffix, _write_json)(
            rows, fresh
        )
        _compare(names, fresh, output)
        fresh.replace(output)
    except OSError as error:
        raise ResourceError(f"{output}: cannot be written: {error.strerror or error}") from None
    finally:
        fresh.unlink(missing_ok=True)
    return count


def _layout_row(row: Row, layout: str) -> dict[str, Any]:
    assert row.example is not None
    if layout:
        return LAYOUTS[layout](row.example)
    return sharegpt_row(row.example) if row.layout == "sharegpt" else row_of(row.example, row.layout)


def _compare(names: Sequence[str], written: Path, output: Path) -> None:
    """Every row, read back, is what it was. Raises DataError naming the first that is not."""
    for was, now in itertools.zip_longest(sound_rows(names), read_rows([str(written)])):
        assert was is not None
        assert was.example is not None
        if now is None or now.example is None:
            raise DataError(
                f"{was.place}: cannot be read back from {output.suffix}: {now.problem if now else 'missing'}"
            )
        differing = [name for name in _fields(was.example) if _fields(was.example)[name] != _fields(now.example)[name]]
        if differing:
            raise DataError(f"{was.place}: '{differing[0]}' would not come back from {output.suffix}; write .jsonl")


def _fields(example: Example) -> dict[str, Any]:
    kept = replace(example, extra={})
    return {**vars(kept), "extra": dict(example.extra)}


def _write_json(rows: Iterator[tuple[Row, dict[str, Any]]], path: Path) -> int:
    with whole_file(path) as file:
        sink = RowSink(file, path.suffix.lower())
        for _, row in rows:
            sink.write(row)
        sink.close()
    return sink.count


def _write_table(rows: Iterator[tuple[Row, dict[str, Any]]], path: Path) -> int:
    """A table of texts. Raises DataError for a value that is none: it would come back as text."""
    header: list[str] = []
    count = 0
    with whole_file(path) as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", lineterminator="\n")
        for row, values in rows:
            other = [f"'{name}' is {dumps({'': v})[5:-1]:.40}" for name, v in values.items() if not isinstance(v, str)]
            if not header:
                header = list(values)
                writer.writerow(header)
            if other or list(values) != header:
                reason = (
                    other[0]
                    if other
                    else f"its columns are {', '.join(values)}, those of the first row {', '.join(header)}"
                )
                raise DataError(f"{row.place}: {reason}: a table holds texts in equal columns; write .jsonl")
            writer.writerow(values.values())
            count += 1
    return count


def _write_parquet(rows: Iterator[tuple[Row, dict[str, Any]]], path: Path) -> int:
    """Columns typed by the first batch. Raises UsageError without pyarrow, DataError for values of mixed types."""
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise UsageError(f"{path}: writing Parquet needs pyarrow; run: pip install 'pacos[hub]'") from None
    buffer, count, writer = io.BytesIO(), 0, None
    try:
        while batch := [row for _, row in itertools.islice(rows, BATCH)]:
            table = pyarrow.Table.from_pylist(batch, schema=writer.schema if writer else None)
            writer = writer or parquet.ParquetWriter(buffer, table.schema)
            writer.write_table(table)
            count += len(batch)
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: a column has values of different types ({str(error)[:80]}); write .jsonl") from None
    if writer:
        writer.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return count
