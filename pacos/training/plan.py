"""What a run will take, before anything is spent: memory, time and dollars, by method and device.

    recipe -> config (no weights) + work (tokens, steps) -> step on shapes -> memory by part
                                                         -> arithmetic / (peak rate * efficiency) -> time -> dollars

Time is a range, from the low to the high end of the efficiency that is assumed of the device, or that was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from pacos.errors import UserError
from pacos.models.load import DTYPES, pick_device, pick_dtype, read_config
from pacos.models.packs import build_pack, make_packs
from pacos.models.source import resolve
from pacos.recipes import Recipe, recipe_from_tree, resolved_tree
from pacos.training.devices import EFFICIENCY, LAUNCH_SECONDS, Device, Efficiency
from pacos.training.known import known_config
from pacos.training.memory import Demand, Memory, demand_of, on_device, resident_bytes
from pacos.training.prepare import Prepared
from pacos.training.work import LARGEST, Work, evaluation_flops, filled, training_flops, work_of

LORA, QLORA, FULL, EIGHT = "lora", "qlora", "full", "lora, 8-bit base"
METHODS = (FULL, LORA, EIGHT, QLORA)
STEP_OF_PACKS = 64


@dataclass(frozen=True)
class Estimate:
    """One method on one device, or on several that share the work. `seconds` and `dollars`: low and high; None where the
    device's rate (the price) is not known. `largest_pack` in tokens, 0 where not even one row fits."""

    method: str
    device: Device
    devices: int
    memory: Memory
    largest_pack: int
    pack_tokens: int
    rows_in_largest_pack: float
    seconds: tuple[float, float] | None
    dollars: tuple[float, float] | None

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.device.memory

    @property
    def trains(self) -> bool:
        """Whether pacos can do it: 8-bit bases are planned only."""
        return self.method != EIGHT


@dataclass
class Plan:
    """A recipe with all that its estimates are made from. Demands are kept: one trace serves all devices."""

    recipe: Recipe
    config: Any
    work: Work
    runtime: int
    kept: dict[Any, Demand] = field(default_factory=dict)

    def estimate(
        self,
        method: str,
        device: Device,
        *,
        devices: int = 1,
        price: float | None = None,
        efficiency: Efficiency | None = None,
    ) -> Estimate:
        recipe, dtype = as_method(self.recipe, method), dtype_on(self.recipe, device)
        own = self.demand(recipe, dtype)
        seconds = self.seconds(recipe, own, device, devices, efficiency or EFFICIENCY[device.kind])
        dollars = None if seconds is None or price is None else spent(seconds, price * devices)
        largest = self.largest_pack(method, recipe, dtype, device, devices)
        memory = self.memory(method, own, device, devices)
        rows = largest / self.work.mean_row
        return Estimate(method, device, devices, memory, largest, own.pack_tokens, rows, seconds, dollars)

    def memory(self, method: str, demand: Demand, device: Device, devices: int) -> Memory:
        found = on_device(demand, device.kind, self.runtime, devices)
        return in_eight_bits(found, demand, devices) if method == EIGHT else found

    def demand(self, recipe: Recipe, dtype: torch.dtype, size: int = 0) -> Demand:
        """Of the longest batch's first pack; with `size`, of a pack that holds about so many tokens.

        Raises UserError for a family whose code does not run on shapes.
        """
        key = (recipe.method, dtype, size, recipe.train.gradient_checkpointing, recipe.train.pack_tokens)
        if key not in self.kept:
            rows = filled([self.work.longest[0], *self.work.sample], size) if size else self.work.longest
            packs = [build_pack(rows)] if size else make_packs(rows, recipe.train.pack_tokens)
            with explained(recipe, self.config):
                self.kept[key] = demand_of(recipe, self.config, dtype, packs)
        return self.kept[key]

    def largest_pack(self, method: str, recipe: Recipe, dtype: torch.dtype, device: Device, devices: int) -> int:
        """The most tokens of a pack that fit: bytes grow in proportion, so two packs tell."""
        size = min(recipe.train.pack_tokens, LARGEST // 2)
        few, more = (self.demand(recipe, dtype, tokens) for tokens in (size, 2 * size))
        if more.pack_tokens == few.pack_tokens:  # a row alone is longer than either
            return few.pack_tokens if self.memory(method, few, device, devices).total <= device.memory else 0
        bytes_few, bytes_more = (self.memory(method, one, device, devices).total for one in (few, more))
        if bytes_more <= bytes_few:
            return LARGEST
        each = (bytes_more - bytes_few) / (more.pack_tokens - few.pack_tokens)
        most = few.pack_tokens + (device.memory - bytes_few) / each
        return max(0, min(LARGEST, int(most) // STEP_OF_PACKS * STEP_OF_PACKS))

    def seconds(
        self, recipe: Recipe, demand: Demand, device: Device, devices: int, efficiency: Efficiency
    ) -> tuple[float, float] | None:
        if not device.flops:
            return None
        flops = self.flops(recipe, demand) / devices
        launches = demand.trace.operations * self.work.training.packs / devices * (device.kind == "cuda")
        high = flops / device.flops / efficiency.low + launches * LAUNCH_SECONDS.low
        return flops / device.flops / efficiency.high + launches * LAUNCH_SECONDS.high, high

    def flops(self, recipe: Recipe, demand: Demand) -> float:
        """Arithmetic of the whole run, evaluations among it."""
        trained = training_flops(demand.trace, self.config, recipe, self.work.training)
        return trained + evaluation_flops(demand.trace, self.config, self.work.evaluation)

    def remedies(self, device: Device, devices: int) -> Iterator[str]:
        """What would make the recipe as it is written fit, a line each."""
        for text, changed, number in changes(self.recipe, devices):
            other = replace(self, recipe=changed, kept=dict(self.kept))
            estimate = other.estimate(changed.method, device, devices=number)
            if estimate.fits:
                yield f"{text}: {estimate.memory.total / 2**30:.1f} GiB"
            elif estimate.largest_pack >= 256:
                yield f"{text} --set train.pack_tokens={min(estimate.largest_pack, changed.train.pack_tokens)}"


def changes(recipe: Recipe, devices: int) -> Iterator[tuple[str, Recipe, int]]:
    """Options to give, the recipe with them, and the number of devices: from the least change to the largest."""
    checkpointed = with_checkpointing(recipe)
    if not recipe.train.gradient_checkpointing:
        yield "--set train.gradient_checkpointing=true", checkpointed, devices
    if recipe.method != QLORA:
        lora = "--set method=qlora" + (" (adapters in place of all weights)" if recipe.method == FULL else "")
        yield lora, as_method(recipe, QLORA), devices
    for number in (2, 4, 8):
        if number > devices:
            yield f"--gpus {number}", recipe, number
    yield f"--gpus {max(8, devices)} --set train.gradient_checkpointing=true", checkpointed, max(8, devices)


@contextmanager
def explained(recipe: Recipe, config: Any) -> Iterator[None]:
    """Whatever the code of any family raises where tensors hold nothing, or by a config that contradicts itself, as a line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:160]
        raise UserError(
            f"{recipe.model.base}: cannot be planned: the step of model type '{config.model_type}' does not run on shapes "
            f"({type(error).__name__}: {said}); pacos train may still run it, with train.max_steps=3 to see its memory"
        ) from None


def with_checkpointing(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"gradient_checkpointing": True})})


def as_method(recipe: Recipe, method: str) -> Recipe:
    """The same recipe by another method, with that method's defaults where it says nothing."""
    method = LORA if method == EIGHT else method
    if method == recipe.method:
        return recipe
    tree = resolved_tree(recipe) | {"method": method}
    tree["model"].pop("double_quant", None)
    if method == FULL:
        tree.pop("lora", None)
    if not tree["train"].get("batch_tokens"):
        tree["train"].pop("batch_tokens", None)
    return recipe_from_tree(tree, recipe.name)


def in_eight_bits(memory: Memory, demand: Demand, devices: int) -> Memory:
    """The layers' matrices at one byte a weight (LLM.int8, arXiv:2208.07339), everything else as with LoRA. Planned only."""
    saved = demand.trace.layers * (demand.width - 1)
    return replace(memory, weights=memory.weights - round(saved / devices))


def spent(seconds: tuple[float, float], dollars_per_hour: float) -> tuple[float, float]:
    return seconds[0] / 3600 * dollars_per_hour, seconds[1] / 3600 * dollars_per_hour


def dtype_on(recipe: Recipe, device: Device) -> torch.dtype:
    """The compute type: as the recipe says; auto takes bf16 on every GPU of the table, on a CPU what this one multiplies."""
    if recipe.model.dtype != "auto":
        return DTYPES[recipe.model.dtype]
    return torch.bfloat16 if device.kind == "cuda" else pick_dtype("auto", torch.device("cpu"))


def config_of(recipe: Recipe, tell: Callable[[str], None]) -> Any:
    """The model's transformers config, from where the recipe finds it, or from what is published. No weights are read."""
    name = recipe.model.base
    try:
        return read_config(resolve(name, recipe.model.revision, weights=False))
    except UserError:
        known = known_config(name)
        if known is None:
            raise
        tell(f"{name}: planned by its published shapes; its files are not at hand")
        return known


def make_plan(recipe: Recipe, work: Work, config: Any, runtime: int | None = None) -> Plan:
    """A plan; `runtime` as measured of this process where it is not given."""
    return Plan(recipe, config, work, resident_bytes() if runtime is None else runtime)


def memory_here(prepared: Prepared, tell: Callable[[str], None]) -> Memory:
    """The peak of a run on this machine, on the device that the recipe names."""
    recipe, place = prepared.recipe, pick_device(prepared.recipe.model.device)
    plan = make_plan(recipe, work_of(prepared), config_of(recipe, tell))
    return on_device(plan.demand(recipe, pick_dtype(recipe.model.dtype, place)), place.type, plan.runtime)


def methods_of(recipe: Recipe) -> Sequence[str]:
    """All of them, the recipe's own first."""
    return [recipe.method, *(method for method in METHODS if method != recipe.method)]
