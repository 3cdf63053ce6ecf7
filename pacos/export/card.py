"""The card of an export: README.md in the hub's metadata form, from export.json alone.

Base model and relation, data and licence, how it was made, the receipts as a table, and the limits. Data made by Stanford
Alpaca, or from it, is CC BY-NC 4.0: what is trained on it says so.
"""

from __future__ import annotations

from typing import Any

import yaml

from pacos.models.catalog import ENTRIES, public_name
from pacos.training.card import METHODS, NON_COMMERCIAL

RELATION = {"merged": "finetune", "gguf": "quantized", "lora": "adapter", "diff": "finetune"}
LIBRARY = {"merged": "transformers", "gguf": "gguf", "lora": "gguf", "diff": "safetensors"}
WHAT = {
    "merged": "merged into its base, for transformers, vLLM and other readers of safetensors",
    "gguf": "in GGUF, for llama.cpp, Ollama and LM Studio",
    "lora": "as a GGUF LoRA adapter, for llama.cpp over the base",
    "diff": "as a difference to its base; `pacos export recover` makes the model from both, bit for bit",
}


def export_card(tree: dict[str, Any]) -> str:
    """README.md of an export folder."""
    header = yaml.safe_dump(metadata(tree), sort_keys=False, allow_unicode=True).strip()
    about = tree["about"]
    trained = f", fine-tuned with pacos by {METHODS[about['method']]} on `{about['data']}`" if "method" in about else ""
    if "adapter" in about:
        trained = f" with the adapter `{about['adapter']}`, which pacos did not train"
    facts = "\n".join(f"| {name} | {value} |" for name, value in _facts(tree))
    return f"""---
{header}
---

# {tree["name"]}

`{public_name(about["base"]["name"])}`{trained}, {WHAT[tree["kind"]]}.

| | |
|---|---|
{facts}

## Receipts

Each step from the live model on, on the same probe prompts and held-out rows. Perplexity is of the held-out answers, its
difference with a 95 % interval (paired bootstrap over the rows).

{_table(tree["receipts"])}

`pacos export verify` on this folder repeats the last of them.

## Limits

A small model: it makes mistakes, and says them fluently. The prompt format is `{tree["contract"]["template"]["name"]}`; with another one it
answers worse. It ends an answer with {_stops(tree)}.{_licence(about)}
"""


def metadata(tree: dict[str, Any]) -> dict[str, Any]:
    """The hub's YAML block."""
    about, kind = tree["about"], tree["kind"]
    base = about["base"]["name"]
    found: dict[str, Any] = {"base_model": public_name(base), "base_model_relation": RELATION[kind]}
    found["library_name"] = LIBRARY[kind]
    data = about.get("data", "")
    if "/" in data and not data.startswith(("/", ".")):
        found["datasets"] = [data]
    if _non_commercial(data):
        found["license"] = "cc-by-nc-4.0"
    elif base in ENTRIES:
        found["license"] = ENTRIES[base].licence.lower()
    return {**found, "pipeline_tag": "text-generation", "tags": ["pacos", "instruction-tuning"]}


def _non_commercial(data: str) -> bool:
    return any(name in data for name in NON_COMMERCIAL)


def _facts(tree: dict[str, Any]) -> list[tuple[str, str]]:
    about = tree["about"]
    names = {"run": "run", "recipe": "recipe", "dtype": "weights", "onto": "merged onto", "type": "quantization"}
    facts = [(label, str(about[key])) for key, label in names.items() if key in about]
    facts.append(("base weights", f"sha256 `{about['base']['sha256'][:16]}…`"))
    facts.append(("made with", f"pacos {tree['libraries'].get('pacos', '')}, {tree['created'][:10]}"))
    return facts


def _table(receipts: list[dict[str, Any]]) -> str:
    rows = ["| step | top-1 | largest logit difference | greedy agreement | perplexity |", "|---|---|---|---|---|"]
    for receipt in receipts:
        greedy = perplexity = "-"
        if receipt.get("num_answers"):
            greedy = f"{receipt['greedy_agreement_length']:.1f} of {receipt['greedy_length']:.1f} tokens"
        if receipt.get("interval"):
            low, high = receipt["interval"]
            perplexity = (
                f"{receipt['perplexity_before']:.3f} → {receipt['perplexity_after']:.3f} ({low:+.3f} to {high:+.3f})"
            )
        top = f"{receipt['top1_agreement']:.2%} of {receipt['num_positions']}"
        rows.append(f"| {receipt['step']} | {top} | {receipt['max_logit_difference']:.2g} | {greedy} | {perplexity} |")
    return "\n".join(rows)


def _stops(tree: dict[str, Any]) -> str:
    return " or ".join(f"`{stop['token']}`" for stop in tree["contract"]["stop"])


def _licence(about: dict[str, Any]) -> str:
    if not _non_commercial(about.get("data", "")):
        return ""
    return (
        "\n\nThe data is Stanford Alpaca's or made from it: CC BY-NC 4.0, and written by OpenAI's text-davinci-003, whose terms"
        "\nforbid building competing models with it. Research use only."
    )
