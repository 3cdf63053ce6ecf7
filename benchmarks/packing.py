"""Instructions -> token ids -> full packs: ours beside TRL's preparation of the same rows. `make bench-packing`.

All of Alpaca (the starter set where ../shared is absent), the Alpaca template, SmolLM2's tokenizer, packs of 2,048 tokens.
Timed: from rows in memory to packs known. TRL gets the texts ready made, and its best strategy (best fit decreasing), in one
process and in one a core. Ours runs twice, the second time from the cache. Fill is the share of the packs' room that rows
take.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from common import ALPACA, in_own_process, peak_rss_gb, run_one, write_result

PACK_TOKENS, BATCH = 2048, 16
TIMEOUT_SECONDS = 900


def load() -> tuple[list[Any], Any]:
    """Examples and the renderer, which holds the tokenizer."""
    from pacos.data import load_examples
    from pacos.models import load_tokenizer
    from pacos.prompts import Renderer

    data = load_examples(ALPACA if ALPACA.exists() else "starter")
    return data.examples, Renderer(load_tokenizer("smollm2-135m-instruct"), "alpaca")


def pacos() -> dict[str, Any]:
    """Ours, first with an empty cache, then again."""
    from pacos.models.binpack import best_fit, fill
    from pacos.training.token_cache import render_once

    examples, renderer = load()
    held = peak_rss_gb()
    said: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PACOS_CACHE"] = folder
        first, rows = timed(lambda: render_once(examples, renderer, PACK_TOKENS, said.append))
        again, rows = timed(lambda: render_once(examples, renderer, PACK_TOKENS, said.append))
    lengths = rows.lengths.tolist()
    packing, packs = timed(lambda: best_fit(lengths, PACK_TOKENS))
    assert said == [], said
    batches = [lengths[at : at + BATCH] for at in range(0, len(lengths), BATCH)]
    return {
        "rows": len(rows),
        "tokens": sum(lengths),
        "seconds": first + packing,
        "seconds_again": again + packing,
        "packing_seconds": packing,
        "packs": len(packs),
        "fill": fill(lengths, packs, PACK_TOKENS),
        "fill_of_batches_of_16_rows": sum(lengths)
        / sum(PACK_TOKENS * len(best_fit(batch, PACK_TOKENS)) for batch in batches),
        "table_mb": sum(column.nbytes for column in vars(rows).values()) / 1e6,
        "rss_added_gb": peak_rss_gb() - held,
        "peak_rss_gb": peak_rss_gb(),
    }


def trl(processes: int) -> dict[str, Any]:
    """SFTTrainer's own preparation of a prompt-completion dataset, with packing."""
    from datasets import Dataset, disable_progress_bars
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    examples, renderer = load()
    prompts = [renderer.show(ids) for ids in renderer.render_prompts(examples)]
    table = Dataset.from_dict({"prompt": prompts, "completion": [example.output for example in examples]})
    held = peak_rss_gb()
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder,
            use_cpu=True,
            max_length=PACK_TOKENS,
            packing=True,
            packing_strategy="bfd",
            dataset_num_proc=processes if processes > 1 else None,
            report_to="none",
        )
        trainer = SimpleNamespace(_tokenizer=renderer.tokenizer, chat_template=None, completion_only_loss=True)
        prepare = SFTTrainer._prepare_dataset
        seconds, packed = timed(
            lambda: prepare(trainer, table, renderer.tokenizer, settings, settings.packing, None, "train")
        )
    tokens = sum(map(len, packed["input_ids"]))
    return {
        "rows": len(examples),
        "tokens": tokens,
        "seconds": seconds,
        "packs": len(packed),
        "fill": tokens / (PACK_TOKENS * len(packed)),
        "rss_added_gb": peak_rss_gb() - held,
        "peak_rss_gb": peak_rss_gb(),
    }


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


CONTENDERS: dict[str, Callable[[], dict[str, Any]]] = {
    "pacos": pacos,
    "trl": lambda: trl(1),
    "trl, one process a core": lambda: trl(os.cpu_count() or 1),
}


def main() -> None:
    results = {name: in_own_process(Path(__file__), name, TIMEOUT_SECONDS) for name in CONTENDERS}
    for name, result in results.items():
        print(f"{name}: {line(result)}")
    ours, theirs = results["pacos"], {n: r for n, r in results.items() if n != "pacos" and "failed" not in r}
    ratios = {name: result["seconds"] / ours["seconds"] for name, result in theirs.items()}
    for name, ratio in ratios.items():
        print(f"ours over {name}: {ratio:.1f} times as fast")
    data = "Alpaca" if ALPACA.exists() else "starter"
    print(f"written to {write_result('packing', {'data': data, **results}, ratios)}")


def line(result: dict[str, Any]) -> str:
    if "failed" in result:
        return f"failed: {result['failed']}"
    again = f", again {result['seconds_again']:.2f} s" if "seconds_again" in result else ""
    return (
        f"{result['rows']:,} rows, {result['tokens']:,} tokens in {result['seconds']:.1f} s{again}; "
        f"{result['packs']:,} packs, {result['fill']:.1%} full; {result['rss_added_gb']:.2f} GB more"
    )


if __name__ == "__main__" and not run_one(CONTENDERS):
    main()
