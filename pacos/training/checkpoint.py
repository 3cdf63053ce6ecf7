"""Checkpoints: whole or absent, verified, without pickle, and exact.

    checkpoints/step-40/  weights.safetensors  optimizer.safetensors  rng.safetensors  state.json  manifest.json

A run that continues from one makes the same weights, bit for bit on a CPU, as one that was never stopped: the masters, the
optimizer's moments, the random states and the position in the data are all there.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from pacos.errors import DataError
from pacos.models.artifact import damage, whole_folder
from pacos.training.optimizer import Masters, load_optimizer, optimizer_tensors

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
) -> Path:
    """Write step-N, then remove the oldest beyond `keep`; the best one always stays."""
    from safetensors.torch import save_file

    path = folder / f"step-{position.step}"
    if path.exists():
        shutil.rmtree(path)
    tensors, plain = optimizer_tensors(optimizer, masters)
    with whole_folder(path) as draft:
        save_file({n: m.detach().cpu().contiguous() for n, m in masters.masters.items()}, draft / "weights.safetensors")
        save_file(tensors, draft / "optimizer.safetensors")
        save_file(rng_state(), draft / "rng.safetensors")
        state = {"position": asdict(position), "optimizer": plain, "made_of": dict(made_of)}
        (draft / "state.json").write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    _prune(folder, keep, position.best_step)
    return path


def load_checkpoint(
    path: Path, masters: Masters, optimizer: torch.optim.Optimizer, made_of: Mapping[str, str]
) -> Position:
    """Put a run where the checkpoint left it. `made_of`: what the run stands on -> its hash; other hashes are a DataError."""
    from safetensors.torch import load_file

    state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    changed = [CHANGED[name] for name, sha256 in state["made_of"].items() if made_of[name] != sha256]
    if changed:
        raise DataError(f"{path}: this run cannot go on: {'; '.join(changed)}. Start a new one")
    masters.load(load_file(path / "weights.safetensors"))
    load_optimizer(optimizer, masters, load_file(path / "optimizer.safetensors"), state["optimizer"])
    set_rng_state(load_file(path / "rng.safetensors"))
    return Position(**state["position"])


def load_weights(path: Path, masters: Masters) -> None:
    """Only the trained weights of a checkpoint."""
    from safetensors.torch import load_file

    masters.load(load_file(path / "weights.safetensors"))


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
