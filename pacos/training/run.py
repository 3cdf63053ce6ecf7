"""A run, from prepared rows to the finished folder.

runs/NAME.partial/   recipe.yaml  metrics.jsonl  checkpoints/          while it trains; --resume continues here
runs/NAME/           + weights, tokenizer, pacos.json, card, plot      renamed when all is written and verified
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pacos.errors import UsageError
from pacos.models import LoadedModel
from pacos.models.artifact import out_of_space, sync
from pacos.recipes import recipe_to_yaml, resolved_tree
from pacos.training.checkpoint import Position, load_checkpoint, load_weights, newest_whole, save_checkpoint, steps_in
from pacos.training.finish import write_artifact
from pacos.training.prepare import Prepared
from pacos.training.record import (
    RunRecord,
    append_json_line,
    partial_of,
)
from pacos.training.schedule import learning_rate
from pacos.training.trackers import Tracker, open_trackers
from pacos.training.train import DivergedError, Hooks, Pace, Step, rehearse, train
from pacos.training.trainee import Trainee, set_up

EVALS_PER_RUN = 10


@dataclass(frozen=True)
class Told:
    """How a run speaks while it goes: a line of text, a finished step, and whether someone asked it to stop."""

    say: Callable[[str], None]
    on_step: Callable[[Step, int], None]
    stop: Callable[[], bool]


@dataclass
class Log:
    """The steps of this process and of those before it, for metrics.jsonl and the plot."""

    folder: Path
    trackers: list[Tracker]
    steps: list[dict[str, Any]] = field(default_factory=list)

    def add(self, step: Step) -> None:
        row = {key: value for key, value in asdict(step).items() if value is not None}
        append_json_line(self.folder / "metrics.jsonl", row)
        self.steps.append(row)
        for tracker in self.trackers:
            tracker.log({key: value for key, value in row.items() if key != "step"}, step.step)


def run_training(
    prepared: Prepared, loaded: LoadedModel, folder: Path, *, resume: bool, told: Told
) -> RunRecord | None:
    """Train and write `folder`. Returns None where it was asked to stop before the end; what was done is then saved."""
    recipe, work = prepared.recipe, partial_of(folder)
    torch.manual_seed(recipe.train.seed)
    trainee = set_up(recipe, loaded)
    start = open_folder(prepared, trainee, folder, resume, told)
    config = resolved_tree(recipe)
    trackers = open_trackers(recipe.track.to, project=recipe.track.project, run=recipe.name, folder=work, config=config)
    log = Log(work, trackers, earlier_steps(work, start.step))
    with disk_errors(work):
        position = train_to_end(prepared, trainee, work, start, log, told)
        for tracker in trackers:
            tracker.close()
        if position.step < prepared.steps and not position.finished:
            return None
        record = finish(prepared, trainee, work, position, log, told)
        os.rename(work, folder)
        sync(folder.parent)
    return record


@contextmanager
def disk_errors(place: Path) -> Any:
    """A full disk is a line that says so."""
    try:
        yield
    except OSError as error:
        raise out_of_space(error, place) from None


def open_folder(prepared: Prepared, trainee: Trainee, folder: Path, resume: bool, told: Told) -> Position:
    """The work folder, fresh or continued. Nothing that exists is overwritten. Returns where to start."""
    work = partial_of(folder)
    if folder.exists():
        raise UsageError(f"{folder}: exists; give another place with --out, or remove it first")
    if work.exists() and not resume:
        raise UsageError(f"{work}: holds an unfinished run; continue it with --resume, or remove it first")
    if not work.exists():
        work.mkdir(parents=True)
        (work / "recipe.yaml").write_text(recipe_to_yaml(prepared.recipe), encoding="utf-8")
        return Position()
    return continued(prepared, trainee, work, told)


def continued(prepared: Prepared, trainee: Trainee, work: Path, told: Told) -> Position:
    newest, notes = newest_whole(work / "checkpoints")
    for note in notes:
        told.say(note)
    if newest is None:
        told.say("no whole checkpoint yet; starting from the first step")
        return Position()
    position = load_checkpoint(newest, trainee.masters, trainee.optimizer, prepared.rows_sha256)
    told.say(f"continuing behind step {position.step}")
    return position


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


def pace_of(prepared: Prepared) -> Pace:
    options = prepared.recipe.train
    eval_every = options.eval_every or max(1, prepared.steps // EVALS_PER_RUN)
    return Pace(
        steps=prepared.steps,
        batch_size=options.batch_size,
        pack_tokens=options.pack_tokens,
        clip_norm=options.clip_norm,
        seed=options.seed,
        eval_every=eval_every,
        save_every=options.save_every or eval_every,
        patience=options.patience,
    )


def train_to_end(prepared: Prepared, trainee: Trainee, work: Path, start: Position, log: Log, told: Told) -> Position:
    """The loop, with checkpoints; a checkpoint more where it ends early."""
    pace, options = pace_of(prepared), prepared.recipe.train
    rows, validation = prepared.train.rendered, prepared.watched
    saved: set[int] = set()

    def save(position: Position) -> None:
        saved.add(position.step)
        save_checkpoint(
            work / "checkpoints",
            position,
            trainee.masters,
            trainee.optimizer,
            prepared.rows_sha256,
            options.keep_checkpoints,
        )

    def on_step(step: Step) -> None:
        log.add(step)
        told.on_step(step, pace.steps)

    if start.step == 0:
        told.say("trying the longest batch first")
        rehearse(trainee.network, trainee.masters, trainee.optimizer, rows, validation, pace)
    warmup = round(options.warmup_share * pace.steps)
    schedule = partial(
        learning_rate,
        steps=pace.steps,
        peak=options.learning_rate,
        warmup=warmup,
        kind=options.schedule,
        floor=options.min_lr_share,
    )
    hooks = Hooks(on_step, save, told.stop)
    try:
        position = train(
            trainee.network,
            trainee.masters,
            trainee.optimizer,
            rows,
            validation,
            pace=pace,
            schedule=schedule,
            hooks=hooks,
            start=start,
        )
    except DivergedError as error:
        kept = steps_in(work / "checkpoints")
        where = f"\n  The last good checkpoint is {kept[-1]}" if kept else ""
        raise DivergedError(f"{error}{where}") from None
    if position.step not in saved and position.step > start.step:
        save(position)
    return position


def finish(prepared: Prepared, trainee: Trainee, work: Path, position: Position, log: Log, told: Told) -> RunRecord:
    """Take the weights that the recipe keeps, and write the artifact."""
    kept = position.step
    if prepared.recipe.train.keep == "best" and position.best_loss is not None and position.best_step != kept:
        kept = position.best_step
        load_weights(work / "checkpoints" / f"step-{kept}", trainee.masters)
        told.say(f"keeping step {kept}, whose validation loss was the lowest")
    told.say("saving, and comparing what was saved with the live model")
    return write_artifact(prepared, trainee, work, position, kept, log.steps)
