"""What each GGUF type costs on SmolLM2: size, memory, tokens a second, perplexity with an interval: `make bench-quantization`.

python benchmarks/quantization.py [TYPE ...]        the types that are measured now; all if none is given

Every file is written by pacos and run by llama.cpp, in a process of its own that measures its own peak memory. Perplexity
is of the answers of 32 rows of the starter set in the chat format; its interval is of the difference to F32, paired over
the rows. `by weights alone` is the same file in transformers, in fp32: what `pacos export gguf` holds to its gates;
llama.cpp rounds activations too. Each type is kept in benchmarks/results/quantization.json as soon as it is measured, so
that the types can be measured in several calls; F32, which the others are compared with, is observed anew in each.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.common import RESULTS, machine, recent_peak_gb, write_result
from pacos.data import load_examples, write_examples
from pacos.export import llama_cpp
from pacos.export.gguf_export import gate_of, write_type
from pacos.export.gguf_read import as_model
from pacos.export.observe import ROWS, Observed, Rows, observe, rows_of
from pacos.export.origin import Origin, open_origin
from pacos.export.receipts import Receipt, compare

MODEL = "smollm2-135m-instruct"
TYPES = ("f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q5_1", "q4_k_m", "q4_0", "q3_k_m", "q2_k")
SERVED, ALONE = "by llama.cpp", "by weights alone"
PROMPT, WRITTEN, CONTEXT, RUNS = 256, 64, 512, 3


def measure(kinds: list[str]) -> None:
    """Measure these types, and keep each."""
    llama_cpp.need("bench-quantization")
    origin = open_origin(MODEL)
    kept = measured_before()
    with tempfile.TemporaryDirectory() as folder:
        rows = held_out_rows(origin, Path(folder))
        whole = Path(folder) / "whole.gguf"
        write_type(origin, whole, "f32")
        before, own = llama_cpp.observe(whole, rows), in_transformers(whole, rows)
        for kind in kinds:
            path = Path(folder) / f"a.{kind}.gguf"
            write_type(origin, path, kind)
            served = compare(kind, gate_of(kind), before, llama_cpp.observe(path, rows))
            alone = compare(kind, gate_of(kind), own, in_transformers(path, rows))
            verdict = {"within_gate": "no" if alone.failures else "yes"}
            kept[kind] = {
                SERVED: {"bytes": path.stat().st_size, **measured_alone(path), **told(served)},
                ALONE: told(alone) | verdict,
            }
            path.unlink()
            keep(kept)
            print(f"{kind}: {json.dumps(kept[kind])}", flush=True)


def in_transformers(path: Path, rows: Rows) -> Observed:
    with as_model(path) as (network, _):
        return observe(network, rows)


def told(receipt: Receipt) -> dict[str, Any]:
    """What a receipt says of a type."""
    assert receipt.interval is not None
    return {
        "perplexity": receipt.perplexity_after,
        "difference_low": receipt.interval[0],
        "difference_high": receipt.interval[1],
        "top1_agreement": receipt.top1_agreement,
        "rows": receipt.num_rows,
        "positions": receipt.num_positions,
    }


def measured_before() -> dict[str, Any]:
    """What the result file holds, where it is of this machine."""
    path = RESULTS / "quantization.json"
    tree = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if tree.get("machine") != machine():
        return {}
    served, alone = tree["figures"][SERVED], tree["figures"][ALONE]
    return {kind: {SERVED: served[kind], ALONE: alone[kind]} for kind in served}


def keep(kept: dict[str, Any]) -> None:
    """Write the result file, the types in their order."""
    kinds = [kind for kind in TYPES if kind in kept]
    figures = {part: {kind: kept[kind][part] for kind in kinds} for part in (SERVED, ALONE)}
    sizes = {kind: kept[kind][SERVED]["bytes"] for kind in kinds}
    ratios = {
        f"size of {kind} to f32": sizes[kind] / sizes["f32"] for kind in kinds if kind != "f32" and "f32" in sizes
    }
    write_result("quantization", figures, ratios)


def held_out_rows(origin: Origin, folder: Path) -> Rows:
    """Rows of the starter set, which the base was not trained on in this form."""
    path = folder / "rows.jsonl"
    write_examples(load_examples("starter").examples[:ROWS], path)
    return replace(rows_of(origin.contract, origin.renderer, path, 2048), prompts=())


def measured_alone(path: Path) -> dict[str, float]:
    """Tokens a second and peak memory, in a process of its own."""
    command = [sys.executable, __file__, "--one", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def one(path: Path) -> dict[str, float]:
    """Read a prompt and write behind it, the best of some runs."""
    import llama_cpp as engine
    import torch

    threads = torch.get_num_threads()
    llama = engine.Llama(
        str(path), n_ctx=CONTEXT, n_threads=threads, n_threads_batch=threads, verbose=False, n_gpu_layers=0
    )
    prompt = np.random.default_rng(0).integers(10, 1000, PROMPT).tolist()
    reading, writing = [], []
    for _ in range(RUNS):
        llama.reset()
        began = time.perf_counter()
        llama.eval(prompt)
        read = time.perf_counter()
        for _ in range(WRITTEN):
            llama.eval([llama.sample(temp=0.0)])
        reading.append(PROMPT / (read - began))
        writing.append(WRITTEN / (time.perf_counter() - read))
    return {
        "read_tokens_per_second": max(reading),
        "written_tokens_per_second": max(writing),
        "peak_rss_gb": recent_peak_gb(),
    }


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(Path(sys.argv[2]))))
        return
    unknown = [kind for kind in sys.argv[1:] if kind not in TYPES]
    if unknown:
        sys.exit(f"{', '.join(unknown)}: not known; known: {', '.join(TYPES)}")
    measure(sys.argv[1:] or list(TYPES))


if __name__ == "__main__":
    main()
