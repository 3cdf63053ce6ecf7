"""Attention over packed rows: no padding, and no row sees another.

A pack is several rows in one sequence, and what some of them begin with is there once. Its segments form a forest:

    [ preamble | with input | row 0 | row 1 | without | row 2 | row 3 ]
      parent -1  parent 0     1       1       0         4       4

A segment sees itself, causally, and the segments that it continues; positions go on behind them. transformers' models reach
this through their own extension point: `ALL_ATTENTION_FUNCTIONS["pacos"]` gets the pack's layout as a keyword argument of
the forward pass, so there is no model code here, and every family that calls the attention interface is served.

Shapes: H query heads, K key heads, T tokens, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from pacos.models.kernels.attention import BLOCK, Run, Span, Work, attend_spans

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
        """query (B, H, T, D), key (B, K, T, D) and value (B, K, T, E) -> (B, T, H, E)."""
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
    """Segments of `lengths` tokens, end to end; segment i continues segment `parents[i]`, which comes before it (-1: none)."""

    lengths: Sequence[int]
    parents: Sequence[int] = ()
    kept: dict[Any, Any] = field(default_factory=dict, repr=False)
    """What is made once for all layers: work and masks."""

    def __post_init__(self) -> None:
        self.parents = self.parents or [-1] * len(self.lengths)
        assert len(self.parents) == len(self.lengths)

    @property
    def num_tokens(self) -> int:
        return sum(self.lengths)

    @property
    def runs(self) -> list[Run]:
        """Tokens [start, stop) of each segment."""
        stops = list(accumulate(self.lengths))
        return [(stop - n, stop) for stop, n in zip(stops, self.lengths, strict=True)]

    def chain(self, segment: int) -> list[int]:
        """The segments that a row is made of, from its beginning to `segment`."""
        return chain_of(self.parents, segment)

    def depths(self) -> list[int]:
        """The position at which each segment begins."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(depths[parent] + self.lengths[parent] if parent >= 0 else 0)
        return depths

    def positions(self) -> Tensor:
        """Position of each token in its own row, (T,): a segment goes on behind the one that it continues."""
        return torch.cat([torch.arange(at, at + n) for at, n in zip(self.depths(), self.lengths, strict=True)])

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
        if (
            value.shape[-1] != query.shape[-1]
        ):  # latent attention (DeepSeek): zeros change no score, and are cut off again
            size = max(value.shape[-1], query.shape[-1])
            q, k, v = (pad(x, (0, size - x.shape[-1])) for x in (query, key, value))
            wide = Packed.attend(self, layer, q, k, v, scaling=scaling, window=window, softcap=softcap)
            return wide[..., : value.shape[-1]]
        if query.is_cuda:
            from pacos.models.kernels.cuda import attend

            return attend(self, query, key, value, scaling=scaling, window=window, softcap=softcap)
        q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
        return attend_spans(q, k, v, self.work(window, q.shape[1]), scaling, softcap)[None]

    def work(self, window: int | None, heads: int) -> Work:
        """The work of one layer whose queries see at most `window` keys (None: all), made once a pack."""
        name = ("work", window, heads)
        if name not in self.kept:
            self.kept[name] = Work.of(self.spans(window), heads)
        return self.kept[name]

    def spans(self, window: int | None) -> list[Span]:
        """Every segment, in pieces of at most BLOCK queries; a piece sees nothing behind it, and nothing out of its window."""
        runs = self.runs
        spans = []
        for segment, (start, stop) in enumerate(runs):
            before = tuple(runs[i] for i in self.chain(segment)[:-1])
            for at in range(start, stop, BLOCK):
                end = min(at + BLOCK, stop)
                spans.append(Span((at, end), near((*before, (start, end)), end - at, window), window or 0))
        return spans

    def seen(self, window: int | None = None) -> Tensor:
        """(T, T), true where a token sees another: the definition, which the ways to compute it are tested against."""
        segment = torch.repeat_interleave(torch.arange(len(self.lengths)), torch.tensor(self.lengths))
        chains = [self.chain(i) for i in range(len(self.lengths))]
        continues = torch.tensor([[other in chain for other in range(len(chains))] for chain in chains])
        at = self.positions()
        return continues[segment][:, segment] & visible(at[:, None], at[None, :], window)


def chain_of(parents: Sequence[int], segment: int) -> list[int]:
    """From the beginning to `segment`: each goes on where the one before ends; -1 has none before it."""
    chain = [segment]
    while parents[chain[-1]] >= 0:
        chain.append(parents[chain[-1]])
    return chain[::-1]


def near(runs: tuple[Run, ...], num_queries: int, window: int | None) -> tuple[Run, ...]:
    """The runs without the keys in front that are out of every query's window."""
    if window is None:
        return runs
    spare = sum(stop - start for start, stop in runs) - (num_queries + window - 1)
    kept = []
    for start, stop in runs:
        skip = min(max(spare, 0), stop - start)
        spare -= skip
        if skip < stop - start:
            kept.append((start + skip, stop))
    return tuple(kept)


def visible(query_at: Tensor, key_at: Tensor, window: int | None) -> Tensor:
    """True where a key's position is seen from a query's: not later, and within the sliding window where there is one."""
    seen = key_at <= query_at
    return seen if window is None else seen & (key_at > query_at - window)
