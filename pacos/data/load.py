"""A name -> validated examples: `load_examples("alpaca_data.json")`.

A name is `starter`, a file, a folder of files, or a hub dataset (`yahma/alpaca-cleaned`). Two kinds of rows do not
become examples, and each is named with its file and line:

    problems    malformed rows. They stop the reading, once all of them are known, unless `skip_bad`
    left_out    sound rows with a blank output, which have nothing to learn from. They are left out, and counted

Exact duplicates are kept, and counted: what to do about them is the business of the split and of `pacos curate`.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from pacos.data import hub
from pacos.data.fields import kind_of
from pacos.data.layouts import Layout, detect_layout
from pacos.data.raw import SUFFIXES, RawRow, open_raw
from pacos.data.records import Example
from pacos.data.sides import Side, side_of_file
from pacos.errors import DataError, UsageError

STARTER = "starter"
LOOKED_AT = 200
"""Rows that the layout of a file is told from."""


@dataclass(frozen=True)
class LoadedData:
    """What a name stands for. `sha256` is of the files' bytes; `format` as in `alpaca JSON`."""

    examples: list[Example]
    format: str
    problems: list[str]
    left_out: list[str]
    path: str
    sha256: str
    duplicates: int
    """Rows whose content stood in an earlier row."""


class DataFile(NamedTuple):
    path: Path
    shown: str
    """How messages name it."""
    name: str
    """How `Example.source` names it."""


def load_examples(
    path: str | Path, *, limit: int | None = None, skip_bad: bool = False, keep_blank: bool = False
) -> LoadedData:
    """The examples behind a name, at most `limit` of them; with `keep_blank`, those with a blank output too.

    With `limit`, reading stops at the limit-th sound row, and problems after it are not seen. A folder whose files are
    named after sides (train.jsonl, test.jsonl) declares the split of its rows. Raises UsageError where there is nothing
    by that name, DataError for malformed rows (unless `skip_bad`) and for files that cannot be read.
    """
    reading = _Reading(limit, keep_blank)
    files = find_files(str(path))
    declared = [side_of_file(file.path.name) for file in files]
    for file, side in zip(files, declared, strict=True):
        reading.add(file, side if all(declared) and len(set(declared)) > 1 else None)
    if reading.problems and not skip_bad:
        raise DataError(
            f"{path}: {len(reading.problems)} of the {reading.seen} rows read cannot be used; mend them, "
            "or leave them out (for training: --set data.skip_bad_rows=true)",
            reading.problems,
        )
    if not reading.examples:
        raise DataError(f"{path}: no row can be used", [*reading.problems, *reading.left_out])
    return reading.result(str(path))


class _Reading:
    """What has been read so far, over the files of one name."""

    def __init__(self, limit: int | None, keep_blank: bool) -> None:
        self.limit, self.keep_blank = limit, keep_blank
        self.seen = 0
        self.examples: list[Example] = []
        self.problems: list[str] = []
        self.left_out: list[str] = []
        self.formats: dict[str, None] = {}
        self.digests: list[str] = []

    def add(self, file: DataFile, side: Side | None) -> None:
        data = _bytes_of(file)
        self.digests.append(hashlib.sha256(data).hexdigest())
        kind, rows = open_raw(data, file.shown, file.name)
        looked_at = list(itertools.islice(rows, LOOKED_AT))
        usable = [row.value for row in looked_at if not row.error]
        if not any(isinstance(value, Mapping) for value in usable):
            self.problems += [f"{row.place}: {row.error}" if row.error else _not_object(row) for row in looked_at]
            self.seen += len(looked_at)
            return
        layout = detect_layout(usable, file.shown)
        self.formats[f"{layout.name} {kind}"] = None
        self._read(itertools.chain(looked_at, rows), layout, {"split": side} if side else {})

    def _read(self, rows: Iterable[RawRow], layout: Layout, declared: Mapping[str, str]) -> None:
        for row in rows:
            if self.limit is not None and len(self.examples) >= self.limit:
                return
            self.seen += 1
            wrong = [row.error] if row.error else []
            if not wrong and not isinstance(row.value, Mapping):
                self.problems.append(_not_object(row))
                continue
            made = (
                []
                if wrong
                else layout.read({**declared, **row.value} if declared else row.value, row.source, layout, wrong)
            )
            if wrong:
                self.problems.append(f"{row.place}: {'; '.join(wrong)}")
            self._keep(made, row.place)

    def _keep(self, made: list[Example], place: str) -> None:
        for example in made:
            if not self.keep_blank and not example.output.strip():
                self.left_out.append(f"{place}: the output is blank, so there is nothing to learn")
            elif self.limit is None or len(self.examples) < self.limit:
                self.examples.append(example)

    def result(self, path: str) -> LoadedData:
        digest = (
            self.digests[0] if len(self.digests) == 1 else hashlib.sha256("".join(self.digests).encode()).hexdigest()
        )
        contents = {(e.instruction, e.input, e.output, e.system, e.history) for e in self.examples}
        duplicates = len(self.examples) - len(contents)
        formats = " + ".join(self.formats)
        return LoadedData(self.examples, formats, self.problems, self.left_out, path, digest, duplicates)


def _not_object(row: RawRow) -> str:
    return f"{row.place}: the row is {kind_of(row.value)}; give an object with named columns"


def _bytes_of(file: DataFile) -> bytes:
    try:
        data = file.path.read_bytes()
    except OSError as error:
        raise UsageError(f"{file.shown}: cannot be read: {error.strerror or error}") from None
    if not data.strip():
        raise DataError(f"{file.shown}: is empty; give a file with rows")
    return data


def find_files(name: str) -> list[DataFile]:
    """The files behind a name, in the order they are read. Raises UsageError where there are none."""
    if name == STARTER:
        packaged = Path(str(resources.files("pacos.data") / "starter" / "starter.jsonl"))
        return [DataFile(packaged, STARTER, packaged.name)]
    path = Path(name).expanduser()
    if path.is_dir():
        return files_in(path, name)
    if path.exists():
        return [DataFile(path, name, path.name)]
    if hub.is_dataset_name(name) and Path(name).parts[0] not in _names_in(Path(".")):
        folder, found = hub.fetch(name)
        return [DataFile(folder / file, f"{name}/{file}", f"{name}/{file}") for file in found]
    raise UsageError(f"{name}: no such file{_near_name(path)}")


def files_in(folder: Path, shown: str) -> list[DataFile]:
    """The data files in a folder and its subfolders, sorted by path; hidden ones are left out."""
    names = [p.relative_to(folder) for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()]
    names = sorted(n for n in names if not any(part.startswith(".") for part in n.parts) and n.name not in hub.NOT_DATA)
    if not names:
        raise UsageError(f"{shown}: a folder without data; give one that holds {', '.join(SUFFIXES)} files")
    return [DataFile(folder / n, f"{shown.rstrip('/')}/{n.as_posix()}", n.as_posix()) for n in names]


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []


def _near_name(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; the folder {path.parent} does not exist"
    near = difflib.get_close_matches(path.name, _names_in(path.parent), n=3, cutoff=0.6)
    known = f"give a file, a folder, `{STARTER}`, or a hub dataset (owner/name)"
    return f"; did you mean {' or '.join(str(path.parent / name) for name in near)}?" if near else f"; {known}"
