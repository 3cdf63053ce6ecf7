"""The training step run on shapes alone, with every tensor that it makes noted from its birth to its end.

    the real code of the step, on torch's meta device  ->  [+bytes, +bytes, -bytes, ...]  ->  bytes by part at each phase's peak

Nothing is computed and no weight is needed, and what is counted is what the step's own code keeps: there are no coefficients
here that could go stale. Phases: load, forward, backward, gradients (the backward pass of the first layer, its last), step, evaluation.
Parts: weights, trained (masters and adapters), gradients, activations, logits. The optimizer's state is not among them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pacos.models import LoadedModel, Network, Packed
from pacos.models.packs import Pack
from pacos.models.quantize import count_parameters
from pacos.models.quiet import quiet
from pacos.recipes import Recipe
from pacos.training.shapes import META, grouped_product, kernels_by_shape, num_bytes, shape_of, tensors_of
from pacos.training.sharding import decoder_layers
from pacos.training.train import accumulate, masked_cross_entropy
from pacos.training.trainee import Trainee, set_up

Bytes = dict[str, int]
"""Part -> bytes."""


@dataclass(frozen=True)
class Trace:
    """`peaks`: phase -> bytes by part at its highest point. The rest are numbers of the model: weights in the `layers`, in
    the `head`, in `adapters`, all that are `trained`; bytes of one layer, and of all that lies `outside` the layers;
    `operations` that a device is told to do in a step.
    """

    peaks: dict[str, Bytes]
    layers: int
    head: int
    adapters: int
    trained: int
    layer_bytes: int
    outside_bytes: int
    operations: int

    def deepened(self, next: Trace, times: int) -> Trace:
        """This model with `times` as much more as `next`, which has a few layers more, has."""
        counts = {f.name: (getattr(self, f.name), getattr(next, f.name)) for f in fields(self) if f.name != "peaks"}
        peaks = {
            phase: {part: a + times * (next.peaks[phase].get(part, 0) - a) for part, a in live.items()}
            for phase, live in self.peaks.items()
        }
        return Trace(peaks, **{name: a + times * (b - a) for name, (a, b) in counts.items()})


class Ledger(TorchDispatchMode):
    """Notes each storage that is made while it is on, and its end: `events` are (number of the storage, bytes gained)."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.vocabulary = vocabulary
        self.events: list[tuple[int, int]] = []
        self.parts: list[str] = []
        self.numbers: dict[int, int] = {}
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return 1.0  # a loss or a norm on its way to Python: any finite number will do
        wide = func is torch.ops.aten._grouped_mm.default and args[0].dtype == torch.float32
        made = grouped_product(*args[:3]) if wide else func(*args, **(kwargs or {}))
        self.operations += not func.is_view
        for tensor in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(tensor, Tensor):
                self.note(tensor)
        return made

    def note(self, tensor: Tensor) -> None:
        """Begin to follow what the tensor lies in, where that is new."""
        storage = tensor.untyped_storage()
        place, size = storage._cdata, storage.nbytes()
        if place in self.numbers:
            return
        self.numbers[place] = len(self.parts)
        self.events.append((len(self.parts), size))
        self.parts.append("logits" if self.vocabulary in tensor.shape else "activations")
        weakref.finalize(storage, self._end, place, size).atexit = False

    def _end(self, place: int, size: int) -> None:
        self.events.append((self.numbers.pop(place), -size))

    def name(self, tensors: Iterable[Tensor], part: str) -> None:
        """Count what these tensors lie in under `part`, from its birth on."""
        for tensor in tensors:
            self.note(tensor)
            self.parts[self.numbers[tensor.untyped_storage()._cdata]] = part


def trace(recipe: Recipe, config: Any, dtype: torch.dtype, pack: Pack, passes: int = 1) -> Trace:
    """One step on `pack` and an evaluation of it, by shapes. `config` is a transformers config.

    Forward and back `passes` times, as where the gradients of several packs are added up.

    Raises UsageError for LoRA targets that the model lacks.
    """
    nf4 = recipe.method == "qlora"
    model = shape_of(config, dtype, nf4=nf4, double_quant=recipe.model.double_quant)
    layers = nn.ModuleList(decoder_layers(model))
    layer_bytes, outside = num_bytes(layers[0]), num_bytes(model) - num_bytes(layers)
    ledger = Ledger(config.get_text_config().vocab_size)
    ledger.name(tensors_of(model), "weights")
    pack = replace(pack, layout=Packed(pack.layout.lengths, pack.layout.parents))  # it keeps what is made on the way
    with kernels_by_shape(), META, ledger:
        loaded = len(ledger.events) - 1
        trainee = set_up_shapes(recipe, model, dtype)
        marks = [("load", loaded), *run_phases(trainee, pack, ledger, passes)]
    adapters = trainee.adapter.num_parameters if trainee.adapter else 0
    return Trace(
        peaks(ledger, marks),
        layers=count_parameters(layers) - adapters,
        head=trainee.network.head.weight.numel(),
        adapters=adapters,
        trained=sum(m.numel() for m in trainee.masters.masters.values()),
        layer_bytes=layer_bytes,
        outside_bytes=outside,
        operations=ledger.operations,
    )


def set_up_shapes(recipe: Recipe, model: Any, dtype: torch.dtype) -> Trainee:
    """What the recipe trains. The optimizer is never stepped, so any that takes such tensors will do."""
    options = recipe.train.model_copy(update={"optimizer": "adamw", "compile": "auto"})
    nobody: Any = None
    with quiet():
        return set_up(recipe.model_copy(update={"train": options}), LoadedModel(model, nobody, nobody, dtype, META))


def run_phases(trainee: Trainee, pack: Pack, ledger: Ledger, passes: int = 1) -> Iterator[tuple[str, int]]:
    """One step but for the optimizer's own part, then an evaluation; yields each phase with its first event."""
    name_trained(trainee, ledger)
    masters = list(trainee.masters.masters.values())
    turned: list[int] = []

    def loss(network: Network, pack: Pack) -> Tensor:
        summed = masked_cross_entropy(network, pack)
        turned.append(len(ledger.events))
        return summed

    trainee.network.model.train()
    yield "forward", len(ledger.events)
    with at_last_layer(trainee.network.model, lambda: turned.append(len(ledger.events))):
        accumulate(trainee.network, [pack] * passes, loss)
    ledger.name((m.grad for m in masters if m.grad is not None), "gradients")
    yield "backward", turned[0]
    yield "gradients", turned[1]
    if passes > 1:
        yield "next backward", turned[2]
        yield "next gradients", turned[3]
    yield "step", len(ledger.events)
    trainee.masters.clip(1.0)
    trainee.masters.zero_grad()
    yield "evaluation", len(ledger.events)
    with torch.no_grad():
        trainee.network.model.eval()
        masked_cross_entropy(trainee.network, pack)


@contextmanager
def at_last_layer(model: nn.Module, call: Callable[[], None]) -> Iterator[None]:
    """Call when the backward pass comes to the layer that it visits last, which is the first."""

    def watch(_: Any, __: Any, output: Any) -> None:
        states = output[0] if isinstance(output, tuple) else output
        if states.requires_grad:
            states.register_hook(lambda _: call())

    handle = decoder_layers(model)[0].register_forward_hook(watch)
    try:
        yield
    finally:
        handle.remove()


def name_trained(trainee: Trainee, ledger: Ledger) -> None:
    """Masters beside the weights, and adapters. Weights that are their own masters stay weights."""
    pairs = zip(trainee.masters.masters.values(), trainee.masters.parameters.values(), strict=True)
    ledger.name((master for master, parameter in pairs if master is not parameter), "trained")
    if trainee.adapter is not None:
        ledger.name((parameter for _, parameter in trainee.adapter.named_parameters()), "trained")


def peaks(ledger: Ledger, marks: Sequence[tuple[str, int]]) -> dict[str, Bytes]:
    """Phase -> bytes by part when most is alive in it. `marks`: phases in order, each with its first event."""
    live: Bytes = {}
    found: dict[str, Bytes] = {}
    most, place = -1, -1
    for at, (number, gained) in enumerate(ledger.events):
        while place + 1 < len(marks) and marks[place + 1][1] <= at:
            place, most = place + 1, sum(live.values())
            found[marks[place][0]] = dict(live)
        part = ledger.parts[number]
        live[part] = live.get(part, 0) + gained
        if place >= 0 and sum(live.values()) > most:
            most = sum(live.values())
            found[marks[place][0]] = dict(live)
    return found
