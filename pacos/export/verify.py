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
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from pacos.errors import UsageError, UserError
from pacos.export import weight_diff
from pacos.export.gguf_export import gate_of
from pacos.export.gguf_metadata import context_length
from pacos.export.gguf_names import Names, ordered
from pacos.export.gguf_read import GgufTensors, as_model, contract_in, first_difference, probes_that_differ
from pacos.export.merge import merged_weights
from pacos.export.observe import observe, rows_of
from pacos.export.ollama import MODELFILE, check_template, read_modelfile
from pacos.export.origin import EXPORT, Origin, open_origin, read_export
from pacos.export.receipts import Receipt, compare
from pacos.export.updates import read_updates
from pacos.models.adapters import CONFIG
from pacos.models.artifact import MANIFEST, damage
from pacos.models.gguf_head import read_head

Verdict = Literal["ok", "failed", "not told"]


@dataclass(frozen=True)
class Check:
    name: str
    verdict: Verdict
    found: str


@dataclass
class Report:
    """What was found in an artifact, and the receipt where it was compared with another."""

    path: str
    kind: str
    checks: list[Check] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)

    def add(self, name: str, passed: bool | None, found: str) -> None:
        self.checks.append(Check(name, "not told" if passed is None else "ok" if passed else "failed", found))

    @property
    def passed(self) -> bool:
        return all(check.verdict != "failed" for check in self.checks)

    def to_tree(self) -> dict[str, Any]:
        receipts = [receipt.to_tree() for receipt in self.receipts]
        return {**asdict(self), "receipts": receipts, "passed": self.passed}


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
    _dead(report, ((name, origin.weights.read(name)) for name in origin.weights.slots))
    if other is not None:
        _missing(report, set(other.weights.slots) - set(origin.weights.slots) - {"lm_head.weight"})
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


def _gguf_folder(path: Path, other: Origin | None, report: Report) -> None:
    for file in sorted(path.glob("*.gguf")):
        if not file.name.endswith(".lora.gguf"):
            _gguf(file, other, report)
    if (path / MODELFILE).is_file() and (path / EXPORT).is_file():
        _template(report, read_modelfile(path / MODELFILE), read_export(path)["contract"], other)


def _gguf(path: Path, other: Origin | None, report: Report) -> None:
    head = read_head(path)
    values = head.values
    report.add("architecture", bool(values.get("general.architecture")), str(values.get("general.architecture")))
    has_template = bool(values.get("tokenizer.chat_template"))
    report.add("template", has_template, "a chat template is in the file" if has_template else "no chat template")
    ends = {key: values.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "bos")}
    report.add("stops", ends["eos"] is not None, f"eos {ends['eos']}, eot {ends['eot']}")
    report.add(
        "bos", True, f"id {ends['bos']}, put before a text: {values.get('tokenizer.ggml.add_bos_token', 'not said')}"
    )
    tensors = GgufTensors(path)
    _dead(report, ((name, tensors.read(name)) for name in tensors.names))
    contract = contract_in(head) or (other.contract if other else None)
    if contract is None:
        report.add("parity", None, "give the model that it was made from with --against")
        return
    trained = [stop["id"] for stop in contract["stop"]]
    report.add("trained stop", ends["eos"] == trained[0] or ends["eot"] == trained[0], f"trained on {trained}")
    _gguf_parity(path, other, contract, report)


def _gguf_parity(path: Path, other: Origin | None, contract: dict[str, Any], report: Report) -> None:
    tensors = GgufTensors(path)
    if other is not None:
        expected = Names(other.config).all(other.weights.slots).values()
        _missing(report, set(expected) - set(tensors.names) - {"output.weight"})
    try:
        with as_model(path) as (network, tokenizer):
            differ = probes_that_differ(contract, tokenizer)
            total = len(contract["probes"])
            found = f"{total - len(differ)} of {total} probes give the trained ids"
            report.add("tokens", not differ, found + (f"; not: {', '.join(differ[:3])}" if differ else ""))
            if other is None:
                return
            rows = rows_of(
                contract, other.renderer, other.held_out, min(network.max_length, context_length(other.config))
            )
            after = observe(network, rows)
    except UserError as error:
        report.add("opens", False, str(error).replace("\n", "; "))
        return
    kinds = [tensors.type(name).lower() for name in tensors.names if name.endswith("ffn_down.weight")]
    receipt = compare(
        f"{other.name} -> {path.name}", gate_of(max(set(kinds), key=kinds.count)), observe_of(other, rows), after
    )
    _add_receipt(report, receipt)
    if receipt.failures:
        report.add("first difference", False, first_difference(path, other.config, merged_weights(other, "fp32")))


def observe_of(origin: Origin, rows: Any) -> Any:
    return observe(origin.network(), rows)


def _modelfile(path: Path, other: Origin | None, report: Report) -> None:
    file = path / MODELFILE if path.is_dir() else path
    tree = read_modelfile(file)
    target = file.parent / tree["from"]
    local = tree["from"].startswith((".", "/"))
    report.add("from", target.exists() if local else None, tree["from"])
    report.add("stops", bool(tree["stops"]) or None, ", ".join(tree["stops"]) or "none given; Ollama takes the file's")
    contract = None
    if local and target.suffix == ".gguf" and target.is_file():
        contract = contract_in(read_head(target))
    if contract is None and other is not None:
        contract = other.contract
    _template(report, tree, contract, other)


def _template(
    report: Report, tree: Mapping[str, Any], contract: Mapping[str, Any] | None, other: Origin | None
) -> None:
    """A Modelfile's TEMPLATE on the probes."""
    if not tree["template"]:
        report.add("ollama template", None, "no TEMPLATE; Ollama guesses one from the file's chat template")
        return
    if contract is None or other is None:
        report.add("ollama template", None, "give the model with --against to render it on the probes")
        return
    try:
        left_out, wrong = check_template(tree["template"], contract, other.renderer)
    except UserError as error:
        report.add("ollama template", False, str(error))
        return
    total = len(contract["probes"])
    found = f"{total - len(wrong) - len(left_out)} of {total} probes render the trained text"
    found += f"; {len(left_out)} need white space stripped, which Ollama does not" if left_out else ""
    report.add("ollama template", not wrong, found + (f"; not: {', '.join(wrong[:3])}" if wrong else ""))


def _diff(path: Path, other: Origin | None, report: Report) -> None:
    tree = weight_diff.read_diff(path)
    report.add("recovers to", True, f"sha256 {tree['tuned_sha256']}")


def _told(report: Report, contract: Mapping[str, Any]) -> None:
    """What a contract says of template and BOS."""
    bos = contract["bos"]["token"]
    report.add("template", True, f"{contract['template']['name']}, stops on {contract['stop'][0]['token']}")
    report.add("bos", True, f"{bos} before every text" if bos else "none put before a text")


def _dead(report: Report, tensors: Iterator[tuple[str, Tensor]]) -> None:
    """Matrices of zeros, of one value, or with NaN or infinity."""
    broken, dead, count = [], [], 0
    for name, tensor in tensors:
        count += 1
        values = tensor.float()
        if not torch.isfinite(values).all():
            broken.append(name)
        elif values.dim() > 1 and values.numel() > 1 and values.min() == values.max():
            dead.append(name)
    wrong = [f"{n} holds NaN or infinity" for n in broken] + [f"{n} is the same value throughout" for n in dead]
    report.add("tensors", not wrong, "; ".join(wrong[:3]) or f"{count} tensors, none dead")


def _missing(report: Report, names: set[str]) -> None:
    found = ", ".join(ordered(sorted(names))[:3])
    report.add("missing tensors", not names, f"{len(names)}: {found}" if names else "none")


def _parity(report: Report, other: Origin, origin: Origin, gate: str) -> None:
    network = other.network()
    rows = rows_of(other.contract, other.renderer, other.held_out or origin.held_out, network.max_length)
    before = observe(network, rows)
    del network
    _add_receipt(report, compare(f"{other.name} -> {origin.name}", gate, before, observe(origin.network(), rows)))


def _add_receipt(report: Report, receipt: Receipt) -> None:
    report.receipts.append(receipt)
    failed = "; ".join(receipt.failures)
    report.add("parity", not receipt.failures, failed or f"within the gate of '{receipt.gate}'")


CHECKS = {
    "model": _model,
    "adapter": _adapter,
    "gguf": _gguf,
    "gguf folder": _gguf_folder,
    "modelfile": _modelfile,
    "diff": _diff,
}
