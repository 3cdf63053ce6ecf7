"""Rotary positions in place, forward and back (RoFormer, Su et al. 2021, arXiv:2104.09864).

    [low, high] -> [low cos - high sin, high cos + low sin]        the backward pass turns the other way

cos and sin are those of the model's own rotary embedding, (1 or B, T, 2 half), scaled as the family does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pacos.models.kernels import native
from pacos.models.kernels.cuda_layers import fused


@dataclass(frozen=True)
class Region:
    """`heads` heads of `size` values that are turned, from column `start` of tensor number `tensor`."""

    tensor: int
    start: int
    heads: int
    size: int


def rotate(tensors: Sequence[Tensor], regions: Sequence[Region], cos: Tensor, sin: Tensor) -> tuple[Tensor, ...]:
    """Turn the regions of `tensors` (B, T, columns). The tensors are overwritten; what comes back is to be used."""
    rows = tensors[0].shape[:-1]
    cos, sin = (x.expand(*rows, x.shape[-1]) for x in (cos, sin))
    if native.fits(*tensors):
        tensors = [x.clone() if x._is_view() else x for x in tensors]
        return _Rotate.apply(cos.float().contiguous(), sin.float().contiguous(), tuple(regions), *tensors)
    each = ([region for region in regions if region.tensor == i] for i in range(len(tensors)))
    return tuple(fused(reference_rotate, x)(x, own, cos, sin) for x, own in zip(tensors, each, strict=True))


def reference_rotate(x: Tensor, regions: Sequence[Region], cos: Tensor, sin: Tensor) -> Tensor:
    """The same for one tensor, by torch."""
    width, pieces, at = cos.shape[-1], [], 0
    for region in regions:
        stop = region.start + region.heads * region.size
        heads = x[..., region.start : stop].unflatten(-1, (region.heads, region.size))
        turned, rest = heads[..., :width], heads[..., width:]
        low, high = turned.chunk(2, dim=-1)
        turned = turned * cos.unsqueeze(-2) + torch.cat((-high, low), dim=-1) * sin.unsqueeze(-2)
        pieces += [x[..., at : region.start], torch.cat((turned, rest), dim=-1).flatten(-2)]
        at = stop
    return torch.cat((*pieces, x[..., at:]), dim=-1)


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, cos: Tensor, sin: Tensor, regions: tuple[Region, ...], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.mark_dirty(*tensors)
        ctx.save_for_backward(cos, sin)
        ctx.regions = regions
        _turn(tensors, regions, cos, sin, back=False)
        return tensors

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        grads = [dy.clone(memory_format=torch.contiguous_format) for dy in upstream]
        _turn(grads, ctx.regions, *ctx.saved_tensors, back=True)
        return None, None, None, *grads


def _turn(tensors: Sequence[Tensor], regions: Sequence[Region], cos: Tensor, sin: Tensor, *, back: bool) -> None:
    width = cos.shape[-1]
    for region in regions:
        x = tensors[region.tensor]
        rows, columns = x.numel() // x.shape[-1], x.shape[-1]
        place = native.address(x, region.start)
        half = width // 2
        native.call("rotate", place, cos, sin, rows, region.heads, region.size, half, columns, back, native.wide(x))
