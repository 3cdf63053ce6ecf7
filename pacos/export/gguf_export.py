"""A model as a GGUF file with its receipt: written, read back through transformers, run, and compared; then served.

    saved or merged  --quantize-->  gguf  --llama.cpp, where installed-->  served

The folder holds NAME.TYPE.gguf, a Modelfile for Ollama, a card, and export.json.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pacos.errors import GateError, UsageError, nearest_first
from pacos.export import llama_cpp
from pacos.export.card import export_card
from pacos.export.folder import new_folder, write_export
from pacos.export.gguf_lora import write_lora
from pacos.export.gguf_metadata import served_context
from pacos.export.gguf_names import Names
from pacos.export.gguf_read import as_model, first_difference, probes_that_differ
from pacos.export.gguf_write import TYPES, write_gguf
from pacos.export.memory import need_memory
from pacos.export.merge import Say, merged_weights
from pacos.export.observe import Observed, Rows, observe, rows_of
from pacos.export.ollama import write_modelfile
from pacos.export.origin import Origin
from pacos.export.receipts import Receipt, compare, require


def gate_of(type: str) -> str:
    """The gate of a type: its own, or that of its number of bits."""
    return type if type in ("f32", "f16", "bf16", "q8_0", "q6_k") else type[:2]


def check_type(type: str) -> None:
    """Raises UsageError where no file can be written in this type here."""
    known = [*TYPES, *llama_cpp.K_QUANTS]
    if type not in known:
        raise UsageError(f"--type {type}: not known; known, nearest first: {', '.join(nearest_first(type, known))}")
    if type in llama_cpp.K_QUANTS:
        llama_cpp.need(f"--type {type}")


def gate_of_serving(type: str) -> str:
    """The gate of llama.cpp beside transformers, on one file of this type."""
    return "served" if type in ("f32", "f16", "bf16") else "served in integers"


def export_gguf(origin: Origin, out: Path, *, type: str, say: Say, lora: bool = False) -> dict[str, Any]:
    """Write the GGUF folder `out`, which must not exist. Returns export.json.

    Raises ResourceError before anything is written where the model does not fit into memory to be measured, and GateError,
    nothing kept.
    """
    check_type(type)
    names = Names(origin.config)
    if lora and not origin.updates:
        raise UsageError(f"--lora: {origin.name} has no adapter to write")
    need_memory(origin.weights, origin.name)
    with new_folder(out) as draft:
        path = draft / f"{origin.name}.{type}.gguf"
        say(f"writing {type}, architecture {names.architecture}")
        write_type(origin, path, type)
        say(f"measuring {origin.name}")
        network = origin.network()
        length = min(network.max_length, served_context(origin.config))
        rows = rows_of(origin.contract, origin.renderer, origin.held_out, length)
        before = observe(network, rows)
        del network
        receipt, after = _measure(origin, path, type, rows, before, out, say)
        receipts = [receipt]
        if lora:
            write_lora(origin, draft / f"{origin.name}.lora.gguf")
        facts = {"type": type, "context_length": length, "served": llama_cpp.is_there()}
        if llama_cpp.is_there():
            say("serving with llama.cpp")
            receipts.append(compare("gguf -> served", gate_of_serving(type), after, llama_cpp.observe(path, rows)))
            require(receipts[-1], out)
        about = origin.about | facts
        tree = write_export(draft, "gguf", origin, about, [r.to_tree() for r in receipts])
        write_modelfile(draft, path.name, origin.contract, origin.renderer, length)
        if origin.held_out:
            shutil.copyfile(origin.held_out, draft / "test.jsonl")
        (draft / "README.md").write_text(export_card(tree), encoding="utf-8")
    return tree


def write_type(origin: Origin, path: Path, type: str) -> None:
    """The file itself; K-quants by llama.cpp from one in fp32."""
    weights = merged_weights(origin, "fp32")
    if type in TYPES:
        write_gguf(origin, weights, path, type)
        return
    whole = path.with_suffix(".whole")
    write_gguf(origin, weights, whole, "f32")
    llama_cpp.quantize(whole, path, type)
    whole.unlink()


def _measure(
    origin: Origin, path: Path, type: str, rows: Rows, before: Observed, out: Path, say: Say
) -> tuple[Receipt, Observed]:
    """What the file does, read back through transformers; its tokenizer must give the contract's ids."""
    say("measuring the file, read back through transformers")
    step = "saved -> gguf" if origin.record or origin.updates else "merged -> gguf"
    with as_model(path) as (network, tokenizer):
        differ = probes_that_differ(origin.contract, tokenizer)
        if differ:
            raise GateError(
                f"{out}: the file's tokenizer gives other ids for {len(differ)} of {len(origin.contract['probes'])} probe "
                f"conversations ({', '.join(differ[:3])}). Nothing was kept under the final name"
            )
        after = observe(network, rows)
    receipt = compare(f"{step} {type}", gate_of(type), before, after)
    if receipt.failures:
        require(receipt, out, first_difference(path, origin.config, merged_weights(origin, "fp32")))
    return receipt, after
