"""Whether the measuring of an export fits into memory, told before anything is written.

Writing holds one matrix at a time; measuring runs the whole model in fp32, 4 bytes a weight. A model that does not fit
would be killed by the system half an hour later, without a word.
"""

from __future__ import annotations

from pathlib import Path

from pacos.errors import ResourceError
from pacos.export.tensors import Weights
from pacos.models.load import pick_device

MEMINFO = Path("/proc/meminfo")


def need_memory(weights: Weights, name: str) -> None:
    """Raises ResourceError where the model in fp32 does not fit into the memory that is free."""
    needed = 4 * sum(slot.nbytes // slot.dtype.itemsize for slot in weights.slots.values())
    free = free_memory()
    if pick_device("auto").type == "cpu" and free is not None and needed > free:
        raise ResourceError(
            f"{name}: measuring it takes {needed / 1e9:.1f} GB, since it is run in fp32, and {free / 1e9:.1f} GB of memory "
            "are free. An export is not done before it is measured: free some memory, or export on a larger machine"
        )


def free_memory() -> int | None:
    """Bytes that the system can still give, swap included; None where it does not say (Linux alone does)."""
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kilobytes = {key: int(rest.split()[0]) for key, _, rest in (line.partition(":") for line in lines)}
    if "MemAvailable" not in kilobytes:
        return None
    return 1024 * (kilobytes["MemAvailable"] + kilobytes.get("SwapFree", 0))
