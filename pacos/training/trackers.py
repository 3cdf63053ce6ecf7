"""Experiment trackers, on request: TensorBoard, trackio, Weights & Biases, MLflow.

A tracker is `log(metrics, step)` and `close()`. Each is imported when it is asked for; one that is not installed is an
error before training starts, not after.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pacos.errors import UsageError

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Tracker:
    log: Callable[[Metrics, int], None]
    close: Callable[[], None]


def open_trackers(
    names: Sequence[str], *, project: str, run: str, folder: Path, config: Mapping[str, Any]
) -> list[Tracker]:
    """Raises UsageError with every tracker that is not installed."""
    missing = [name for name in names if not _installed(name)]
    if missing:
        packages = " ".join(missing)
        raise UsageError(f"track.to: {', '.join(missing)} not installed; run: pip install {packages}")
    return [OPENERS[name](project, run, folder, config) for name in names]


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _tensorboard(project: str, run: str, folder: Path, config: Mapping[str, Any]) -> Tracker:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))

    def log(metrics: Metrics, step: int) -> None:
        for name, value in metrics.items():
            writer.add_scalar(f"{project}/{name}", value, step)

    return Tracker(log, writer.close)


def _like_wandb(module_name: str) -> Callable[[str, str, Path, Mapping[str, Any]], Tracker]:
    """wandb and trackio share one interface."""

    def open_it(project: str, run: str, folder: Path, config: Mapping[str, Any]) -> Tracker:
        module = importlib.import_module(module_name)
        module.init(project=project, name=run, config=dict(config))
        return Tracker(lambda metrics, step: module.log(dict(metrics), step=step), module.finish)

    return open_it


def _mlflow(project: str, run: str, folder: Path, config: Mapping[str, Any]) -> Tracker:
    mlflow = importlib.import_module("mlflow")
    mlflow.set_experiment(project)
    mlflow.start_run(run_name=run)
    mlflow.log_dict(dict(config), "recipe.json")
    return Tracker(lambda metrics, step: mlflow.log_metrics(dict(metrics), step=step), mlflow.end_run)


OPENERS: dict[str, Callable[[str, str, Path, Mapping[str, Any]], Tracker]] = {
    "tensorboard": _tensorboard,
    "trackio": _like_wandb("trackio"),
    "wandb": _like_wandb("wandb"),
    "mlflow": _mlflow,
}
