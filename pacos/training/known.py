"""Published facts that let a run be planned offline: the shapes of well-known models, the size of well-known data.

Shapes are those of the models' config.json. Alpaca's tokens were counted with SmolLM2's tokenizer and the Alpaca template
(Llama's and Phi-3's need about a fifth more); those of alpaca-cleaned are reckoned from the size of its file, 1.9 times Alpaca's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pacos.models.geometry import GEOMETRIES, Geometry

LLAMA_2_7B, PHI_3_MINI, SMOLLM2 = (GEOMETRIES[name] for name in ("llama-2-7b", "phi-3-mini", "smollm2-135m"))


def _shape(kind: str, sizes: tuple[int, int, int, int, int, int], *, tied: bool = False, **more: Any) -> Geometry:
    """sizes: hidden, intermediate, layers, heads, key-value heads, vocabulary."""
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    shape = dict(zip((*names, "vocab_size"), sizes, strict=True))
    return Geometry(kind, {**shape, "tie_word_embeddings": tied, "max_position_embeddings": 4096, **more})


MISTRAL_7B = _shape("mistral", (4096, 14336, 32, 32, 8, 32000), sliding_window=4096)
LLAMA_31_8B = _shape("llama", (4096, 14336, 32, 32, 8, 128256))
LLAMA_32_1B = _shape("llama", (2048, 8192, 16, 32, 8, 128256), tied=True, head_dim=64)
LLAMA_32_3B = _shape("llama", (3072, 8192, 28, 24, 8, 128256), tied=True, head_dim=128)
GEMMA_2_2B = _shape("gemma2", (2304, 9216, 26, 8, 4, 256000), tied=True, head_dim=256, query_pre_attn_scalar=256)
QWEN_05B = _shape("qwen2", (896, 4864, 24, 14, 2, 151936), tied=True)
QWEN_15B = _shape("qwen2", (1536, 8960, 28, 12, 2, 151936), tied=True)
QWEN_7B = _shape("qwen2", (3584, 18944, 28, 28, 4, 152064))

MODELS = {
    "microsoft/Phi-3-mini-4k-instruct": PHI_3_MINI,
    "meta-llama/Llama-2-7b-hf": LLAMA_2_7B,
    "meta-llama/Llama-2-7b-chat-hf": LLAMA_2_7B,
    "huggyllama/llama-7b": LLAMA_2_7B,
    "meta-llama/Llama-3.1-8B": LLAMA_31_8B,
    "meta-llama/Llama-3.1-8B-Instruct": LLAMA_31_8B,
    "meta-llama/Llama-3.2-1B": LLAMA_32_1B,
    "meta-llama/Llama-3.2-1B-Instruct": LLAMA_32_1B,
    "meta-llama/Llama-3.2-3B": LLAMA_32_3B,
    "meta-llama/Llama-3.2-3B-Instruct": LLAMA_32_3B,
    "mistralai/Mistral-7B-v0.1": MISTRAL_7B,
    "mistralai/Mistral-7B-Instruct-v0.2": MISTRAL_7B,
    "google/gemma-2-2b": GEMMA_2_2B,
    "google/gemma-2-2b-it": GEMMA_2_2B,
    "Qwen/Qwen2.5-0.5B": QWEN_05B,
    "Qwen/Qwen2.5-0.5B-Instruct": QWEN_05B,
    "Qwen/Qwen2.5-1.5B": QWEN_15B,
    "Qwen/Qwen2.5-1.5B-Instruct": QWEN_15B,
    "Qwen/Qwen2.5-7B": QWEN_7B,
    "Qwen/Qwen2.5-7B-Instruct": QWEN_7B,
    "HuggingFaceTB/SmolLM2-135M": SMOLLM2,
    "HuggingFaceTB/SmolLM2-135M-Instruct": SMOLLM2,
    "smollm2-135m-instruct": SMOLLM2,
}


@dataclass(frozen=True)
class KnownData:
    """Rows; tokens of a row, the mean of them, of their squares, and the longest; the share of tokens that carry loss."""

    rows: int
    mean: float
    mean_square: float
    longest: int
    targets: float


DATA = {
    "tatsu-lab/alpaca": KnownData(52002, 112, 15756, 1147, 0.52),
    "yahma/alpaca-cleaned": KnownData(51760, 210, 60000, 2000, 0.7),
}


def known_config(name: str) -> Any | None:
    """The transformers config of a well-known model, None for others."""
    from transformers import AutoConfig

    known = MODELS.get(name)
    return None if known is None else AutoConfig.for_model(known.kind, **known.shape)
