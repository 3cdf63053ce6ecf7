"""llama.cpp writing several rows at once, greedily, as its server does with parallel slots: one sequence a row."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

READ_AT_ONCE = 2048


class Llama:
    """A GGUF file opened for `slots` rows of `room` tokens each, on two threads or as many as there are cores."""

    def __init__(self, path: Path, slots: int, room: int):
        import llama_cpp
        import torch

        self._c: Any = llama_cpp
        llama_cpp.llama_backend_init()
        self._quiet = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self._quiet, ctypes.c_void_p(0))
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        options = llama_cpp.llama_context_default_params()
        options.n_ctx, options.n_seq_max = slots * room, slots
        options.n_batch = options.n_ubatch = READ_AT_ONCE
        options.n_threads = options.n_threads_batch = torch.get_num_threads()
        self._context = llama_cpp.llama_init_from_model(self._model, options)
        assert self._context, "llama.cpp made no context"
        self._words = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self._batch = llama_cpp.llama_batch_init(READ_AT_ONCE, 0, 1)
        self._slots = slots

    def answer(self, prompts: Sequence[list[int]], tokens: int) -> int:
        """Write `tokens` ids behind each prompt; how many that was."""
        return sum(self._group(prompts[at : at + self._slots], tokens) for at in range(0, len(prompts), self._slots))

    def _group(self, prompts: Sequence[list[int]], tokens: int) -> int:
        self._c.llama_memory_clear(self._c.llama_get_memory(self._context), True)
        rows: list[list[int]] = [[] for _ in prompts]
        reading = [(i, at, id, at == len(p) - 1) for i, p in enumerate(prompts) for at, id in enumerate(p)]
        for at in range(0, len(reading), READ_AT_ONCE):
            self._decode(reading[at : at + READ_AT_ONCE], rows)
        while len(rows[0]) < tokens:
            newest = [
                (i, len(p) + len(row) - 1, row[-1], True) for i, (p, row) in enumerate(zip(prompts, rows, strict=True))
            ]
            self._decode(newest, rows)
        return sum(map(len, rows))

    def _decode(self, entries: Sequence[tuple[int, int, int, bool]], rows: list[list[int]]) -> None:
        """One pass over (row, position, id, whether its logits are wanted); the likeliest token goes to its row."""
        batch = self._batch
        batch.n_tokens = len(entries)
        for i, (row, at, id, wanted) in enumerate(entries):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = id, at, 1
            batch.seq_id[i][0], batch.logits[i] = row, wanted
        assert self._c.llama_decode(self._context, batch) == 0, "llama.cpp could not decode"
        for i, (row, _, _, wanted) in enumerate(entries):
            if wanted:
                logits = self._c.llama_get_logits_ith(self._context, i)
                rows[row].append(int(np.ctypeslib.as_array(logits, (self._words,)).argmax()))
