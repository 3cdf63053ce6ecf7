"""What a run needs of memory, from the model's configuration alone: the step run on shapes (symbolic.py), and what it stands in.

weights      the model's, in its compute type; NF4 ones packed, with their scales
trained      adapters, or the fp32 masters of 16-bit weights
gradients    of what is trained
optimizer    two fp32 moments (8 bytes a trained number), or two 8-bit ones
activations  what the backward pass keeps of the largest pack, and what the layer at hand computes with
logits       whatever has the vocabulary as a side: a piece of the cross entropy, the gradient of a trained head
runtime      Python and the libraries, or the CUDA context; and what the allocator holds beyond what is asked of it
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from pacos.models.packs import Pack
from pacos.recipes import Recipe
from pacos.training.symbolic import Trace, trace

EIGHT_BIT = 2 + 2 * 4 / 256
"""Bytes a trained number of bitsandbytes' 8-bit AdamW: two of state, and two fp32 scales a block of 256."""
CUDA_CONTEXT = 600 << 20
"""Assumed: the context, the kernels and the workspaces of cuBLAS, before the first tensor."""
CUDA_SLACK = 0.06
"""Assumed: what the caching allocator holds and cannot use, as a share of all that comes and goes."""
CPU_SLACK = 70 << 20
"""What the libraries and glibc's allocator take beyond what is asked of them; set by hand, as the three below, to the 24 peaks
of benchmarks/memory.py."""
CPU_SHARE = 0.24
"""What glibc's allocator holds and cannot give back, as a share of activations and logits, which come and go."""
GIVEN_BACK_SLACK = 130 << 20
"""In place of both, where large blocks are given back at once: with NF4 weights, and with checkpointing."""
NF4_SLACK = 40 << 20
"""bitsandbytes, and the matrix that is unpacked."""


@dataclass(frozen=True)
class Memory:
    """Bytes at the highest point of a run, which is in `phase`: load, forward, backward, gradients, step or evaluation."""

    weights: int = 0
    trained: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    logits: int = 0
    runtime: int = 0
    phase: str = ""

    @property
    def parts(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "phase"}

    @property
    def total(self) -> int:
        return sum(self.parts.values())


@dataclass(frozen=True)
class Demand:
    """What one recipe asks of a device, whichever it is: its trace, and how it is optimized."""

    recipe: Recipe
    trace: Trace
    pack_tokens: int
    width: int
    """Bytes of a number in the compute type."""
    read_bytes: int = 0
    """Of the files that are mapped while their numbers are turned into another type; 0 where the files are the weights."""

    @property
    def optimizer(self) -> int:
        """Bytes of the optimizer's state."""
        each = 8 if self.recipe.train.optimizer == "adamw" else EIGHT_BIT
        return round(self.trace.trained * each)

    @property
    def gives_back(self) -> bool:
        """Whether a run on a CPU has large blocks of memory given back at once."""
        return self.recipe.method == "qlora" or self.recipe.train.gradient_checkpointing

    def memory(self, runtime: int, *, slack_share: float = 0.0, devices: int = 1) -> Memory:
        """The phase that takes most, on each of `devices` that divide the weights. `runtime`: bytes taken by all else."""
        found = (self.at(phase, runtime, devices) for phase in self.trace.peaks)
        return max((slackened(m, slack_share, m.gradients) for m in found), key=lambda m: m.total)

    def memory_on_cpu(self, runtime: int, *, devices: int = 1) -> Memory:
        """The same with what a CPU's libraries and allocator hold besides."""
        nf4 = NF4_SLACK * (self.recipe.method == "qlora")
        slack, share = (GIVEN_BACK_SLACK, 0.0) if self.gives_back else (CPU_SLACK, CPU_SHARE)
        loading = self.at("load", runtime + CPU_SLACK + nf4 + self.read_bytes, devices)
        rest = (self.at(phase, runtime + slack + nf4, devices) for phase in self.trace.peaks if phase != "load")
        return max((loading, *(slackened(m, share) for m in rest)), key=lambda m: m.total)

    def at(self, phase: str, runtime: int, devices: int = 1) -> Memory:
        """One phase's highest point."""
        live = self.trace.peaks[phase]
        optimizer = 0 if phase == "load" else self.optimizer
        found = Memory(optimizer=optimizer, phase=phase, **{name: live.get(name, 0) for name in PARTS})
        if devices > 1:
            found = divided(found, self.trace, self.recipe, devices)
        return replace(found, runtime=runtime)


def slackened(memory: Memory, share: float, more: int = 0) -> Memory:
    """With a share of what comes and goes, which the allocator holds: activations, logits and `more` bytes."""
    return replace(memory, runtime=memory.runtime + round(share * (memory.activations + memory.logits + more)))


PARTS = ("weights", "trained", "gradients", "activations", "logits")


def divided(memory: Memory, trace: Trace, recipe: Recipe, devices: int) -> Memory:
    """The same on each of several devices under FSDP2: see sharding.py for who holds what.

    Each loads the whole model, then keeps its part. Gathered while they are needed: what lies outside the layers, and two
    layers (the one at hand and the next).
    """
    if not recipe.train.shard:
        return memory
    loading, gathered = memory.phase == "load", trace.outside_bytes + 2 * trace.layer_bytes
    if recipe.method != "full":
        return memory if loading else replace(memory, weights=memory.weights // devices + gathered)
    return replace(
        memory,
        weights=memory.weights if loading else gathered,
        trained=4 * trace.trained // devices,  # in place of the weights: nothing is kept in the compute type
        gradients=memory.gradients // devices + (2 * trace.layer_bytes if memory.gradients else 0),
        optimizer=memory.optimizer // devices,
    )


def demand_of(recipe: Recipe, config: Any, dtype: torch.dtype, packs: Sequence[Pack]) -> Demand:
    """Run the recipe's step on shapes, on the first of `packs`; a second time, on top of its gradients, where there are more.

    `config` is a transformers config.
    """
    traced = trace_deep(recipe, config, dtype, packs[0], 2 if len(packs) > 1 else 1)
    stored = getattr(config, "dtype", None) or torch.bfloat16
    turned = recipe.method == "qlora" or stored != dtype
    weights = traced.layers + traced.outside_bytes // dtype.itemsize
    return Demand(recipe, traced, packs[0].num_tokens, dtype.itemsize, turned * weights * stored.itemsize)


def trace_deep(recipe: Recipe, config: Any, dtype: torch.dtype, pack: Pack, passes: int = 1) -> Trace:
    """The trace of the whole model from two shallow ones: each further layer adds what the last one added.

    Bytes at a phase's beginning and end grow by the same amount with each layer, and its peak is at one of them.
    """
    text = config.get_text_config()
    period, layers = layer_period(text), text.num_hidden_layers
    if layers <= 4 * period:
        return trace(recipe, config, dtype, pack, passes)
    few = 2 * period + layers % period
    a, b = (trace(recipe, shallow(config, depth), dtype, pack, passes) for depth in (few, few + period))
    return a.deepened(b, (layers - few) // period)


def layer_period(text: Any) -> int:
    """After how many layers their kinds repeat: 2 in Gemma 2, which has a window in every other one."""
    kinds = list(getattr(text, "layer_types", None) or ())
    return next((n for n in range(1, len(kinds)) if kinds[n:] == kinds[:-n]), max(1, len(kinds))) if kinds else 1


def shallow(config: Any, layers: int) -> Any:
    """The same config with its first few layers alone."""
    few = copy.deepcopy(config)
    text = few.get_text_config()
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        with suppress(AttributeError):  # Bamba tells them by the number of layers
            text.layer_types = list(text.layer_types)[:layers]
    return few


def resident_bytes() -> int:
    """Memory of this process now: Python and the libraries, before there is a model."""
    from pacos.training.record import peak_memory_bytes

    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS"))
    except (OSError, StopIteration):
        return peak_memory_bytes("cpu")


def on_device(demand: Demand, kind: str, runtime: int, devices: int = 1) -> Memory:
    """The peak on a CPU, whose libraries take `runtime` bytes, or on each of `devices` GPUs. `kind`: cpu or cuda."""
    if kind == "cpu":
        return demand.memory_on_cpu(runtime, devices=devices)
    return demand.memory(CUDA_CONTEXT, slack_share=CUDA_SLACK, devices=devices)
