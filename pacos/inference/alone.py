"""Rows that are written one after another, for networks whose rows cannot share a sequence.

The model's own forward reads the prompt, then a token at a time with its own cache (keys and values, Mamba's states); a
model that gives none back, or reads on otherwise than from the start, reads everything anew for each token.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext

import torch

from pacos.inference.batch import Row
from pacos.inference.sampling import choose
from pacos.models.network import Network
from pacos.models.plain import Memory
from pacos.models.switch import Switch


class Alone:
    """What `Batch` is, with room for a single row."""

    def __init__(self, network: Network, stop_ids: frozenset[int], switch: Switch | None = None):
        self.network, self.stop_ids, self.switch = network, stop_ids, switch
        self._row: Row | None = None
        self._memory: Memory = {}

    @property
    def num_active(self) -> int:
        return int(self._row is not None)

    @property
    def num_free(self) -> int:
        return 1 - self.num_active

    @torch.inference_mode()
    def admit(self, rows: Sequence[Row]) -> None:
        """Read the prompt of a new row and write its first token."""
        assert self._row is None
        (row,) = rows
        self._row, self._memory = row, {}
        row.prompt_seconds = self._write(row, row.prompt)

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Write the next token of the row; returns it."""
        row = self._row
        if row is None:
            return []
        row.seconds += self._write(row, row.ids[-1:] if self._memory else [*row.prompt, *row.ids])
        return [row]

    def _write(self, row: Row, unread: Sequence[int]) -> float:
        """Read ids and write the token behind them; the seconds it took."""
        began = time.perf_counter()
        ids = torch.tensor([list(unread)], device=self.network.device)
        with nullcontext() if self.switch is None else self.switch.rows([row.owner]):
            logits, self._memory = self.network.read_on(ids, self._memory)
        for token, logprob, likely in zip(*choose(logits[None], [row.sampler]), strict=True):
            row.take(token, logprob, likely, self.stop_ids)
        if row.done:
            self._row, self._memory = None, {}
        return time.perf_counter() - began
