"""`--fix`: a second pass that writes the mended rows, and beside them everything that was taken away.

    OUTPUT                  the rows that are kept, mended where a rule has a safe fix
    OUTPUT.changes.jsonl    each row that was dropped or changed, whole, before and after, with the rules and their reasons

Fixes are applied in the order of the rules, again until none has anything left to do. A row that a fix has made a duplicate
of another that is kept is dropped too, so that the output, looked at again, has none.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from pacos.data.curation.findings import Findings
from pacos.data.curation.rule import Rule
from pacos.data.curation.rules import RULES
from pacos.data.curation.stream import CONVERSATIONS, Row
from pacos.data.curation.survey import Survey, hashes
from pacos.data.fields import text_problem
from pacos.data.near import exact_key
from pacos.data.records import Example
from pacos.data.split import prompt_text
from pacos.data.writers import alpaca_row, messages_row
from pacos.errors import DataError, ResourceError, UsageError
from pacos.files import sync

ROUNDS = 5
CHANGES = ".changes.jsonl"
SUFFIXES = (".json", ".jsonl")


@dataclass
class Mended:
    """What `--fix` did. `by_rule`: rows that were dropped or changed on account of each rule."""

    path: str
    changes: str
    read: int = 0
    kept: int = 0
    changed: int = 0
    dropped: int = 0
    by_rule: Counter[str] = field(default_factory=Counter)
    changed_ids: list[tuple[str, str]] = field(default_factory=list, repr=False)
    """(id before, id after) of every changed row."""


def write_mended(
    rows: Iterable[Row],
    survey: Survey,
    rules: Sequence[str],
    output: Path,
    *,
    drop: Sequence[str] = (),
) -> Mended:
    """Write OUTPUT and its changes. `drop` names rules whose rows are dropped as well. Raises DataError where no row is left."""
    findings, changes = survey.findings, changes_of(output)
    reasons = _reasons(findings, {*_dropping(rules), *drop})
    touched = findings.numbers(tuple(rules))
    table = [RULES[name] for name in rules if RULES[name].mend and RULES[name].look]
    done, twins = Mended(str(output), str(changes)), Twins(survey, touched) if "duplicate" in rules else None
    with whole_file(output) as kept, whole_file(changes) as gone:
        sink = RowSink(kept, output.suffix)
        for row in rows:
            done.read += 1
            after, why = _mended(row, table if row.number in touched else [], reasons.get(row.number, []))
            if twins and after is not None and row.number in touched and twins.has(after) and why:
                after, why = None, [*why, ("duplicate", "mended, it is the same as another row that is kept")]
            if after is not None:
                sink.write(row_of(after, row.layout))
            if why:
                _record(done, gone, row, after, why)
        done.kept = sink.count
        sink.close()
        if done.read == 0 or not sink.count:
            raise DataError(f"{output}: no row would be left; nothing was written")
    return done


class Twins:
    """Rows that are kept, by what makes a duplicate: those that no finding touches, and those that were asked about."""

    def __init__(self, survey: Survey, touched: set[int]):
        untouched = ~np.isin(np.asarray(survey.numbers), np.fromiter(touched, dtype=np.int64, count=len(touched)))
        self._untouched = np.sort(survey.rows[untouched])
        self._made: set[int] = set()

    def has(self, example: Example) -> bool:
        """Whether a kept row is the same but for case, spaces and punctuation. From now on this one is."""
        key = int(hashes([f"{exact_key(prompt_text(example))}\n\n{exact_key(example.output)}"])[0])
        at = int(np.searchsorted(self._untouched, np.uint64(key)))
        there = key in self._made or (at < len(self._untouched) and int(self._untouched[at]) == key)
        self._made.add(key)
        return there


def _dropping(rules: Iterable[str]) -> list[str]:
    """Rules over the whole set that drop: what a row looks like says nothing about them."""
    return [name for name in rules if RULES[name].mend and not RULES[name].look]


def _reasons(findings: Findings, rules: set[str]) -> dict[int, list[tuple[str, str]]]:
    """{row: (rule, why)} of the rows that the findings say to drop."""
    reasons = defaultdict(list)
    for finding in findings if any(findings.counts[name] for name in rules) else ():
        if finding.rule in rules:
            reasons[finding.number].append((finding.rule, finding.why))
    return dict(reasons)


def _mended(
    row: Row, rules: Sequence[Rule], dropped: Sequence[tuple[str, str]]
) -> tuple[Example | None, list[tuple[str, str]]]:
    """What is left of a row, and why it is not what it was."""
    if row.example is None:
        return None, list(dropped) or [("malformed", row.problem)]
    if dropped:
        return None, list(dropped)
    return mend(row.example, rules)


def mend(example: Example, rules: Sequence[Rule]) -> tuple[Example | None, list[tuple[str, str]]]:
    """The example after every safe fix that has something to do, and (rule, why) of each; None: to be dropped."""
    why: list[tuple[str, str]] = []
    for _ in range(ROUNDS):
        before = example
        for rule in rules:
            reason = rule.look(example) if rule.look else ""
            if reason and rule.mend:
                after = rule.mend(example)
                if after is None:
                    return None, [*why, (rule.name, reason)]
                why += [(rule.name, reason)] if after != example else []
                example = after
        if example == before:
            break
    return example, why


def _record(done: Mended, gone: TextIO, row: Row, after: Example | None, why: Sequence[tuple[str, str]]) -> None:
    done.dropped += after is None
    done.changed += after is not None
    done.by_rule.update({rule for rule, _ in why})
    if after is not None and row.example is not None:
        done.changed_ids.append((row.example.id, after.id))
    entry = {
        "place": row.place,
        "id": row.example.id if row.example else None,
        "action": "dropped" if after is None else "changed",
        "rules": [rule for rule, _ in why],
        "reasons": [reason for _, reason in why],
        "before": row.raw if row.example is None else row_of(row.example, row.layout),
        "after": None if after is None else row_of(after, row.layout),
    }
    gone.write(dumps(entry) + "\n")


def row_of(example: Example, layout: str) -> dict[str, Any]:
    """A row as it is written: in turns where it was read so, else in Alpaca's fields."""
    return messages_row(example) if layout in CONVERSATIONS else alpaca_row(example)


class RowSink:
    """Rows into a file, JSON array or JSONL by its suffix, one at a time."""

    def __init__(self, file: TextIO, suffix: str):
        self.file, self.array, self.count = file, suffix == ".json", 0

    def write(self, row: Mapping[str, Any]) -> None:
        head = ("[\n" if self.count == 0 else ",\n") if self.array else ""
        self.file.write(head + dumps(row) + ("" if self.array else "\n"))
        self.count += 1

    def close(self) -> None:
        if self.array:
            self.file.write("\n]\n" if self.count else "[]\n")


def dumps(row: Mapping[str, Any]) -> str:
    """One line of JSON; half a surrogate pair is written as its escape."""
    text = json.dumps(row, ensure_ascii=False, default=str)
    return json.dumps(row, default=str) if text_problem(text) else text


def changes_of(output: Path) -> Path:
    """The file beside OUTPUT that holds what was taken away."""
    return output.with_name(output.name + CHANGES)


def check_rows_file(output: Path, names: Sequence[str], overwrite: bool) -> None:
    """Raises UsageError where rows cannot be written to `output`: not its format, there already, or the data itself."""
    if output.suffix not in SUFFIXES:
        raise UsageError(f"{output}: '{output.suffix}' is no format for rows; name it .json or .jsonl")
    refuse_existing([output], overwrite, names)


def refuse_existing(paths: Iterable[Path], overwrite: bool, names: Sequence[str] = ()) -> None:
    """Raises UsageError for files that are there, unless `overwrite`; and always for those of the data, `names`."""
    there = [path for path in paths if path.exists()]
    for path in there:
        if any(path.resolve() == own or own in path.resolve().parents for own in (Path(n).resolve() for n in names)):
            raise UsageError(f"{path}: is the data itself; give another file to write")
    if there and not overwrite:
        raise UsageError(f"{', '.join(map(str, there))}: there already; give another file to write, or --overwrite")


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A file that has its name only once it is written whole. Raises ResourceError where it cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        raise ResourceError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)
