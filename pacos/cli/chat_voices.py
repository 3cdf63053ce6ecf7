"""Who may answer in a chat: runs of one base, which is loaded once, and the base itself.

An adapter that is asked for is put beside those that are there (models/switch.py); changing back and forth then costs nothing.
Each has its own template and stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacos.cli.session import OpenRun, find_run, load_base, open_base, open_run, verified_renderer
from pacos.errors import UsageError

if TYPE_CHECKING:
    from pacos.inference import Engine
    from pacos.models.switch import Switch
    from pacos.prompts import Renderer


@dataclass(frozen=True)
class Voice:
    """`adapter` is None for the model as it is."""

    name: str
    engine: Engine
    renderer: Renderer
    adapter: str | None = None

    @property
    def parts(self) -> tuple[Engine, Renderer, str | None]:
        """What `ChatSession.use` takes."""
        return self.engine, self.renderer, self.adapter


class Voices:
    """The voices on one network. `record` is that of the run whose base it is; None where it is no run's."""

    def __init__(self, network: Any, renderer: Renderer, name: str, record: Any = None):
        self._network, self._renderer, self._name, self._record = network, renderer, name, record
        self._runs: dict[str, tuple[Path, Renderer]] = {}
        self._switch: Switch | None = None
        self.first = self.find("")

    def find(self, run: str) -> Voice:
        """The voice of a run, by folder or name; empty is the base's. Raises UsageError for one of another base, GateError
        for one that is damaged."""
        if not run:
            return self._voice(self._name, self._renderer, None)
        if self._record is None:
            raise UsageError(f"{run}: this chat's model takes no adapters; start one with the run: pacos chat {run}")
        folder = find_run(run)
        key = str(folder.resolve())
        if key not in self._runs:
            self.add(folder, self._read(run, folder))
        return self._voice(folder.name, self._runs[key][1], key)

    def add(self, folder: Path, renderer: Renderer) -> None:
        """Put the adapter of a run beside those that are there."""
        runs = {**self._runs, str(folder.resolve()): (folder, renderer)}
        try:
            self._wrap(runs)
        except Exception:
            self._wrap(self._runs)
            raise
        self._runs = runs

    def _wrap(self, runs: dict[str, tuple[Path, Renderer]]) -> None:
        from pacos.models.switch import Switch

        if self._switch is not None:
            self._switch.remove()
        self._switch = None
        self._switch = Switch(self._network.model, {key: folder for key, (folder, _) in runs.items()})

    def _voice(self, name: str, renderer: Renderer, adapter: str | None) -> Voice:
        from pacos.inference import Engine

        return Voice(name, Engine(self._network, renderer.stop_ids, slots=1, switch=self._switch), renderer, adapter)

    def _read(self, run: str, folder: Path) -> Renderer:
        """The renderer of another run, verified and of this base."""
        from pacos.training import read_record

        record = read_record(folder)
        if record.recipe["method"] == "full":
            raise UsageError(f"{run}: a model of its own, not an adapter; talk to it with: pacos chat {run}")
        if _base(record) != _base(self._record):
            raise UsageError(
                f"{run}: was trained on {_describe(record)}, and this chat's base is {_describe(self._record)}; "
                f"talk to it with: pacos chat {run}"
            )
        renderer: Renderer = verified_renderer(folder, record)
        return renderer


def open_voices(run: str | None, base: bool) -> Voices:
    """The voices of a chat that begins with a run (the newest for None), or with its base, or with a base model by name."""
    from pacos.models import Network, unwrap
    from pacos.training.record import FILE

    if base and run is not None and not (find_run(run) / FILE).is_file():
        opened = open_base(run)
        return Voices(opened.network, opened.renderer, opened.name)
    opened = open_run(run)
    if opened.adapter is not None:
        unwrap(opened.network.model, opened.adapter)
        return _begun(opened, base)
    if base:
        network = Network(load_base(opened.record).model)
        return Voices(network, opened.renderer, opened.record.base.name, opened.record)
    return Voices(opened.network, opened.renderer, opened.name)


def _begun(opened: OpenRun, base: bool) -> Voices:
    assert opened.folder is not None
    voices = Voices(opened.network, opened.renderer, opened.record.base.name, opened.record)
    voices.add(opened.folder, opened.renderer)
    if not base:
        voices.first = voices.find(str(opened.folder))
    return voices


def _base(record: Any) -> tuple[str, bool, bool]:
    """What two runs must have in common to share a base: its weights, and how they are kept."""
    four_bit = record.recipe["method"] == "qlora"
    return record.base.weights_sha256, four_bit, four_bit and record.recipe["model"].get("double_quant", True)


def _describe(record: Any) -> str:
    weights, four_bit, _ = _base(record)
    return f"{record.base.name} ({weights[:12]}{', in 4 bits' if four_bit else ''})"
