"""Planned against measured peak memory, each configuration in a process of its own. `make bench-memory`.

SmolLM2-135M by each method, with and without checkpointing, packs of 512 to 2,048 tokens, fp32, and some in bf16. Measured is the
highest resident memory of a process that loads the model and makes three steps and an evaluation, as a run does; planned is
what `pacos plan` says of it, from a process that never sees the weights. The error is planned over measured, less one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from common import ALPACA, in_own_process, write_result

ROWS, STEPS, MAX_LENGTH = 100, 3, 512
TIMEOUT_SECONDS = 900
LAST_IN_BF16 = 1024
"""Larger packs in bf16 take minutes a step where it is emulated, and show nothing new."""


def grid() -> list[str]:
    """Names of all configurations: method, checkpointing, tokens, type."""
    names = []
    for method in ("lora", "full", "qlora"):
        for kept in ("kept", "checkpointed"):
            names += [f"{method} {kept} {tokens} fp32" for tokens in (512, 1024, 2048)]
    return names + [
        f"{method} {kept} 512 bf16" for method in ("lora", "full", "qlora") for kept in ("kept", "checkpointed")
    ]


def recipe_named(name: str) -> Any:
    from pacos.recipes import recipe_from_tree

    method, kept, tokens, dtype = name.split()
    train = {"pack_tokens": int(tokens), "gradient_checkpointing": kept == "checkpointed", "max_length": MAX_LENGTH}
    tree = {"method": method, "model": {"dtype": dtype, "device": "cpu"}, "train": {**train, "batch_size": 64}}
    return recipe_from_tree(tree, name)


def rows(recipe: Any) -> list[Any]:
    """Alpaca's first rows (the starter set's where there is no Alpaca), as the recipe renders them."""
    from pacos.data import load_examples
    from pacos.models import load_tokenizer
    from pacos.prompts import Renderer

    data = load_examples(ALPACA if ALPACA.exists() else "starter", limit=ROWS)
    tokenizer = load_tokenizer(recipe.model.base)
    rendered = Renderer(tokenizer, "alpaca").render_examples(data.examples, recipe.train.max_length)
    return [row for row in rendered if row.fits]


def packs_of(recipe: Any) -> list[Any]:
    """The packs of the rows, fullest first."""
    from pacos.models.packs import make_packs

    packs = make_packs(rows(recipe), recipe.train.pack_tokens)
    return sorted(packs, key=lambda pack: -pack.num_tokens)


def planned(recipe: Any, packs: list[Any]) -> Any:
    """The plan of the run, which only reads the model's config."""
    import torch

    from pacos.models.load import DTYPES
    from pacos.training.memory import demand_of, on_device, resident_bytes
    from pacos.training.plan import config_of

    demand = demand_of(recipe, config_of(recipe, print), DTYPES[recipe.model.dtype], packs[:1])
    torch.mm(torch.randn(256, 256), torch.randn(256, 256))
    return on_device(demand, "cpu", resident_bytes())


def measured(recipe: Any, packs: list[Any]) -> dict[str, float]:
    """Peak resident bytes of a process that loads and makes three steps, the first pack in each of them."""
    from pacos.models import load_model
    from pacos.training.record import peak_memory_bytes
    from pacos.training.train import masked_cross_entropy, update
    from pacos.training.trainee import set_up

    nf4 = "nf4" if recipe.method == "qlora" else "none"
    loaded = load_model(recipe.model.base, dtype=recipe.model.dtype, device="cpu", quantization=nf4)
    after_load = peak_memory_bytes("cpu")
    trainee = set_up(recipe, loaded)
    trainee.network.model.train()
    for step in range(STEPS):
        batch = [packs[0], *packs[1 + step : 2 + step]]
        update(trainee.network, trainee.masters, trainee.optimizer, batch, 1e-4, 1.0, masked_cross_entropy, step)
    return {"peak": peak_memory_bytes("cpu"), "after_load": after_load}


def one(name: str) -> dict[str, Any]:
    """Either side of a configuration: `planned NAME` or `measured NAME`."""
    side, _, rest = name.partition(" ")
    recipe = recipe_named(rest)
    if side == "measured":
        return measured(recipe, packs_of(recipe))
    memory = planned(recipe, packs_of(recipe))
    return {**memory.parts, "total": memory.total, "phase": memory.phase}


def compare(name: str) -> dict[str, Any]:
    """Both sides, and the error."""
    sides = {
        side: in_own_process(Path(__file__), f"{side} {name}", TIMEOUT_SECONDS) for side in ("planned", "measured")
    }
    failed = [f"{side}: {found['failed']}" for side, found in sides.items() if "failed" in found]
    if failed:
        return {"failed": "; ".join(failed)}
    return {**sides, "error": sides["planned"]["total"] / sides["measured"]["peak"] - 1}


def main(names: list[str]) -> None:
    results = {name: compare(name) for name in names}
    for name, found in results.items():
        print(f"{name}: {line(found)}", flush=True)
    errors = [found["error"] for found in results.values() if "error" in found]
    figures = {"configurations": results, "largest_error": max(map(abs, errors), default=None)}
    print(f"largest error {figures['largest_error']:.1%} of {len(errors)} configurations")
    print(f"written to {write_result('memory', figures, {})}")


def line(found: dict[str, Any]) -> str:
    if "failed" in found:
        return f"failed: {found['failed']}"
    gigabytes = (found["planned"]["total"] / 1e9, found["measured"]["peak"] / 1e9)
    return f"planned {gigabytes[0]:.2f} GB, measured {gigabytes[1]:.2f} GB, {found['error']:+.1%}"


if __name__ == "__main__":
    if "--one" in sys.argv:
        print(json.dumps(one(sys.argv[sys.argv.index("--one") + 1])))
    else:
        main(sys.argv[1:] or grid())
