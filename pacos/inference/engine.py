"""The engine: prompts in, answers out; rows in, scores out.

    generate    prompts --longest first--> free slots --prefill--> first token --step, step, ...--> stop or length
                a slot that falls free takes the next prompt at once (continuous batching)
    score       rows --first fit--> packs of 2,048 tokens --> hidden --head, at the targets only--> nats
    read        the same, at every token: its log-probability and the likeliest in its place (reading.py)

Ids only: text belongs to `prompts`. Greedy answers are those of transformers' `generate`, alone or in any batch. Rows of
a network that cannot pack them are written one after another (alone.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch

from pacos.errors import UsageError
from pacos.inference.alone import Alone
from pacos.inference.batch import Batch, Completion, Row
from pacos.inference.cache import KVCache
from pacos.inference.reading import Reading, read_together
from pacos.inference.sampling import Sampler, Sampling
from pacos.inference.stops import StopTexts
from pacos.models.binpack import best_fit
from pacos.models.kernels.cross_entropy import token_nll
from pacos.models.network import Network
from pacos.models.packs import PACK_TOKENS, build_pack
from pacos.models.switch import BASE, Switch

if TYPE_CHECKING:
    from pacos.prompts import Rendered

Adapters = str | Sequence[str | None] | None
"""The name of an adapter, or one for each prompt; None is the base."""
OnToken = Callable[[int, int], None]
"""Called with the index of a prompt and a token of its answer, as it is written."""
OnDone = Callable[[int, Completion], None]
"""Called with the index of a prompt and its answer, when that is done."""
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Score:
    """Negative log-likelihood of a row in nats, summed over the `tokens` that carry loss."""

    nll: float
    tokens: int


class Engine:
    """Answers and scores by one network. Keeps its cache from call to call, so memory is flat over many prompts.

    An answer ends at any of `stop_ids`. A row is at most `max_length` tokens, the model's own limit where not given; an
    answer that gets there ends with finish_reason "length", and a prompt that leaves no room for one is a UsageError.
    Where `switch` holds several adapters on the network, `adapter` names that of each prompt or row; None is the base.
    """

    def __init__(
        self,
        network: Network,
        stop_ids: Sequence[int],
        *,
        slots: int = 32,
        max_length: int | None = None,
        switch: Switch | None = None,
    ):
        own = network.max_length
        self.network, self.stop_ids, self.slots, self.switch = network, frozenset(stop_ids), slots, switch
        self.max_length = own if max_length is None else min(max_length, own)
        self._cache: KVCache | None = None

    @property
    def cache_bytes(self) -> int:
        return 0 if self._cache is None else self._cache.nbytes

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling | Sequence[Sampling],
        *,
        adapter: Adapters = None,
        stops: StopTexts | None = None,
        on_token: OnToken | None = None,
        on_done: OnDone | None = None,
    ) -> list[Completion]:
        """An answer to each prompt, in their order. `sampling` and `adapter` are one for all or one for each.
        An answer also ends at any text of `stops`.

        Raises UsageError that names every prompt that is empty or leaves no room for an answer, or an adapter that is not
        loaded.
        """
        completions: dict[int, Completion] = {}
        for row in self._write(self._rows(prompts, sampling, adapter, stops)):
            if on_token is not None and row.stop_id is None:
                on_token(row.index, row.ids[-1])
            if row.done:
                completions[row.index] = row.completion()
                if on_done is not None:
                    on_done(row.index, completions[row.index])
        return [completions[i] for i in range(len(prompts))]

    def stream(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        adapter: str | None = None,
        stops: StopTexts | None = None,
    ) -> Generator[int, None, None]:
        """The ids of one answer as they are written, without the stop token. Raises UsageError as `generate`."""
        rows = self._rows([prompt], sampling, adapter, stops)
        return (row.ids[-1] for row in self._write(rows) if row.stop_id is None)

    @torch.inference_mode()
    def score(self, rows: Sequence[Rendered], *, adapter: str | None = None) -> list[Score]:
        """The loss of each row on the tokens that its mask names; a row's first token is predicted by nothing.

        Raises UsageError that names every row that is longer than the model reads, or an adapter that is not loaded.
        """
        self._refuse("row", {i: len(row.ids) for i, row in enumerate(rows) if len(row.ids) > self.max_length})
        return self._in_packs(rows, [len(row.ids) for row in rows], adapter, self._score)

    @torch.inference_mode()
    def read(self, rows: Sequence[Sequence[int]], *, top: int = 0, adapter: str | None = None) -> list[Reading]:
        """The log-probability of every id behind the first of each row, and the `top` likeliest at every place.

        Raises UsageError that names every row that is empty or longer than the model reads, or an adapter that is not
        loaded.
        """
        self._refuse("row", {i: len(row) for i, row in enumerate(rows) if not 0 < len(row) <= self.max_length})
        return self._in_packs(rows, [*map(len, rows)], adapter, lambda some: read_together(self.network, some, top))

    def _in_packs(
        self,
        rows: Sequence[Item],
        lengths: Sequence[int],
        adapter: str | None,
        work: Callable[[Sequence[Item]], Sequence[Result]],
    ) -> list[Result]:
        """What `work` makes of the rows, a pack of them at a time, in the order of the rows."""
        owner = self._numbers(adapter, 1)
        found: dict[int, Result] = {}
        with evaluating(self.network), nullcontext() if self.switch is None else self.switch.rows(owner):
            for pack in best_fit(lengths, PACK_TOKENS):
                found.update(zip(pack, work([rows[i] for i in pack]), strict=True))
        return [found[i] for i in range(len(rows))]

    def _score(self, rows: Sequence[Rendered]) -> list[Score]:
        """One forward pass over a pack; the head only where a target is predicted."""
        device = self.network.device
        pack = build_pack(rows)
        nll = token_nll(
            pack.hidden(self.network), self.network.head.weight, pack.targets.to(device), self.network.softcap
        )
        pieces = nll.double().cpu().split(list(pack.counts))
        return [Score(float(piece.sum()), len(piece)) for piece in pieces]

    def _numbers(self, adapter: Adapters, count: int) -> list[int]:
        """The number of each one's adapter."""
        names = [adapter] * count if adapter is None or isinstance(adapter, str) else list(adapter)
        assert len(names) == count, f"{len(names)} adapters for {count} prompts"
        if self.switch is not None:
            return [self.switch.number(name) for name in names]
        for name in names:
            if name is not None:
                raise UsageError(f"adapter '{name}' is not loaded; this engine has one model alone")
        return [BASE] * count

    def _rows(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling | Sequence[Sampling],
        adapter: Adapters,
        stops: StopTexts | None,
    ) -> list[Row]:
        """A row for each prompt, longest first, so that the most memory is asked for at the start."""
        each = [sampling] * len(prompts) if isinstance(sampling, Sampling) else list(sampling)
        assert len(each) == len(prompts), f"{len(each)} samplings for {len(prompts)} prompts"
        self._refuse("prompt", {i: len(p) for i, p in enumerate(prompts) if not 0 < len(p) < self.max_length})
        owners = self._numbers(adapter, len(prompts))
        copies: Counter[tuple[tuple[int, ...], int, int]] = Counter()
        rows = []
        for i, (prompt, options, owner) in enumerate(zip(prompts, each, owners, strict=True)):
            name = (tuple(prompt), options.seed, owner)
            room = min(options.max_new_tokens, self.max_length - len(prompt))
            rows.append(
                Row(
                    i,
                    prompt,
                    room,
                    Sampler(options, prompt, copies[name]),
                    owner,
                    watch=None if stops is None else stops.watch(),
                )
            )
            copies[name] += 1
        return sorted(rows, key=lambda row: -len(row.prompt))

    def _refuse(self, what: str, lengths: dict[int, int]) -> None:
        if not lengths:
            return
        found = [f"{what} {i} has {n} tokens" for i, n in lengths.items()]
        limit = f"at least 1 and fewer than {self.max_length}" if what == "prompt" else f"1 to {self.max_length}"
        raise UsageError("\n".join([*found, f"this model takes {limit}; shorten the text"]))

    def _write(self, waiting: list[Row]) -> Iterator[Row]:
        """Every row once for each token written, until all are done."""
        if not waiting:
            return
        if not self.network.decodes:
            yield from self._write_with(Alone(self.network, self.stop_ids, self.switch), waiting)
            return
        longest = max(len(row.prompt) for row in waiting)
        cache, self._cache = self._room(min(self.slots, len(waiting)), longest), None
        try:
            batch = Batch(self.network, cache, self.stop_ids, self.max_length, self.switch)
            yield from self._write_with(batch, waiting)
        finally:
            self._cache = cache

    def _write_with(self, batch: Batch | Alone, waiting: list[Row]) -> Iterator[Row]:
        waiting = waiting[::-1]
        while waiting or batch.num_active:
            rows = [waiting.pop() for _ in range(min(batch.num_free, len(waiting)))]
            with evaluating(self.network):
                if rows:
                    batch.admit(rows)
                else:
                    rows = batch.step()
            yield from rows

    def _room(self, slots: int, length: int) -> KVCache:
        """The cache of the last call where it has slots enough, else a new one."""
        if self._cache is not None and self._cache.slots >= slots:
            return self._cache
        return KVCache(slots, length + 1, dtype=self.network.dtype, device=self.network.device)


@contextmanager
def evaluating(network: Network) -> Iterator[None]:
    """Dropout off for as long as the block lasts, also while the model is being trained."""
    training = network.model.training
    if training:
        network.model.eval()
    try:
        yield
    finally:
        if training:
            network.model.train()
