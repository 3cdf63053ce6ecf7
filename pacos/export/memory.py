"""Whether a model fits into memory to be measured, told before anything is written.

Writing holds one matrix at a time; measuring runs the whole model in fp32, 4 bytes a weight. A model that does not fit
would be killed by the system half an hour later, without a word; it is measured a layer at a time (stream.py).
"""

from __future__ import annotations

from pacos.errors import ResourceError
from pacos.export.observe import LARGEST
from pacos.export.tensors import Weights
from pacos.models.host_memory import free_memory
from pacos.models.load import pick_device


def needed(weights: Weights) -> int:
    """Bytes of the model in fp32, and of the logits that are kept."""
    return 4 * (sum(slot.nbytes // slot.dtype.itemsize for slot in weights.slots.values()) + LARGEST)


def fits(weights: Weights) -> bool:
    """False where the model in fp32 does not fit into the memory that is free; of a GPU's nothing is told."""
    free = free_memory(swap=True)
    return pick_device("auto").type != "cpu" or free is None or needed(weights) <= free


def need_memory(weights: Weights, name: str, why: str = "") -> None:
    """Raises ResourceError where the model in fp32 does not fit into the memory that is free."""
    if not fits(weights):
        raise ResourceError(
            f"{name}: measuring it takes {needed(weights) / 1e9:.1f} GB, since it is run in fp32, and "
            f"{(free_memory(swap=True) or 0) / 1e9:.1f} GB of memory are free{why}. An export is not done before it is measured: "
            "free some memory, or export on a larger machine"
        )
