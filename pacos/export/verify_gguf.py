"""GGUF files and Modelfiles, of any tool: what they say, what is missing or dead, and parity with their origin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pacos.errors import UserError
from pacos.export.gguf_export import gate_of
from pacos.export.gguf_metadata import served_context
from pacos.export.gguf_names import Names
from pacos.export.gguf_read import GgufTensors, as_model, contract_in, first_difference, probes_that_differ
from pacos.export.memory import need_memory
from pacos.export.merge import merged_weights
from pacos.export.observe import observe, rows_of
from pacos.export.ollama import MODELFILE, check_template, read_modelfile
from pacos.export.origin import EXPORT, Origin, read_export
from pacos.export.receipts import compare
from pacos.export.report import Report, add_receipt, find_dead, find_missing
from pacos.models.gguf_head import Head, read_head


def check_gguf_folder(path: Path, other: Origin | None, report: Report) -> None:
    for file in sorted(path.glob("*.gguf")):
        if not file.name.endswith(".lora.gguf"):
            check_gguf(file, other, report)
    if (path / MODELFILE).is_file() and (path / EXPORT).is_file():
        _template(report, read_modelfile(path / MODELFILE), read_export(path)["contract"], other)


def check_gguf(path: Path, other: Origin | None, report: Report) -> None:
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
    contract = contract_in(head) or (other.contract if other else None)
    if contract is not None:
        _need_memory(path, tensors, other)
    find_dead(report, ((name, tensors.read(name)) for name in tensors.names))
    if contract is None:
        report.add("parity", None, "give the model that it was made from with --against")
        return
    trained = [stop["id"] for stop in contract["stop"]]
    report.add("trained stop", ends["eos"] == trained[0] or ends["eot"] == trained[0], f"trained on {trained}")
    _gguf_parity(path, other, contract, report)


def _need_memory(path: Path, tensors: GgufTensors, other: Origin | None) -> None:
    """Raises ResourceError before the file is read through where a side does not fit into memory: they are run whole."""
    need_memory(tensors, path.name)
    if other is not None:
        need_memory(other.weights, other.name)


def _gguf_parity(path: Path, other: Origin | None, contract: dict[str, Any], report: Report) -> None:
    tensors = GgufTensors(path)
    if other is not None:
        expected = Names(other.config).all(other.weights.slots).values()
        find_missing(report, set(expected) - set(tensors.names) - {"output.weight"})
    try:
        with as_model(path) as (network, tokenizer):
            check_tokens(report, contract, tokenizer, "the contract")
            if other is None:
                return
            rows = rows_of(
                contract, other.renderer, other.held_out, min(network.max_length, served_context(other.config))
            )
            after = observe(network, rows)
    except UserError as error:
        report.add("opens", False, str(error).replace("\n", "; "))
        return
    kinds = [tensors.type(name).lower() for name in tensors.names if name.endswith("ffn_down.weight")]
    receipt = compare(
        f"{other.name} -> {path.name}", gate_of(max(set(kinds), key=kinds.count)), observe(other.network(), rows), after
    )
    add_receipt(report, receipt)
    if receipt.failures:
        report.add("first difference", False, first_difference(path, other.config, merged_weights(other, "fp32")))


def check_tokens(report: Report, contract: Mapping[str, Any], tokenizer: Any, of: str) -> None:
    """Whether a tokenizer gives the ids that the model was trained on."""
    differ = probes_that_differ(contract, tokenizer)
    total = len(contract["probes"])
    found = f"{total - len(differ)} of {total} probes give the ids of {of}"
    report.add("tokens", not differ, found + (f"; not: {', '.join(differ[:3])}" if differ else ""))


def check_modelfile(path: Path, other: Origin | None, report: Report) -> None:
    file = path / MODELFILE if path.is_dir() else path
    tree = read_modelfile(file)
    target = file.parent / tree["from"]
    local = tree["from"].startswith((".", "/")) or target.is_file()
    report.add("from", target.exists() if local else None, tree["from"])
    head = read_head(target) if local and target.suffix == ".gguf" and target.is_file() else None
    contract = other.contract if other else contract_in(head) if head else None
    _stops(report, tree, contract, head)
    _template(report, tree, contract, other)


def _stops(report: Report, tree: Mapping[str, Any], contract: Mapping[str, Any] | None, head: Head | None) -> None:
    """Whether an answer ends at the trained stop: by the Modelfile, or by eos or eot of the file that it is made from."""
    given = f"given: {', '.join(tree['stops'])}" if tree["stops"] else "none given"
    if contract is None:
        report.add(
            "stops", True if tree["stops"] else None, f"{given}; --against tells whether they are the trained ones"
        )
        return
    token, id = contract["stop"][0]["token"], contract["stop"][0]["id"]
    found = f"{given}; trained on {token}"
    if token in tree["stops"]:
        report.add("stops", True, found)
    elif head is not None:
        ends = {key: head.values.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot")}
        told = ", ".join(f"{key} {value}" for key, value in ends.items())
        passed = id in ends.values()
        how = "which the file itself ends on" if passed else f"id {id}, which the file does not end on either"
        report.add("stops", passed, f"{found}, {how} ({told})")
    else:
        unseen = f"{tree['from']} is not here, so whether it ends on that itself cannot be told"
        report.add("stops", False if tree["stops"] else None, f"{found}; {unseen}")


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
