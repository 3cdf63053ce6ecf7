"""What each quantization costs on SmolLM2: size, memory, tokens a second, perplexity with an interval.

python benchmarks/quantization.py [MODEL]        MODEL: a run, a merged folder or a base; the embedded model if not given

Every file is written by pacos and run by llama.cpp in a process of its own, which measures its own peak memory; where
llama.cpp is not installed, K-quants are left out and perplexity is of transformers on the file. Perplexity is of the
answers of rows that the model was not trained on; the interval is of its difference to F32, paired over the rows.

Writes benchmarks/results/quantization.json and docs/quantization.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, ROOT, machine, peak_rss_gb

from pacos.data import load_examples, write_examples
from pacos.export import llama_cpp
from pacos.export.gguf_export import gate_of, write_type
from pacos.export.gguf_read import as_model
from pacos.export.observe import Observed, observe, rows_of
from pacos.export.origin import open_origin
from pacos.export.receipts import GATES, compare

MODEL = "smollm2-135m-instruct"
TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m", "q2_k")
NUM_ROWS, PROMPT, WRITTEN = 32, 256, 64


def measure_all(name: str) -> dict[str, Any]:
    """A row for each type that can be written here."""
    origin = open_origin(name)
    kinds = [t for t in TYPES if t not in llama_cpp.K_QUANTS or llama_cpp.is_there()]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        held_out = origin.held_out or some_rows(Path(folder))
        seen = rows_of(origin.contract, origin.renderer, held_out, 2048)
        before: Observed | None = None
        for kind in kinds:
            path = Path(folder) / f"a.{kind}.gguf"
            write_type(origin, path, kind)
            after = observed(path, seen)
            before = before or after
            receipt = compare(kind, gate_of(kind), before, after)
            speed = measured_alone(path) if llama_cpp.is_there() else {}
            rows.append({"type": kind, "bytes": path.stat().st_size, **speed, **receipt.to_tree()})
            print(f"{kind}: {rows[-1]['bytes'] / 1e6:.0f} MB, {rows[-1]['perplexity_after']:.3f}", flush=True)
            path.unlink()
    return {"model": name, "engine": "llama.cpp" if llama_cpp.is_there() else "transformers", "rows": rows}


def observed(path: Path, seen: Any) -> Observed:
    if llama_cpp.is_there():
        return llama_cpp.observe(path, seen)
    with as_model(path) as (network, _):
        return observe(network, seen)


def some_rows(folder: Path) -> Path:
    """Rows of the starter data, which a base model has not seen in this form."""
    path = folder / "rows.jsonl"
    write_examples(load_examples("starter").examples[:NUM_ROWS], path)
    return path


def measured_alone(path: Path) -> dict[str, float]:
    """Tokens a second and peak memory, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--one", str(path)], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def one(path: Path) -> dict[str, float]:
    """Read a prompt and write behind it, the better of two times."""
    import llama_cpp as engine

    threads = 2
    llama = engine.Llama(
        str(path), n_ctx=512, n_threads=threads, n_threads_batch=threads, verbose=False, n_gpu_layers=0
    )
    prompt = np.random.default_rng(0).integers(10, 1000, PROMPT).tolist()
    reading, writing = [], []
    for _ in range(2):
        llama.reset()
        began = time.perf_counter()
        llama.eval(prompt)
        read = time.perf_counter()
        for _ in range(WRITTEN):
            llama.eval([llama.sample(temp=0.0)])
        reading.append(PROMPT / (read - began))
        writing.append(WRITTEN / (time.perf_counter() - read))
    return {"read_per_second": max(reading), "written_per_second": max(writing), "peak_gb": peak_rss_gb()}


def page(result: dict[str, Any]) -> str:
    """docs/quantization.md."""
    head = "| type | size | memory | tokens read a second | written a second | perplexity | difference, 95 % | top-1 | gate |"
    lines = [head, "|---|---|---|---|---|---|---|---|---|"]
    for row in result["rows"]:
        low, high = row["interval"]
        fast = [f"{row[k]:.0f}" if k in row else "-" for k in ("read_per_second", "written_per_second")]
        memory = f"{row['peak_gb']:.2f} GB" if "peak_gb" in row else "-"
        gate = GATES[gate_of(row["type"])]
        lines.append(
            f"| {row['type']} | {row['bytes'] / 1e6:.0f} MB | {memory} | {fast[0]} | {fast[1]} "
            f"| {row['perplexity_after']:.3f} | {low:+.3f} to {high:+.3f} | {row['top1_agreement']:.2%} | {gate.top1:.1%} |"
        )
    here, first = result["machine"], result["rows"][0]
    return f"""# What each quantization costs

`{result["model"]}` as GGUF, each type against F32, run by {result["engine"]} on {here["cores"]} cores of {here["cpu"]}. Again with
`python benchmarks/quantization.py`.

{chr(10).join(lines)}

Perplexity is of the answers of {first["num_rows"]} rows in the model's prompt format; the interval is of the difference to F32, from a
paired bootstrap over the rows. Top-1 is the share of {first["num_positions"]:,} positions with the same likeliest token; below the gate
`pacos export gguf` fails (where perplexity too grows by more than the type's gate). Memory is the peak of the process, with 512
tokens of context. SmolLM2 is the smallest base, with a width (576) that does not divide into K-quants' blocks of 256, so that
llama.cpp keeps those matrices in larger types: larger models lose less, and shrink more.

In types below 8 bits pacos keeps the embedding and the head in Q8_0; they are a fifth of SmolLM2, and both at once.
"""


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(Path(sys.argv[2]))))
        return
    result = measure_all(*sys.argv[1:2] or [MODEL])
    whole = result["rows"][0]["bytes"]
    ratios = {f"size of {row['type']} to f32": row["bytes"] / whole for row in result["rows"]}
    result = {"name": "quantization", "machine": machine(), **result, "ratios": ratios}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "quantization.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (ROOT / "docs" / "quantization.md").write_text(page(result), encoding="utf-8")


if __name__ == "__main__":
    main()
