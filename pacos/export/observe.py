"""What a model does on a fixed set of rows: logits, likeliest tokens, losses and greedy answers.

    rows     the contract's probe conversations with their answers, and rows that were held out of training
    observe  logits at every position of the probes, the likeliest token everywhere, nats on the held-out answers,
             and greedy answers to some prompts

Two such observations of one set of rows make a receipt (receipts.py). Ids only: text is never compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pacos.data import load_examples
from pacos.inference import Engine, Sampling
from pacos.models.attention import Packed
from pacos.models.network import Network
from pacos.prompts import Rendered, Renderer

ROWS, ANSWERS, ANSWER_TOKENS = 32, 8, 32
Answer = tuple[tuple[int, ...], int | None]
"""Ids, and the stop token that ended them; None where the answer ran to its limit."""
Likely = tuple[tuple[int, float], ...]
"""Tokens and their log-probabilities in nats, but for a constant; the likeliest first."""
TOPS = 20
"""Likeliest tokens that are kept at each token of an answer."""
LARGEST = 1 << 28
"""Logits that are kept at once: 1 GiB of them."""


@dataclass(frozen=True)
class Rows:
    """`probes` are compared by logits, `held_out` by loss; `prompts` get an answer each."""

    probes: tuple[tuple[int, ...], ...]
    held_out: tuple[Rendered, ...]
    prompts: tuple[tuple[int, ...], ...]
    stop_ids: tuple[int, ...]


@dataclass(frozen=True)
class Observed:
    """`logits` (T, V) of each probe; `likeliest` (T,) of each probe and held-out row; `losses` (N, 2): nats, tokens.

    `tops`: of each answer, the likeliest tokens in the place of each token written, its stop among them.
    """

    logits: list[Tensor]
    likeliest: list[Tensor]
    losses: np.ndarray
    answers: list[Answer]
    tops: list[list[Likely]] = field(default_factory=list)


def rows_of(contract: Mapping[str, Any], renderer: Renderer, held_out: Path | None, max_length: int) -> Rows:
    """The rows of a contract and of a file; those longer than the model reads are left out."""
    probes = [tuple(probe["ids"]) for probe in contract["probes"] if len(probe["ids"]) <= max_length]
    examples = load_examples(held_out).examples[:ROWS] if held_out else []
    fits = [(e, r) for e, r in zip(examples, renderer.render_examples(examples), strict=True)]
    fits = [(e, r) for e, r in fits if len(r.ids) <= max_length]
    if fits:
        prompts = renderer.render_prompts([e for e, _ in fits[:ANSWERS]])
    else:
        prompts = [tuple(probe["prompt_ids"]) for probe in contract["probes"][:ANSWERS]]
    room = [prompt for prompt in prompts if len(prompt) < max_length]
    return Rows(tuple(probes), tuple(r for _, r in fits), tuple(room), renderer.stop_ids)


def observe(network: Network, rows: Rows) -> Observed:
    """Run the network over the rows."""
    engine = Engine(network, rows.stop_ids, slots=ANSWERS)
    done = engine.generate(rows.prompts, Sampling(max_new_tokens=ANSWER_TOKENS, top_logprobs=TOPS))
    answers = [(c.ids, c.stop_id) for c in done]
    return gather(rows, (logits_of(network, ids) for ids in every(rows)), answers, [list(c.top_logprobs) for c in done])


def every(rows: Rows) -> Iterator[tuple[int, ...]]:
    """The ids of each row, probes first."""
    yield from rows.probes
    yield from (row.ids for row in rows.held_out)


def gather(
    rows: Rows,
    logits: Iterator[Tensor],
    answers: Sequence[tuple[Sequence[int], int | None]],
    tops: Sequence[list[Likely]],
) -> Observed:
    """Put together what any engine gives: logits (T, V) of each row in order, its answers and their likeliest tokens."""
    kept: list[Tensor] = []
    likeliest: list[Tensor] = []
    losses = []
    for index, row in enumerate(logits):
        likeliest.append(row.argmax(-1))
        if index < len(rows.probes):
            if index in kept_probes(rows, row.shape[1]):
                kept.append(row)
        else:
            losses.append(_loss(row, rows.held_out[index - len(rows.probes)]))
    ends = [(tuple(ids), stop) for ids, stop in answers]
    return Observed(kept, likeliest, np.array(losses, dtype=float).reshape(-1, 2), ends, list(tops))


def kept_probes(rows: Rows, vocabulary: int) -> list[int]:
    """The probes whose logits are kept, all but those that would be too many."""
    kept, total = [], 0
    for index, ids in enumerate(rows.probes):
        if total + len(ids) * vocabulary <= LARGEST:
            kept.append(index)
            total += len(ids) * vocabulary
    return kept


def _loss(logits: Tensor, row: Rendered) -> tuple[float, int]:
    """Nats of the tokens that carry loss, and how many they are."""
    at, targets = targets_of(row)
    return float(torch.nn.functional.cross_entropy(logits[at].double(), targets, reduction="sum")), len(at)


def targets_of(row: Rendered) -> tuple[Tensor, Tensor]:
    """The positions behind which a token carries loss, and these tokens; a row's first is predicted by nothing."""
    at = [i for i, carries in enumerate(row.loss_mask) if carries and i > 0]
    return torch.tensor(at, dtype=torch.long) - 1, torch.tensor([row.ids[i] for i in at], dtype=torch.long)


@torch.no_grad()
def logits_of(network: Network, row: Sequence[int]) -> Tensor:
    """Logits at every position of one row, (T, V), in fp32 on the CPU."""
    network.model.eval()
    ids = torch.tensor([list(row)], device=network.device)
    layout = Packed([len(row)])
    hidden = network.hidden(ids, layout.positions().to(network.device)[None], layout)
    return network.logits(hidden[0]).float().cpu()
