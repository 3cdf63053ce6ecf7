"""The rows that are being written, side by side: `admit` new ones at any time, `step` writes one token of each.

A row that ends frees its slot at once. The next prompt takes it; where none waits, the last row moves into the gap, so
the rows of a step always lie in the first slots of the cache.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal

import torch

from pacos.inference.cache import Decode, KVCache, Prefill
from pacos.inference.sampling import Likely, Sampler, choose
from pacos.inference.stops import Watch
from pacos.models.binpack import best_fit
from pacos.models.kernels.decode import decoder_of
from pacos.models.network import Network
from pacos.models.packs import PACK_TOKENS, share
from pacos.models.switch import BASE, Switch

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Completion:
    """An answer. `ids` are without the stop token, which is `stop_id` where there was one; one that
    a text ended (stops.py) is with that text's ids.

    `seconds` is this row's share of the steps that wrote the tokens behind the first, `prompt_seconds` its share of the
    pass that read the prompt and wrote the first: the shares of all rows sum to the time that passed.
    `logprobs` (nats): of `ids`, and of the stop token behind them, under the model before temperature and cuts;
    `top_logprobs`: the likeliest tokens in the place of each, where `Sampling.top_logprobs` asks for them.
    """

    ids: tuple[int, ...]
    finish_reason: FinishReason
    seconds: float
    prompt_seconds: float
    logprobs: tuple[float, ...]
    stop_id: int | None = None
    stop_text: str | None = None
    top_logprobs: tuple[Likely, ...] = ()

    @property
    def generated_tokens(self) -> int:
        """With the stop token; a text that ends an answer has none behind it."""
        return len(self.ids) + (self.stop_id is not None)


@dataclass
class Row:
    """A prompt and what has been written behind it, at most `room` tokens, with the adapter numbered `owner`."""

    index: int
    prompt: Sequence[int]
    room: int
    sampler: Sampler
    owner: int = BASE
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top_logprobs: list[Likely] = field(default_factory=list)
    seconds: float = 0.0
    prompt_seconds: float = 0.0
    stop_id: int | None = None
    stop_text: str | None = None
    watch: Watch | None = None

    @property
    def written(self) -> int:
        """Positions in the cache: the prompt, and all tokens but the newest, which is still to be read."""
        return len(self.prompt) + len(self.ids) - 1

    @property
    def done(self) -> bool:
        return self.stopped or len(self.ids) >= self.room

    @property
    def stopped(self) -> bool:
        return self.stop_id is not None or self.stop_text is not None

    def take(self, token: int, logprob: float, likely: Likely, stop_ids: frozenset[int]) -> None:
        self.logprobs.append(logprob)
        if likely:
            self.top_logprobs.append(likely)
        if token in stop_ids:
            self.stop_id = token
        else:
            self.ids.append(token)
            self.stop_text = self.watch(token) if self.watch else None

    def completion(self) -> Completion:
        reason: FinishReason = "stop" if self.stopped else "length"
        return Completion(
            tuple(self.ids),
            reason,
            self.seconds,
            self.prompt_seconds,
            tuple(self.logprobs),
            self.stop_id,
            self.stop_text,
            tuple(self.top_logprobs),
        )


class Batch:
    """Up to `cache.slots` rows of one network. A step is one call of C where the network is known to it (decode.c)."""

    def __init__(
        self, network: Network, cache: KVCache, stop_ids: frozenset[int], max_length: int, switch: Switch | None = None
    ):
        self.network, self.cache, self.stop_ids, self.max_length = network, cache, stop_ids, max_length
        self.switch = switch
        self._decoder = decoder_of(network)
        self._rows: list[Row | None] = []

    @property
    def num_active(self) -> int:
        return sum(row is not None for row in self._rows)

    @property
    def num_free(self) -> int:
        return self.cache.slots - self.num_active

    def admit(self, rows: Sequence[Row]) -> None:
        """Read the prompts of new rows and write the first token of each. At most `num_free` of them."""
        assert len(rows) <= self.num_free
        self.cache.reserve(max((len(row.prompt) for row in rows), default=0), self.max_length)
        slots = [self._place(row) for row in rows]
        for owner in dict.fromkeys(row.owner for row in rows):  # what a prefix is read as depends on the adapter
            own = [i for i, row in enumerate(rows) if row.owner == owner]
            for pack in best_fit([len(rows[i].prompt) for i in own], PACK_TOKENS):
                self._prefill([rows[own[i]] for i in pack], [slots[own[i]] for i in pack])

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Write the next token of every row; returns the rows written."""
        self._close_gaps()
        rows = [row for row in self._rows if row is not None]
        if not rows:
            return []
        began = time.perf_counter()
        lengths = [row.written for row in rows]
        self.cache.reserve(max(lengths) + 1, self.max_length)
        share = self._take(rows, self._logits(rows, lengths), began)
        for row in rows:
            row.seconds += share
        return rows

    def _logits(self, rows: Sequence[Row], lengths: Sequence[int]) -> torch.Tensor:
        """The logits (N, V) behind the newest token of each row."""
        newest, owners = [row.ids[-1] for row in rows], [row.owner for row in rows]
        if self._decoder is not None:
            return self._decoder.logits(newest, lengths, owners, self.cache)
        ids = torch.tensor(newest, device=self.network.device)[:, None]
        positions = torch.tensor(lengths, device=self.network.device)[:, None]
        with self._switched(owners):
            hidden = self.network.hidden(ids, positions, Decode(self.cache, lengths))
        return self.network.logits(hidden[:, 0])

    def _switched(self, owners: Sequence[int]) -> AbstractContextManager[None]:
        return nullcontext() if self.switch is None else self.switch.rows(owners)

    @torch.inference_mode()
    def _prefill(self, rows: Sequence[Row], slots: Sequence[int]) -> None:
        """One forward pass over several prompts; logits for the last token of each only."""
        began = time.perf_counter()
        prompts = [row.prompt for row in rows]
        trie = share(prompts)
        ends = [trie.ends[i] for i in range(len(rows))]
        layout = Prefill(trie.lengths, trie.parents, cache=self.cache, slots=slots, ends=ends)
        device = self.network.device
        ids = torch.tensor([trie.ids], device=device)
        with self._switched([rows[0].owner]):
            hidden = self.network.hidden(ids, layout.positions()[None].to(device), layout)
        last = [layout.runs[end][1] - 1 for end in ends]
        seconds = self._take(rows, self.network.logits(hidden[0, last]), began)
        for row in rows:
            row.prompt_seconds = seconds

    def _take(self, rows: Sequence[Row], logits: torch.Tensor, began: float) -> float:
        """Choose each row's token, free the slots of those that ended; each row's share of the seconds since `began`."""
        chosen = choose(logits, [row.sampler for row in rows])
        share = (time.perf_counter() - began) / len(rows)
        for row, token, logprob, likely in zip(rows, *chosen, strict=True):
            row.take(token, logprob, likely, self.stop_ids)
        self._rows = [None if row is None or row.done else row for row in self._rows]
        return share

    def _place(self, row: Row) -> int:
        """A slot for a row: the first gap, else the next one."""
        if None not in self._rows:
            self._rows.append(row)
            return len(self._rows) - 1
        slot = self._rows.index(None)
        self._rows[slot] = row
        return slot

    def _close_gaps(self) -> None:
        """Move the last rows into the gaps that ended rows left."""
        while None in self._rows:
            last = self._rows.pop()
            if last is not None:
                gap = self._rows.index(None)
                self.cache.move(len(self._rows), gap, last.written)
                self._rows[gap] = last
