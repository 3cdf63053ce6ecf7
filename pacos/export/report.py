"""The report of an artifact: checks, each with a verdict and what was found, and receipts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from pacos.export.gguf_names import ordered
from pacos.export.receipts import Receipt

Verdict = Literal["ok", "failed", "not told"]


@dataclass(frozen=True)
class Check:
    name: str
    verdict: Verdict
    found: str


@dataclass
class Report:
    """What was found in an artifact, and the receipt where it was compared with another."""

    path: str
    kind: str
    checks: list[Check] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)

    def add(self, name: str, passed: bool | None, found: str) -> None:
        self.checks.append(Check(name, "not told" if passed is None else "ok" if passed else "failed", found))

    @property
    def passed(self) -> bool:
        return all(check.verdict != "failed" for check in self.checks)

    def to_tree(self) -> dict[str, Any]:
        receipts = [receipt.to_tree() for receipt in self.receipts]
        return {**asdict(self), "receipts": receipts, "passed": self.passed}


def find_dead(report: Report, tensors: Iterator[tuple[str, Tensor]]) -> None:
    """Matrices of zeros, of one value, or with NaN or infinity."""
    broken, dead, count = [], [], 0
    for name, tensor in tensors:
        count += 1
        values = tensor.float()
        if not torch.isfinite(values).all():
            broken.append(name)
        elif values.dim() > 1 and values.numel() > 1 and values.min() == values.max():
            dead.append(name)
    wrong = [f"{n} holds NaN or infinity" for n in broken] + [f"{n} is the same value throughout" for n in dead]
    report.add("tensors", not wrong, "; ".join(wrong[:3]) or f"{count} tensors, none dead")


def find_missing(report: Report, names: set[str]) -> None:
    found = ", ".join(ordered(sorted(names))[:3])
    report.add("missing tensors", not names, f"{len(names)}: {found}" if names else "none")


def add_receipt(report: Report, receipt: Receipt) -> None:
    report.receipts.append(receipt)
    failed = "; ".join(receipt.failures)
    report.add("parity", not receipt.failures, failed or f"within the gate of '{receipt.gate}'")
