"""How well the findings agree with people: precision and recall against a version of the data that was cleaned by hand.

A row counts as changed by people where its content is not in the cleaned version: edited where the cleaned version has its
instruction, else rewritten or dropped. Precision is a lower bound: people pass over rows that are as wrong as those that they
changed. Intervals are Wilson's (1927), 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pacos.data.curation.mend import Mended
from pacos.data.curation.rules import RULES
from pacos.data.curation.stream import read_rows
from pacos.data.curation.survey import Survey
from pacos.data.records import normalize

Z = 1.959964


@dataclass(frozen=True)
class Share:
    """`hits` of `total`, with Wilson's interval."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        return self.hits / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        if not self.total:
            return (0.0, 1.0)
        p, n = self.value, self.total
        middle, half = p + Z * Z / (2 * n), Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
        return max(0.0, (middle - half) / (1 + Z * Z / n)), min(1.0, (middle + half) / (1 + Z * Z / n))


@dataclass(frozen=True)
class Agreement:
    """Findings against the rows that people changed. `rules`: {rule: (precision, recall)}; `repaired`: of the changed rows
    that --fix changed as well, those whose content is now that of the cleaned version."""

    cleaned: str
    edited: int
    rewritten_or_dropped: int
    precision: Share
    recall: Share
    recall_edited: Share
    rules: dict[str, tuple[Share, Share]]
    repaired: Share | None = None


def agreement(survey: Survey, instructions: Sequence[int], cleaned: str, mended: Mended | None = None) -> Agreement:
    """`instructions` are hashes of the survey's instructions, in its order; see `instruction_hash`."""
    ids, kept = set(), set()
    for row in read_rows([cleaned]):
        if row.example is not None:
            ids.add(int(row.example.id, 16))
            kept.add(instruction_hash(row.example.instruction))
    changed = {number for number, id in zip(survey.numbers, survey.ids, strict=True) if int(id) not in ids}
    edited = {n for n, text in zip(survey.numbers, instructions, strict=True) if n in changed and text in kept}
    serious = survey.findings.numbers(tuple(name for name in survey.findings.rows if RULES[name].severity != "note"))
    return Agreement(
        cleaned,
        len(edited),
        len(changed) - len(edited),
        Share(len(serious & changed), len(serious)),
        Share(len(serious & changed), len(changed)),
        Share(len(serious & edited), len(edited)),
        {name: _share(set(rows), changed) for name, rows in survey.findings.rows.items()},
        _repaired(mended, survey, ids) if mended else None,
    )


def _share(found: set[int], changed: set[int]) -> tuple[Share, Share]:
    both = len(found & changed)
    return Share(both, len(found)), Share(both, len(changed))


def _repaired(mended: Mended, survey: Survey, cleaned: set[int]) -> Share:
    by_people = [int(after, 16) in cleaned for before, after in mended.changed_ids if int(before, 16) not in cleaned]
    return Share(sum(by_people), len(by_people))


def instruction_hash(instruction: str) -> int:
    return hash(normalize(instruction))
