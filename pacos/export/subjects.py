"""A model that is measured: whole in memory where it fits, else a layer at a time; by the same calls.

by_layers = measured_by_layers(origin)
before = saved(origin, by_layers).observe(rows)
after = written(folder, by_layers).observe(rows, before)
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pacos.export.memory import fits, need_memory
from pacos.export.observe import Observed, Rows, observe
from pacos.export.observe_streamed import observe_streamed
from pacos.export.origin import Origin
from pacos.export.rounding import Rounded
from pacos.export.stream import LayerStream
from pacos.export.tensors import TensorFiles
from pacos.models.load import load_model
from pacos.models.network import Network
from pacos.models.probe import PLAIN

BY_LAYERS = ", a layer at a time: it does not fit into memory whole"


class Subject(Protocol):
    """Something to observe. `like`: what it will be compared with."""

    @property
    def max_length(self) -> int: ...

    def observe(self, rows: Rows, like: Observed | None = None) -> Observed: ...


class Whole:
    """A network in memory."""

    def __init__(self, network: Network):
        self.network = network

    @property
    def max_length(self) -> int:
        return self.network.max_length

    def observe(self, rows: Rows, like: Observed | None = None) -> Observed:
        return observe(self.network, rows)


class ByLayers:
    """A network that is never whole in memory."""

    def __init__(self, stream: LayerStream):
        self.stream = stream

    @property
    def max_length(self) -> int:
        return self.stream.max_length

    def observe(self, rows: Rows, like: Observed | None = None) -> Observed:
        return observe_streamed(self.stream, rows, like)


def measured_by_layers(*origins: Origin) -> bool:
    """Whether these are measured a layer at a time, all of them or none.

    Raises ResourceError where one does not fit into memory, and one is of a family that is not run by layers.
    """
    kinds = {origin.name: origin.config.get("model_type") for origin in origins}
    if all(kind in PLAIN for kind in kinds.values()):
        return not all(fits(origin.weights) for origin in origins)
    for origin in origins:
        need_memory(origin.weights, origin.name, f"; model type '{kinds[origin.name]}' is not run a layer at a time")
    return False


def saved(origin: Origin, by_layers: bool) -> Subject:
    """The model as it is before an export: base and adapter as trained, or the weights of the folder."""
    if not by_layers:
        return Whole(origin.network())
    weights = Rounded(origin) if origin.is_nf4 else origin.weights
    return ByLayers(LayerStream(origin.base.folder, weights, origin.updates))


def written(folder: Path, by_layers: bool) -> Subject:
    """The model of a folder."""
    if by_layers:
        return ByLayers(LayerStream(folder, TensorFiles(folder)))
    return Whole(Network(load_model(str(folder), dtype="fp32").model))
