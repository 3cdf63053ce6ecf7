"""What this machine really does: its rate, and three real steps of a run with an evaluation.

The longest batch of the run comes first, as in training, so its memory is the run's peak; two more batches from within the
run follow. Seconds a unit of arithmetic of the three give the time of all steps with a 95 % t interval (2 degrees of freedom,
on logarithms, since times are positive and err by factors).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pacos.models import LoadedModel
from pacos.models.packs import make_packs
from pacos.training.devices import HERE, Device
from pacos.training.prepare import Prepared
from pacos.training.record import peak_memory_bytes
from pacos.training.run import pace_of
from pacos.training.symbolic import Trace
from pacos.training.train import evaluate, masked_cross_entropy, packs_of, update
from pacos.training.trainee import Trainee, set_up
from pacos.training.work import Count, Work, count, evaluation_flops, training_flops

T_95 = {2: 4.303}
"""Student's t, two-sided 95 %, by degrees of freedom."""
PROBE_SECONDS = 0.4
SIDE = {"cpu": 512, "cuda": 4096}
"""Of the matrices whose products tell the rate: 1 ms on two cores, and large enough to fill a GPU."""


@dataclass(frozen=True)
class Measured:
    """Seconds of the three steps and of the evaluation; of the whole run, as expected, low and high; peak bytes."""

    steps: tuple[float, ...]
    evaluation: float
    expected: float
    low: float
    high: float
    peak_memory_bytes: int
    flops_per_second: float


def this_machine(dtype: torch.dtype, place: torch.device) -> Device:
    """The device `place` of this machine: its memory, and its rate of matrix products in `dtype`, measured in half a second."""
    memory = torch.cuda.get_device_properties(place).total_memory if place.type == "cuda" else physical_memory()
    return Device(HERE, place.type, memory, matmul_flops(dtype, place))


def physical_memory() -> int:
    """Bytes of this machine, or of what its container is allowed."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text(encoding="ascii").strip() if limit.is_file() else "max"
    return min(whole, int(text)) if text.isdigit() else whole


def matmul_flops(dtype: torch.dtype, device: torch.device, size: int = 0) -> float:
    """FLOP/s of products of two square matrices in `dtype`: the best of many, since other work only slows them.

    On a CPU they are small: one ends within a turn that the system gives, so the rate is that of a free machine on a busy one too.
    """
    size = size or SIDE[device.type]
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best, ends = math.inf, time.perf_counter() + PROBE_SECONDS
    while best is math.inf or time.perf_counter() < ends:
        began = time.perf_counter()
        torch.mm(a, b)
        _wait(device)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def measure(prepared: Prepared, loaded: LoadedModel, trace: Trace, work: Work) -> Measured:
    """Three steps and an evaluation of the run. The learning rate is zero, so nothing is learned; nothing is kept."""
    recipe, config = prepared.recipe, loaded.model.config
    trainee = set_up(recipe, loaded)
    trainee.network.model.train()
    longest, *others = packs_of_three(prepared)
    timed_step(trainee, longest[:1])  # memory is fetched and kernels are made for the first time: not timed
    seconds, rates = [], []
    for packs in (longest, *others):
        seconds.append(timed_step(trainee, packs))
        rates.append(seconds[-1] / training_flops(trace, config, recipe, count(packs)))
    took, watched = timed_evaluation(trainee, prepared)
    per_flop, low, high = interval(rates)
    flops = training_flops(trace, config, recipe, work.training)
    whole = evaluation_flops(trace, config, work.evaluation)
    watching = took * whole / evaluation_flops(trace, config, watched) if took else 0.0
    expected, low, high = (flops * each + watching for each in (per_flop, low, high))
    peak = peak_memory_bytes(loaded.device.type)
    return Measured(tuple(seconds), took, expected, low, high, peak, 1 / per_flop)


def packs_of_three(prepared: Prepared) -> list[list[Any]]:
    """The packs of the longest batch, then of those at a third and two thirds of the run."""
    pace, rows = pace_of(prepared), prepared.train.rendered
    batches = prepared.batches
    groups = [batches.longest(pace.steps), *(batches.of_step(pace.steps * i // 3) for i in (1, 2))]
    return [packs_of(each, rows, pace) for each in groups]


def timed_step(trainee: Trainee, packs: Sequence[Any]) -> float:
    began = time.perf_counter()
    update(trainee.network, trainee.masters, trainee.optimizer, packs, 0.0, 1.0, masked_cross_entropy, -1)
    _wait(trainee.loaded.device)
    return time.perf_counter() - began


def timed_evaluation(trainee: Trainee, prepared: Prepared) -> tuple[float, Count]:
    """Seconds of an evaluation of a pack of the watched rows, the longest among them; and what it computed."""
    rows, size = sorted(prepared.watched, key=lambda row: -len(row.ids)), prepared.recipe.train.pack_tokens
    if not rows:
        return 0.0, Count()
    some = rows[: max(1, size // len(rows[0].ids))]
    began = time.perf_counter()
    evaluate(trainee.network, some, size)
    _wait(trainee.loaded.device)
    return time.perf_counter() - began, count(make_packs(some, size))


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean and its 95 % t interval."""
    logs = [math.log(value) for value in values]
    mean = sum(logs) / len(logs)
    spread = math.sqrt(sum((x - mean) ** 2 for x in logs) / (len(logs) - 1))
    reach = T_95[len(logs) - 1] * spread / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - reach), math.exp(mean + reach)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
