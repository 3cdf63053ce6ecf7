"""Causal attention of many short rows, each to itself and to what it continues, in a few batched products.

    spans, queries x keys           bucket: spans of like size, padded to the longest
    [ a: 0..7 x 0..7  ]             Q (n, K, G t, D)   K, V (n, K, s, D)
    [ b: 0..6 x 0..6  ]   ------->  softmax(Q K^T) V by two batched products and one pass between them
    [ c: 8..9 x 0..9  ]             the G queries that share a key head are rows of one product

A span is a run of queries and the keys that it may see: those of its ancestors, then its own. Long rows are several spans,
so scores take room for BLOCK queries at a time and keys that lie in the future are not computed. The backward pass keeps
nothing but its inputs and computes the weights again (as in FlashAttention, Dao et al. 2022, arXiv:2205.14135).

Shapes: H query heads, K key heads, G = H // K, T tokens, D head size; a bucket of n spans has t queries and s keys at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pacos.models.kernels import native

BLOCK = 256
"""Queries of a long row computed at once."""
ROOM = 16 << 20
"""Scores of a bucket, at most, in numbers."""
ALIKE = 0.8
"""Spans share a bucket where the smaller takes at least this share of the larger."""

Run = tuple[int, int]
"""Tokens [start, stop) of a pack."""


@dataclass(frozen=True)
class Span:
    """Queries of one row, and the runs of keys they see: the last run ends with the queries themselves.

    `window`: how many keys a query sees at most, itself among them (0: all).
    """

    queries: Run
    keys: tuple[Run, ...]
    window: int = 0

    @property
    def num_queries(self) -> int:
        return self.queries[1] - self.queries[0]

    @property
    def num_keys(self) -> int:
        return sum(stop - start for start, stop in self.keys)

    def seen(self) -> tuple[list[int], list[int]]:
        """The keys [first, last) that each query sees, counted over the runs."""
        last = list(range(self.num_keys - self.num_queries + 1, self.num_keys + 1))
        return [max(0, stop - self.window) if self.window else 0 for stop in last], last


@dataclass(frozen=True)
class Bucket:
    """Spans of like size; `first`, `last` (n, t): the keys that each query sees."""

    spans: Sequence[Span]
    first: Tensor
    last: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """n spans, t queries, s keys."""
        return len(self.spans), self.first.shape[1], max(span.num_keys for span in self.spans)


def buckets_of(spans: Sequence[Span], heads: int) -> list[Bucket]:
    """All spans, in buckets whose scores for `heads` heads keep to ROOM."""
    groups: list[list[Span]] = []
    for span in sorted(spans, key=lambda span: (-span.num_keys, -span.num_queries, span.queries)):
        if not groups or not _joins(groups[-1], span, heads):
            groups.append([])
        groups[-1].append(span)
    return [_bucket(group) for group in groups]


def _joins(group: Sequence[Span], span: Span, heads: int) -> bool:
    queries, keys = max(s.num_queries for s in group), group[0].num_keys
    alike = span.num_keys >= ALIKE * keys and ALIKE * queries <= span.num_queries <= queries / ALIKE
    return alike and (len(group) + 1) * heads * max(queries, span.num_queries) * keys <= ROOM


def _bucket(spans: list[Span]) -> Bucket:
    """A padded query sees the first key alone; nothing comes of it."""
    most = max(span.num_queries for span in spans)
    first = torch.zeros(len(spans), most, dtype=torch.int32)
    last = torch.ones(len(spans), most, dtype=torch.int32)
    for i, span in enumerate(spans):
        from_, to = span.seen()
        first[i, : len(from_)], last[i, : len(to)] = torch.tensor(from_), torch.tensor(to)
    return Bucket(spans, first, last)


def attend_spans(
    query: Tensor, key: Tensor, value: Tensor, buckets: Sequence[Bucket], scaling: float, softcap: float | None = None
) -> Tensor:
    """query (T, H, D), key and value (T, K, D) -> (T, H, D); every query must be in one of the buckets."""
    return _Attention.apply(query, key, value, buckets, scaling, softcap)


def reference_attention(
    query: Tensor, key: Tensor, value: Tensor, seen: Tensor, scaling: float, softcap: float | None = None
) -> Tensor:
    """The same by one masked product in fp32; `seen` (T, T) is true where a query sees a key."""
    repeats = query.shape[1] // key.shape[1]
    keys, values = (x.float().repeat_interleave(repeats, dim=1) for x in (key, value))
    scores = torch.einsum("thd,shd->hts", query.float(), keys) * scaling
    scores = scores if softcap is None else torch.tanh(scores / softcap) * softcap
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return torch.einsum("hts,shd->thd", weights, values).to(query.dtype)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, buckets: Any, scaling: float, softcap: Any
    ) -> Tensor:
        out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        for bucket in buckets:
            q, k, v = _queries(query, bucket, key.shape[1]), _keys(key, bucket), _keys(value, bucket)
            weights, _ = _weights(q, k, bucket, scaling, softcap)
            _put_queries(out, torch.bmm(weights, v), bucket)
        ctx.save_for_backward(query, key, value)
        ctx.rest = buckets, scaling, softcap
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        buckets, scaling, softcap = ctx.rest
        dquery = torch.empty_like(query, memory_format=torch.contiguous_format)
        dkey, dvalue = (torch.zeros_like(x, memory_format=torch.contiguous_format) for x in (key, value))
        for bucket in buckets:
            q, k, v = _queries(query, bucket, key.shape[1]), _keys(key, bucket), _keys(value, bucket)
            dout = _queries(upstream[0], bucket, key.shape[1])
            weights, slope = _weights(q, k, bucket, scaling, softcap)
            _add_keys(dvalue, torch.bmm(weights.transpose(1, 2), dout), bucket)
            dscores = _softmax_backward(weights, torch.bmm(dout, v.transpose(1, 2)))
            dscores = dscores if slope is None else dscores.mul_(slope)
            _put_queries(dquery, torch.bmm(dscores, k).mul_(scaling), bucket)
            _add_keys(dkey, torch.bmm(dscores.transpose(1, 2), q).mul_(scaling), bucket)
        return dquery, dkey, dvalue, None, None, None


def _queries(x: Tensor, bucket: Bucket, kv: int) -> Tensor:
    """x (T, H, D) -> (n K, G t, D), zeros where a span has fewer than t."""
    n, t, _ = bucket.shape
    heads, size = x.shape[1:]
    out = x.new_empty(n, kv, heads // kv, t, size)
    for place, span in zip(out, bucket.spans, strict=True):
        own = span.num_queries
        place[:, :, :own] = x[slice(*span.queries)].view(own, kv, -1, size).permute(1, 2, 0, 3)
        place[:, :, own:] = 0
    return out.view(n * kv, -1, size)


def _put_queries(x: Tensor, rows: Tensor, bucket: Bucket) -> None:
    """The inverse of `_queries`, into x (T, H, D)."""
    n, t, _ = bucket.shape
    rows = rows.view(n, -1, t, x.shape[2])
    for row, span in zip(rows, bucket.spans, strict=True):
        x[slice(*span.queries)] = row[:, : span.num_queries].transpose(0, 1)


def _keys(x: Tensor, bucket: Bucket) -> Tensor:
    """x (T, K, D) -> (n K, s, D), the runs of a span end to end, zeros behind them."""
    n, _, s = bucket.shape
    heads, size = x.shape[1:]
    out = x.new_empty(n, heads, s, size)
    for place, span in zip(out, bucket.spans, strict=True):
        for at, run in _placed(span):
            place[:, at] = x[slice(*run)].transpose(0, 1)
        place[:, span.num_keys :] = 0
    return out.view(n * heads, s, size)


def _add_keys(x: Tensor, rows: Tensor, bucket: Bucket) -> None:
    """The transpose of `_keys`: what several spans see gets the sum, in x (T, K, D)."""
    n, _, s = bucket.shape
    rows = rows.view(n, -1, s, x.shape[2])
    for row, span in zip(rows, bucket.spans, strict=True):
        for at, run in _placed(span):
            x[slice(*run)] += row[:, at].transpose(0, 1)


def _placed(span: Span) -> Iterator[tuple[slice, Run]]:
    """Each run of keys, and its place among all of them."""
    at = 0
    for start, stop in span.keys:
        yield slice(at, at + stop - start), (start, stop)
        at += stop - start


def _weights(
    q: Tensor, k: Tensor, bucket: Bucket, scaling: float, softcap: float | None
) -> tuple[Tensor, Tensor | None]:
    """softmax(cap(q k^T scaling)) over the seen keys, (n K, G t, s); and the slope of the cap where there is one."""
    scores = torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=scaling)
    slope = None
    if softcap is not None:
        capped = torch.tanh(scores.float() / softcap)
        scores, slope = (capped * softcap).to(scores.dtype), 1 - capped.square()
    n, t, s = bucket.shape
    repeats = scores.numel() // (n * t * s)
    if native.fits(scores):
        native.call("softmax_spans", scores, bucket.first, bucket.last, n, repeats, t, s, native.wide(scores))
        return scores, slope
    places = torch.arange(s, device=scores.device)
    first, last = (x.to(scores.device)[:, None, :, None] for x in (bucket.first, bucket.last))
    hidden = (places < first) | (places >= last)
    masked = scores.view(n, repeats, t, s).masked_fill(hidden, -torch.inf)
    return torch.softmax(masked, dim=-1, dtype=torch.float32).to(scores.dtype).view_as(scores), slope


def _softmax_backward(weights: Tensor, grad: Tensor) -> Tensor:
    """weights * (grad - sum(weights * grad)), in place where the kernel takes it."""
    if native.fits(weights, grad):
        rows = weights.numel() // weights.shape[-1]
        native.call("softmax_backward", weights, grad, rows, weights.shape[-1], native.wide(weights))
        return grad
    wide = grad.float() * weights
    return (wide - weights * wide.sum(-1, keepdim=True)).to(grad.dtype)
