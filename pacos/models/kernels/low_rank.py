"""Frozen linear maps of one input with their adapters, y_i = W_i x + s_i B_i A_i x, as one function.

q, k and v of a layer read the same x, so the A's of all of them are one product, and so are their gradients; what the
adapters add is added where the frozen product lies. The backward pass keeps x and A x:

    dx = sum_i W_i^T dy_i + A^T dl      dA = dl^T x      dB_i = s_i dy_i^T l_i      l = A x,  dl_i = s_i B_i^T dy_i

(Hu et al. 2021, arXiv:2106.09685). A 4-bit W is unpacked for each product, so only one is ever unpacked at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pacos.models.quantize import dequantize_weight


@dataclass(frozen=True)
class Map:
    """A frozen linear module, and the outputs [start, stop) that each of its adapters adds to, scaled by `scale`."""

    base: Any
    parts: Sequence[tuple[int, int]] = ()
    scale: float = 1.0

    def weight(self, like: Tensor) -> Tensor:
        return dequantize_weight(self.base).to(like.dtype)


def frozen_maps(
    x: Tensor, inner: Tensor, maps: Sequence[Map], a: Sequence[Tensor], b: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """x (..., in) -> one output (..., out) a map. `inner` is what the adapters read: x, or x after dropout.

    `a` (r, in) and `b` (rows of the part, r), in fp32 or x's dtype, belong to the parts of all maps in order.
    """
    return _FrozenMaps.apply(x, inner, tuple(maps), *a, *b)


def reference_maps(
    x: Tensor, inner: Tensor, maps: Sequence[Map], a: Sequence[Tensor], b: Sequence[Tensor]
) -> list[Tensor]:
    """The same, map by map and part by part."""
    outs, place = [], 0
    for one in maps:
        y = nn.functional.linear(x, one.weight(x), one.base.bias)
        for start, stop in one.parts:
            low = nn.functional.linear(inner, a[place].to(x.dtype))
            added = nn.functional.linear(low, b[place].to(x.dtype)) * one.scale
            y = y + nn.functional.pad(added, (start, y.shape[-1] - stop))
            place += 1
        outs.append(y)
    return outs


class _FrozenMaps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, inner: Tensor, maps: tuple[Map, ...], *adapters: Tensor) -> tuple[Tensor, ...]:
        a, b = _halves(adapters, x.dtype)
        flat_inner = inner.reshape(-1, x.shape[-1])
        outs = [_frozen(x, one) for one in maps]
        low = flat_inner @ torch.cat(a).T if a else None
        for own, piece, scale, i in _parts(maps, [out.view(-1, out.shape[-1]) for out in outs], low, _ranks(a)):
            own.addmm_(piece, b[i].T, alpha=scale)
        ctx.save_for_backward(flat_inner if a else None, low, *adapters)
        ctx.maps, ctx.shape, ctx.same = maps, x.shape, inner is x
        return tuple(outs)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        inner, low, *adapters = ctx.saved_tensors
        dys = [dy.reshape(-1, dy.shape[-1]) for dy in upstream]
        a, b = _halves(adapters, dys[0].dtype)
        dlow = None if low is None else torch.empty_like(low)
        dlows = () if dlow is None else dlow.split(_ranks(a), dim=1)
        db = []
        for dy, piece, scale, i in _parts(ctx.maps, dys, low, _ranks(a)):
            db.append((dy.T @ piece).float().mul_(scale))
            dlows[i].copy_((dy @ b[i]).mul_(scale))
        da = () if dlow is None else (dlow.T @ inner).float().split(_ranks(a))
        dx, dinner = _input_gradients(ctx, dys, dlow, a)
        return dx, dinner, None, *da, *db


def _frozen(x: Tensor, one: Map) -> Tensor:
    """W x + b, as a tensor that is no view, for it may be turned in place."""
    y = nn.functional.linear(x, one.weight(x))
    return y if one.base.bias is None else y.add_(one.base.bias)


def _input_gradients(ctx: Any, dys: Sequence[Tensor], dlow: Tensor | None, a: list[Tensor]) -> tuple[Any, Any]:
    """Of x and of `inner`; of x alone where they are the same."""
    dx = dinner = None
    if ctx.needs_input_grad[0]:
        first, *others = zip(dys, ctx.maps, strict=True)
        dx = first[0] @ first[1].weight(first[0])
        for dy, one in others:
            dx.addmm_(dy, one.weight(dy))
        if dlow is not None and ctx.same:
            dx.addmm_(dlow, torch.cat(a))
        dx = dx.view(ctx.shape)
    if ctx.needs_input_grad[1] and dlow is not None and not ctx.same:
        dinner = (dlow @ torch.cat(a)).view(ctx.shape)
    return dx, dinner


def _ranks(a: Sequence[Tensor]) -> list[int]:
    """Of each adapter; those of another tool may have one of their own."""
    return [one.shape[0] for one in a]


def _parts(maps: Sequence[Map], rows: Sequence[Tensor], low: Tensor | None, ranks: list[int]) -> Any:
    """For each adapter: its columns of its map's rows, its columns of `low`, its scale and its number."""
    sizes = [(row[:, start:stop], one.scale) for one, row in zip(maps, rows, strict=True) for start, stop in one.parts]
    pieces = () if low is None else low.split(ranks, dim=1)
    return [(own, piece, scale, i) for i, ((own, scale), piece) in enumerate(zip(sizes, pieces, strict=True))]


def _halves(adapters: Sequence[Tensor], dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """The A's and the B's in the dtype that is computed in."""
    cast = [x.to(dtype) for x in adapters]
    return cast[: len(cast) // 2], cast[len(cast) // 2 :]
