"""Logits -> the next token of each row.

    penalty on what was said -> / temperature -> top_k -> top_p -> min_p -> draw        temperature 0: the largest

The order and the meaning of each are those of transformers' logits processors. A draw is one uniform number put through
the cumulated probabilities. The numbers come from a stream of the row's own, named by its seed and its prompt, so what
a row says does not depend on the rows beside it, on how they were batched, or on the device.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pacos.errors import UsageError
from pacos.models.kernels.peaks import peaks

NUCLEUS = 1024
"""top_p looks at this many largest logits first; the whole vocabulary is sorted only where they do not reach it."""


MOST_LOGPROBS = 100
"""Likeliest tokens told of each, at most."""

Likely = tuple[tuple[int, float], ...]
"""Tokens and their log-probabilities in nats, the likeliest first."""


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn. Temperature 0 is greedy: top_k, top_p, min_p and seed then change nothing.

    `top_logprobs` changes nothing that is written: so many of the likeliest tokens are told beside each that was.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        problems = [f"{name}: {value!r} is not accepted; {accepted}" for name, value, accepted in self._wrong()]
        if problems:
            raise UsageError("\n".join(problems))

    def _wrong(self) -> list[tuple[str, float, str]]:
        checks = [
            ("max_new_tokens", self.max_new_tokens >= 1, "give 1 or more"),
            ("temperature", 0 <= self.temperature < float("inf"), "give 0 (greedy) or more"),
            ("top_p", 0 < self.top_p <= 1, "give more than 0, at most 1"),
            ("top_k", self.top_k >= 0, "give 0 (all) or more"),
            ("min_p", 0 <= self.min_p <= 1, "give 0 to 1"),
            ("repetition_penalty", 0 < self.repetition_penalty < float("inf"), "give more than 0; 1 is none"),
            ("top_logprobs", 0 <= self.top_logprobs <= MOST_LOGPROBS, f"give 0 to {MOST_LOGPROBS}"),
        ]
        return [(name, getattr(self, name), accepted) for name, good, accepted in checks if not good]

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @property
    def cut(self) -> tuple[float, float, int, float]:
        """What rows must have in common to be drawn together."""
        return self.temperature, self.top_p, self.top_k, self.min_p


class Sampler:
    """One row's sampling: its options, its stream of random numbers and the tokens it has seen.

    `copy` tells apart equal prompts with equal seeds, which would otherwise get equal answers.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int], copy: int = 0):
        self.sampling = sampling
        self.seen = set(prompt) if sampling.repetition_penalty != 1 else None
        name = hashlib.sha256(repr((sampling.seed, tuple(prompt), copy)).encode()).digest()
        self._stream = random.Random(int.from_bytes(name[:8], "big"))

    def uniform(self) -> float:
        return self._stream.random()

    def took(self, token: int) -> None:
        if self.seen is not None:
            self.seen.add(token)


def choose(logits: Tensor, samplers: Sequence[Sampler]) -> tuple[list[int], list[float], list[Likely]]:
    """Of each row the next token, its log-probability in nats under the model itself, and the likeliest tokens where they
    are asked for. logits (N, V)."""
    logits = logits.float()
    wanted = penalize(logits, samplers)
    tokens, mass = peaks(wanted)
    if wanted is not logits:
        mass = logits.logsumexp(dim=-1)
    for rows in _alike(samplers):
        uniforms = [samplers[i].uniform() for i in rows]
        tokens[rows] = draw(wanted[rows], samplers[rows[0]].sampling, uniforms)
    logprobs = logits.gather(1, tokens[:, None]).squeeze(1) - mass
    for sampler, token in zip(samplers, chosen := tokens.tolist(), strict=True):
        sampler.took(token)
    return chosen, logprobs.tolist(), _tops(logits, mass, [sampler.sampling.top_logprobs for sampler in samplers])


def _tops(logits: Tensor, mass: Tensor, counts: Sequence[int]) -> list[Likely]:
    """The `counts[i]` likeliest tokens of row i."""
    if not any(counts):
        return [()] * len(counts)
    return [likely[:count] for likely, count in zip(likeliest(logits, mass, max(counts)), counts, strict=True)]


def likeliest(logits: Tensor, mass: Tensor, count: int) -> list[Likely]:
    """The `count` likeliest tokens of each row. logits (N, V), mass (N,) their log sum exp."""
    values, ids = logits.topk(min(count, logits.shape[-1]), dim=-1)
    logprobs = (values - mass[:, None]).tolist()
    return [tuple(zip(row, found, strict=True)) for row, found in zip(ids.tolist(), logprobs, strict=True)]


def _alike(samplers: Sequence[Sampler]) -> list[list[int]]:
    """Indices of the rows that are drawn, those of equal options together."""
    groups: dict[tuple[float, ...], list[int]] = {}
    for i, sampler in enumerate(samplers):
        if not sampler.sampling.greedy:
            groups.setdefault(sampler.sampling.cut, []).append(i)
    return list(groups.values())


def penalize(logits: Tensor, samplers: Sequence[Sampler]) -> Tensor:
    """logits with those of seen tokens moved down by the rows' repetition penalties; a copy where there is any."""
    penalized = [i for i, sampler in enumerate(samplers) if sampler.seen]
    if penalized:
        logits = logits.clone()
    for i in penalized:
        seen = torch.tensor(sorted(samplers[i].seen or ()), device=logits.device)
        by = samplers[i].sampling.repetition_penalty
        values = logits[i, seen]
        logits[i, seen] = torch.where(values < 0, values * by, values / by)
    return logits


def draw(logits: Tensor, sampling: Sampling, uniforms: Sequence[float]) -> Tensor:
    """A token of each row, (N,), by inverting the cumulated probabilities at `uniforms` in [0, 1). logits (N, V)."""
    weights, ids = kept(logits, sampling)
    mass = weights.cumsum(dim=-1, dtype=torch.float64)
    at = torch.tensor(uniforms, dtype=torch.float64, device=logits.device)[:, None] * mass[:, -1:]
    place = torch.searchsorted(mass, at, right=True).clamp_(max=mass.shape[1] - 1)
    return (place if ids is None else ids.gather(1, place)).squeeze(1)


def kept(logits: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor | None]:
    """Weights of the tokens that may be drawn, and their ids; None stands for all in order. Weight 0: not drawn."""
    scaled = logits / sampling.temperature
    if sampling.top_k or sampling.top_p < 1:
        weights, ids = _highest(scaled, sampling)
    else:
        weights, ids = torch.softmax(scaled, dim=-1), None
    if sampling.min_p > 0:
        weights = weights.where(weights >= sampling.min_p * weights.amax(dim=-1, keepdim=True), 0)
    return weights, ids


def _highest(scaled: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """top_k, then top_p among those: probabilities in falling order, 0 past the cut, and their ids."""
    vocabulary = scaled.shape[-1]
    width = min(sampling.top_k or NUCLEUS, vocabulary)
    values, ids = scaled.topk(width, dim=-1)
    total = (values if sampling.top_k else scaled).logsumexp(dim=-1, keepdim=True)
    if not sampling.top_k and bool(((values - total).exp().sum(dim=-1) < sampling.top_p).any()):
        values, ids = scaled.sort(dim=-1, descending=True)
    weights = (values - total).exp()
    if sampling.top_p < 1:
        before = weights.cumsum(dim=-1, dtype=torch.float64) - weights
        weights = weights.where(before < sampling.top_p, 0)
    return weights, ids
