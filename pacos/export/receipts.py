"""Receipts: what a hand-over of weights did to the outputs, and whether that is within its gate.

    live -> saved -> merged -> gguf -> served        each arrow is a receipt, on the same rows

A gate says what a kind of step may cost. Merging and 16 bits only round; fewer bits change answers, and their gates say
by how much at most. Beyond a gate the export fails, and keeps nothing under its final name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from pacos.errors import GateError
from pacos.evaluation.statistics import Interval
from pacos.evaluation.statistics import compare as compare_paired
from pacos.export.observe import Observed
from pacos.export.partings import Parting, partings

RESAMPLES = 1000
SEED = 0
FEWEST_POSITIONS = 200
"""With fewer, a share of agreement says little."""


@dataclass(frozen=True)
class Gate:
    """The least share of positions with the same likeliest token, and the most that perplexity may grow, as a share."""

    top1: float
    growth: float


GATES = {
    "merged": Gate(0.99, 0.01),
    "merged onto other base": Gate(0.0, 0.25),
    "f32": Gate(0.999, 0.002),
    "f16": Gate(0.995, 0.005),
    "bf16": Gate(0.98, 0.01),
    "q8_0": Gate(0.95, 0.01),
    "q6_k": Gate(0.90, 0.02),
    "q5": Gate(0.80, 0.20),
    "q4": Gate(0.80, 0.20),
    "q3": Gate(0.60, 0.60),
    "q2": Gate(0.30, 3.00),
    "served": Gate(0.98, 0.01),
    "served in integers": Gate(0.90, 0.05),
}
"""By kind of step. The figures of SmolLM2, the smallest and so the most sensitive base, are in docs/quantization.md.

llama.cpp multiplies quantized matrices by activations that it rounds to 8 bits, which transformers does not: `in integers`."""


@dataclass(frozen=True)
class Receipt:
    """Outputs compared over one hand-over of weights. Perplexities are None where there are no held-out rows."""

    step: str
    gate: str
    max_logit_difference: float
    mean_logit_difference: float
    top1_agreement: float
    num_positions: int
    greedy_agreement_length: float
    """Tokens that the greedy answers have in common from the start, on average."""
    greedy_length: float
    """Tokens of the answers before the step, on average."""
    same_stop: int
    """Answers that end at the same token, or both at the limit, where they are the same up to there."""
    num_same: int
    """Answers that are the same up to their end."""
    num_answers: int
    perplexity_before: float | None
    perplexity_after: float | None
    perplexity_difference: float | None
    interval: tuple[float, float] | None
    """95 %, paired bootstrap over the held-out rows."""
    num_rows: int
    partings: tuple[Parting, ...] = ()
    """Where greedy answers part, and whether that is a near tie."""
    failures: tuple[str, ...] = ()

    def to_tree(self) -> dict[str, Any]:
        tree = asdict(self)
        return {**tree, "interval": list(self.interval) if self.interval else None, "failures": list(self.failures)}


def compare(step: str, gate: str, before: Observed, after: Observed) -> Receipt:
    """The receipt of a step. What it does not pass is in `failures`; a number that is not finite is one of them."""
    maxima, means = [], []
    for a, b in zip(before.logits, after.logits, strict=True):
        difference = (a - b).abs_()
        maxima.append(difference.max())
        means.append(difference.mean(-1))
    agree = torch.cat([a == b for a, b in zip(before.likeliest, after.likeliest, strict=True)])
    shared = [_shared(a, b) for (a, _), (b, _) in zip(before.answers, after.answers, strict=True)]
    whole = [a[0] == b[0] for a, b in zip(before.answers, after.answers, strict=True)]
    stops = [a[1] == b[1] for a, b in zip(before.answers, after.answers, strict=True)]
    perplexity = _perplexities(before.losses, after.losses)
    receipt = Receipt(
        step=step,
        gate=gate,
        max_logit_difference=float(torch.stack(maxima).max()) if maxima else 0.0,
        mean_logit_difference=float(torch.cat(means).mean()) if means else 0.0,
        top1_agreement=float(agree.float().mean()),
        num_positions=len(agree),
        greedy_agreement_length=float(np.mean(shared)) if shared else 0.0,
        greedy_length=float(np.mean([len(ids) for ids, _ in before.answers])) if shared else 0.0,
        same_stop=sum(w and s for w, s in zip(whole, stops, strict=True)),
        num_same=sum(whole),
        num_answers=len(whole),
        perplexity_before=perplexity[0],
        perplexity_after=perplexity[1],
        perplexity_difference=perplexity[2],
        interval=perplexity[3],
        num_rows=len(before.losses),
        partings=partings(before, after),
    )
    return replace(receipt, failures=tuple(_failures(receipt, GATES[gate])))


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """Tokens in common from the start."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _perplexities(
    before: np.ndarray, after: np.ndarray
) -> tuple[float | None, float | None, float | None, Interval | None]:
    """Before, after, after - before and its interval; of the held-out rows' answers."""
    if not len(before):
        return None, None, None, None
    rng = np.random.default_rng(SEED)
    found = compare_paired(before, after, lambda s: np.exp(s[..., 0] / s[..., 1]), rng=rng, resamples=RESAMPLES)
    return found.base, found.tuned, found.difference, found.interval


def _failures(receipt: Receipt, gate: Gate) -> list[str]:
    failed = []
    numbers = [receipt.max_logit_difference, receipt.mean_logit_difference]
    numbers += [receipt.perplexity_after or 0.0]
    if not all(math.isfinite(number) for number in numbers):
        return ["logits are NaN or infinite"]
    if receipt.top1_agreement < gate.top1:
        failed.append(
            f"top-1 agreement {receipt.top1_agreement:.2%} on {receipt.num_positions} positions; "
            f"at least {gate.top1:.1%} is allowed"
        )
    before, after = receipt.perplexity_before, receipt.perplexity_after
    if before is not None and after is not None and receipt.interval is not None:
        low = receipt.interval[0]
        if low > gate.growth * before:  # the whole interval is beyond what is allowed
            failed.append(f"perplexity {before:.3f} -> {after:.3f}; {gate.growth:.1%} more is allowed")
    if receipt.same_stop < receipt.num_same:
        failed.append(f"{receipt.num_same - receipt.same_stop} answers are the same and stop at another token")
    return failed


def require(receipt: Receipt, path: object, first: str = "") -> None:
    """Raises GateError where a receipt is beyond its gate. `first`: the tensor that differs first, in words."""
    if receipt.failures:
        what = "; ".join(receipt.failures)
        where = f"\n  first tensor that differs: {first}" if first else ""
        raise GateError(f"{path}: {receipt.step}: {what}. Nothing was kept under the final name{where}")


def line(receipt: dict[str, Any]) -> str:
    """A receipt in one line, for people."""
    text = (
        f"{receipt['step']}: top-1 {receipt['top1_agreement']:.2%} of {receipt['num_positions']}, "
        f"logits differ by {receipt['max_logit_difference']:.2g} at most, {receipt['mean_logit_difference']:.2g} on average"
    )
    if receipt.get("num_answers"):
        text += f"; greedy answers agree for {receipt['greedy_agreement_length']:.1f} of {receipt['greedy_length']:.1f} tokens"
        text += "".join(f", {_parted(each)}" for each in receipt.get("partings", ()))
    if receipt.get("interval"):
        low, high = receipt["interval"]
        text += (
            f"; perplexity {receipt['perplexity_before']:.3f} -> {receipt['perplexity_after']:.3f} "
            f"({receipt['perplexity_difference']:+.3f}, 95 % {low:+.3f} to {high:+.3f})"
        )
    return text


def _parted(parting: dict[str, Any]) -> str:
    how = "a near tie" if parting["near_tie"] else "no tie"
    return (
        f"answer {parting['answer'] + 1} parts at token {parting['token'] + 1}, {how}: "
        f"{parting['gap']:.2g} nats between the two there, noise {parting['noise']:.2g}"
    )
