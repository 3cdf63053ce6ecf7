"""What is exported: a run, an adapter of PEFT, a merged folder made here, or a base model; opened once, everything checked first.

A run's manifest must hold, and its base must be the one that it was trained on, by the hash of its weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pacos.errors import DataError, GateError, UsageError
from pacos.export.memory import need_memory
from pacos.export.tensors import TensorFiles
from pacos.export.updates import Update, read_updates
from pacos.models.adapters import CONFIG, read_config
from pacos.models.artifact import verify
from pacos.models.catalog import cache_folder
from pacos.models.identity import weight_files, weights_sha256
from pacos.models.load import load_model
from pacos.models.network import Network
from pacos.models.source import Source, resolve, tokenizer_of
from pacos.prompts import Renderer, make_contract, renderer_from_contract
from pacos.training.record import FILE, RunRecord, read_record

EXPORT = "export.json"
FORMAT = 1


@dataclass(frozen=True)
class Origin:
    """A model to export. `folder` is the run's or the model's, `base` where its 16-bit weights and config are."""

    name: str
    folder: Path
    base: Source
    weights: TensorFiles
    updates: dict[str, Update]
    renderer: Renderer
    contract: dict[str, Any]
    record: RunRecord | None
    about: dict[str, Any]
    """Facts that go into the next export.json: the base, the run, how it was trained."""
    receipts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def config(self) -> dict[str, Any]:
        tree: dict[str, Any] = json.loads((self.base.folder / "config.json").read_text(encoding="utf-8"))
        return tree

    @property
    def held_out(self) -> Path | None:
        """Rows that the model was not trained on, where the folder has them."""
        path = self.folder / "test.jsonl"
        return path if path.is_file() else None

    @property
    def is_nf4(self) -> bool:
        return self.record is not None and self.record.recipe["method"] == "qlora"

    def network(self) -> Network:
        """The model as it is before this export: base and adapter as trained, or the weights of the folder."""
        return load_saved(self)


def open_origin(name: str, base: str = "") -> Origin:
    """Open a run, an adapter, a merged export or a base by its name. `base`: where the base of the first two is, if it has moved.

    Raises UsageError (nothing there), DataError (damaged), GateError (another base, another tokenizer).
    """
    folder = Path(name)
    if (folder / FILE).is_file():
        return _open_run(folder, base)
    if (folder / CONFIG).is_file():
        return _open_adapter(folder, base)
    if base:
        raise UsageError(f"--base: {name} is no run and no adapter, so it has no base of its own; leave --base out")
    return _open_export(folder) if (folder / EXPORT).is_file() else _open_model(name)


def _open_run(folder: Path, base: str) -> Origin:
    verify(folder)
    record = read_record(folder)
    renderer = renderer_from_contract(record.contract, tokenizer_of(Source(str(folder), folder)))
    if record.recipe["method"] == "full":
        source, updates = Source(str(folder), folder), {}
        weights = TensorFiles(folder)
    else:
        source = find_base(record, base)
        weights = TensorFiles(source.folder)
        updates = read_updates(folder, weights)
    about = {
        "run": folder.resolve().name,
        "recipe": record.recipe["name"],
        "method": record.recipe["method"],
        "data": record.data.path,
        "base": {"name": record.base.name, "revision": record.base.revision, "sha256": record.base.weights_sha256},
    }
    receipts = [receipt.model_dump() for receipt in record.receipts]
    name = folder.resolve().name
    return Origin(name, folder, source, weights, updates, renderer, record.contract, record, about, receipts)


def _open_adapter(folder: Path, base: str) -> Origin:
    """An adapter of another tool over the base that it names. Its prompt format is the chat template of its tokenizer."""
    config = read_config(folder)
    name = base or str(config.get("base_model_name_or_path") or "")
    if not name:
        raise UsageError(f"{folder}: {CONFIG} names no base model; give it with --base")
    try:
        source = resolve(name, "" if base or Path(name).exists() else config.get("revision") or "")
    except UsageError as error:
        hint = "" if base else f"\n  it is the base that {folder / CONFIG} names; if it has moved, give it with --base"
        raise UsageError(f"{error}{hint}") from None
    weights = TensorFiles(source.folder)
    own = Source(str(folder), folder) if (folder / "tokenizer.json").is_file() else source
    renderer = Renderer(tokenizer_of(own), "chat")
    about = {"adapter": folder.resolve().name, "base": _about_base(name, source)}
    updates = read_updates(folder, weights)
    return Origin(
        folder.resolve().name, folder, source, weights, updates, renderer, make_contract(renderer), None, about
    )


def _about_base(name: str, source: Source) -> dict[str, str]:
    found = weights_sha256(weight_files(source.folder), cache_folder() / "hashes.json")
    return {"name": name, "revision": source.revision, "sha256": found}


def find_base(record: RunRecord, moved: str = "") -> Source:
    """The base of a run, if it is the one that was trained on."""
    name = moved or record.base.name
    source = resolve(name, "" if moved else record.base.revision)
    found = weights_sha256(weight_files(source.folder), cache_folder() / "hashes.json")
    if found != record.base.weights_sha256:
        raise GateError(
            f"{name}: these are not the weights that the run was trained on (sha256 {found[:16]} here, "
            f"{record.base.weights_sha256[:16]} at training); give the right ones with --base"
        )
    return source


def _open_export(folder: Path) -> Origin:
    verify(folder)
    tree = read_export(folder)
    if tree["kind"] != "merged":
        raise UsageError(f"{folder}: an export of kind '{tree['kind']}'; give the run, or a merged folder")
    source = Source(str(folder), folder)
    renderer = renderer_from_contract(tree["contract"], tokenizer_of(source))
    name = str(tree["name"])
    about = dict(tree["about"])
    return Origin(
        name, folder, source, TensorFiles(folder), {}, renderer, tree["contract"], None, about, tree["receipts"]
    )


def read_export(folder: Path) -> dict[str, Any]:
    """export.json of a folder. Raises DataError where it does not read."""
    path = folder / EXPORT
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if tree["format"] != FORMAT:
            raise ValueError(f"format {tree['format']}")
        for key in ("kind", "name", "about", "contract", "receipts"):
            tree[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not an export that this version reads: {error}") from None
    return dict(tree)


def _open_model(name: str) -> Origin:
    source = resolve(name)
    weights = TensorFiles(source.folder)
    renderer = Renderer(tokenizer_of(source), "chat")
    about = {"base": _about_base(name, source)}
    short = name.rstrip("/").rpartition("/")[2].removesuffix(".gguf")
    return Origin(short, source.folder, source, weights, {}, renderer, make_contract(renderer), None, about)


def load_saved(origin: Origin) -> Network:
    """The network of an origin over NF4 weights where it was trained on them; in fp32, so that weights alone differ."""
    from pacos.models.adapters import load_adapter

    need_memory(origin.weights, origin.name)
    nf4 = origin.is_nf4
    loaded = load_model(
        str(origin.base.folder), dtype="fp32", quantization="nf4" if nf4 else "none", double_quant=double_quant(origin)
    )
    network = Network(loaded.model)
    if origin.updates:
        load_adapter(loaded.model, origin.folder)
    return network


def double_quant(origin: Origin) -> bool:
    """Whether a run's NF4 scales were quantized too."""
    return bool(origin.record and origin.record.recipe["model"].get("double_quant", True))


def stored_dtype(weights: TensorFiles) -> torch.dtype:
    """The kind that most of the weights are stored in."""
    counts: dict[torch.dtype, int] = {}
    for slot in weights.slots.values():
        counts[slot.dtype] = counts.get(slot.dtype, 0) + slot.nbytes
    return max(counts, key=lambda dtype: counts[dtype])
