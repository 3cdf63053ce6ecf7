"""Checkpoints: whole or absent, verified, without pickle, and exact.

    checkpoints/step-40/  weights.safetensors  optimizer.safetensors  rng.safetensors  state.json  manifest.json

A run that continues from one makes the same weights, bit for bit on a CPU, as one that was never stopped: the masters, the
optimizer's moments, the random states and the position in the data are all there.

Of several processes the first writes what is whole, and each its rows of what is divided (shards.py) and its own random
state, into one folder that all of them see. Any number of processes reads it. Where that number is another, dropout draws
from new random states, which depend on seed, step and process; without dropout the weights are the same but for rounding.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pacos.errors import DataError, UsageError
from pacos.models.artifact import damage, whole_folder
from pacos.training.distributed import ALONE, Peers
from pacos.training.optimizer import Masters, load_optimizer, optimizer_tensors
from pacos.training.shards import Parts, Rows, Shape, part_name, rows_of

STEP = re.compile(r"step-(\d+)")
CHANGED = {
    "rows": "it was made on other rows (the data, its split or the template has changed since)",
    "base": "it was made on other base weights",
}
"""What a run stands on, and what to say where that is no longer the same."""


@dataclass(frozen=True)
class Position:
    """Where a run stands after `step` optimizer steps, and its best validation loss so far."""

    step: int = 0
    tokens: int = 0
    best_loss: float | None = None
    best_step: int = 0
    stale: int = 0
    """Evaluations since the best one."""
    finished: bool = False
    """Early stopping ended the run here."""


def save_checkpoint(
    folder: Path,
    position: Position,
    masters: Masters,
    optimizer: torch.optim.Optimizer,
    made_of: Mapping[str, str],
    keep: int,
    peers: Peers = ALONE,
) -> Path:
    """Write step-N, then remove the oldest beyond `keep`; the best one always stays."""
    path = folder / f"step-{position.step}"
    if peers.first and path.exists():
        shutil.rmtree(path)
    tensors, plain = optimizer_tensors(optimizer, masters)
    parts = peers.size if masters.shards else 1
    state = {
        "position": asdict(position),
        "optimizer": plain,
        "made_of": dict(made_of),
        "processes": peers.size,
        "parts": parts,
        "shapes": {"weights": masters.shapes, "optimizer": _optimizer_shapes(tensors, masters)},
        "blocks": any(
            t.ndim and t.shape != masters.masters[key.rpartition("/")[0]].shape for key, t in tensors.items()
        ),
    }
    with _shared_draft(path, peers) as draft:
        _write_part(draft, masters, tensors, parts, peers)
        if peers.first:
            (draft / "state.json").write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    if peers.first:
        _prune(folder, keep, position.best_step)
    return path


def _write_part(draft: Path, masters: Masters, optimizer: dict[str, Tensor], parts: int, peers: Peers) -> None:
    """What this process holds, or the first one alone where all hold the same."""
    from safetensors.torch import save_file

    save_file(rng_state(), draft / part_name("rng", peers.rank, peers.size))
    if parts > 1 or peers.first:
        weights = {name: m.detach().cpu().contiguous() for name, m in masters.masters.items()}
        save_file(weights, draft / part_name("weights", peers.rank, parts))
        save_file(optimizer, draft / part_name("optimizer", peers.rank, parts))


def _optimizer_shapes(tensors: dict[str, Tensor], masters: Masters) -> dict[str, Shape]:
    """The whole shapes of the optimizer's divided tensors: those that are shaped like the part of the weight that lies here."""
    names = {key: key.rpartition("/")[0] for key in tensors}
    return {
        key: masters.shapes[name]
        for key, name in names.items()
        if name in masters.shards and tensors[key].shape == masters.masters[name].shape
    }


@contextmanager
def _shared_draft(path: Path, peers: Peers) -> Iterator[Path]:
    """`whole_folder` for all processes together: the first makes it, and seals it when each has written its files."""
    if not peers.first:
        yield path.parent / peers.from_first("")
        peers.meet()
    else:
        with whole_folder(path) as draft:
            peers.from_first(draft.name)
            yield draft
            peers.meet()
    peers.meet()


def load_checkpoint(
    path: Path, masters: Masters, optimizer: torch.optim.Optimizer, made_of: Mapping[str, str], peers: Peers = ALONE
) -> Position:
    """Put a run where the checkpoint left it. `made_of`: what the run stands on -> its hash; other hashes are a DataError."""
    state = _read_state(path)
    changed = [CHANGED[name] for name, sha256 in state["made_of"].items() if made_of[name] != sha256]
    if changed:
        raise DataError(f"{path}: this run cannot go on: {'; '.join(changed)}. Start a new one")
    load_weights(path, masters, peers)
    load_optimizer(optimizer, masters, _read_parts(path, state, "optimizer", masters, peers), state["optimizer"])
    position = Position(**state["position"])
    _load_rng(path, state, position.step, peers)
    return position


def load_weights(path: Path, masters: Masters, peers: Peers = ALONE) -> None:
    """Only the trained weights of a checkpoint."""
    masters.load(_read_parts(path, _read_state(path), "weights", masters, peers))


def _read_state(path: Path) -> dict[str, Any]:
    """state.json; one that says nothing of processes was written by one alone."""
    found = json.loads((path / "state.json").read_text(encoding="utf-8"))
    return {"processes": 1, "parts": 1, "shapes": {"weights": {}, "optimizer": {}}, "blocks": False, **found}


def _read_parts(path: Path, state: dict[str, Any], stem: str, masters: Masters, peers: Peers) -> dict[str, Tensor]:
    """The tensors of `stem`, each as much of it as this process holds."""
    if stem == "optimizer" and state["blocks"] and state["parts"] != (peers.size if masters.shards else 1):
        raise UsageError(
            f"{path}: an 8-bit optimizer keeps its state in blocks, which cannot be cut anew; "
            f"continue with as many processes as before, {state['processes']}"
        )

    def wanted(key: str, whole: Shape) -> Rows | None:
        name = key if stem == "weights" else key.rpartition("/")[0]
        divided = name in masters.shards and whole == masters.shapes[name]
        return rows_of(whole[0], peers.rank, peers.size) if divided else None

    own = peers.rank if state["parts"] == peers.size else 0
    return Parts(path, stem, state["parts"], state["shapes"][stem]).read(wanted, own)


def _load_rng(path: Path, state: dict[str, Any], step: int, peers: Peers) -> None:
    """This process's random states, or new ones where another number of processes wrote."""
    from safetensors.torch import load_file

    if state["processes"] == peers.size:
        set_rng_state(load_file(path / part_name("rng", peers.rank, peers.size)))
    else:
        torch.manual_seed(torch.initial_seed() + 1_000_003 * step)


def newest_whole(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that verifies, and a line on each newer one that does not."""
    notes: list[str] = []
    for path in reversed(steps_in(folder)):
        problems = list(damage(path))
        if not problems:
            return path, notes
        notes.append(f"{path.name} is passed over: {problems[0]}")
    return None, notes


def steps_in(folder: Path) -> list[Path]:
    """The step-N folders, by N."""
    found = [(int(match[1]), path) for path in folder.glob("step-*") if (match := STEP.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def rng_state() -> dict[str, Tensor]:
    """The random states that dropout draws from."""
    state = {"cpu": torch.get_rng_state()}
    for i in range(torch.cuda.device_count()):
        state[f"cuda{i}"] = torch.cuda.get_rng_state(i)
    return state


def set_rng_state(state: dict[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    for i in range(torch.cuda.device_count()):
        if f"cuda{i}" in state:
            torch.cuda.set_rng_state(state[f"cuda{i}"], i)


def _prune(folder: Path, keep: int, best_step: int) -> None:
    newest = steps_in(folder)[-keep:]
    for path in steps_in(folder):
        if path not in newest and path.name != f"step-{best_step}":
            shutil.rmtree(path)
