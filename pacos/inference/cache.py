"""Keys and values of the rows that are being written, and the two ways a model attends to them.

    slot 0   k k k k k k . . .      one tensor (slots, K, length, D) a layer and kind; `.` is room, not yet written
    slot 1   k k k . . . . . .      Prefill: prompts packed end to end, each row's keys also put into its slot
    slot 2   k k k k . . . . .      Decode: one token a slot, attending to what its own slot holds

Active slots are the first ones, so a step reads `cache[:rows]` as it lies: nothing is gathered, nothing is copied.

Shapes: N rows, H query heads, K key heads, G = H // K, T tokens, S positions seen, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pacos.models.attention import Packed

STEP = 64
"""Room is made in multiples of this many positions."""


class KVCache:
    """Room for `slots` rows of `length` positions; `reserve` makes more, a layer at a time.

    A layer's tensors are made when its first keys and values come: their heads and sizes are the family's business.
    """

    def __init__(self, slots: int, length: int, *, dtype: torch.dtype, device: torch.device):
        self.slots, self.length, self.dtype, self.device = slots, _rounded(length), dtype, device
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in (*self.keys.values(), *self.values.values()))

    def of_layer(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The tensors (slots, K, length, D) of a layer whose keys and values are like these, (..., K, T, D)."""
        for kept, like in ((self.keys, key), (self.values, value)):
            if layer not in kept:
                shape = (self.slots, like.shape[-3], self.length, like.shape[-1])
                # zeros, for what is masked out is still multiplied, and 0 * NaN is NaN
                kept[layer] = torch.zeros(shape, dtype=self.dtype, device=self.device)
        return self.keys[layer], self.values[layer]

    def reserve(self, length: int, limit: int) -> None:
        """Room for at least `length` positions a slot: half as much again each time, but no more than `limit`."""
        if length <= self.length:
            return
        self.length = max(_rounded(length), min(_rounded(self.length * 3 // 2), _rounded(limit)))
        for tensors in (self.keys, self.values):
            for layer, old in tensors.items():
                tensors[layer] = old.new_zeros(*old.shape[:2], self.length, old.shape[3])
                tensors[layer][:, :, : old.shape[2]] = old

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of one slot into another."""
        for tensor in (*self.keys.values(), *self.values.values()):
            tensor[target, :, :length] = tensor[source, :, :length]


def _rounded(length: int) -> int:
    return -(-length // STEP) * STEP


@dataclass
class Prefill(Packed):
    """A pack of prompts whose keys and values are kept: those of row i, which ends with segment `ends[i]`, in slot `slots[i]`."""

    cache: KVCache | None = None
    slots: Sequence[int] = ()
    ends: Sequence[int] = ()

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scaling: float,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:
        assert self.cache is not None
        for tensor, kept in zip((key[0], value[0]), self.cache.of_layer(layer, key, value), strict=True):
            for slot, end in zip(self.slots, self.ends, strict=True):
                row = torch.cat([tensor[:, slice(*self.runs[i])] for i in self.chain(end)], dim=1)
                kept[slot, :, : row.shape[1]] = row
        return super().attend(layer, query, key, value, scaling=scaling, window=window, softcap=softcap)


class Decode:
    """One token in each of the first N slots; row i has `lengths[i]` positions written before it."""

    def __init__(self, cache: KVCache, lengths: Sequence[int]):
        self.cache, self.lengths = cache, lengths
        self._spans: dict[int | None, tuple[int, int, Tensor | None]] = {}
        self._at = torch.tensor(lengths, device=cache.device)
        self._flat: dict[int, Tensor] = {}

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scaling: float,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:
        """query (N, H, 1, D), key and value (N, K, 1, D) -> (N, 1, H, D)."""
        num_rows, heads, _, size = query.shape
        kv = key.shape[1]
        all_keys, all_values = self.cache.of_layer(layer, key, value)
        start, end, mask = self._span(window, query.dtype)
        keys = self._written(all_keys, key)[:, start:end]
        values = self._written(all_values, value)[:, start:end]
        scores = torch.bmm((query * scaling).reshape(num_rows * kv, heads // kv, size), keys.transpose(1, 2))
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        if mask is not None:
            scores = (scores.view(num_rows, heads, -1) + mask).view_as(scores)
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype)
        return torch.bmm(weights, values).view(num_rows, 1, heads, value.shape[-1])

    def _written(self, kept: Tensor, new: Tensor) -> Tensor:
        """Put this step's keys or values in their place; the active slots as (N K, length, D), a view."""
        heads, size = new.shape[1], new.shape[-1]
        kept.view(-1, size).index_copy_(0, self._places(heads), new.reshape(-1, size).to(kept.dtype))
        return kept[: len(self.lengths)].flatten(0, 1)

    def _places(self, heads: int) -> Tensor:
        """Where the new token of each row and head lies among all positions of all slots, (N K,)."""
        if heads not in self._flat:
            head = torch.arange(len(self.lengths) * heads, device=self.cache.device).view(-1, heads)
            self._flat[heads] = (head * self.cache.length + self._at[:, None]).flatten()
        return self._flat[heads]

    def _span(self, window: int | None, dtype: torch.dtype) -> tuple[int, int, Tensor | None]:
        """Positions [start, end) that some row sees; additive mask (N, 1, S) where not all rows see all of them."""
        if window not in self._spans:
            end = max(self.lengths) + 1
            start = 0 if window is None else max(0, min(self.lengths) + 1 - window)
            self._spans[window] = (start, end, self._mask(start, end, window, dtype))
        return self._spans[window]

    def _mask(self, start: int, end: int, window: int | None, dtype: torch.dtype) -> Tensor | None:
        if min(self.lengths) == max(self.lengths):
            return None
        at = torch.arange(start, end, device=self._at.device)
        hidden = at > self._at[:, None]
        if window is not None:
            hidden |= at <= self._at[:, None] - window
        return torch.zeros(hidden.shape, dtype=dtype, device=at.device).masked_fill_(hidden, -torch.inf)[:, None]
