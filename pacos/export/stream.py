"""A model run a layer at a time: transformers' own modules without their weights, filled from the files, used, emptied.

    rows --embedding--> states --layer 0--> --layer 1--> ... --norm--> states --head, 4,096 tokens at a time--> logits
                                  ^ its weights in fp32, for all rows; then those of layer 1 in their place

So memory holds one layer and the rows' states, however many layers there are. The decoder's own forward runs around the
layers, which are stand-ins meanwhile: once to note what each is called with, once to end with their states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pacos.errors import DataError
from pacos.export.tensors import Slot
from pacos.export.updates import Update, tensor_called
from pacos.models.attention import Packed
from pacos.models.binpack import best_fit
from pacos.models.load import LEFT_OVER, load_shape
from pacos.models.lora import Part, wrap
from pacos.models.network import Network
from pacos.models.packs import PACK_TOKENS
from pacos.models.probe import soft_cap
from pacos.training.sharding import decoder_layers

SLICE = 4096
"""Rows of the embedding and of the head that are in memory at once."""
Place = tuple[nn.Module, str, str]
"""A module, the name of its parameter, and that of the tensor in the files."""


class Tensors(Protocol):
    """Named tensors, read whole or by rows."""

    slots: dict[str, Slot]

    def read(self, name: str) -> Tensor: ...

    def rows(self, name: str, start: int, stop: int) -> Tensor: ...


class LayerStream:
    """The model of a folder's config.json over any tensors, with an adapter's updates beside them; all in fp32.

    Raises DataError where the tensors do not fit the config.
    """

    def __init__(self, folder: Path, tensors: Tensors, updates: Mapping[str, Update] | None = None):
        model, _ = load_shape(str(folder), dtype="fp32", device="cpu")
        model.eval().requires_grad_(False)
        self.network = Network(model)
        self.tensors = tensors
        assert self.network.decoder is not None
        self.layers = decoder_layers(self.network.decoder)
        names = _tensor_names(folder, model, tensors.slots)
        self._known = torch.empty(0, dtype=torch.long)
        self.embedding = model.get_input_embeddings()
        self.embedding.padding_idx = None  # it matters to gradients alone, and the weight here is a part of the whole
        self.embedding.register_forward_pre_hook(lambda _, ids: torch.searchsorted(self._known, ids[0]))
        head = model.get_output_embeddings()
        self._embedding_name = names[self.embedding, "weight"]
        self._head_name = names[head, "weight"]
        self.places = [[(*key, names[key]) for key in _parameters(layer)] for layer in self.layers]
        within = {id(module) for layer in self.layers for module in layer.modules()}
        rest = [key for key in names if id(key[0]) not in within and key[0] not in (self.embedding, head)]
        self._fill([(*key, names[key]) for key in rest])
        _fill_buffers(model)
        _adapt(model, names, updates or {})

    @property
    def max_length(self) -> int:
        return self.network.max_length

    @property
    def vocabulary(self) -> int:
        return self.tensors.slots[self._head_name].shape[0]

    @torch.no_grad()
    def states(self, rows: Sequence[Sequence[int]]) -> list[Tensor]:
        """What the head reads at every position of each row, (T, C): one walk over the files."""
        self._embed(sorted({id for row in rows for id in row}))
        packs = best_fit([len(row) for row in rows], PACK_TOKENS)
        calls = [self._calls([rows[i] for i in pack]) for pack in packs]
        for number, layer in enumerate(self.layers):
            with self._filled(self.places[number]):
                for call in calls:
                    args, options = call.options[number]
                    call.states = layer(call.states, *args, **options)
        found: dict[int, Tensor] = {}
        for pack, call in zip(packs, calls, strict=True):
            last = self._around(call.rows, lambda *_, call=call, **__: call.states)
            found |= dict(zip(pack, last[0].split([len(row) for row in call.rows]), strict=True))
        return [found[i] for i in range(len(rows))]

    @torch.no_grad()
    def logits(self, states: Sequence[Tensor]) -> Iterator[tuple[int, list[Tensor]]]:
        """The first token of each slice of the vocabulary, and the logits (T, at most SLICE) of each of `states` (T, C)."""
        for start, weight in self._slices(self._head_name):
            yield start, [soft_cap(nn.functional.linear(each, weight), self.network.softcap) for each in states]

    def _calls(self, rows: Sequence[Sequence[int]]) -> _Calls:
        calls = _Calls(rows)
        self._around(rows, calls.note)
        return calls

    def _around(self, rows: Sequence[Sequence[int]], stand_in: Callable[..., Tensor]) -> Tensor:
        """The decoder's forward with `stand_in(number, states, ...)` for each layer."""
        layout = Packed([len(row) for row in rows])
        ids = torch.tensor([[id for row in rows for id in row]])
        for number, layer in enumerate(self.layers):
            layer.forward = partial(stand_in, number)
        try:
            return self.network.hidden(ids, layout.positions()[None], layout)
        finally:
            for layer in self.layers:
                del layer.forward

    def _embed(self, ids: list[int]) -> None:
        """Keep the embeddings of these tokens alone."""
        self._known = torch.tensor(ids)
        kept = torch.empty(len(ids), self.tensors.slots[self._embedding_name].shape[1])
        for start, weight in self._slices(self._embedding_name):
            first, end = torch.searchsorted(self._known, torch.tensor([start, start + len(weight)])).tolist()
            kept[first:end] = weight[self._known[first:end] - start]
        self.embedding.weight = nn.Parameter(kept, requires_grad=False)

    def _slices(self, name: str) -> Iterator[tuple[int, Tensor]]:
        count = self.tensors.slots[name].shape[0]
        for start in range(0, count, SLICE):
            yield start, self.tensors.rows(name, start, min(start + SLICE, count)).float()

    @contextmanager
    def _filled(self, places: Sequence[Place]) -> Iterator[None]:
        """Inside, a layer has its weights."""
        empty = [getattr(module, leaf) for module, leaf, _ in places]
        self._fill(places)
        try:
            yield
        finally:
            for (module, leaf, _), parameter in zip(places, empty, strict=True):
                setattr(module, leaf, parameter)

    def _fill(self, places: Sequence[Place]) -> None:
        for module, leaf, name in places:
            setattr(module, leaf, nn.Parameter(self.tensors.read(name).float(), requires_grad=False))


class _Calls:
    """What each layer is called with for one pack, and the states between them."""

    def __init__(self, rows: Sequence[Sequence[int]]):
        self.rows = rows
        self.states = torch.empty(0)
        self.options: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def note(self, number: int, states: Tensor, *args: Any, **options: Any) -> Tensor:
        self.states = states
        self.options[number] = (args, options)
        return states


def _parameters(module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    for owner in module.modules():
        yield from ((owner, leaf) for leaf, _ in owner.named_parameters(recurse=False))


def _tensor_names(folder: Path, model: Any, slots: Mapping[str, Slot]) -> dict[tuple[nn.Module, str], str]:
    """The tensor of each parameter; a tied head has its embedding's. Raises DataError with everything that does not fit."""
    paths = {module: name for name, module in model.named_modules()}
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    names, problems = {}, []
    for module, leaf in _parameters(model):
        own = f"{paths[module]}.{leaf}"
        name = tensor_called(own, slots)
        if name is None and module is head and head.weight is embedding.weight:
            name = tensor_called(f"{paths[embedding]}.weight", slots)
        shape = tuple(getattr(module, leaf).shape)
        if name is None:
            problems.append(f"{own} is not in the files")
        elif slots[name].shape != shape:
            problems.append(f"{name} is {list(slots[name].shape)} in the files, {list(shape)} by config.json")
        names[module, leaf] = name or ""
    unused = sorted(name for name in slots.keys() - names.values() if not LEFT_OVER.search(name))
    if head.weight is embedding.weight:
        unused = [name for name in unused if name != f"{paths[head]}.weight"]
    problems += [f"{name} is in the files, and the model has no place for it" for name in unused]
    if problems:
        raise DataError(f"{folder}: its weights do not fit its config.json", problems)
    return names


def _fill_buffers(model: Any) -> None:
    """What modules compute from the config, such as the frequencies of rotary positions, by the family's own code."""
    for module in model.modules():
        empty = {name: buffer for name, buffer in module.named_buffers(recurse=False) if buffer.is_meta}
        for name, buffer in empty.items():
            module._buffers[name] = torch.full_like(buffer, torch.nan, device="cpu")
        if empty:
            model._init_weights(module)
        left = [name for name in empty if module._buffers[name].isnan().any()]
        assert not left, f"{type(module).__name__} does not make its {left}"


def _adapt(model: nn.Module, names: Mapping[tuple[nn.Module, str], str], updates: Mapping[str, Update]) -> None:
    """Put adapters around the matrices that the updates belong to."""
    paths = {module: name for name, module in model.named_modules()}
    modules: dict[str, Any] = {name: module for (module, _), name in names.items()}
    for name, update in updates.items():
        part = Part(paths[modules[name]].rpartition(".")[2], 0, update.b.shape[0])
        adapted = wrap(model, paths[modules[name]], [part], update.a.shape[0], update.scale, 0.0)
        adapted.a[0] = nn.Parameter(update.a.float(), requires_grad=False)
        adapted.b[0] = nn.Parameter(update.b.float(), requires_grad=False)
