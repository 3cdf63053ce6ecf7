"""A run as one 16-bit model: base and adapter added, tensor by tensor, then proved equal to what was trained.

    base tensor --fp32--> + s B A --round--> shard        one matrix in memory at a time

The folder holds config, generation_config with the trained stops, the tokenizer with a chat template that renders the
contract's ids, a card, and export.json with the receipts. From a base in NF4 the adapter can be added to the original
weights, or to those that NF4 stands for (`dequantized`), which are what it was trained on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pacos.errors import UsageError
from pacos.export.card import export_card
from pacos.export.folder import new_folder, write_export
from pacos.export.observe import Observed, Rows, rows_of
from pacos.export.origin import Origin, stored_dtype
from pacos.export.receipts import compare, require
from pacos.export.rounding import Rounded
from pacos.export.subjects import BY_LAYERS, measured_by_layers, saved, written
from pacos.export.tensors import SHARD_BYTES, TensorFiles, write_shards
from pacos.export.updates import Merged

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
BASES = ("original", "dequantized")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")
Say = Callable[[str], None]


def merge(
    origin: Origin, out: Path, *, dtype: str = "auto", onto: str = "original", shard_bytes: int = SHARD_BYTES, say: Say
) -> dict[str, Any]:
    """Write the merged model to `out`, which must not exist. Returns export.json. Raises GateError, nothing kept."""
    if dtype not in ("auto", *DTYPES):
        raise UsageError(f"--dtype {dtype}: not known; known: auto, {', '.join(DTYPES)}")
    if onto not in BASES or (onto == "dequantized" and not origin.is_nf4):
        why = "the run was not trained on NF4" if onto in BASES else f"known: {', '.join(BASES)}"
        raise UsageError(f"--onto {onto}: {why}")
    with new_folder(out) as draft:
        by_layers = measured_by_layers(origin)
        say(f"measuring {origin.name}{BY_LAYERS if by_layers else ''}")
        subject = saved(origin, by_layers)
        rows = rows_of(origin.contract, origin.renderer, origin.held_out, subject.max_length)
        before = subject.observe(rows)
        del subject
        say(f"merging {len(origin.updates)} matrices")
        weights = merged_weights(origin, dtype, nf4=onto == "dequantized")
        write_shards(draft, weights.slots.values(), weights.read, shard_bytes)
        write_model_files(origin, draft, str(weights_dtype(weights)).removeprefix("torch."))
        say("measuring what was written")
        after = observe_folder(draft, by_layers, rows, before)
        gate = "merged onto other base" if origin.is_nf4 and onto == "original" else "merged"
        receipt = compare("saved -> merged", gate, before, after)
        require(receipt, out, first_difference(weights, TensorFiles(draft)) if receipt.failures else "")
        about = origin.about | {"dtype": str(weights_dtype(weights)).removeprefix("torch."), "onto": onto}
        about |= {"measured": "by layers" if by_layers else "whole"}
        tree = write_export(draft, "merged", origin, about, [receipt.to_tree()])
        if origin.held_out:
            shutil.copyfile(origin.held_out, draft / "test.jsonl")
        (draft / "README.md").write_text(export_card(tree), encoding="utf-8")
    return tree


def merged_weights(origin: Origin, dtype: str = "auto", *, nf4: bool = False) -> Merged:
    """The merged weights of an origin, read one by one; `nf4` rounds those of the base as training did."""
    kind = DTYPES.get(dtype)
    if kind is None and stored_dtype(origin.weights) == torch.float32:
        kind = torch.bfloat16
    return Merged(Rounded(origin) if nf4 else origin.weights, origin.updates, kind)


def weights_dtype(weights: Merged) -> torch.dtype:
    """The kind of the largest tensor."""
    return max(weights.slots.values(), key=lambda slot: slot.nbytes).dtype


def write_model_files(origin: Origin, folder: Path, dtype: str) -> None:
    """config.json, generation_config.json and the tokenizer's files."""
    config = {key: value for key, value in origin.config.items() if key not in ("torch_dtype", "quantization_config")}
    stops = [stop["id"] for stop in origin.contract["stop"]]
    tokenizer = origin.renderer.tokenizer
    ends = {"eos_token_id": stops[0] if len(stops) == 1 else stops, "bos_token_id": tokenizer.bos_token_id}
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0]
    _write(folder / "config.json", config | {"dtype": dtype} | ends)
    _write(folder / "generation_config.json", {**ends, "pad_token_id": pad, "do_sample": False})
    write_tokenizer(origin, folder)


def write_tokenizer(origin: Origin, folder: Path) -> None:
    """The tokenizer as it was trained with, and a chat template that renders the contract's ids."""
    from pacos.prompts import chat_template_jinja

    source = origin.folder if (origin.folder / "tokenizer.json").is_file() else origin.base.folder
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    if not (folder / "tokenizer.json").is_file():
        origin.renderer.tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(chat_template_jinja(origin.renderer), encoding="utf-8")
    # a template in the config would be a second one, which some tools read first
    path = folder / "tokenizer_config.json"
    tree = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    tree.pop("chat_template", None)
    _write(
        path, tree | {"eos_token": origin.contract["stop"][0]["token"], "tokenizer_class": "PreTrainedTokenizerFast"}
    )


def _write(path: Path, tree: dict[str, Any]) -> None:
    path.write_text(json.dumps(tree, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def observe_folder(folder: Path, by_layers: bool, rows: Rows, before: Observed) -> Observed:
    """What the model of a folder does on the rows."""
    return written(folder, by_layers).observe(rows, before)


def first_difference(expected: Merged, written: TensorFiles) -> str:
    """The first tensor of the files that is not, to the bit, what was to be written; else that all are."""
    for name in expected.slots:
        if name not in written.slots:
            return f"{name} is missing"
        ours, theirs = expected.read(name), written.read(name)
        if ours.dtype != theirs.dtype or not torch.equal(ours, theirs):
            apart = float((ours.float() - theirs.float()).abs().max())
            return f"{name}, by {apart:.3g}"
    worst = max(expected.updates, key=lambda name: _rounding(expected, name), default="")
    if not worst:
        return "none: the files are what was to be written"
    return f"none in the files; rounding moved {worst} most, by {_rounding(expected, worst):.2%} of its update"


def _rounding(weights: Merged, name: str) -> float:
    """How much of a matrix's update is lost by rounding, as a share of the update's norm."""
    lost = (weights.exact(name) - weights.read(name).float()).norm()
    return float(lost / weights.updates[name].delta().norm().clamp_min(1e-12))
