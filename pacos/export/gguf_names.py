"""A model's tensors as GGUF has them: other names, some rows in another order, Gemma's norms with the one added.

    llama, mistral   q and k rows: llama.cpp turns neighbouring pairs of a head, transformers its two halves
                     (heads, 2, d/2) -> (heads, d/2, 2)
    gemma2           norms hold 1 + w
    others           as they are

Names are the gguf package's; `to_gguf` and `from_gguf` are each other's inverse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from pacos.errors import UsageError
from pacos.export.tensors import Slot

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "phi3": "phi3", "qwen2": "qwen2", "gemma2": "gemma2"}
"""transformers' model type -> llama.cpp's architecture."""
LEFT_OUT = (".rotary_emb.inv_freq",)


@dataclass(frozen=True)
class Names:
    """The names of one model, by its config.json. Raises UsageError for a family that is not known."""

    config: Mapping[str, Any]

    def __post_init__(self) -> None:
        kind = self.config.get("model_type")
        if kind not in ARCHITECTURES:
            raise UsageError(f"model type '{kind}' has no GGUF form here; known: {', '.join(ARCHITECTURES)}")

    @property
    def architecture(self) -> str:
        return ARCHITECTURES[self.config["model_type"]]

    @cached_property
    def _table(self) -> Any:
        import gguf

        key = next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == self.architecture)
        return gguf.get_tensor_name_map(key, self.config["num_hidden_layers"])

    def of(self, name: str) -> str | None:
        """The GGUF name of a tensor, or None where GGUF has no place for it."""
        stem, _, suffix = name.rpartition(".")
        found = self._table.get_name(stem) or self._table.get_name(f"model.{stem}")
        return f"{found}.{suffix}" if found else None

    def all(self, slots: Mapping[str, Slot]) -> dict[str, str]:
        """Tensor name -> GGUF name. A tied head is left out. Raises UsageError that lists what has no place."""
        tied = bool(self.config.get("tie_word_embeddings"))
        found: dict[str, str] = {}
        homeless = []
        for name in slots:
            if name.endswith(LEFT_OUT) or (tied and name == "lm_head.weight"):
                continue
            if (gguf_name := self.of(name)) is None:
                homeless.append(name)
            else:
                found[name] = gguf_name
        if homeless:
            raise UsageError(f"GGUF architecture '{self.architecture}' has no place for: {', '.join(homeless[:5])}")
        return found

    def to_gguf(self, gguf_name: str, tensor: Tensor) -> Tensor:
        """The values as GGUF orders them; of a matrix, a bias, or the B of an adapter (out, rank)."""
        if heads := self._turned_heads(gguf_name):
            return tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
        return tensor + 1 if self._adds_one(gguf_name) else tensor

    def from_gguf(self, gguf_name: str, tensor: Tensor) -> Tensor:
        if heads := self._turned_heads(gguf_name):
            return tensor.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)
        return tensor - 1 if self._adds_one(gguf_name) else tensor

    def _turned_heads(self, gguf_name: str) -> int:
        if self.architecture != "llama":
            return 0
        q = int(self.config["num_attention_heads"])
        if ".attn_q." in gguf_name:
            return q
        return int(self.config.get("num_key_value_heads") or q) if ".attn_k." in gguf_name else 0

    def _adds_one(self, gguf_name: str) -> bool:
        return self.architecture == "gemma2" and gguf_name.endswith("norm.weight")


def ordered(names: Sequence[str]) -> list[str]:
    """GGUF names by layer, embeddings first, the head last: the order in which a difference is looked for."""
    return sorted(names, key=_place)


def _place(name: str) -> tuple[int, str]:
    pieces = name.split(".")
    if pieces[0] == "blk":
        return int(pieces[1]), name
    return (-1 if pieces[0] == "token_embd" else 1 << 30), name
