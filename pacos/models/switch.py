"""Several LoRA adapters on one base at once; which of them a row goes through is chosen for each forward pass.

    switch = Switch(model, {"poet": Path("runs/poet"), "clerk": Path("runs/clerk")})
    with switch.rows([0, -1, 1]):    row 0 is the poet's, row 1 the base's, row 2 the clerk's
        ...

The base's product is one for all rows; each adapter then adds to its own (Punica, arXiv:2310.18547; S-LoRA, 2311.03285).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pacos.errors import UsageError, did_you_mean
from pacos.models.adapters import load_adapter
from pacos.models.lora import LoraLinear, as_linear, unwrap

BASE = -1
"""The number of the base without an adapter."""


class Chosen:
    """The number of each row's adapter in the forward pass under way; a single one is that of all rows."""

    def __init__(self) -> None:
        self.owners: Sequence[int] = (BASE,)

    def rows_of(self, owner: int) -> list[int] | slice:
        if len(self.owners) == 1:
            return slice(None) if self.owners[0] == owner else []
        return [i for i, other in enumerate(self.owners) if other == owner]


class SwitchLinear(nn.Module):
    """A frozen linear map and the adapters on it, by number. Input (rows, ..., in) -> output (rows, ..., out)."""

    def __init__(self, base: nn.Linear, adapters: Mapping[int, LoraLinear], chosen: Chosen):
        super().__init__()
        self.base, self.chosen = base, chosen
        self.adapters = dict(adapters)

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        y = self.base(x)
        for owner, lora in self.adapters.items():
            rows = self.chosen.rows_of(owner)
            if isinstance(rows, slice) or rows:
                for part, a, b in zip(lora.parts, lora.a, lora.b, strict=True):
                    low = nn.functional.linear(x[rows], a.to(x.dtype))
                    y[rows, ..., part.start : part.stop] += nn.functional.linear(low, b.to(x.dtype)) * lora.scale
        return y


class Switch:
    """The adapters in `folders`, by name, on the frozen base `model`, which they wrap until `remove`.

    Raises DataError or UsageError as `load_adapter` does; nothing is then wrapped.
    """

    def __init__(self, model: Any, folders: Mapping[str, Path]):
        self.model, self.names, self._chosen = model, tuple(folders), Chosen()
        found: dict[str, dict[int, LoraLinear]] = {}
        for owner, folder in enumerate(folders.values()):
            adapter = load_adapter(model, folder)
            unwrap(model, adapter)
            for name, module in adapter.modules.items():
                found.setdefault(name, {})[owner] = module
        for name, adapters in found.items():
            linear = as_linear(model.get_submodule(name))
            self._put(name, SwitchLinear(linear, adapters, self._chosen))
        self._wrapped = tuple(found)

    def number(self, name: str | None) -> int:
        """The number of an adapter; None is the base. Raises UsageError for a name that is none of `names`."""
        if name is None:
            return BASE
        if name not in self.names:
            known = ", ".join(self.names)
            raise UsageError(f"adapter '{name}' is not loaded{did_you_mean(name, self.names)}; loaded: {known}")
        return self.names.index(name)

    @contextmanager
    def rows(self, owners: Sequence[int]) -> Iterator[None]:
        """Inside, row i of what goes through the model is written with adapter `owners[i]`; a single one is that of all."""
        before, self._chosen.owners = self._chosen.owners, owners
        try:
            yield
        finally:
            self._chosen.owners = before

    def remove(self) -> None:
        """The model is the base again."""
        for name in self._wrapped:
            base = self.model.get_submodule(name).base
            self._put(name, getattr(base, "conv", base))

    def _put(self, name: str, module: nn.Module) -> None:
        parent, _, leaf = name.rpartition(".")
        setattr(self.model.get_submodule(parent), leaf, module)
