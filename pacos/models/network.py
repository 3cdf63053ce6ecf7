"""A transformers causal LM, called in the two pieces that training and inference need.

    hidden = network.hidden(ids, positions, layout)     every token, without the head
    network.logits(hidden[wanted])                      the head, only where it is wanted

The head's share of a small model's work is large (SmolLM2: a fifth of the weights), and most positions need none of it.
Where the rows of a family cannot share a sequence (probe.py), each is computed alone (plain.py), behind the same calls.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from pacos.errors import UsageError
from pacos.models.attention import NAME, Layout, Packed, use_layouts
from pacos.models.kernels.gated import use_gated_mlps
from pacos.models.kernels.norms import use_fused_norms
from pacos.models.plain import Memory, attend_by, own_attention, read_on, states_at_head, states_row_by_row
from pacos.models.probe import remembers, soft_cap, softcap_of, ways_of
from pacos.models.projections import use_joint_projections

DROPOUTS = ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob")
UNBOUNDED = 1 << 20
"""Tokens that a model may read which states no limit."""


class Network:
    """`model` (a transformers CausalLM) with attention by layout and the head apart. Raises UsageError for others."""

    def __init__(self, model: Any):
        if getattr(model.config, "rescale_every", 0):
            # RWKV halves some matrices in place while it does not train; adapters on them would not follow
            model.config.rescale_every = 0
        self.ways = ways_of(model)
        use_layouts(model)
        use_kernels(model)
        self.model = model
        self.softcap = softcap_of(model.config)

    @property
    def head(self) -> Any:
        """A linear map without bias from `hidden` to uncapped logits: `weight` (V, C)."""
        head = self.model.get_output_embeddings()
        return head if head.bias is None else JoinedHead(head)

    @property
    def decoder(self) -> nn.Module | None:
        return self.ways.decoder

    @property
    def device(self) -> torch.device:
        return self.model.get_output_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.get_output_embeddings().weight.dtype

    @property
    def max_length(self) -> int:
        """Tokens that the model reads at most."""
        config = self.model.config.get_text_config()
        limits = (getattr(config, name, None) for name in ("max_position_embeddings", "max_seq_len"))
        return next((limit for limit in limits if limit), UNBOUNDED)

    @property
    def attention_dropout(self) -> float:
        config = self.model.config.get_text_config()
        return max((getattr(config, name, None) or 0.0 for name in DROPOUTS), default=0.0)

    @property
    def packs(self) -> bool:
        """Whether rows share a sequence now; not while training with attention dropout, which packed rows have none of."""
        return self.ways.packs and not (self.model.training and self.attention_dropout)

    @property
    def decodes(self) -> bool:
        """Whether answers can be written side by side."""
        return self.ways.decodes

    @cached_property
    def remembers(self) -> bool:
        """Whether the model's own cache lets it read on, where rows are computed alone."""
        return remembers(self.model)

    def refuse_longer(self, length: int) -> None:
        """Raises UsageError where a row of `length` tokens is more than the model reads."""
        if length > self.max_length:
            kind = self.model.config.model_type
            raise UsageError(
                f"train.max_length: rows of {length} tokens, and this model of type '{kind}' reads {self.max_length}; "
                f"give train.max_length={self.max_length} or less"
            )

    def refuse_unknown(self, id: int) -> None:
        """Raises UsageError where token `id` is none that the model has an embedding and an output for."""
        known = min(len(self.model.get_input_embeddings().weight), len(self.model.get_output_embeddings().weight))
        if id >= known:
            kind = self.model.config.model_type
            raise UsageError(
                f"model.base: its tokenizer writes token {id}, and this model of type '{kind}' knows 0 to {known - 1}; "
                "give the model the tokenizer that it was trained with, or one embedding more for each token that was added"
            )

    def pace_note(self, *, training: bool) -> str:
        """One line that says why rows are computed one by one; empty where they are not."""
        kind = self.model.config.model_type
        alone = f"model type '{kind}': each row is computed alone, exact but slower than packed"
        if not self.ways.packs:
            return f"{alone}: {self.ways.reason}"
        if training and self.attention_dropout:
            return f"{alone}: it has attention dropout {self.attention_dropout:g}, and packed rows have none"
        return "" if training or self.ways.decodes else f"model type '{kind}': answers are written one by one"

    def hidden(self, ids: Tensor, positions: Tensor, layout: Layout) -> Tensor:
        """Last hidden states (B, T, C) of token ids (B, T) at `positions` (B, T), as `head` reads them."""
        attend_by(self.model, NAME if self.packs else own_attention(self.model))
        if self.packs:
            assert self.decoder is not None
            out = self.decoder(input_ids=ids, position_ids=positions, use_cache=False, layout=layout)
            states = out.last_hidden_state
        else:
            assert isinstance(layout, Packed)
            states = states_row_by_row(self._states, ids, layout)
        states = states if self.ways.scale == 1 else states * self.ways.scale
        bias = self.model.get_output_embeddings().bias
        return states if bias is None else torch.cat((states, states.new_ones(*states.shape[:-1], 1)), dim=-1)

    def _states(self, ids: Tensor) -> Tensor:
        """One row by itself, (1, n) -> (1, n, C)."""
        if self.decoder is None:
            return states_at_head(self.model, ids)
        return self.decoder(input_ids=ids, use_cache=False).last_hidden_state

    def read_on(self, ids: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Logits (V,) behind ids (1, T) that follow what `memory` holds, by the model's own forward; the memory after."""
        attend_by(self.model, own_attention(self.model))
        logits, after = read_on(self.model, ids, memory)
        return logits, after if self.remembers else {}

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden (..., C) -> logits (..., V), soft-capped as the family does."""
        return soft_cap(self.head(hidden), self.softcap)


def use_kernels(model: Any) -> None:
    """Switch the modules that are known to our kernels; others stay transformers'."""
    use_fused_norms(model)
    use_gated_mlps(model)
    use_joint_projections(model)


class JoinedHead:
    """A head with a bias as a map without: [W | b] on states that end in a one."""

    def __init__(self, head: nn.Linear):
        assert head.bias is not None
        self.weight = torch.cat((head.weight, head.bias[:, None]), dim=1)

    def __call__(self, hidden: Tensor) -> Tensor:
        return nn.functional.linear(hidden, self.weight)
