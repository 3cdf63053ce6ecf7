"""Models: loading, attention by layout, LoRA with fused-projection targets, 4-bit, adapters on disk.

Names are imported when first used, so that what needs no torch (the catalog) does not load it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pacos.lazy import lazy
from pacos.models.host_memory import bound_kernel_caches

if TYPE_CHECKING:
    from pacos.models.adapters import load_adapter, save_adapter
    from pacos.models.attention import Layout, Packed
    from pacos.models.load import LoadedModel, load_model, load_tokenizer
    from pacos.models.lora import Adapter, LoraSpec, attach, unwrap
    from pacos.models.network import Network

__all__ = [
    "Adapter",
    "Layout",
    "LoadedModel",
    "LoraSpec",
    "Network",
    "Packed",
    "attach",
    "load_adapter",
    "load_model",
    "load_tokenizer",
    "save_adapter",
    "unwrap",
]

bound_kernel_caches()

__getattr__ = lazy(
    __name__,
    {
        "load_adapter": "adapters",
        "save_adapter": "adapters",
        "Layout": "attention",
        "Packed": "attention",
        "LoadedModel": "load",
        "load_model": "load",
        "load_tokenizer": "load",
        "Adapter": "lora",
        "LoraSpec": "lora",
        "attach": "lora",
        "unwrap": "lora",
        "Network": "network",
    },
)
