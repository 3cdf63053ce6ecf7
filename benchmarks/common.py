"""What every benchmark shares: the machine, its matrix-product peak, contenders in processes of their own, the result file.

A contender runs alone, in its own process, and prints one JSON object as its last line. Ratios are ours over theirs, within
one call: absolute figures of a shared machine are noisy.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
ALPACA = ROOT.parent / "shared" / "data" / "alpaca" / "alpaca_data.json"


def machine() -> dict[str, Any]:
    """CPU, cores, threads, and the versions that matter."""
    import torch
    import transformers

    from pacos.models.load import has_native_bf16
    from pacos.training.record import cpu_name

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "native_bf16": has_native_bf16(device),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def matmul_gflops(dtype_name: str, shapes: tuple[tuple[int, int, int], ...], seconds: float = 1.0) -> float:
    """Measured rate of matrix products (m, k) x (k, n), in GFLOP/s, the mean over the shapes."""
    import torch

    rates = []
    for m, k, n in shapes:
        a, b = (torch.randn(rows, k).to(getattr(torch, dtype_name)) for rows in (m, n))
        for _ in range(3):
            torch.nn.functional.linear(a, b)
        began, runs = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            torch.nn.functional.linear(a, b)
            runs += 1
        rates.append(2 * m * k * n * runs / (time.perf_counter() - began) / 1e9)
    return sum(rates) / len(rates)


def peak_rss_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def in_own_process(script: Path, contender: str, timeout_seconds: int) -> dict[str, Any]:
    """The last line of `python SCRIPT --one CONTENDER` as JSON; what went wrong where it did not end well."""
    command = [sys.executable, str(script), "--one", contender]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRANSFORMERS_VERBOSITY": "error"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_seconds, env=environment)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {timeout_seconds} s"}
    if done.returncode:
        return {
            "failed": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
        }
    return json.loads(done.stdout.strip().splitlines()[-1])


def write_result(name: str, figures: Mapping[str, Any], ratios: Mapping[str, float]) -> Path:
    """benchmarks/results/NAME.json: the machine, the figures, the ratios."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    tree = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "figures": dict(figures),
        "ratios": dict(ratios),
    }
    path.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
    return path


def run_one(contenders: Mapping[str, Callable[[], dict[str, Any]]]) -> bool:
    """Whether this process was started for one contender; if so it has run and printed its figures."""
    if "--one" not in sys.argv:
        return False
    result = contenders[sys.argv[sys.argv.index("--one") + 1]]()
    print(json.dumps(result))
    return True
