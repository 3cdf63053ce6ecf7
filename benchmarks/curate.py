"""`pacos curate` on Alpaca: time, memory, and how well it agrees with the people who cleaned it. `make bench-curate`.

All 52,002 rows through the command line, with and without the comparison; then rows made from them (words changed by a
seeded draw, in JSONL) at growing sizes, to show what memory grows by. Where ../shared is absent the starter set stands in,
without the comparison.

The rules were written while looking at half of the rows that people changed: those whose sha256 of instruction + input begins
with an even byte. The other half was not looked at: `seen` and `unseen` are the figures of each.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from common import ALPACA, ROOT, write_result

CLEANED = ALPACA.with_name("alpaca_data_cleaned_2023-03-29.json")
SIZES = (50_000, 200_000)
MILLION = 1_000_000
TIMEOUT_SECONDS = 3000


def curate(*arguments: object) -> dict[str, Any]:
    """One run of the verb: seconds, and peak memory of its largest process and of all its processes together, in GB."""
    command = [sys.executable, "-m", "pacos", "curate", *map(str, arguments), "--json"]
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        together = watch(process)
        output.seek(0)
        result = json.loads(output.read()) if process.returncode == 0 else {}
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "together_gb": together, "code": process.returncode, "result": result}


def watch(process: subprocess.Popen[Any]) -> float:
    """The highest sum of resident memory (proportional, so that shared pages count once) of a process and its children."""
    most = 0
    while process.poll() is None:
        most = max(most, sum(map(proportional_kb, family(process.pid))))
        time.sleep(0.25)
    return round(most * 1024 / 1e9, 3)


def family(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from family(int(child))


def proportional_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def agreement() -> dict[str, Any]:
    """Recall and precision of errors and warnings on the two halves of the rows, by rows that people changed."""
    from pacos.data.curation import RULES
    from pacos.data.curation.gold import Share
    from pacos.data.curation.stream import read_rows

    with tempfile.TemporaryDirectory() as folder:
        findings = Path(folder) / "findings.jsonl"
        run = curate(ALPACA, "--gold", CLEANED, "--findings", findings, "--fix", "--out", Path(folder) / "fixed.json")
        found = [json.loads(line) for line in findings.read_text().splitlines()]
    serious = {f["id"] for f in found if RULES[f["rule"]].severity != "note"}
    kept = {row.example.id for row in read_rows([str(CLEANED)]) if row.example}
    halves: dict[str, list[int]] = {"seen": [0, 0, 0], "unseen": [0, 0, 0]}
    for row in read_rows([str(ALPACA)]):
        assert row.example is not None
        even = hashlib.sha256((row.example.instruction + row.example.input).encode()).digest()[0] % 2 == 0
        changed, hit = row.example.id not in kept, row.example.id in serious
        tally = halves["seen" if even else "unseen"]
        tally[0] += changed
        tally[1] += hit
        tally[2] += changed and hit
    shares = {
        half: {
            "changed": changed,
            "found": hits,
            "recall": (both / changed, Share(both, changed).interval),
            "precision": (both / hits, Share(both, hits).interval),
        }
        for half, (changed, hits, both) in halves.items()
    }
    agreed, mended = run["result"]["agreement"], run["result"]["mended"]
    mended = {name: value for name, value in mended.items() if name not in ("path", "changes")}
    return {"halves": shares, **agreed, "cleaned": CLEANED.name, "mended": mended}


def perturbed(rows: list[dict[str, str]], count: int) -> Iterator[str]:
    """JSON lines made from rows: a third of the words of each replaced by words of another row."""
    drawn = random.Random(0)
    for number in range(count):
        row, other = rows[number % len(rows)], rows[drawn.randrange(len(rows))]
        spare = " ".join(other.values()).split() or ["word"]
        texts = {key: " ".join(_swapped(text.split(), spare, drawn)) for key, text in row.items()}
        yield json.dumps(texts) + "\n"


def _swapped(words: list[str], spare: list[str], drawn: random.Random) -> Iterable[str]:
    return (spare[drawn.randrange(len(spare))] if drawn.random() < 1 / 3 else word for word in words)


def growth(sizes: Iterable[int]) -> list[dict[str, Any]]:
    """Seconds and memory of generated files."""
    rows = json.loads(ALPACA.read_text()) if ALPACA.exists() else starter_rows()
    found = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.jsonl"
            with path.open("w") as file:
                file.writelines(perturbed(rows, size))
            megabytes = path.stat().st_size / 1e6
            run = curate(path)
        run.pop("result")
        found.append({"rows": size, "file_mb": round(megabytes, 1), **run})
        print(f"{size:,} rows, {megabytes:.0f} MB: {run['seconds']:.0f} s, {run['together_gb']:.2f} GB", flush=True)
    return found


def starter_rows() -> list[dict[str, str]]:
    from pacos.data import load_examples

    return [
        {"instruction": e.instruction, "input": e.input, "output": e.output} for e in load_examples("starter").examples
    ]


def main() -> None:
    data = ALPACA if ALPACA.exists() else "starter"
    run = curate(data)
    result = run.pop("result")
    figures: dict[str, Any] = {"data": Path(str(data)).name, "rows": result["rows"], "curate": run}
    figures["found"] = {rule["rule"]: rule["found"] for rule in result["rules"]}
    print(f"{result['rows']:,} rows: {run['seconds']:.1f} s, {run['together_gb']:.2f} GB in all processes", flush=True)
    if ALPACA.exists():
        figures["agreement"] = agreement()
        for half, share in figures["agreement"]["halves"].items():
            print(f"{half}: recall {share['recall'][0]:.1%}, precision {share['precision'][0]:.1%}", flush=True)
    figures["growth"] = growth((*SIZES, MILLION) if "--million" in sys.argv else SIZES)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    figures["largest_process_gb"] = round(children, 3)
    print(f"written to {write_result('curate', figures, {})}")


if __name__ == "__main__":
    main()
