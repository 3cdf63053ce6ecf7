"""Rows one by one, as a model computes them by itself: the way for families whose rows cannot share a sequence.

    layout --chains of segments--> each row alone, own attention, no padding --> states, back in their places

What comes out is laid out as a pack is, so loss, scores and receipts need not know which way it was made. A segment
that several rows begin with is read with each of them; no row sees another, so any of them gives its states.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pacos.models.attention import Packed

MEMORIES = ("past_key_values", "cache_params", "state")
"""What families call the thing that lets the next token be read without those before it."""

Memory = dict[str, Any]
States = Callable[[Tensor], Tensor]


def own_attention(model: Any) -> str:
    """The attention that transformers gives this model where none is asked for."""
    return "sdpa" if getattr(model, "_supports_sdpa", False) else "eager"


def attend_by(model: Any, name: str) -> None:
    """Make every layer use the attention function `name` from now on."""
    if model.config._attn_implementation != name:
        model.config._attn_implementation = name


def states_row_by_row(states: States, ids: Tensor, layout: Packed) -> Tensor:
    """States (1, T, C) of packed ids (1, T), each row alone through `states`: (1, n) -> (1, n, C)."""
    pieces = ids.split(list(layout.lengths), dim=1)
    found: dict[int, Tensor] = {}
    for chain in rows_of(layout):
        row = states(torch.cat([pieces[i] for i in chain], dim=1))
        for i, piece in zip(chain, row.split([layout.lengths[i] for i in chain], dim=1), strict=True):
            found.setdefault(i, piece)
    return torch.cat([found[i] for i in range(len(layout.lengths))], dim=1)


def rows_of(layout: Packed) -> list[list[int]]:
    """The segments of each row, from its first to its last, but for rows that others go on behind."""
    inner = set(layout.parents)
    return [layout.chain(i) for i in range(len(layout.lengths)) if i not in inner]


def states_at_head(model: Any, ids: Tensor, **options: Any) -> Tensor:
    """What the head of a model reads while the whole of it runs, (1, T, C)."""
    kept: list[Tensor] = []
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    try:
        model(input_ids=ids, use_cache=False, **options)
    finally:
        hook.remove()
    return kept[0]


def read_on(model: nn.Module, ids: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
    """Logits (V,) behind the last of ids (1, T), which follow what `memory` holds; and the memory with them."""
    short = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    out = model(input_ids=ids, use_cache=True, **short, **memory)
    return out.logits[0, -1], {name: out[name] for name in MEMORIES if out.get(name) is not None}
