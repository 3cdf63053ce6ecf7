"""Opening what a verb works on: a finished run, or a base model. Nothing but the folder is needed.

Before anything is computed: the manifest holds, the base is the one that was trained on, and the template contract renders
the same ids as at training.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pacos.cli.show import say
from pacos.errors import GateError, UsageError

RUNS = Path("runs")


@dataclass(frozen=True)
class OpenRun:
    """A model ready to answer. `adapter` is None for a base model and for full fine-tuning, `record` for a bare base."""

    name: str
    network: Any
    renderer: Any
    adapter: Any
    record: Any
    folder: Path | None

    def base(self) -> AbstractContextManager[None]:
        """The base model for as long as the block lasts, where an adapter can be switched off."""
        return self.adapter.disabled() if self.adapter is not None else nullcontext()


def find_run(run: str | Path | None) -> Path:
    """The folder of a run: as given, or under runs/, or the newest finished one. Raises UsageError, exit code 2."""
    if run is None:
        return newest_run()
    path = Path(run)
    is_name = path.parent == Path(".") and not path.exists() and not Path(f"{path}.partial").exists()
    return RUNS / path if is_name else path


def run_or_model(name: str) -> str:
    """The folder of a run that is given by its name under runs/; anything else, a base model's name, as it is.

    Raises UsageError for a place under runs/ where no run is, and for a single word that names nothing.
    """
    from pacos.models.catalog import ENTRIES
    from pacos.training.record import FILE, missing_run

    folder, path = find_run(name), Path(name)
    if (folder / FILE).is_file():
        return str(folder)
    if path.exists() or folder.exists() or name in ENTRIES or folder.parent != RUNS:
        return name
    models = f"\n  of base models: give a hub id (owner/name), a folder, a .gguf file, or: {', '.join(ENTRIES)}"
    raise UsageError(f"{name}: {missing_run(folder)}{models if path.parent != RUNS else ''}")


def newest_run() -> Path:
    from pacos.training.record import FILE

    found = sorted(RUNS.glob(f"*/{FILE}"), key=lambda p: p.stat().st_mtime)
    if not found:
        raise UsageError("no finished run under runs/; make one with: pacos train quickstart")
    return found[-1].parent


def open_run(run: str | Path | None) -> OpenRun:
    """Load base and adapter (or the fully trained model) of a run, everything verified."""
    from pacos.models import load_adapter, load_model
    from pacos.training import read_record

    folder = find_run(run)
    record = read_record(folder)
    renderer = verified_renderer(folder, record)
    recipe = record.recipe
    say(f"loading {folder}")
    if recipe["method"] == "full":
        loaded = load_model(str(folder), dtype=recipe["model"]["dtype"], device=recipe["model"]["device"])
        return OpenRun(folder.name, network_of(loaded), renderer, None, record, folder)
    loaded = load_base(record)
    network = network_of(loaded)
    adapter = load_adapter(loaded.model, folder)
    return OpenRun(folder.name, network, renderer, adapter, record, folder)


def verified_renderer(folder: Path, record: Any) -> Any:
    """The renderer of a run. Raises GateError where its files are not those that were saved, or render other ids."""
    from pacos.models import load_tokenizer
    from pacos.models.artifact import verify
    from pacos.prompts import renderer_from_contract

    verify(folder)
    return renderer_from_contract(record.contract, load_tokenizer(str(folder)))


def network_of(loaded: Any) -> Any:
    """The network of a loaded model; where it is slower than others, a line says why."""
    from pacos.models import Network

    network = Network(loaded.model)
    if text := network.pace_note(training=False):
        say(text)
    return network


def load_base(record: Any) -> Any:
    """The base model of a run, in the precision it was trained in. Raises GateError where its weights are others."""
    from pacos.models import load_model

    options = record.recipe["model"]
    quantization = "nf4" if record.recipe["method"] == "qlora" else "none"
    loaded = load_model(
        record.base.name,
        revision=record.base.revision or options["revision"],
        dtype=options["dtype"],
        device=options["device"],
        quantization=quantization,
        double_quant=options.get("double_quant", True),
    )
    if loaded.identity.weights_sha256 != record.base.weights_sha256:
        raise GateError(
            f"{record.base.name}: these are not the weights that the run was trained on\n"
            f"  sha256 {loaded.identity.weights_sha256[:16]} here, {record.base.weights_sha256[:16]} at training"
        )
    return loaded


def open_base(name: str, *, template: str = "chat", system: str = "") -> OpenRun:
    """A base model by itself."""
    from pacos.models import load_model
    from pacos.prompts import Renderer

    loaded = load_model(name)
    return OpenRun(name, network_of(loaded), Renderer(loaded.tokenizer, template, system), None, None, None)
