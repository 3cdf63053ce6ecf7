"""What `pacos curate --findings` wrote: JSONL, one {"place", "id", "rule", "why"} for each row and rule."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pacos.errors import DataError, UsageError

HINT = "give the file that pacos curate --findings wrote"


class Finding(NamedTuple):
    """`id` is the row's."""

    id: str
    rule: str
    why: str


def read_findings(path: Path) -> list[Finding]:
    """Each finding once. Raises UsageError where the file cannot be read, DataError for all lines that are none."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # a reason may hold U+2028
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}; {HINT}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not text; {HINT}") from None
    entries = [(number, _parsed(line)) for number, line in enumerate(lines, 1) if line.strip()]
    wrong = [f"{path}:{number}: {problem}" for number, one in entries if (problem := _problem(one))]
    if wrong:
        raise DataError(f"{path}: {len(wrong)} of {len(entries)} lines are no findings; {HINT}", wrong)
    return list(dict.fromkeys(Finding(*(one[name] for name in Finding._fields)) for _, one in entries))


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _problem(entry: Any) -> str:
    if not isinstance(entry, dict):
        return "is not a JSON object"
    missing = [name for name in Finding._fields if not isinstance(entry.get(name), str)]
    return f"has no text as {' and '.join(missing)}" if missing else ""


def rules_by_row(findings: Iterable[Finding]) -> dict[str, list[str]]:
    """{row id: names of its rules}"""
    rules: dict[str, list[str]] = {}
    for finding in findings:
        rules.setdefault(finding.id, []).append(finding.rule)
    return rules
