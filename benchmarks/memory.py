"""Planned against measured peak memory, each configuration in a process of its own. `make bench-memory`.

SmolLM2-135M by method, compute type and checkpointing; by the length of rows, the tokens of a pack (what is computed at once)
and the packs of a step (what is accumulated). Half of the whole grid: each value meets each value of every other column.

Measured is the highest resident memory of a process that loads the model and makes three steps, as a run does; planned is
what `pacos plan` says of it, from a process that never sees the weights. Names given on the command line, or their beginnings
(`lora`, `"full bf16"`), are measured again, and the peaks that the results hold of the others are kept; `planned` measures none.
What is planned is always planned anew. Each is written as it is known.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import ALPACA, RESULTS, in_own_process, write_result

STEPS = 3
ROWS_READ, LONGEST = 2000, 512
TIMEOUT_SECONDS = 900
SHAPES = (
    ("rows-128 tokens-512 packs-1", "rows-512 tokens-2048 packs-2"),
    ("rows-512 tokens-512 packs-4", "rows-128 tokens-2048 packs-1"),
)
"""Each configuration takes one pair of these: length of rows, tokens of a pack, packs of a step."""


def grid() -> list[str]:
    """Names of all configurations."""
    cells = [
        (method, dtype, kept, (m + d + k) % 2)
        for m, method in enumerate(("lora", "full", "qlora"))
        for d, dtype in enumerate(("bf16", "fp32"))
        for k, kept in enumerate(("kept", "checkpointed"))
    ]
    return [f"{method} {dtype} {kept} {shape}" for method, dtype, kept, pair in cells for shape in SHAPES[pair]]


def recipe_named(name: str) -> Any:
    from pacos.recipes import recipe_from_tree

    method, dtype, kept, _, tokens, _ = name.split()
    train = {"pack_tokens": number(tokens), "gradient_checkpointing": kept == "checkpointed", "max_length": LONGEST}
    tree = {"method": method, "model": {"dtype": dtype, "device": "cpu"}, "train": train}
    return recipe_from_tree(tree, name)


def number(part: str) -> int:
    """tokens-512 -> 512"""
    return int(part.rpartition("-")[2])


def packs_of(name: str) -> list[list[Any]]:
    """The packs of each step: of Alpaca's rows (the starter set's where there is no Alpaca) next below the wanted length."""
    from pacos.data import load_examples
    from pacos.models import load_tokenizer
    from pacos.models.packs import make_packs
    from pacos.prompts import Renderer

    recipe, (longest, tokens, packs) = recipe_named(name), map(number, name.split()[3:])
    data = load_examples(ALPACA if ALPACA.exists() else "starter", limit=ROWS_READ)
    rendered = Renderer(load_tokenizer(recipe.model.base), "alpaca").render_examples(data.examples, LONGEST)
    rows = sorted((row for row in rendered if row.fits and len(row.ids) <= longest), key=lambda row: -len(row.ids))
    made: list[Any] = []
    while len(made) < STEPS * packs:  # a little at a time, so that packs are full and the first is the longest
        taken = fill(rows, tokens)
        made += make_packs(taken, tokens)
        rows = [*rows[len(taken) :], *taken]
    made = sorted(made[: STEPS * packs], key=lambda pack: -pack.num_tokens)
    return [[made[step], *made[STEPS + step :: STEPS]] for step in range(STEPS)]


def fill(rows: list[Any], tokens: int) -> list[Any]:
    """The first rows, as many as `tokens` hold."""
    taken = 0
    for count, row in enumerate(rows):
        taken += len(row.ids)
        if taken > tokens:
            return rows[: max(1, count)]
    return rows


def planned(recipe: Any, packs: list[Any], runtime: int) -> Any:
    """The plan of the run, which only reads the model's config."""
    from pacos.models.load import DTYPES
    from pacos.training.memory import demand_of, on_device
    from pacos.training.plan import config_of

    demand = demand_of(recipe, config_of(recipe, print), DTYPES[recipe.model.dtype], packs)
    return on_device(demand, "cpu", runtime)


def measured(recipe: Any, steps: list[list[Any]]) -> dict[str, float]:
    """Peak resident bytes of a process that loads and makes the steps."""
    from pacos.models import load_model
    from pacos.training.memory import resident_bytes
    from pacos.training.record import peak_memory_bytes
    from pacos.training.train import masked_cross_entropy, update
    from pacos.training.trainee import set_up

    before = resident_bytes()
    nf4 = "nf4" if recipe.method == "qlora" else "none"
    loaded = load_model(recipe.model.base, dtype=recipe.model.dtype, device="cpu", quantization=nf4)
    after_load = peak_memory_bytes("cpu")
    trainee = set_up(recipe, loaded)
    trainee.network.model.train()
    for number, packs in enumerate(steps):
        update(trainee.network, trainee.masters, trainee.optimizer, packs, 1e-4, 1.0, masked_cross_entropy, number)
    return {"peak": peak_memory_bytes("cpu"), "after_load": after_load, "before": before}


def one(task: str) -> dict[str, Any]:
    """Either side: `measured NAME`, or `planned NAME;NAME;...`, all in one process."""
    from pacos.training.memory import resident_bytes

    side, _, rest = task.partition(" ")
    if side == "measured":
        return measured(recipe_named(rest), packs_of(rest))
    names = rest.split(";")
    packs = {names[0]: packs_of(names[0])[0]}
    runtime = resident_bytes()  # with one configuration's rows, as a run has them
    packs |= {name: packs_of(name)[0] for name in names[1:]}
    memories = {name: planned(recipe_named(name), first, runtime) for name, first in packs.items()}
    return {name: {**memory.parts, "total": memory.total, "phase": memory.phase} for name, memory in memories.items()}


def compare(names: list[str], known: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each configuration with planned, measured and planned over measured, as soon as it is known: those known, then `names`."""
    plans = in_own_process(Path(__file__), f"planned {';'.join(grid())}", TIMEOUT_SECONDS)
    if "failed" in plans:
        sys.exit(f"planning: {plans['failed']}")
    for name in [*known, *names]:
        anew = name in names
        found = in_own_process(Path(__file__), f"measured {name}", TIMEOUT_SECONDS) if anew else known[name]
        if "failed" in found:
            print(f"{name}: {found['failed']}", flush=True)
            continue
        compared = beside(plans[name], found)
        print(f"{name}: {line(compared)}{'' if anew else ', as it was'}", flush=True)
        yield name, compared


def beside(plan: dict[str, Any], found: dict[str, float]) -> dict[str, Any]:
    """Planned and measured in bytes, and what the page shows of them."""
    return {
        "planned_gb": plan["total"] / 1e9,
        "measured_gb": found["peak"] / 1e9,
        "planned_over_measured": plan["total"] / found["peak"],
        "highest": plan["phase"],
        "planned": plan,
        "measured": found,
    }


def line(found: dict[str, Any]) -> str:
    return (
        f"planned {found['planned_gb']:.2f} GB ({found['highest']}), measured {found['measured_gb']:.2f} GB, "
        f"{found['planned_over_measured']:.3f}"
    )


def measured_before() -> dict[str, Any]:
    """Peaks in the results, of the configurations that there still are."""
    path, known = RESULTS / "memory.json", set(grid())
    tree = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"figures": {"configurations": {}}}
    return {name: found["measured"] for name, found in tree["figures"]["configurations"].items() if name in known}


def main(wanted: list[str]) -> None:
    def is_wanted(name: str) -> bool:
        return not wanted or any(name == each or name.startswith(f"{each} ") for each in wanted)

    names = [name for name in grid() if is_wanted(name)]
    if not names and wanted != ["planned"]:
        sys.exit("\n  ".join(["no such configuration; give `planned`, or the beginning of one of:", *grid()]))
    results: dict[str, Any] = {}
    for name, found in compare(names, {n: m for n, m in measured_before().items() if n not in names}):
        results = {each: (results | {name: found})[each] for each in grid() if each in results or each == name}
        ratios = [compared["planned_over_measured"] for compared in results.values()]
        worst = max(abs(ratio - 1) for ratio in ratios)
        ends = {"planned over measured, least": min(ratios), "planned over measured, most": max(ratios)}
        write_result("memory", {"configurations": results, "fraction_off_at_most": worst}, ends)
    print(f"largest error {worst:.1%} of {len(results)} configurations, in {RESULTS / 'memory.json'}")


if __name__ == "__main__":
    if "--one" in sys.argv:
        print(json.dumps(one(sys.argv[sys.argv.index("--one") + 1])))
    else:
        main(sys.argv[1:])
