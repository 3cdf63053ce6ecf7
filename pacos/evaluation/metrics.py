"""What is measured of an answer, and how rows become one figure.

Every corpus figure here is a function of sums over rows, so a row keeps its addends (its "counts") and a resample of
rows needs nothing but a sum:

    mean        sum x / sum 1                 exact match, ROUGE-L, response length, empty, never stopping
    ratio       sum a / sum b                 seconds per token, of those behind an answer's first
    perplexity  exp(sum nll / sum tokens)     never a mean of per-row or per-batch perplexities
    BLEU        from 10 summed counts         as sacreBLEU's corpus score

`METRICS` is the table of them; `measure` makes the noun they all read, one `Answer` per row and model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import numpy as np
from sacrebleu.metrics.bleu import BLEU

from pacos.data.records import normalize
from pacos.data.rouge import rouge_l

Direction = Literal["higher", "lower", "neither"]
Unit = Literal["share", "score", "perplexity", "bleu", "tokens", "seconds"]
Value = Callable[[np.ndarray], np.ndarray]
"""Summed counts (..., K) -> figures (...)."""


@dataclass(frozen=True)
class Answer:
    """What one model did with one example. `nll` is in nats, summed over the reference's `nll_tokens` tokens."""

    text: str
    tokens: int
    """Length of the answer without the stop token."""
    generated_tokens: int
    """Length with it."""
    finish_reason: Literal["stop", "length"]
    seconds: float
    """Its share of the steps that wrote `stepped_tokens`; the reading of the prompt is not in it."""
    nll: float
    nll_tokens: int
    exact: bool
    rouge_l: float
    bleu_counts: tuple[int, ...]
    """sacreBLEU's 10 addends: answer length, reference length, 4 matched and 4 total n-gram counts."""
    ids: tuple[int, ...] = field(default=(), metadata={"json": False})
    """The answer's tokens, without the stop token; they go to the ledger."""
    prompt_ids: tuple[int, ...] = field(default=(), metadata={"json": False})

    @property
    def nll_per_token(self) -> float:
        return self.nll / self.nll_tokens

    @property
    def stepped_tokens(self) -> int:
        """Tokens that took a step each: all but the first, which comes with the reading of the prompt."""
        return max(0, self.generated_tokens - 1)

    @property
    def empty(self) -> bool:
        return not self.text.strip()


@dataclass(frozen=True)
class Metric:
    """A figure over rows: `counts(answer)` are a row's K addends, `value` turns their sum into the figure."""

    name: str
    label: str
    unit: Unit
    direction: Direction
    """Which way is better."""
    counts: Callable[[Any], tuple[float, ...]]
    """Of an `Answer`, or of what else a suite keeps of one."""
    value: Value

    def table(self, answers: Sequence[Any]) -> np.ndarray:
        """Counts of all rows, (N, K)."""
        return np.array([self.counts(answer) for answer in answers], dtype=np.float64)


def ratio(sums: np.ndarray) -> np.ndarray:
    """sum a / sum b, 0 where b sums to 0. (..., 2) -> (...)."""
    top, bottom = sums[..., 0], sums[..., 1]
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)


def perplexity(sums: np.ndarray) -> np.ndarray:
    """exp(sum nll / sum tokens), nll in nats. (..., 2) -> (...)."""
    return np.exp(sums[..., 0] / sums[..., 1])


def bleu(sums: np.ndarray) -> np.ndarray:
    """Corpus BLEU, 0 to 100, from summed counts (..., 10): sacreBLEU's defaults (13a, 4-grams, `exp` smoothing)."""
    sums = np.asarray(sums, dtype=np.float64)
    length, reference_length = sums[..., 0], sums[..., 1]
    matched, total = sums[..., 2:6], sums[..., 6:10]
    # each order without a match counts as half the match of the one before: 1/2, 1/4, ...
    halves = np.cumsum((matched == 0) & (total > 0), axis=-1)
    smoothed = np.where(matched > 0, matched, 0.5**halves)
    precisions = np.divide(smoothed, total, out=np.zeros_like(smoothed), where=total > 0)
    logs = np.log(precisions, out=np.full_like(precisions, -np.inf), where=precisions > 0)
    shortfall = np.divide(reference_length, length, out=np.full_like(length, np.inf), where=length > 0)
    brevity = np.exp(np.minimum(0.0, 1.0 - shortfall))
    return np.where(matched.any(axis=-1), 100.0 * brevity * np.exp(logs.mean(axis=-1)), 0.0)


@cache
def _sacrebleu() -> BLEU:
    # effective_order changes the sentence's score alone, which is not used, and silences the advice to set it
    return BLEU(effective_order=True)


def bleu_counts(answer: str, reference: str) -> tuple[int, ...]:
    """The 10 addends of one row: answer length, reference length, matched n-grams (1-4), total n-grams (1-4)."""
    score = _sacrebleu().sentence_score(answer, [reference])
    return (score.sys_len, score.ref_len, *score.counts, *score.totals)


@cache
def bleu_signature() -> str:
    """sacreBLEU's own name for how this BLEU is computed, to be quoted with every figure."""
    metric = BLEU()
    metric.corpus_score(["a"], [["a"]])
    return str(metric.get_signature())


def exact_match(answer: str, reference: str) -> bool:
    """Equal after `normalize`: Unicode NFC, line ends as \\n, no space at line ends or around the whole.

    Case, punctuation, blank lines and spaces inside a line all count.
    """
    return normalize(answer) == normalize(reference)


def measure(
    reference: str,
    text: str,
    *,
    tokens: int,
    generated_tokens: int,
    finish_reason: Literal["stop", "length"],
    seconds: float,
    nll: float,
    nll_tokens: int,
    ids: Sequence[int] = (),
    prompt_ids: Sequence[int] = (),
) -> Answer:
    """An answer with its scores against the reference."""
    return Answer(
        text=text,
        tokens=tokens,
        generated_tokens=generated_tokens,
        finish_reason=finish_reason,
        seconds=seconds,
        nll=nll,
        nll_tokens=nll_tokens,
        exact=exact_match(text, reference),
        rouge_l=rouge_l(text, reference),
        bleu_counts=bleu_counts(text, reference),
        ids=tuple(ids),
        prompt_ids=tuple(prompt_ids),
    )


EXACT = Metric("exact_match", "Exact match", "share", "higher", lambda a: (a.exact, 1), ratio)
PERPLEXITY = Metric("perplexity", "Perplexity", "perplexity", "lower", lambda a: (a.nll, a.nll_tokens), perplexity)

METRICS = (
    EXACT,
    PERPLEXITY,
    Metric("rouge_l", "ROUGE-L", "score", "higher", lambda a: (a.rouge_l, 1), ratio),
    Metric("bleu", "BLEU", "bleu", "higher", lambda a: a.bleu_counts, bleu),
    Metric("response_tokens", "Response length", "tokens", "neither", lambda a: (a.tokens, 1), ratio),
    Metric("empty_share", "Empty answers", "share", "lower", lambda a: (a.empty, 1), ratio),
    Metric("unstopped_share", "Never stopped", "share", "lower", lambda a: (a.finish_reason == "length", 1), ratio),
    # no side is better: rows of a batch share its clock, so a resample of rows is no second timing
    Metric("seconds_per_token", "Time per token", "seconds", "neither", lambda a: (a.seconds, a.stepped_tokens), ratio),
)
