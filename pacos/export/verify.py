"""Any export again, ours or another tool's: what it says of itself, what is missing or dead, and parity with its base.

    merged folder, model   template, stops, BOS; tensors that are dead; logits against --against
    adapter                what it adds to which tensors of --against; dead halves
    GGUF                   architecture, template, stops, BOS; tensors missing or dead; logits against --against
    Modelfile              stops and TEMPLATE against the chat template of --against
    weight difference      whether it is whole, and the hash that its recovery will have

A check has a name, a verdict (ok, failed, not told) and a line that says what was found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pacos.errors import UsageError, UserError
from pacos.export import weight_diff
from pacos.export.observe import rows_of
from pacos.export.ollama import MODELFILE
from pacos.export.origin import Origin, open_origin
from pacos.export.receipts import compare
from pacos.export.report import Report, add_receipt, find_dead, find_missing
from pacos.export.subjects import measured_by_layers, saved
from pacos.export.updates import read_updates
from pacos.export.verify_gguf import check_gguf, check_gguf_folder, check_modelfile, check_tokens
from pacos.models.adapters import CONFIG
from pacos.models.artifact import MANIFEST, damage


def verify(path: Path, against: str = "") -> Report:
    """The report of an artifact. Raises UsageError for what is none, UserError where `against` cannot be opened."""
    other = open_origin(against) if against else None
    kind = kind_of(path)
    report = Report(str(path), kind)
    if path.is_dir() and (path / MANIFEST).is_file():
        problems = list(damage(path))
        report.add("manifest", not problems, "; ".join(problems[:3]) or "every file is as it was written")
    CHECKS[kind](path, other, report)
    return report


def kind_of(path: Path) -> str:
    """What an artifact is, by what is in it."""
    if path.is_file():
        if path.suffix == ".gguf":
            return "gguf"
        if path.name == MODELFILE or path.suffix == ".modelfile":
            return "modelfile"
    elif path.is_dir():
        if (path / weight_diff.FILE).is_file():
            return "diff"
        if (path / CONFIG).is_file():
            return "adapter"
        if any(path.glob("*.gguf")):
            return "gguf folder"
        if (path / "config.json").is_file():
            return "model"
        if (path / MODELFILE).is_file():
            return "modelfile"
    raise UsageError(f"{path}: nothing to verify; give a model or adapter folder, a .gguf file or a Modelfile")


def _model(path: Path, other: Origin | None, report: Report) -> None:
    origin = open_origin(str(path)) if _opens(path, report) else None
    if origin is None:
        return
    _told(report, origin.contract)
    stops = _generation_stops(path)
    trained = [stop["id"] for stop in origin.contract["stop"]]
    report.add(
        "stops", stops is None or trained[0] in stops, f"generation_config ends on {stops}, trained on {trained}"
    )
    find_dead(report, ((name, origin.weights.read(name)) for name in origin.weights.slots))
    if other is not None:
        check_tokens(report, other.contract, origin.renderer.tokenizer, other.name)
        find_missing(report, set(other.weights.slots) - set(origin.weights.slots) - {"lm_head.weight"})
        _parity(report, other, origin, "merged")


def _opens(path: Path, report: Report) -> bool:
    try:
        open_origin(str(path))
    except UserError as error:
        report.add("opens", False, str(error).replace("\n", "; "))
        return False
    return True


def _generation_stops(path: Path) -> list[int] | None:
    try:
        ids = json.loads((path / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"]
    except (OSError, ValueError, KeyError):
        return None
    return list(ids) if isinstance(ids, list) else [ids]


def _adapter(path: Path, other: Origin | None, report: Report) -> None:
    """An adapter folder; what it adds can be told over its base alone."""
    template = (path / "chat_template.jinja").is_file() or _config_template(path)
    report.add(
        "template", True if template else None, "with a chat template" if template else "no chat template with it"
    )
    try:
        base = other or _origin_of_run(path)
        if base is None:
            report.add("tensors", None, "give the base with --against to see what it changes")
            return
        updates = read_updates(path, base.weights)
    except UserError as error:
        report.add("tensors", False, str(error).replace("\n", ";"))
        return
    dead = [name for name, update in updates.items() if not update.b.any() or not update.a.any()]
    found = f"adds to {len(updates)} matrices of rank {sorted({u.a.shape[0] for u in updates.values()})}"
    report.add("tensors", not dead, f"{found}; {len(dead)} of them unchanged: {', '.join(dead[:3])}" if dead else found)


def _origin_of_run(path: Path) -> Origin | None:
    return open_origin(str(path)) if (path / "pacos.json").is_file() else None


def _config_template(path: Path) -> bool:
    try:
        return bool(json.loads((path / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template"))
    except (OSError, ValueError):
        return False


def _diff(path: Path, other: Origin | None, report: Report) -> None:
    tree = weight_diff.read_diff(path)
    report.add("recovers to", True, f"sha256 {tree['tuned_sha256']}")


def _told(report: Report, contract: Mapping[str, Any]) -> None:
    """What a contract says of template and BOS."""
    bos = contract["bos"]["token"]
    report.add("template", True, f"{contract['template']['name']}, stops on {contract['stop'][0]['token']}")
    report.add("bos", True, f"{bos} before every text" if bos else "none put before a text")


def _parity(report: Report, other: Origin, origin: Origin, gate: str) -> None:
    by_layers = measured_by_layers(other, origin)
    subject = saved(other, by_layers)
    rows = rows_of(other.contract, other.renderer, other.held_out or origin.held_out, subject.max_length)
    before = subject.observe(rows)
    del subject
    after = saved(origin, by_layers).observe(rows, before)
    add_receipt(report, compare(f"{other.name} -> {origin.name}", gate, before, after))


CHECKS = {
    "model": _model,
    "adapter": _adapter,
    "gguf": check_gguf,
    "gguf folder": check_gguf_folder,
    "modelfile": check_modelfile,
    "diff": _diff,
}
