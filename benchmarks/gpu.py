"""What a GPU makes of it: `make gpu-check`. Checks first (gpu_checks.py), then speed beside TRL, each in its own process.

    python benchmarks/gpu.py              exit 4 where there is no CUDA device, 5 where a check fails
    python benchmarks/gpu.py --cpu-dry    the same path with tiny shapes on the CPU: shows that the command runs

Aim: at least 1.5 times the examples a second of TRL's best, and over half of the device's dense bf16 peak for LoRA on an
H200. Models have random weights at true shapes, rows have the lengths of real Alpaca rows. Time is taken behind WARM_UP steps.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import common
from gpu_checks import CHECKS
from gpu_speed import CASES, OURS, device_peak_tflops, dry, measured_tflops, ours
from gpu_trl import THEIRS, trl

AIM_RATIO, AIM_UTILIZATION = 1.5, 0.5
TIMEOUT_SECONDS = 1800
Contenders = dict[str, Callable[[], dict[str, Any]]]

SPEED: Contenders = {
    f"{name}, {contender}": run
    for name, case in CASES.items()
    for contender, run in (
        *((us, partial(ours, case, compile)) for us, compile in OURS.items()),
        *((them, partial(trl, case, **options)) for them, options in THEIRS.items()),
    )
}
ALL: Contenders = {**{f"check {name}": check for name, check in CHECKS.items()}, **SPEED}


def main() -> int:
    import torch

    if not (torch.cuda.is_available() or dry()):
        print("gpu-check: no CUDA device here; --cpu-dry shows that the command runs", file=sys.stderr)
        return 4
    if dry():
        common.RESULTS = Path(tempfile.mkdtemp())  # figures of a dry run are no result
    checks = {name: told(name, check_line) for name in ALL if name.startswith("check ")}
    speed = {name: told(name, speed_line) for name in SPEED}
    ratios = {case: ratio for case in CASES if (ratio := ratio_of(case, speed)) is not None}
    figures = {"peaks_tflops": peaks(), "aims": aims(ratios, speed), "checks": checks, "speed": speed}
    for line in figures["aims"]:
        print(line)
    print(f"written to {common.write_result('gpu', figures, ratios)}")
    return 5 if any(not passed(result) for result in checks.values()) else 0


def told(name: str, line: Callable[[dict[str, Any]], str]) -> dict[str, Any]:
    """Run one contender, in its own process but for a dry run, and say what came of it."""
    result = here(ALL[name]) if dry() else common.in_own_process(Path(__file__), name, TIMEOUT_SECONDS)
    print(f"{name}: {line(result)}", flush=True)
    return result


def here(contender: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return contender()
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"}


def passed(result: dict[str, Any]) -> bool:
    """Whether every error that was found is within its tolerance; what this device cannot do is no failure."""
    return "skipped" in result or ("failed" not in result and all(e["error"] <= e["within"] for e in result.values()))


def check_line(result: dict[str, Any]) -> str:
    if "failed" in result or "skipped" in result:
        return f"failed: {result['failed']}" if "failed" in result else f"skipped: {result['skipped']}"
    worst = {name: e for name, e in result.items() if e["error"] > e["within"]}
    if worst:
        return "FAILED: " + "; ".join(f"{name} {e['error']:.2g} > {e['within']:g}" for name, e in worst.items())
    closest = max(result.values(), key=lambda e: e["error"] / (e["within"] or 1))
    return f"passed, {len(result)} cases; the closest: {closest['error']:.2g} of {closest['within']:g}"


def speed_line(result: dict[str, Any]) -> str:
    if "failed" in result:
        return f"failed: {result['failed']}"
    share = f", {result['utilization']:.0%} of the peak" if result.get("utilization") else ""
    return (
        f"{result['examples_per_second']:.1f} examples/s, {result['tokens_per_second']:,.0f} tokens/s{share}, "
        f"{result['peak_gb']:.1f} GB, losses {result['losses']}"
    )


def ratio_of(case: str, speed: dict[str, dict[str, Any]]) -> float | None:
    """Our best over TRL's best, in examples a second; None where either side has no figure."""
    ours, theirs = (
        max((speed[f"{case}, {n}"].get("examples_per_second", 0.0) for n in names), default=0.0)
        for names in (OURS, THEIRS)
    )
    return ours / theirs if ours and theirs else None


def peaks() -> dict[str, float | None]:
    return {"of the data sheet, dense bf16": device_peak_tflops(), "measured": measured_tflops()}


def aims(ratios: dict[str, float], speed: dict[str, dict[str, Any]]) -> list[str]:
    """Each aim beside its figure."""
    if dry():
        return ["a dry run: tiny shapes on the CPU, whose speeds mean nothing"]
    lines = [f"{case}: {ratio:.2f} times TRL's best; the aim is {AIM_RATIO:g}" for case, ratio in ratios.items()]
    lines += [f"{case}: no ratio, for one side has no figure" for case in CASES if case not in ratios]
    shares = [s for n in OURS if (s := speed[f"llama2-lora, {n}"].get("utilization"))]
    share = f"{max(shares):.0%}" if shares else "not known here"
    return [*lines, f"model-FLOP utilization of LoRA: {share}; the aim on an H200 is over {AIM_UTILIZATION:.0%}"]


if __name__ == "__main__":
    if not common.run_one(ALL):
        sys.exit(main())
