"""How the cost of a training step grows with the length of rows, and with their number. `make bench-lengths`.

LoRA at SmolLM2-135M's shapes with a third of its layers, random weights and ids, so that no two rows begin alike and every
token is computed. Per token, the matrices cost the same at any length, and attention's products grow with it: row lengths
64 to 2,048 are compared with what those products must cost. Rounds over all lengths, medians of each.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import in_own_process, our_steps, peak_gflops, run_one, write_result

LENGTHS = (64, 128, 256, 512, 1024, 2048)
COUNTS = (2, 4, 8, 16, 32)
COUNTED_LENGTH, TOKENS, LAYERS, ROUNDS = 128, 2048, 10, 5
SHAPES = ((2048, 576, 576), (2048, 576, 1536), (2048, 1536, 576))
TIMEOUT_SECONDS = 1500


def rows(count: int, length: int, seed: int) -> list[Any]:
    """Rows of random ids, each beginning differently; the second half of each is the answer."""
    import torch

    from pacos.prompts import Rendered

    drawn = torch.randint(3, 40_000, (count, length), generator=torch.Generator().manual_seed(seed))
    drawn[:, 0] = torch.arange(3, 3 + count)
    mask = [i >= length // 2 for i in range(length)]
    return [Rendered(ids, mask) for ids in drawn.tolist()]


def model() -> Any:
    import torch

    from pacos.models.geometry import random_model
    from pacos.models.load import pick_dtype

    place = torch.device("cpu")
    where: dict[str, Any] = {"dtype": pick_dtype("auto", place), "device": place}
    return random_model(
        "smollm2-135m", "lora", **where, generator=torch.Generator().manual_seed(0), num_hidden_layers=LAYERS
    )


def measured(shapes: Sequence[tuple[int, int]]) -> list[list[dict[str, float]]]:
    """For each (rows, tokens of a row), the steps of all rounds but the first, which warms up."""
    work = [rows(count, length, number) for number, (count, length) in enumerate(shapes)]
    steps = our_steps(model(), "lora", [batch for _ in range(ROUNDS + 1) for batch in work], pack_tokens=TOKENS)
    return [steps[number + len(shapes) :: len(shapes)] for number in range(len(shapes))]


def by_length() -> dict[str, Any]:
    """Milliseconds a token at each length, and what they would be at one rate of necessary FLOPs, the median of all."""
    steps = measured([(TOKENS // length, length) for length in LENGTHS])
    cost = [1000 * statistics.median(s["seconds"] for s in of) / TOKENS for of in steps]
    work = [of[0]["gflop"] / TOKENS for of in steps]
    return {
        "tokens_per_row": list(LENGTHS),
        "milliseconds_per_token": cost,
        "gflop_per_token": work,
        "at_one_rate": [each * statistics.median(c / w for c, w in zip(cost, work, strict=True)) for each in work],
        **line(LENGTHS, cost),
    }


def by_count() -> dict[str, Any]:
    """Seconds of a step for 2 to 32 rows of 128 tokens."""
    steps = measured([(count, COUNTED_LENGTH) for count in COUNTS])
    seconds = [statistics.median(s["seconds"] for s in of) for of in steps]
    return {"rows": list(COUNTS), "seconds": seconds, **line(COUNTS, seconds)}


def line(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """The line of least squares y = a + b x, and the share of the variance that it explains."""
    fit = statistics.linear_regression(x, y)
    return {"a": fit.intercept, "b": fit.slope, "r_squared": statistics.correlation(x, y) ** 2}


CONTENDERS: dict[str, Callable[[], dict[str, Any]]] = {"by length": by_length, "by number of rows": by_count}


def main() -> None:
    peak, dtype = peak_gflops(SHAPES)
    results: dict[str, Any] = {"layers": LAYERS, "tokens": TOKENS, "dtype": dtype, "peak_gflops": peak}
    for name in CONTENDERS:
        results[name] = in_own_process(Path(__file__), name, TIMEOUT_SECONDS)
        print(f"{name}: {results[name]}", flush=True)
    ratios = {}
    if "failed" not in results["by length"]:
        cost, must = (results["by length"][key] for key in ("milliseconds_per_token", "at_one_rate"))
        ratios["a token of 2,048-token rows over one of 64-token rows"] = cost[-1] / cost[0]
        ratios["the same, as attention's products must"] = must[-1] / must[0]
    if "failed" not in results["by number of rows"]:
        seconds = results["by number of rows"]["seconds"]
        ratios["a row of 32 over a row of 8"] = (seconds[-1] / 32) / (seconds[2] / 8)
    print(f"ratios: {ratios}\nwritten to {write_result('lengths', results, ratios)}")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not run_one(CONTENDERS):
        main()
