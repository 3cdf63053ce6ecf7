"""What the libraries below hold of a machine's memory beyond what is asked of them, and how they are told to hold less.

Three holders, each measured on SmolLM2-135M with packs of 512 tokens:

oneDNN and the layer above it keep what they compiled for each shape of a product, 1,024 of them: 16 MB for each number of
    tokens that a pack can have, 1.6 GB after 40 packs where 1.0 GB do. 32 are more than a step needs.
glibc keeps freed blocks for requests to come, and what lies between them is lost. See `give_back_memory`.
A file of weights stays mapped as long as one tensor still lies in it. See `off_file`.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

M_MMAP_THRESHOLD = -3
"""glibc's number for it in malloc.h; setting it also ends its growing by itself."""
LARGE = 2 << 20
"""Bytes of a block from which on glibc asks the system for it alone, where memory is short."""
CACHES = {"LRU_CACHE_CAPACITY": "32", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64"}

MEMINFO = Path("/proc/meminfo")


def bound_kernel_caches() -> None:
    """Have torch keep few compiled products; what the environment says stays. To be called before the first product."""
    for name, capacity in CACHES.items():
        os.environ.setdefault(name, capacity)


@cache
def glibc() -> Any:
    """The C library, or None where it is not glibc."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None


@cache
def give_back_memory() -> bool:
    """Have glibc return each large freed block to the system at once, for the life of the process. False without glibc.

    By itself it keeps blocks up to 32 MB, between which memory is lost: 1.8 of 8 GB in a step at Phi-3-mini's shapes with
    4-bit weights, .35 of 1.6 GB in a checkpointed step of SmolLM2 in fp32. Fetching blocks anew takes time, 8 to 20 % of a
    small model's step: worth it where memory is what is short.
    """
    library = glibc()
    return library is not None and bool(library.mallopt(M_MMAP_THRESHOLD, LARGE))


def trim() -> None:
    """Return what is free now to the system, as after loading."""
    if (library := glibc()) is not None:
        library.malloc_trim(0)


def off_file(tensors: Iterable[Tensor]) -> None:
    """Move each tensor to memory of its own, so that the file it was read from is unmapped: it counts in full until then."""
    for tensor in tensors:
        tensor.data = tensor.data.clone()


def free_memory(*, swap: bool = False) -> int | None:
    """Bytes that the system can still give, with `swap` those it would have to write elsewhere too; None where it does not
    say (Linux alone does)."""
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kilobytes = {key: int(rest.split()[0]) for key, _, rest in (line.partition(":") for line in lines)}
    if "MemAvailable" not in kilobytes:
        return None
    return 1024 * (kilobytes["MemAvailable"] + swap * kilobytes.get("SwapFree", 0))
