"""Texts as vectors, by any encoder that is at hand: a sentence-transformers folder or hub id, or a language model.

    embed = load_embedder("sentence-transformers/all-MiniLM-L6-v2")
    embed(["a text", "another"]) -> (2, 384) float32, rows of length 1

The last hidden states are averaged over the text's tokens; where `1_Pooling/config.json` says so, the first token's is
taken instead (as sentence-transformers reads that file). Texts longer than MOST_TOKENS are cut there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from pacos.errors import DataError
from pacos.models.quiet import quiet
from pacos.models.source import Source, resolve, tokenizer_of

MOST_TOKENS, BATCH = 256, 32
Embedder = Callable[[Sequence[str]], np.ndarray]


def load_embedder(name: str) -> Embedder:
    """Raises UsageError where there is no such model, DataError where its files are no encoder."""
    from transformers import AutoModel

    source = resolve(name)
    tokenizer = tokenizer_of(source)
    try:
        with quiet():
            model = AutoModel.from_pretrained(source.folder, local_files_only=True, dtype=torch.float32)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:120]
        raise DataError(f"{name}: cannot be read as an embedding model: {reason}; give an encoder's folder") from None
    first = _takes_first_token(source)
    longest = min(MOST_TOKENS, getattr(model.config, "max_position_embeddings", MOST_TOKENS))
    return lambda texts: _embed(model.eval(), tokenizer, texts, longest, first)


def _takes_first_token(source: Source) -> bool:
    path = source.folder / "1_Pooling" / "config.json"
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")).get("pooling_mode_cls_token"))
    except FileNotFoundError:
        return False
    except (ValueError, AttributeError):
        raise DataError(f"{path}: not a JSON object; get the model again") from None


def _embed(model: Any, tokenizer: Any, texts: Sequence[str], longest: int, first: bool) -> np.ndarray:
    """(N, D). Sorted by length inside, so that little is padding; padded positions are masked out of model and mean."""
    ids = [tokenizer(text, truncation=True, max_length=longest)["input_ids"] or [0] for text in texts]
    order = sorted(range(len(ids)), key=lambda n: len(ids[n]))
    rows: list[Any] = [None] * len(ids)
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            for n, vector in zip(batch, _vectors(model, [ids[n] for n in batch], first), strict=True):
                rows[n] = vector
    return np.stack(rows) if rows else np.zeros((0, 1), dtype=np.float32)


def _vectors(model: Any, ids: Sequence[Sequence[int]], first: bool) -> np.ndarray:
    width = max(map(len, ids))
    tokens_BT = torch.tensor([[*row, *[0] * (width - len(row))] for row in ids])
    mask_BT = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])
    hidden_BTD = model(input_ids=tokens_BT, attention_mask=mask_BT).last_hidden_state
    weights_BT1 = mask_BT[:, :, None].to(hidden_BTD.dtype)
    pooled_BD = hidden_BTD[:, 0] if first else (hidden_BTD * weights_BT1).sum(1) / weights_BT1.sum(1)
    vectors: np.ndarray = torch.nn.functional.normalize(pooled_BD, dim=-1).numpy()
    return vectors
