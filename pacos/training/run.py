"""A run, from prepared rows to the finished folder.

runs/NAME.partial/   recipe.yaml  metrics.jsonl  checkpoints/          while it trains; --resume continues here
runs/NAME/           + weights, tokenizer, pacos.json, card, plot      renamed when all is written and verified

Several processes train one run: the first keeps its folder, all write its checkpoints.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pacos.errors import ResourceError, UserError, is_out_of_memory
from pacos.models import LoadedModel
from pacos.models.artifact import out_of_space, sync
from pacos.recipes import resolved_tree
from pacos.training.checkpoint import Position, load_weights, save_checkpoint, steps_in
from pacos.training.distributed import ALONE, Peers
from pacos.training.finish import write_artifact
from pacos.training.prepare import Prepared
from pacos.training.record import RunRecord, append_json_line, partial_of, read_record
from pacos.training.resume import earlier_steps, open_folder
from pacos.training.schedule import learning_rate
from pacos.training.sharding import is_divided, make_whole
from pacos.training.trackers import Tracker, open_trackers
from pacos.training.train import DivergedError, Hooks, Pace, Step, masked_cross_entropy, rehearse, train
from pacos.training.trainee import Trainee, set_up, why_whole

EVALS_PER_RUN = 10


@dataclass(frozen=True)
class Told:
    """How a run speaks while it goes: a line of text, a finished step, and whether someone asked it to stop."""

    say: Callable[[str], None]
    on_step: Callable[[Step, int], None]
    stop: Callable[[], bool]


@dataclass
class Log:
    """The steps of this process and of those before it, for metrics.jsonl and the plot; kept by the first of several."""

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
    prepared: Prepared, loaded: LoadedModel, folder: Path, *, resume: bool, told: Told, peers: Peers = ALONE
) -> RunRecord | None:
    """Train and write `folder`. Returns None where it was asked to stop before the end; what was done is then saved."""
    recipe, work = prepared.recipe, partial_of(folder)
    torch.manual_seed(recipe.train.seed + (peers.rank << 32))  # each process draws its own dropout
    trainee = set_up(recipe, loaded, peers)
    trainee.network.refuse_longer(int(prepared.train.rendered.lengths.max()))
    trainee.network.refuse_unknown(prepared.largest_id)
    if text := trainee.network.pace_note(training=True):
        told.say(text)
    for text in trainee.kernels:
        told.say(text)
    if peers.size > 1:
        why = why_whole(recipe, trainee.network)
        holding = f"all weights: {why}" if why else f"1/{peers.size} of the weights"
        told.say(f"{peers.size} processes, each with its share of every batch and {holding}")
    made_of = {"rows": prepared.rows_sha256, "base": loaded.identity.weights_sha256}
    with open_folder(prepared, trainee, made_of, folder, resume, told.say) as start:
        with nothing_kept(work):
            trackers = open_trackers(
                recipe.track.to if peers.first else (),
                project=recipe.track.project,
                run=recipe.name,
                folder=work,
                config=resolved_tree(recipe),
            )
        log = Log(work, trackers, earlier_steps(work, start.step) if peers.first else [])
        with machine_errors(work):
            position = train_to_end(prepared, trainee, made_of, work, start, log, told)
            for tracker in trackers:
                tracker.close()
            if position.step < prepared.steps and not position.finished:
                return None
            record = finish(prepared, trainee, work, position, log, told)
            if record is not None:
                os.rename(work, folder)
                sync(folder.parent)
            peers.meet()
    return record or read_record(folder)


@contextmanager
def machine_errors(work: Path) -> Any:
    """A full disk or memory is a line that says so."""
    try:
        yield
    except OSError as error:
        raise out_of_space(error, work) from None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(
            f"out of memory, although the longest batch has fitted before: is anything else running on this device?\n"
            f"  What was saved is in {work}; free some memory and continue with --resume"
        ) from None


@contextmanager
def nothing_kept(work: Path) -> Any:
    """A run that fails before its first step leaves no folder behind, so the same command can be given again."""
    try:
        yield
    except UserError:
        if not (work / "checkpoints").exists():
            shutil.rmtree(work, ignore_errors=True)
        raise


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
        batch_tokens=options.batch_tokens,
    )


def train_to_end(
    prepared: Prepared,
    trainee: Trainee,
    made_of: Mapping[str, str],
    work: Path,
    start: Position,
    log: Log,
    told: Told,
) -> Position:
    """The loop, with checkpoints; a checkpoint more where it ends early."""
    pace, options = pace_of(prepared), prepared.recipe.train
    rows, validation, peers = prepared.train.rendered, prepared.watched, trainee.peers
    loss = trainee.around(masked_cross_entropy)
    saved: set[int] = set()

    def save(position: Position) -> None:
        saved.add(position.step)
        save_checkpoint(
            work / "checkpoints",
            position,
            trainee.masters,
            trainee.optimizer,
            made_of,
            options.keep_checkpoints,
            peers,
        )

    def on_step(step: Step) -> None:
        if peers.first:
            log.add(step)
        told.on_step(step, pace.steps)

    if start.step == 0:
        told.say("trying the longest batch first")
        with nothing_kept(work):
            rehearse(trainee.network, trainee.masters, trainee.optimizer, rows, validation, pace, loss, peers=peers)
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
            loss=loss,
            peers=peers,
        )
    except DivergedError as error:
        kept = steps_in(work / "checkpoints")
        where = f"\n  The last good checkpoint is {kept[-1]}" if kept else ""
        raise DivergedError(f"{error}{where}") from None
    if position.step not in saved and position.step > start.step:
        save(position)
    return position


def finish(
    prepared: Prepared, trainee: Trainee, work: Path, position: Position, log: Log, told: Told
) -> RunRecord | None:
    """Take the weights that the recipe keeps, and write the artifact; None in processes other than the first."""
    peers, model = trainee.peers, trainee.network.model
    kept = position.step
    if prepared.recipe.train.keep == "best" and position.best_loss is not None and position.best_step != kept:
        kept = position.best_step
        load_weights(work / "checkpoints" / f"step-{kept}", trainee.masters, peers)
        told.say(f"keeping step {kept}, whose validation loss was the lowest")
    told.say("saving, and comparing what was saved with the live model")
    if is_divided(model):
        make_whole(model)
    return write_artifact(prepared, trainee, work, position, kept, log.steps, peers.size) if peers.first else None
