"""What `pacos curate` found: a JSON list of {"id", "rule", "severity", "message"}, one for each row and rule."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pacos.errors import DataError, UsageError


class Finding(NamedTuple):
    """`id` is the row's."""

    id: str
    rule: str
    severity: str
    message: str


def read_findings(path: Path) -> list[Finding]:
    """Raises UsageError where the file cannot be read, DataError where it holds something else."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); give the findings that pacos curate wrote") from None
    if not isinstance(tree, list):
        raise DataError(f"{path}: not a list; give the findings that pacos curate wrote")
    wrong = [f"{path}: entry {number} {problem}" for number, one in enumerate(tree, 1) if (problem := _problem(one))]
    if wrong:
        raise DataError(f"{path}: {len(wrong)} of {len(tree)} entries are no findings", wrong)
    return [Finding(*(one[name] for name in Finding._fields)) for one in tree]


def _problem(entry: Any) -> str:
    if not isinstance(entry, dict):
        return "is not an object"
    missing = [name for name in Finding._fields if not isinstance(entry.get(name), str)]
    return f"has no text as {' and '.join(missing)}" if missing else ""


def rules_by_row(findings: Iterable[Finding]) -> dict[str, list[str]]:
    """{row id: names of its rules}"""
    rules: dict[str, list[str]] = {}
    for finding in findings:
        rules.setdefault(finding.id, []).append(finding.rule)
    return rules
