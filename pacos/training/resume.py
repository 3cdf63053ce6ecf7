"""Where a run starts: in a fresh folder, or behind the newest checkpoint of an unfinished one that verifies.

A run continues as it began. Options that shape the weights must be those of its recipe.yaml; others, such as how often it
saves, may change.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pacos.errors import UsageError
from pacos.recipes import Recipe, load_recipe, recipe_to_yaml, resolved_tree
from pacos.training.checkpoint import Position, load_checkpoint, newest_whole
from pacos.training.prepare import Prepared
from pacos.training.record import partial_of
from pacos.training.trainee import Trainee

RECIPE = "recipe.yaml"
SHAPING = ("method", "model", "prompt", "lora", "train")
"""Sections that the weights depend on; of the data it is the rows themselves that are compared."""
FREE = ("model.device", "train.keep", "train.keep_checkpoints", "train.patience", "train.save_every", "train.shard")
"""Options among them that may change."""

Say = Callable[[str], None]


def open_folder(
    prepared: Prepared,
    trainee: Trainee,
    made_of: Mapping[str, str],
    folder: Path,
    resume: bool,
    say: Say,
) -> Position:
    """The work folder, fresh or continued. Nothing that exists is overwritten. Returns where to start.

    Of several processes the first looks and decides, and all load the checkpoint that it names.
    """
    work, peers = partial_of(folder), trainee.peers
    begun = peers.from_first(chosen(prepared.recipe, folder, resume, say) if peers.first else "")
    start = Position()
    if begun:
        start = load_checkpoint(work / "checkpoints" / begun, trainee.masters, trainee.optimizer, made_of, peers)
        say(f"continuing behind step {start.step}")
    if peers.first:
        work.mkdir(parents=True, exist_ok=True)
        draft = work / "recipe.yaml.new"
        draft.write_text(recipe_to_yaml(prepared.recipe), encoding="utf-8")
        os.replace(draft, work / RECIPE)
    peers.meet()
    if not (work / RECIPE).is_file():
        raise UsageError(f"{work}: process {peers.rank} does not see it; give --out a folder that all machines share")
    return start


def chosen(recipe: Recipe, folder: Path, resume: bool, say: Say) -> str:
    """Name of the checkpoint to continue from; empty for a start. Raises UsageError for a folder that is taken."""
    work = partial_of(folder)
    if folder.exists():
        raise UsageError(f"{folder}: exists; give another place with --out, or remove it first")
    if not work.exists():
        return ""
    if not resume:
        raise UsageError(f"{work}: holds an unfinished run; continue it with --resume, or remove it first")
    newest, notes = newest_whole(work / "checkpoints")
    for note in notes:
        say(note)
    if newest is None:
        say("no whole checkpoint yet; starting from the first step")
        return ""
    refuse_other_recipe(work / RECIPE, recipe)
    return newest.name


def refuse_other_recipe(path: Path, recipe: Recipe) -> None:
    """Raises UsageError with every option that would make this another run than the one begun under `path`."""
    before, after = (dict(leaves(resolved_tree(r))) for r in (load_recipe(str(path)), recipe))
    changed = [key for key in before | after if key.startswith(SHAPING) and key not in FREE]
    lines = [
        f"  {key} was {before.get(key)}, and is {after.get(key)}"
        for key in changed
        if before.get(key) != after.get(key)
    ]
    if lines:
        raise UsageError(
            "\n".join([f"{path.parent}: a run continues with its own options; start another with --out", *lines])
        )


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """("train.epochs", 3) and so on."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def earlier_steps(work: Path, step: int) -> list[dict[str, Any]]:
    """The metrics up to `step`; what was logged beyond it is dropped, for it will be done again."""
    path = work / "metrics.jsonl"
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break  # the last line of a killed run
    rows = [row for row in rows if row["step"] <= step]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return rows
