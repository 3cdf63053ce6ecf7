"""Devices that people train on, as data: memory, arithmetic rate, bandwidth.

memory      as the driver reports it (nvidia-smi, rocm-smi), in MiB: a little under what is on the box
bf16        dense matrix products in bfloat16 with fp32 accumulation, TFLOP/s, without the sparsity that some tables count
bandwidth   of the device's memory, GB/s

From NVIDIA's data sheets (A10, L4, L40S, A100, H100, H200, B200) and white papers (GA102: RTX 3070, 3090, A6000; Ada: RTX 4080, 4090;
Blackwell: RTX 5090), and AMD's data sheet of the MI300X. RTX 3060 and 4060: twice their fp32 rate, as in the white papers' rows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pacos.errors import UsageError, did_you_mean

HERE = "this machine"


@dataclass(frozen=True)
class Efficiency:
    """The share of a device's peak that necessary arithmetic reaches, between `low` and `high`."""

    low: float
    high: float


EFFICIENCY = {"cpu": Efficiency(0.3, 0.65), "cuda": Efficiency(0.25, 0.55)}
"""Assumed where nothing was measured. CPU: from short runs, which also load, save and evaluate, to `fraction_of_peak` in
benchmarks/results/train.json; GPU: from an eager step to the 50 % that good trainers reach."""

LAUNCH_SECONDS = Efficiency(10e-6, 4e-6)
"""Assumed: what a GPU's operation takes at least, at the low and the high end. Small models on large GPUs wait for these."""


@dataclass(frozen=True)
class Device:
    """`memory` in bytes; `flops` a second of matrix products in the compute type; `bandwidth` in bytes a second."""

    name: str
    kind: str
    memory: int
    flops: float
    bandwidth: float = 0.0


def _gpu(name: str, mebibytes: int, teraflops: float, gigabytes: float) -> Device:
    return Device(name, "cuda", mebibytes << 20, teraflops * 1e12, gigabytes * 1e9)


DEVICES = (
    _gpu("RTX 4060 8GB", 8188, 30.2, 272),
    _gpu("RTX 3070 8GB", 8192, 40.6, 448),
    _gpu("RTX 3060 12GB", 12288, 25.5, 360),
    _gpu("RTX 4080 16GB", 16376, 97.5, 717),
    _gpu("L4 24GB", 23034, 121, 300),
    _gpu("A10 24GB", 23028, 125, 600),
    _gpu("RTX 3090 24GB", 24576, 71, 936),
    _gpu("RTX 4090 24GB", 24564, 165.2, 1008),
    _gpu("RTX 5090 32GB", 32607, 209.5, 1792),
    _gpu("A100 40GB", 40960, 312, 1555),
    _gpu("RTX A6000 48GB", 49140, 154.8, 768),
    _gpu("L40S 48GB", 46068, 362, 864),
    _gpu("A100 80GB", 81920, 312, 2039),
    _gpu("H100 80GB", 81559, 989, 3350),
    _gpu("H200 141GB", 143771, 989, 4800),
    _gpu("B200 180GB", 183359, 2250, 8000),
    _gpu("MI300X 192GB", 196592, 1307, 5300),
)

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
LARGEST_MEMORY = 2**60


def find_device(name: str) -> Device:
    """By name, however it is written: `RTX 4090`, rtx-4090, 4090, a100-80gb. Raises UsageError, with those that are known."""
    wanted = _letters(name)
    exact = [device for device in DEVICES if wanted in (_letters(device.name), _letters(device.name.rsplit(" ", 1)[0]))]
    found = exact or [device for device in DEVICES if wanted and wanted in _letters(device.name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"--hardware {name}: which one: {', '.join(device.name for device in found)}?")
    name, known = name or repr(name), [device.name for device in DEVICES]
    hint = did_you_mean(name, known)
    raise UsageError(f"--hardware {name}: not known{hint}\n  known: {HERE}, {', '.join(known)}; or give --memory 24GB")


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def parse_bytes(text: str) -> int:
    """24GB -> 24 * 10^9, 24GiB -> 24 * 2^30, 512M, 1e9. Raises UsageError."""
    match = re.fullmatch(r"\s*([0-9.]+(?:e\d+)?)\s*([KMGT]I?)?B?\s*", text, re.IGNORECASE)
    try:
        size = float(match[1]) * UNITS[(match[2] or "").upper()] if match else 0.0
    except ValueError:
        size = 0.0
    if not 1 <= size <= LARGEST_MEMORY:
        raise UsageError(f"--memory {text or repr(text)}: give a size, as in 24GB (10^9) or 24GiB (2^30)")
    return round(size)
