"""Attention over packed rows: no padding, and no row sees another.

A pack is several rows end to end in one sequence, with the tokens that all of them begin with kept once, in front:

    [ prefix | row 0 | row 1 | row 2 ]        positions  0..P-1 | P.. | P.. | P..

Row i attends to the prefix and, causally, to itself. transformers' models reach this through their own extension point:
`ALL_ATTENTION_FUNCTIONS["pacos"]` gets the pack's layout as a keyword argument of the forward pass, so there is no model
code here, and every family that calls the attention interface (Llama, Phi-3, Mistral, Qwen2, Gemma 2, ...) is served.

Shapes: H query heads, K key heads, G = H // K queries a key head, T tokens, S keys seen, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

NAME = "pacos"


class Layout(Protocol):
    """Who sees whom. Handed to the model's forward pass as `layout=`; called once by each layer."""

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
        """query (B, H, T, D), key and value (B, K, T, D) -> (B, T, H, D)."""
        ...


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    layout: Layout,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What transformers' attention modules call. Returns the heads' outputs (B, T, H, D) and no weights."""
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    layer: int = module.layer_idx  # type: ignore[assignment]
    return layout.attend(layer, query, key, value, scaling=scale, window=sliding_window, softcap=softcap), None


def use_layouts(model: Any) -> None:
    """Make every layer of a transformers model attend through the `layout=` it is given."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attention)
    model.config._attn_implementation = NAME


@dataclass
class Packed:
    """Rows of `lengths` tokens behind a shared prefix of `prefix` tokens, in one sequence of batch size 1."""

    lengths: Sequence[int]
    prefix: int = 0
    _masks: dict[Any, Tensor] = field(default_factory=dict, repr=False)

    @property
    def num_tokens(self) -> int:
        return self.prefix + sum(self.lengths)

    def positions(self) -> Tensor:
        """Position of each token in its own row, (T,): rows restart behind the prefix."""
        rows = [torch.arange(self.prefix, self.prefix + n) for n in self.lengths]
        return torch.cat([torch.arange(self.prefix), *rows])

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
        if query.is_cuda and softcap is None:
            return self._attend_masked(query, key, value, scaling, window)
        rows = self._attend_rows(query[0] * scaling, key[0], value[0], window, softcap)
        return rows.transpose(0, 1).unsqueeze(0)

    def _attend_rows(
        self, query: Tensor, key: Tensor, value: Tensor, window: int | None, softcap: float | None
    ) -> Tensor:
        """Row by row, small products with an explicit softmax. Several times faster than a masked or fused kernel on a CPU."""
        p = self.prefix
        sizes = [p, *self.lengths] if p else list(self.lengths)
        queries, keys, values = (x.split(sizes, dim=1) for x in (query, key, value))
        rows = []
        for i, (q, k, v) in enumerate(zip(queries, keys, values, strict=True)):
            if p and i:
                k, v = torch.cat((keys[0], k), dim=1), torch.cat((values[0], v), dim=1)
            rows.append(attend_one(q, k, v, self._mask(q.shape[1], k.shape[1], window, q), softcap))
        return torch.cat(rows, dim=1)

    def _mask(self, queries: int, keys: int, window: int | None, like: Tensor) -> Tensor:
        """Additive causal mask (queries, keys) for the last `queries` of `keys` positions, made once a pack."""
        tight = window if window is not None and window < keys else None
        name = (queries, keys, tight)
        if name not in self._masks:
            at = torch.arange(keys - queries, keys, device=like.device)[:, None]
            seen = visible(at, torch.arange(keys, device=like.device)[None, :], tight)
            self._masks[name] = torch.zeros((queries, keys), dtype=like.dtype, device=like.device).masked_fill_(
                ~seen, -torch.inf
            )
        return self._masks[name]

    def _attend_masked(self, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None) -> Tensor:
        """The whole pack in one fused call under a block mask."""
        name = ("block", window)
        if name not in self._masks:
            self._masks[name] = self._block_mask(window).to(query.device)
        heads = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=self._masks[name], scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
        )
        return heads.transpose(1, 2)

    def _block_mask(self, window: int | None) -> Tensor:
        """(T, T), true where a token is seen."""
        row = torch.cat([torch.full((n,), i) for i, n in enumerate([self.prefix, *self.lengths])])
        at = self.positions()
        same = (row[:, None] == row[None, :]) | (row[None, :] == 0)
        return same & visible(at[:, None], at[None, :], window)


def visible(query_at: Tensor, key_at: Tensor, window: int | None) -> Tensor:
    """True where a key's position is seen from a query's: not later, and within the sliding window where there is one."""
    seen = key_at <= query_at
    return seen if window is None else seen & (key_at > query_at - window)


def attend_one(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, softcap: float | None) -> Tensor:
    """One row: scaled query (H, T, D), key and value (K, S, D), additive mask (T, S) -> (H, T, D).

    The G queries that share a key head are folded into the rows of one product, so keys are never repeated.
    """
    heads, tokens, size = query.shape
    kv, seen = key.shape[0], key.shape[1]
    scores = torch.matmul(query.reshape(kv, -1, size), key.transpose(1, 2))
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.view(kv, -1, tokens, seen) + mask
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    return torch.matmul(weights.view(kv, -1, seen), value).view(heads, tokens, size)
