"""All findings, however many: on disk in the order they came, with counts and the first few of each rule in memory."""

from __future__ import annotations

import json
import tempfile
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import astuple

from pacos.data.curation.rule import Finding

SHOWN = 20


class Findings:
    """Append and iterate. `counts` are findings by rule; `rows[rule]` the numbers of its rows."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 lives as long as this
        self.counts: Counter[str] = Counter()
        self.rows: dict[str, array[int]] = defaultdict(lambda: array("q"))
        self.first: dict[str, list[Finding]] = defaultdict(list)

    def add(self, finding: Finding) -> None:
        self.counts[finding.rule] += 1
        self.rows[finding.rule].append(finding.number)
        if len(self.first[finding.rule]) < SHOWN:
            self.first[finding.rule].append(finding)
        self._file.write(json.dumps(astuple(finding)) + "\n")

    def __iter__(self) -> Iterator[Finding]:
        self._file.seek(0)
        for line in self._file:
            yield Finding(*json.loads(line))
        self._file.seek(0, 2)

    def __len__(self) -> int:
        return self.counts.total()

    def numbers(self, rules: Iterator[str] | tuple[str, ...] | None = None) -> set[int]:
        """Rows with a finding, or with one by one of the rules."""
        names = self.rows.keys() if rules is None else rules
        return {number for name in names for number in self.rows.get(name, ())}
