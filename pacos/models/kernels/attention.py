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

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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
class Table:
    """Where runs of tokens lie among the rows of a batched product, `room` rows a span.

    `runs` (R, 5): first token, how many, span, first row, rows to spare behind it.
    """

    runs: Tensor
    spans: int
    room: int

    @classmethod
    def of(cls, spans: Sequence[Sequence[Run]]) -> Table:
        room = max(sum(stop - start for start, stop in runs) for runs in spans)
        lines = []
        for number, runs in enumerate(spans):
            at = 0
            for start, stop in runs:
                lines.append([start, stop - start, number, at, 0])
                at += stop - start
            lines[-1][4] = room - at
        return cls(torch.tensor(lines, dtype=torch.int64), len(spans), room)


@dataclass(frozen=True)
class Bucket:
    """n spans of like size, of t queries and s keys at most; `first`, `last` (n, t): the keys that each query sees."""

    queries: Table
    keys: Table
    first: Tensor
    last: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """n spans, t queries, s keys."""
        return self.queries.spans, self.queries.room, self.keys.room


@dataclass(frozen=True)
class Work:
    """The spans of one layer with `heads` query heads, laid out for either way to compute them, the larger first."""

    spans: Sequence[Span]
    heads: int

    @classmethod
    def of(cls, spans: Sequence[Span], heads: int) -> Work:
        order = sorted(spans, key=lambda span: (-span.num_keys, -span.num_queries, span.queries))
        return cls(order, heads)

    @cached_property
    def buckets(self) -> list[Bucket]:
        return buckets_of(self.spans, self.heads)

    @cached_property
    def tables(self) -> tuple[Tensor, Tensor]:
        """A line a span: first query, how many, first run, how many, keys, window; and a line a run: [start, stop)."""
        lines: list[list[int]] = []
        runs: list[Run] = []
        for span in self.spans:
            start = span.queries[0]
            lines.append([start, span.num_queries, len(runs), len(span.keys), span.num_keys, span.window])
            runs += span.keys
        return torch.tensor(lines, dtype=torch.int64), torch.tensor(runs, dtype=torch.int64)

    @cached_property
    def most_keys(self) -> int:
        return max(span.num_keys for span in self.spans)


def buckets_of(spans: Sequence[Span], heads: int) -> list[Bucket]:
    """All spans, which are in order of size, in buckets whose scores for `heads` heads keep to ROOM."""
    groups: list[list[Span]] = []
    for span in spans:
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
    return Bucket(Table.of([[span.queries] for span in spans]), Table.of([span.keys for span in spans]), first, last)


def attend_spans(
    query: Tensor, key: Tensor, value: Tensor, work: Work, scaling: float, softcap: float | None = None
) -> Tensor:
    """query (T, H, D), key and value (T, K, D) -> (T, H, D); every query must be in one of the spans."""
    if softcap is None and _takes(query, key, value):
        return _ByLanes.apply(query, key, value, work, scaling)
    return _Attention.apply(query, key, value, work.buckets, scaling, softcap)


def _takes(*tensors: Tensor) -> bool:
    """Whether spans.c computes it: bf16 on a processor that multiplies pairs of them."""
    one = tensors[0][:1].contiguous()
    return (
        one.dtype == torch.bfloat16
        and all(x.dtype == one.dtype and x.stride(2) == 1 for x in tensors)
        and native.fits(one)
        and native.says("attention_takes", one.shape[2])
    )


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


class _ByLanes(torch.autograd.Function):
    """All of it by spans.c, whose tasks are a span and a key head."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, work: Work, scaling: float) -> Tensor:
        out = query.new_empty(query.shape)
        native.call("attention_forward", query, key, value, out, *_sizes(query, key, value, work), scaling)
        ctx.save_for_backward(query, key, value)
        ctx.rest = work, scaling
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        work, scaling = ctx.rest
        dquery = query.new_empty(query.shape)
        dkey, dvalue = (x.new_zeros(x.shape, dtype=torch.float32) for x in (key, value))
        tensors = query, key, value, upstream[0].contiguous(), dquery, dkey, dvalue
        native.call("attention_backward", *tensors, *_sizes(query, key, value, work), scaling)
        return dquery, dkey.to(key.dtype), dvalue.to(value.dtype), None, None


def _sizes(query: Tensor, key: Tensor, value: Tensor, work: Work) -> tuple[Tensor | int, ...]:
    """Spans, runs and sizes as both kernels take them: the strides are those of a token and of a head."""
    (spans, runs), (heads, size), kv = work.tables, query.shape[1:], key.shape[1]
    strides = [step for x in (query, key, value) for step in x.stride()[:2]]
    return spans, len(spans), runs, work.most_keys, kv, heads // kv, size, *strides


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, buckets: Any, scaling: float, softcap: Any
    ) -> Tensor:
        out, heads = query.new_zeros(query.shape), key.shape[1]
        for bucket in buckets:
            q = _gather(query, bucket.queries, heads)
            k, v = (_gather(x, bucket.keys, heads) for x in (key, value))
            weights, _ = _weights(q, k, bucket, scaling, softcap)
            _scatter_add(out, torch.bmm(weights, v), bucket.queries)
        ctx.save_for_backward(query, key, value)
        ctx.rest = buckets, scaling, softcap
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        buckets, scaling, softcap = ctx.rest
        heads = key.shape[1]
        dquery, dkey, dvalue = (x.new_zeros(x.shape) for x in (query, key, value))
        for bucket in buckets:
            q, dout = (_gather(x, bucket.queries, heads) for x in (query, upstream[0]))
            k, v = (_gather(x, bucket.keys, heads) for x in (key, value))
            weights, slope = _weights(q, k, bucket, scaling, softcap)
            _scatter_add(dvalue, torch.bmm(weights.transpose(1, 2), dout), bucket.keys)
            dscores = _softmax_backward(weights, torch.bmm(dout, v.transpose(1, 2)))
            dscores = dscores if slope is None else dscores.mul_(slope)
            _scatter_add(dquery, torch.bmm(dscores, k), bucket.queries, scaling)
            _scatter_add(dkey, torch.bmm(dscores.transpose(1, 2), q), bucket.keys, scaling)
        return dquery, dkey, dvalue, None, None, None


def _gather(x: Tensor, table: Table, heads: int) -> Tensor:
    """x (T, H, D) -> (n K, G t, D), K = `heads`; the runs of a span end to end, zeros behind them."""
    n, room, runs = table.spans, table.room, table.runs
    rows = x.new_empty(n, x.shape[1], room, x.shape[2])
    if native.fits(rows) and x.stride(2) == 1:
        token, head = x.stride()[:2]
        native.call("gather_runs", x, rows, runs, len(runs), x.shape[1], room, x.shape[2], token, head, native.wide(x))
    else:
        for start, count, span, at, spare in runs.tolist():
            rows[span, :, at : at + count] = x[start : start + count].transpose(0, 1)
            rows[span, :, at + count : at + count + spare] = 0
    return rows.view(n * heads, -1, x.shape[2])


def _scatter_add(x: Tensor, rows: Tensor, table: Table, scale: float = 1.0) -> None:
    """The transpose of `_gather`: what several spans see gets the sum, times `scale`, in x (T, H, D)."""
    rows = rows.view(table.spans, x.shape[1], table.room, x.shape[2])
    runs = table.runs
    if native.fits(x, rows):
        token, head = x.stride()[:2]
        sizes = len(runs), x.shape[1], table.room, x.shape[2], token, head
        native.call("scatter_runs", rows, x, runs, *sizes, float(scale), native.wide(x))
        return
    for start, count, span, at, _ in runs.tolist():
        x[start : start + count] += rows[span, :, at : at + count].transpose(0, 1) * scale


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
