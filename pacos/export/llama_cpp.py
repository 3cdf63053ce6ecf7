"""llama.cpp, where llama-cpp-python is installed (`pip install 'pacos[gguf]'`): K-quants, and the served model's outputs."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pacos.errors import UsageError, UserError
from pacos.export.observe import ANSWER_TOKENS, TOPS, Likely, Observed, Rows, every, gather

K_QUANTS = {
    "q2_k": 10,
    "q3_k_s": 11,
    "q3_k_m": 12,
    "q3_k_l": 13,
    "q4_k_s": 14,
    "q4_k_m": 15,
    "q5_k_s": 16,
    "q5_k_m": 17,
    "q6_k": 18,
}
"""Type -> llama.cpp's number (llama_ftype)."""


def is_there() -> bool:
    return importlib.util.find_spec("llama_cpp") is not None


def need(what: str) -> None:
    if not is_there():
        raise UsageError(f"{what} needs llama.cpp: pip install 'pacos[gguf]' (it compiles for some minutes)")


def quantize(whole: Path, path: Path, type: str) -> None:
    """Write `path` in a K-quant type from a file in 16 or 32 bits."""
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = K_QUANTS[type]
    with _silent(llama_cpp):
        code = llama_cpp.llama_model_quantize(str(whole).encode(), str(path).encode(), params)
    if code:
        raise UserError(f"{path}: llama.cpp could not quantize to {type} (code {code})")


@contextmanager
def opened(path: Path, context: int, lora: Path | None = None) -> Iterator[Any]:
    """The file in llama.cpp, all logits kept. Raises UserError where it does not load."""
    import llama_cpp

    options: dict[str, Any] = {"lora_path": str(lora)} if lora else {}
    try:
        with _silent(llama_cpp):
            llama = llama_cpp.Llama(
                str(path),
                n_ctx=context,
                n_batch=context,
                n_ubatch=context,
                logits_all=True,
                verbose=False,
                n_threads=torch.get_num_threads(),
                n_threads_batch=torch.get_num_threads(),
                n_gpu_layers=0,
                **options,
            )
    except (ValueError, AssertionError) as error:
        raise UserError(f"{path}: llama.cpp does not load it: {error}") from None
    try:
        yield llama
    finally:
        llama.close()


def observe(path: Path, rows: Rows, lora: Path | None = None) -> Observed:
    """What llama.cpp computes from a file on the rows; an answer ends where llama.cpp itself ends one."""
    longest = max([*map(len, every(rows)), *(len(p) + ANSWER_TOKENS for p in rows.prompts)])
    with opened(path, longest + 1, lora) as llama:
        answers = [_answer(llama, prompt) for prompt in rows.prompts]
        logits = (logits_of(llama, ids) for ids in every(rows))
        return gather(rows, logits, [(ids, stop) for ids, stop, _ in answers], [tops for _, _, tops in answers])


def logits_of(llama: Any, ids: Sequence[int]) -> Tensor:
    """(T, V) in fp32."""
    llama.reset()
    llama.eval(list(ids))
    return torch.from_numpy(llama.scores[: len(ids)].copy()).float()


def _answer(llama: Any, prompt: Sequence[int]) -> tuple[list[int], int | None, list[Likely]]:
    """Greedy ids, the token that ended them, and the likeliest in the place of each."""
    import llama_cpp

    vocab = llama_cpp.llama_model_get_vocab(llama.model)
    llama.reset()
    llama.eval(list(prompt))
    ids: list[int] = []
    tops: list[Likely] = []
    while True:
        logits = torch.from_numpy(llama.scores[llama.n_tokens - 1])
        values, likeliest = logits.topk(TOPS)
        tops.append(tuple(zip(likeliest.tolist(), values.tolist(), strict=True)))
        token = int(logits.argmax())
        if llama_cpp.llama_vocab_is_eog(vocab, token):
            return ids, token, tops
        ids.append(token)
        if len(ids) == ANSWER_TOKENS:
            return ids, None, tops
        llama.eval([token])


def tokenize(path: Path, text: str, add_bos: bool) -> list[int]:
    """Ids that llama.cpp makes of a rendered prompt, control tokens read as such."""
    with opened(path, 512) as llama:
        return list(llama.tokenize(text.encode(), add_bos=add_bos, special=True))


@contextmanager
def _silent(llama_cpp: Any) -> Iterator[None]:
    """Without llama.cpp's own lines on stderr."""
    from llama_cpp._utils import suppress_stdout_stderr

    with suppress_stdout_stderr(disable=False):
        yield
