"""What a model does on the rows, a layer at a time: as observe.py says, without the whole model in memory.

Every word of an answer is one walk over all layers, so answers are short here, and only the first of two observations
writes its own. The second follows them, in the walk of all other rows: what it would have written is the same up to the
first token that it likes better, which is all that a receipt asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from pacos.export.observe import TOPS, Likely, Observed, Rows, every, kept_probes, targets_of
from pacos.export.stream import LayerStream
from pacos.prompts import Rendered

ANSWER_TOKENS = 8
MOST_TOKENS = 1 << 14
"""Of probes and held-out rows: their states are kept, 16 kB each for a model of 7 G weights."""


def observe_streamed(stream: LayerStream, rows: Rows, like: Observed | None = None) -> Observed:
    """Walk the rows through the layers. `like`: the observation whose answers are followed; none: they are written."""
    rows = shortened(rows)
    texts = list(every(rows))
    drafts = [None] * len(rows.prompts) if like is None else [ids for ids, _ in like.answers]
    rooms = [min(ANSWER_TOKENS, stream.max_length - len(prompt)) for prompt in rows.prompts]
    answers = [Written(*each) for each in zip(rows.prompts, rooms, drafts, strict=True)]
    states = stream.states(texts + [answer.text for answer in answers])
    found = reduced(stream, states[: len(texts)], rows)
    ends = [s[-len(a.draft or ()) - 1 :] for s, a in zip(states[len(texts) :], answers, strict=True)]
    for answer, tops in zip(answers, tops_of(stream, ends), strict=True):
        answer.add(tops, rows.stop_ids)
    while open_answers := [answer for answer in answers if not answer.done]:
        states = stream.states([answer.text for answer in open_answers])
        for answer, tops in zip(open_answers, tops_of(stream, [s[-1:] for s in states]), strict=True):
            answer.add(tops, rows.stop_ids)
    return replace(found, answers=[(tuple(a.ids), a.stop) for a in answers], tops=[a.tops for a in answers])


def shortened(rows: Rows) -> Rows:
    """The rows without the last ones held out, where all together are too many tokens."""
    left, kept = MOST_TOKENS - sum(map(len, rows.probes)), 0
    for row in rows.held_out:
        left -= len(row.ids)
        if left < 0:
            break
        kept += 1
    return Rows(rows.probes, rows.held_out[:kept], rows.prompts, rows.stop_ids)


@dataclass
class Written:
    """An answer of at most `room` tokens while it is written; with a `draft` it ends where it is another."""

    prompt: Sequence[int]
    room: int
    draft: Sequence[int] | None = None
    ids: list[int] = field(default_factory=list)
    tops: list[Likely] = field(default_factory=list)
    stop: int | None = None
    done: bool = False

    @property
    def text(self) -> list[int]:
        return [*self.prompt, *self.ids, *(self.draft or ())]

    def add(self, tops: Sequence[Likely], stop_ids: Sequence[int]) -> None:
        """Take what is likeliest behind the prompt and behind each token of the draft."""
        draft = self.draft or ()
        for at, top in enumerate(tops):
            id = top[0][0]
            self.tops.append(top)
            if id in stop_ids:
                self.stop, self.done = id, True
            else:
                self.ids.append(id)
                self.done = len(self.ids) == self.room
            if self.done or at == len(draft) or draft[at] != id:
                break
        self.done = self.done or self.draft is not None


def tops_of(stream: LayerStream, states: Sequence[Tensor]) -> list[list[Likely]]:
    """The likeliest tokens behind each position of each of `states` (T, C), with their logits."""
    best = [_Best(len(each), TOPS) for each in states]
    for start, slices in stream.logits(states):
        for one, logits in zip(best, slices, strict=True):
            one.add(start, logits)
    return [one.pairs() for one in best]


def reduced(stream: LayerStream, states: Sequence[Tensor], rows: Rows) -> Observed:
    """What the head says of states (T, C) of probes and held-out rows, without the answers."""
    best = [_Best(len(each), 1) for each in states]
    losses = [_Loss(row) for row in rows.held_out]
    kept = {i: torch.empty(len(rows.probes[i]), stream.vocabulary) for i in kept_probes(rows, stream.vocabulary)}
    for start, slices in stream.logits(states):
        for one, logits in zip(best, slices, strict=True):
            one.add(start, logits)
        for i, whole in kept.items():
            whole[:, start : start + slices[i].shape[1]] = slices[i]
        for loss, logits in zip(losses, slices[len(rows.probes) :], strict=True):
            loss.add(start, logits)
    found = np.array([loss.nats_and_tokens() for loss in losses], dtype=float).reshape(-1, 2)
    return Observed(list(kept.values()), [one.ids[:, 0] for one in best], found, [])


class _Best:
    """The `count` likeliest tokens at each position, over the slices so far, in their order."""

    def __init__(self, length: int, count: int):
        self.count = count
        self.values = torch.empty(length, 0)
        self.ids = torch.empty(length, 0, dtype=torch.long)

    def add(self, start: int, logits: Tensor) -> None:
        """logits (T, v) of the tokens from `start` on."""
        values, ids = logits.topk(min(self.count, logits.shape[1]), dim=-1)
        both, own = torch.cat([self.values, values], dim=1), torch.cat([self.ids, ids + start], dim=1)
        self.values, order = both.topk(min(self.count, both.shape[1]), dim=-1)
        self.ids = own.gather(1, order)

    def pairs(self) -> list[Likely]:
        rows = zip(self.ids.tolist(), self.values.tolist(), strict=True)
        return [tuple(zip(ids, values, strict=True)) for ids, values in rows]


class _Loss:
    """Nats of the tokens of a row that carry loss, over the slices so far."""

    def __init__(self, row: Rendered):
        self.at, self.targets = targets_of(row)
        self.total = torch.full((len(self.at),), -torch.inf, dtype=torch.float64)
        self.picked = torch.zeros(len(self.at), dtype=torch.float64)

    def add(self, start: int, logits: Tensor) -> None:
        """logits (T, v) of the tokens from `start` on."""
        wide = logits[self.at].double()
        self.total = torch.logaddexp(self.total, wide.logsumexp(-1))
        here = (self.targets >= start) & (self.targets < start + wide.shape[1])
        self.picked[here] = wide[here, self.targets[here] - start]

    def nats_and_tokens(self) -> tuple[float, int]:
        return float((self.total - self.picked).sum()), len(self.at)
