"""README.md of a run: a model card with the hub's metadata, from what was measured."""

from __future__ import annotations

from typing import Any

import yaml

from pacos.models.catalog import public_name
from pacos.training.record import RunRecord

NON_COMMERCIAL = ("tatsu-lab/alpaca", "yahma/alpaca-cleaned", "alpaca_data")
"""Data made by Stanford Alpaca or from it: CC BY-NC 4.0."""


def model_card(record: RunRecord) -> str:
    recipe, result = record.recipe, record.result
    header = yaml.safe_dump(metadata(record), sort_keys=False).strip()
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts(record))
    return f"""---
{header}
---

# {recipe["name"]}
{_described(recipe["description"])}
`{public_name(record.base.name)}`, fine-tuned with pacos by {METHODS[recipe["method"]]} on `{record.data.path}`.

| | |
|---|---|
{rows}

Prompt format: `{recipe["prompt"]["template"]}`. `chat_template.jinja` renders it; `pacos.json` holds it as token ids.

Training loss went from {result.first_loss:.3f} to {result.last_loss:.3f} nats a response token.{_validation(record)} Run
`pacos eval` on this folder for its scores on held-out rows.

To train it again: `pacos train recipe.yaml`.
"""


METHODS = {"full": "full fine-tuning", "lora": "LoRA", "qlora": "QLoRA (NF4)"}


def metadata(record: RunRecord) -> dict[str, Any]:
    """The hub's YAML block."""
    found: dict[str, Any] = {
        "base_model": public_name(record.base.name),
        "library_name": "transformers" if record.recipe["method"] == "full" else "peft",
    }
    if record.recipe["method"] != "full":
        found["base_model_relation"] = "adapter"
    if "/" in record.data.path and not record.data.path.startswith(("/", ".")):
        found["datasets"] = [record.data.path]
    if any(name in record.data.path for name in NON_COMMERCIAL):
        found["license"] = "cc-by-nc-4.0"
    return {**found, "pipeline_tag": "text-generation", "tags": ["pacos", "instruction-tuning"]}


def facts(record: RunRecord) -> list[tuple[str, str]]:
    data, result, receipt = record.data, record.result, record.receipts[0]
    return [
        ("rows", f"{data.num_train} trained on, {data.num_validation} watched, {data.num_test} held out"),
        ("steps", f"{result.steps}, of which step {result.kept_step} is kept"),
        ("tokens", f"{result.tokens:,} computed (shared beginnings once), {result.tokens_per_second:,.0f} a second"),
        ("time", f"{result.seconds:.0f} s on {machine(record)}"),
        ("peak memory", f"{result.peak_memory_bytes / 2**30:.2f} GiB"),
        ("compute", record.compute_dtype),
        (
            "saved = live",
            f"largest logit difference {receipt.max_logit_difference:.2g} on {receipt.num_positions} positions",
        ),
    ]


def machine(record: RunRecord) -> str:
    hardware = record.hardware
    return hardware["gpus"][0] if hardware.get("gpus") else f"{hardware['cpu']}, {hardware['threads']} threads"


def _described(text: str) -> str:
    """The recipe's own words, as a paragraph."""
    return f"\n{text[0].upper()}{text[1:]}.\n" if text else ""


def _validation(record: RunRecord) -> str:
    best = record.result.best_eval_loss
    return "" if best is None else f" The kept weights' loss on the validation rows is {best:.3f}."
