"""The rows that were accepted, and the decision on the next one.

    task -> its own problem? -> a rule against it? -> ROUGE-L F > threshold to a seed or an accepted row? -> accepted

Novelty is Self-Instruct's (Wang et al. 2023, section 2.2; threshold 0.7), on instructions, with the most similar ones
kept beside every decision. A pool is rebuilt from a log by the decisions in it, not by deciding again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pacos.data import Example, normalize
from pacos.data.rouge import NearestIndex
from pacos.self_instruct.filters import Rule, first_reason
from pacos.self_instruct.log import Record
from pacos.self_instruct.parse import Task

ACCEPTED, SIMILAR, REPEATED = "accepted", "similar", "repeated"
MOST_SIMILAR = 3
FLOOR = 0.4
"""Similarities that are recorded of accepted tasks begin here."""


@dataclass(frozen=True)
class Verdict:
    """`reason` is ACCEPTED, or why not. `nearest`: (id of seed or row, ROUGE-L F), most similar first."""

    task: Task
    reason: str
    nearest: tuple[tuple[str, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        fields = {"instruction": self.task.instruction, "input": self.task.input, "output": self.task.output}
        near = [[name, round(score, 4)] for name, score in self.nearest]
        return {"verdict": self.reason, **fields, **({"nearest": near} if near else {})}


class Pool:
    """`known` are the seeds or rows that nothing may resemble. `threshold` None switches the comparison off."""

    def __init__(self, known: Sequence[Example], rules: Mapping[str, Rule], threshold: float | None):
        self.rules, self.threshold = rules, threshold
        self.accepted: list[Example] = []
        self.rejected: Counter[str] = Counter()
        self.index = NearestIndex(threshold if threshold is not None else 1.0)
        self.names: list[str] = []
        self.seen: set[tuple[str, str]] = set()
        for example in known:
            self._remember(example, (example.lineage or (example.id,))[0])

    def judge(self, task: Task) -> Verdict:
        """The decision. An accepted task is one that the next are compared with; its row comes with `take`."""
        verdict = self._verdict(task)
        if verdict.reason == ACCEPTED:
            example = Example(task.instruction, task.input, task.output)
            self._remember(example, example.id)
        return verdict

    def take(self, record: Record) -> None:
        """The rows and the rejections of a `request` record whose tasks were judged."""
        for task in record["tasks"]:
            if task["verdict"] == ACCEPTED:
                self.accepted.append(row_of(record, task))
            else:
                self.rejected[task["verdict"]] += 1

    def restore(self, records: Iterable[Record]) -> None:
        """The decisions of a log's `request` records."""
        for record in records:
            before = len(self.accepted)
            self.take(record)
            for example in self.accepted[before:]:
                self._remember(example, example.id)

    def _verdict(self, task: Task) -> Verdict:
        if reason := first_reason(task, self.rules):
            return Verdict(task, reason)
        if self.threshold is None:
            return Verdict(task, ACCEPTED)
        if (normalize(task.instruction), normalize(task.input)) in self.seen:
            return Verdict(task, REPEATED)
        found = self.index.closest(task.instruction, k=MOST_SIMILAR, floor=min(FLOOR, self.threshold))
        nearest = tuple((self.names[near.number], near.score) for near in found)
        similar = bool(found) and found[0].score > self.threshold
        return Verdict(task, SIMILAR if similar else ACCEPTED, nearest)

    def _remember(self, example: Example, name: str) -> None:
        if self.threshold is not None:
            self.seen.add((normalize(example.instruction), normalize(example.input)))
            self.index.add(example.instruction)
            self.names.append(name)


def row_of(record: Record, task: Mapping[str, Any]) -> Example:
    """An accepted task as a row, with where it is from: seeds, request, teacher, time, dollars."""
    shared = sum(each["verdict"] == ACCEPTED for each in record["tasks"])
    extra = {
        "request": record["request"],
        "teacher": record["teacher"],
        "made": record["made"],
        "dollars": round(record["dollars"] / shared, 9),
        **record["extra"],
    }
    return Example(task["instruction"], task["input"], task["output"], lineage=tuple(record["seeds"]), extra=extra)
