"""A run, from prepared rows to the finished folder.

runs/NAME.partial/   recipe.yaml  metrics.jsonl  checkpoints/          while it trains; --resume continues here
runs/NAME/           + weights, tokenizer, pacos.json, card, plot      renamed when all is written and verified
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pacos.data import save_split as write_split
from pacos.data import write_examples
from pacos.errors import UsageError
from pacos.models import Adapter, LoadedModel, LoraSpec, Network, attach
from pacos.models.artifact import file_sha256, out_of_space, seal, sync
from pacos.prompts import chat_template_jinja, make_contract
from pacos.recipes import Recipe, recipe_to_yaml, resolved_tree
from pacos.training.card import model_card
from pacos.training.checkpoint import Position, load_checkpoint, load_weights, newest_whole, save_checkpoint, steps_in
from pacos.training.optimizer import Masters, make_optimizer
from pacos.training.plot import loss_plot
from pacos.training.prepare import Prepared
from pacos.training.receipt import save_and_compare
from pacos.training.record import (
    BaseIdentity,
    DataIdentity,
    Result,
    RunRecord,
    append_json_line,
    environment,
    partial_of,
    peak_memory_bytes,
    write_record,
)
from pacos.training.schedule import learning_rate
from pacos.training.trackers import Tracker, open_trackers
from pacos.training.train import DivergedError, Hooks, Pace, Step, rehearse, train

OUTSIDE_MANIFEST = ("checkpoints", "eval", "tensorboard")
"""Folders in a run that carry their own proof, or come after it is finished."""
EVALS_PER_RUN = 10


@dataclass(frozen=True)
class Told:
    """How a run speaks while it goes: a line of text, a finished step, and whether someone asked it to stop."""

    say: Callable[[str], None]
    on_step: Callable[[Step, int], None]
    stop: Callable[[], bool]


@dataclass
class Trainee:
    """The model with what is trained of it."""

    loaded: LoadedModel
    network: Network
    masters: Masters
    adapter: Adapter | None
    optimizer: torch.optim.Optimizer


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


def set_up(recipe: Recipe, loaded: LoadedModel) -> Trainee:
    """Attach what the method trains, in fp32 masters, with its optimizer."""
    options = recipe.train
    network = Network(loaded.model)
    adapter = None
    if recipe.method == "full":
        named = list(loaded.model.named_parameters())
    else:
        spec = LoraSpec(recipe.lora.rank, recipe.lora.alpha, recipe.lora.dropout, recipe.lora.targets)
        adapter = attach(loaded.model, spec, torch.Generator().manual_seed(options.seed))
        named = list(adapter.named_parameters())
    if options.gradient_checkpointing:
        loaded.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    masters = Masters(named)
    optimizer = make_optimizer(
        masters,
        options.optimizer,
        learning_rate=options.learning_rate,
        betas=(options.beta1, options.beta2),
        eps=options.eps,
        weight_decay=options.weight_decay,
    )
    return Trainee(loaded, network, masters, adapter, optimizer)


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
    began = time.perf_counter()
    with disk_errors(work):
        position = train_to_end(prepared, trainee, work, start, log, told)
        for tracker in trackers:
            tracker.close()
        if position.step < prepared.steps and not position.finished:
            return None
        seconds = time.perf_counter() - began
        record = finish(prepared, trainee, work, position, log, seconds, told)
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


def finish(
    prepared: Prepared, trainee: Trainee, work: Path, position: Position, log: Log, seconds: float, told: Told
) -> RunRecord:
    """Write everything the artifact holds, compare the saved weights with the live ones, and seal it."""
    recipe = prepared.recipe
    kept = position.step
    if recipe.train.keep == "best" and position.best_loss is not None and position.best_step != position.step:
        kept = position.best_step
        load_weights(work / "checkpoints" / f"step-{kept}", trainee.masters)
        told.say(f"keeping step {kept}, whose validation loss was the lowest")
    trainee.network.model.eval()
    told.say("saving, and comparing what was saved with the live model")
    contract = make_contract(prepared.renderer)
    receipt = save_and_compare(trainee.network, trainee.adapter, trainee.loaded, work, contract)
    save_tokenizer(prepared, trainee.loaded, work)
    write_split(prepared.split, work / "split.json")
    write_examples(prepared.test, work / "test.jsonl")
    write_examples(prepared.validation.examples, work / "validation.jsonl")
    where = environment()
    record = RunRecord(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=resolved_tree(recipe),
        base=BaseIdentity(**asdict(trainee.loaded.identity)),
        compute_dtype=str(trainee.loaded.compute_dtype).removeprefix("torch."),
        data=data_identity(prepared, file_sha256(work / "split.json")),
        contract=contract,
        result=result_of(position, kept, log, seconds, trainee.network.device.type),
        receipts=[receipt],
        libraries=where.libraries,
        hardware=where.hardware,
    )
    write_record(record, work)
    (work / "README.md").write_text(model_card(record), encoding="utf-8")
    train_points = [(row["step"], row["loss"]) for row in log.steps]
    eval_points = [(row["step"], row["eval_loss"]) for row in log.steps if "eval_loss" in row]
    (work / "loss.svg").write_text(loss_plot(train_points, eval_points), encoding="utf-8")
    for path in steps_in(work / "checkpoints")[:-1]:
        shutil.rmtree(path)
    seal(work, OUTSIDE_MANIFEST)
    return record


def save_tokenizer(prepared: Prepared, loaded: LoadedModel, folder: Path) -> None:
    """The tokenizer's files, with a chat template that renders the contract's text."""
    tokenizer = loaded.tokenizer
    before = tokenizer.chat_template
    tokenizer.chat_template = chat_template_jinja(prepared.renderer)
    try:
        tokenizer.save_pretrained(folder)
    finally:
        tokenizer.chat_template = before


def data_identity(prepared: Prepared, split_sha256: str) -> DataIdentity:
    data = prepared.data
    return DataIdentity(
        path=str(prepared.recipe.data.path),
        format=data.format,
        sha256=data.sha256,
        split_sha256=split_sha256,
        num_train=len(prepared.train.rendered),
        num_validation=len(prepared.validation.examples),
        num_test=len(prepared.test),
        num_left_out=len(data.left_out) + len(data.problems),
        num_cut=prepared.train.num_cut,
    )


def result_of(position: Position, kept: int, log: Log, seconds: float, device_type: str) -> Result:
    """Figures over all steps of the run, those before a resume too."""
    computing = sum(row["seconds"] for row in log.steps)
    return Result(
        steps=position.step,
        kept_step=kept,
        first_loss=log.steps[0]["loss"],
        last_loss=log.steps[-1]["loss"],
        best_eval_loss=position.best_loss,
        seconds=seconds,
        tokens=position.tokens,
        tokens_per_second=position.tokens / computing,
        peak_memory_bytes=peak_memory_bytes(device_type),
    )
