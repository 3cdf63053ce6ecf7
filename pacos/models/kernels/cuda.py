"""Attention over packed rows on a GPU: no padding, and nothing computed for tokens that do not see each other.

A pack is a forest of segments, end to end in one sequence. A token sees its own segment up to itself, and all tokens of the
segments that its own continues. Four ways to compute it; `attend` takes the first that this machine and this pack allow:

    varlen   flash attention over row lengths, torch.nn.attention.varlen: 16 bits, no segment continues another, no soft cap
    flex     FlexAttention (arXiv:2412.05496), compiled: whole blocks of 128 x 128 that nobody sees are skipped
    sdpa     torch's memory-efficient kernel under a (T, T) mask: needs no compiler, computes the hidden blocks too
    plain    products and an explicit softmax; what the other three are tested against

Shapes: H query heads, K key heads, T tokens, D head size.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Protocol

import torch
from torch import Tensor

Way = Callable[..., Tensor]


class Forest(Protocol):
    """Segment i holds `lengths[i]` tokens and continues segment `parents[i]` (-1: none; parents come before children).

    `kept` is a dict for what is made once a pack.
    """

    lengths: Sequence[int]
    parents: Sequence[int]
    kept: dict[Any, Any]


@torch.compiler.disable
def attend(
    layout: Forest,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scaling: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """query (1, H, T, D), key and value (1, K, T, D) -> (1, T, H, D). A window counts the token itself."""
    window = tight(layout, window)
    way = WAYS[choose(layout, query, key, window, softcap)]
    return way(layout, query, key, value, scaling, window, softcap)


def choose(layout: Forest, query: Tensor, key: Tensor, window: int | None, softcap: float | None) -> str:
    """The name of the way to take."""
    if softcap is None and max(layout.parents, default=-1) < 0 and varlen_takes(query, key, window):
        return "varlen"
    if has_compiler():
        return "flex"
    return "sdpa" if softcap is None else "plain"


def varlen_takes(query: Tensor, key: Tensor, window: int | None) -> bool:
    """Whether torch's var-len kernel computes this: it came with 2.10, its scale and windows with 2.11, grouped heads with 2.12."""
    wanted = {"scale", "window_size"} | ({"enable_gqa"} if query.shape[1] != key.shape[1] else set())
    fits = query.dtype in (torch.float16, torch.bfloat16) and query.shape[-1] % 8 == 0 and query.shape[-1] <= 256
    return fits and wanted <= varlen_options() and has_flash(query.device)


@functools.cache
def varlen_options() -> frozenset[str]:
    """The arguments that this torch's var-len attention takes; none where it has none."""
    try:
        module = importlib.import_module("torch.nn.attention.varlen")
    except ImportError:
        return frozenset()
    return frozenset(inspect.signature(module.varlen_attn).parameters)


@functools.cache
def has_flash(device: torch.device) -> bool:
    """Flash attention in this build of torch, on a device from Ampere on."""
    return torch.backends.cuda.is_flash_attention_available() and torch.cuda.get_device_capability(device) >= (8, 0)


@functools.cache
def has_compiler() -> bool:
    """Whether torch.compile can make GPU kernels here."""
    from torch.utils._triton import has_triton

    return has_triton()


def tight(layout: Forest, window: int | None) -> int | None:
    """None where no row is longer than the window, so that layers with and without one share a mask."""
    return None if window is None or window >= max(ends(layout), default=0) else window


def ends(layout: Forest) -> list[int]:
    """The position behind the last token of each segment, counted from the beginning of its row."""
    found: list[int] = []
    for length, parent in zip(layout.lengths, layout.parents, strict=True):
        found.append(length + (found[parent] if parent >= 0 else 0))
    return found


def once(layout: Forest, name: tuple[Any, ...], make: Callable[[], Any]) -> Any:
    """What `make` gives, made once a pack."""
    if name not in layout.kept:
        layout.kept[name] = make()
    return layout.kept[name]


def tables(layout: Forest, device: torch.device) -> Tensor:
    """(3, T) int32, for each token: its position in its row, and the numbers [first, last) of its segment's descendants.

    Segments are numbered in the order of a walk that goes to the children first, so a segment and all that continues it
    have consecutive numbers: key k's segment is one that query q's continues, or its own, where first[k] <= first[q] < last[k].
    """

    def make() -> Tensor:
        first, last = walk(layout.parents)
        lengths = torch.tensor(layout.lengths)
        at = torch.cat([torch.arange(end - n, end) for n, end in zip(layout.lengths, ends(layout), strict=True)])
        rows = [torch.tensor(x).repeat_interleave(lengths) for x in (first, last)]
        return torch.stack([at, *rows]).int().to(device)

    return once(layout, ("tables", device), make)


def walk(parents: Sequence[int]) -> tuple[list[int], list[int]]:
    """The number of each segment in a walk through the forest, and the number behind its last descendant's."""
    size = [1] * len(parents)
    for i in reversed(range(len(parents))):
        if parents[i] >= 0:
            size[parents[i]] += size[i]
    free = [0] * (len(parents) + 1)  # the next number under each segment; the last entry is the roots'
    first = []
    for i, parent in enumerate(parents):
        first.append(free[parent])
        free[parent] += size[i]
        free[i] = first[i] + 1
    return first, [f + n for f, n in zip(first, size, strict=True)]


def sees(layout: Forest, window: int | None, device: torch.device) -> Callable[..., Tensor]:
    """FlexAttention's form of the mask: (batch, head, query index, key index) -> whether it is seen."""
    at, first, last = tables(layout, device)

    def visible(_b: Tensor, _h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (first[k] <= first[q]) & (first[q] < last[k]) & (at[k] <= at[q])

    def visible_within(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        assert window is not None
        return visible(b, h, q, k) & (at[k] > at[q] - window)

    return visible if window is None else visible_within


def dense_mask(layout: Forest, window: int | None, device: torch.device) -> Tensor:
    """(T, T), true where the query of the row sees the key of the column."""

    def make() -> Tensor:
        place = torch.arange(sum(layout.lengths), device=device)
        return sees(layout, window, device)(None, None, place[:, None], place[None, :])

    return once(layout, ("dense", window, device), make)


def varlen(
    layout: Forest, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None, softcap: float | None
) -> Tensor:
    assert softcap is None
    kernel = importlib.import_module("torch.nn.attention.varlen").varlen_attn
    starts = once(
        layout,
        ("starts", query.device),
        lambda: torch.tensor([0, *accumulate(layout.lengths)], dtype=torch.int32).to(query.device),
    )
    longest = max(layout.lengths)
    # the kernel counts the tokens left of the query's own
    options: dict[str, Any] = {"scale": scaling, "window_size": (-1 if window is None else window - 1, 0)}
    if query.shape[1] != key.shape[1]:
        options["enable_gqa"] = True
    rows = (x[0].transpose(0, 1) for x in (query, key, value))
    return kernel(*rows, starts, starts, longest, longest, **options).unsqueeze(0)


def flex(
    layout: Forest, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None, softcap: float | None
) -> Tensor:
    size = query.shape[-1]
    query, key, value = (to_power_of_two(x) for x in (query, key, value))
    heads = flex_kernel(query.is_cuda)(
        query,
        key,
        value,
        score_mod=None if softcap is None else capped(softcap),
        block_mask=block_mask(layout, window, query.device),
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
        # one kernel for all lengths; the one for short queries fails on some head sizes before torch 2.10
        kernel_options={"FORCE_USE_FLEX_ATTENTION": True},
    )
    return heads[..., :size].transpose(1, 2)


@functools.cache
def flex_kernel(compiled: bool) -> Any:
    """FlexAttention, compiled once for all lengths on a GPU; as it is on a CPU, where it has no fused backward pass."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True) if compiled else flex_attention


@functools.cache
def capped(softcap: float) -> Callable[..., Tensor]:
    """Gemma 2's bound on the scores: cap * tanh(score / cap)."""
    return lambda score, _b, _h, _q, _k: softcap * torch.tanh(score / softcap)


def block_mask(layout: Forest, window: int | None, device: torch.device) -> Any:
    """FlexAttention's list of the blocks that are seen, wholly or in part."""
    from torch.nn.attention.flex_attention import create_block_mask

    tokens = sum(layout.lengths)
    return once(
        layout,
        ("blocks", window, device),
        lambda: create_block_mask(sees(layout, window, device), None, None, tokens, tokens, device=device),
    )


def to_power_of_two(x: Tensor) -> Tensor:
    """Zeros behind the head's own numbers, up to a power of two of at least 16: Phi-3's 96 become 128.

    FlexAttention takes other sizes from torch 2.7 on, by computing on as many.
    """
    size = x.shape[-1]
    wanted = max(16, 1 << (size - 1).bit_length())
    return x if size == wanted else torch.nn.functional.pad(x, (0, wanted - size))


def sdpa(
    layout: Forest, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None, softcap: float | None
) -> Tensor:
    assert softcap is None
    mask = dense_mask(layout, window, query.device)
    # under a mask only equal numbers of heads have a fused kernel
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    heads = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    return heads.transpose(1, 2)


def plain(
    layout: Forest, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None, softcap: float | None
) -> Tensor:
    """The formula: softmax(cap(s q k^T) + mask) v, the softmax in fp32."""
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    scores = (query * scaling) @ key.transpose(2, 3)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~dense_mask(layout, window, query.device), -torch.inf)
    return (torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype) @ value).transpose(1, 2)


WAYS: dict[str, Way] = {"varlen": varlen, "flex": flex, "sdpa": sdpa, "plain": plain}
