"""Where a run starts: in a fresh folder, or behind the newest checkpoint of an unfinished one that verifies.

A run continues as it began. Options that shape the weights must be those of its recipe.yaml; others, such as how often it
saves, may change.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from pacos.errors import UsageError
from pacos.recipes import Recipe, load_recipe, recipe_to_yaml, resolved_tree
from pacos.training.checkpoint import Position, load_checkpoint, newest_whole
from pacos.training.prepare import Prepared
from pacos.training.record import partial_of
from pacos.training.trainee import Trainee

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

RECIPE = "recipe.yaml"
SHAPING = ("method", "model", "prompt", "lora", "train")
"""Sections that the weights depend on; of the data it is the rows themselves that are compared."""
FREE = ("model.device", "train.keep", "train.keep_checkpoints", "train.patience", "train.save_every", "train.shard")
"""Options among them that may change."""

Say = Callable[[str], None]


@contextmanager
def open_folder(
    prepared: Prepared,
    trainee: Trainee,
    made_of: Mapping[str, str],
    folder: Path,
    resume: bool,
    say: Say,
) -> Iterator[Position]:
    """The work folder, fresh or continued, for this run alone. Nothing that exists is overwritten. Gives where to start.

    Of several processes the first looks and decides, and all load the checkpoint that it names.
    """
    work, peers = partial_of(folder), trainee.peers
    with taken(folder, resume) if peers.first else nullcontext():
        begun = peers.from_first(chosen(prepared.recipe, work, say) if peers.first else "")
        start = Position()
        if begun:
            start = load_checkpoint(work / "checkpoints" / begun, trainee.masters, trainee.optimizer, made_of, peers)
            say(f"continuing behind step {start.step}")
        if peers.first:
            replace_text(work / RECIPE, recipe_to_yaml(prepared.recipe))
        peers.meet()
        if not (work / RECIPE).is_file():
            raise UsageError(
                f"{work}: process {peers.rank} does not see it; give --out a folder that all machines share"
            )
        yield start


@contextmanager
def taken(folder: Path, resume: bool) -> Iterator[None]:
    """The work folder, made where it is not there, locked inside. Raises UsageError where it is another run's."""
    work = partial_of(folder)
    if folder.exists():
        raise UsageError(f"{folder}: exists; give another place with --out, or remove it first")
    work.mkdir(parents=True, exist_ok=True)
    with locked(work):
        if any(work.iterdir()) and not resume:
            raise UsageError(f"{work}: holds an unfinished run; continue it with --resume, or remove it first")
        yield


@contextmanager
def locked(work: Path) -> Iterator[None]:
    """The folder itself, until the block or the process ends. Raises UsageError where another process has it."""
    if fcntl is None:
        yield
        return
    handle = os.open(work, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise UsageError(
            f"{work}: another process is training this run; wait for its end, or give another place with --out"
        ) from None
    except OSError:
        pass  # some network file systems know no locks
    try:
        yield
    finally:
        os.close(handle)


def chosen(recipe: Recipe, work: Path, say: Say) -> str:
    """Name of the checkpoint to continue from; empty for a start."""
    if not any(work.iterdir()):
        return ""
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
    replace_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def replace_text(path: Path, text: str) -> None:
    """The file with this text, whole or as it was."""
    draft = path.with_name(path.name + ".new")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
