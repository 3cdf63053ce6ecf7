"""`pacos train`: a recipe -> a finished run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pacos.cli.show import bar, duration, note, out, plain, say, size, tokens
from pacos.cli.together import command_to_continue, launch, one_voice, started_by_nproc
from pacos.errors import UsageError
from pacos.recipes import Recipe, load_recipe, recipe_to_yaml

if TYPE_CHECKING:
    from pacos.training import Prepared, RunRecord, Step
    from pacos.training.distributed import Peers

Set = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="override a recipe key; may be given more than once")
]


def train(
    recipe: Annotated[str, typer.Argument(help="a recipe that comes with pacos (see docs/recipes.md), or a YAML file")],
    set_: Set = [],  # noqa: B006
    epochs: Annotated[float | None, typer.Option(help="same as --set train.epochs=N")] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--out", "--adapter-path", "--adapter_path", help="folder of the run; runs/NAME where not given"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="continue an unfinished run from its newest whole checkpoint")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the resolved recipe, rows, tokens, steps and memory, and stop")
    ] = False,
    show_rows: Annotated[
        int, typer.Option("--show-rows", metavar="N", help="print N rows as the model will see them, and stop", min=0)
    ] = 0,
    nproc: Annotated[
        int, typer.Option("--nproc", metavar="N", help="train in N processes of this machine, one per GPU", min=1)
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Fine-tune a model from a recipe. Under torchrun, each process that it starts takes its share."""
    refuse_idle_options(show_rows > 0, dry_run, resume, as_json)
    overrides = [*set_, *([f"train.epochs={epochs}"] if epochs is not None else [])]
    if nproc > 1:
        resolved = load_recipe(recipe, overrides)
        refuse_nproc(nproc, resolved, show_rows > 0 or dry_run)
        options = [f"--set={each}" for each in overrides]
        options += [f"--out={folder}"] if folder else []
        options += ["--resume"] * resume + ["--json"] * as_json
        raise typer.Exit(launch(nproc, ["train", recipe, *options], folder_of(resolved, folder)))
    with one_voice():
        train_here(recipe, overrides, folder, resume, dry_run, show_rows, as_json)


def train_here(
    recipe: str,
    overrides: list[str],
    folder: Path | None,
    resume: bool,
    dry_run: bool,
    show_rows: int,
    as_json: bool,
) -> None:
    """In this process, with those that it was started with."""
    from pacos.training.distributed import join, restarted

    resolved = load_recipe(recipe, overrides)
    target = folder_of(resolved, folder)
    peers = join(resolved.model.device)
    with peers.in_turn():
        prepared = prepare_run(resolved)
    if show_rows:
        from pacos.cli.rows import print_rows

        print_rows(prepared, show_rows)
        return
    if dry_run:
        print_plan(prepared, target, as_json)
        return
    if not as_json:
        say(recipe_to_yaml(resolved).rstrip())
    record = train_run(prepared, target, resume or restarted(), peers)
    if as_json:
        print(json.dumps({"run": str(target), **plain(record.result.model_dump())}))
    else:
        print_result(record, target)


def folder_of(recipe: Recipe, folder: Path | None) -> Path:
    return folder or Path("runs") / recipe.name


def refuse_idle_options(show_rows: bool, dry_run: bool, resume: bool, as_json: bool) -> None:
    """Raises UsageError for options that would have no effect beside each other."""
    if show_rows and (dry_run or resume or as_json):
        raise UsageError("--show-rows prints rows and stops; --dry-run, --resume and --json have no effect beside it")
    if dry_run and resume:
        raise UsageError("--dry-run trains nothing, so --resume has no effect beside it")


def refuse_nproc(nproc: int, recipe: Recipe, trains_nothing: bool) -> None:
    """Raises UsageError where several processes are asked for and cannot be had."""
    if trains_nothing:
        raise UsageError("--show-rows and --dry-run train nothing, so --nproc has no effect beside them")
    if "WORLD_SIZE" in os.environ:
        raise UsageError("--nproc starts processes, and torchrun has started this one already; give one of the two")
    device = recipe.model.device
    if device.startswith("cuda:"):
        raise UsageError(f"model.device: '{device}' names one device, and {nproc} processes train; take auto or cuda")


def prepare_run(recipe: Recipe) -> Prepared:
    """Rows and renderer of a recipe, every note on left-out or cut rows printed."""
    from pacos.cli.models import FetchLines
    from pacos.models import load_tokenizer
    from pacos.prompts import Renderer
    from pacos.training import prepare_rows

    tokenizer = load_tokenizer(recipe.model.base, recipe.model.revision, progress=FetchLines())
    renderer = Renderer(tokenizer, recipe.prompt.template, recipe.prompt.system)
    prepared = prepare_rows(recipe, renderer, Path.cwd(), say)
    for text in prepared.notes[:10]:
        note(text)
    if len(prepared.notes) > 10:
        note(f"and {len(prepared.notes) - 10} more")
    return prepared


def train_run(prepared: Prepared, folder: Path, resume: bool, peers: Peers | None = None) -> RunRecord:
    """Load the model and train it, with a bar. Ends the process with 130 or 143 where a signal asked for it."""
    from pacos.cli.interrupt import interruptible
    from pacos.cli.models import FetchLines
    from pacos.models import load_model
    from pacos.models.kernels import native as kernels
    from pacos.models.source import resolve
    from pacos.training import Told, run_training
    from pacos.training.distributed import ALONE, device_of

    recipe, peers = prepared.recipe, peers or ALONE
    say(f"loading {recipe.model.base}")
    if peers.size > 1:
        with peers.in_turn():
            resolve(recipe.model.base, recipe.model.revision, progress=FetchLines())
    loaded = load_model(
        recipe.model.base,
        revision=recipe.model.revision,
        dtype=recipe.model.dtype,
        device=device_of(recipe.model.device, peers),
        quantization="nf4" if recipe.method == "qlora" else "none",
        double_quant=recipe.model.double_quant,
        progress=FetchLines(),
    )
    with peers.in_turn():  # one compiles for all of its machine
        lines = kernels.prepare() if loaded.device.type == "cpu" else []
    for line in lines:
        say(line)
    say(summary(prepared))
    with interruptible() as asked, bar("training") as shown:

        def on_step(step: Step, steps: int) -> None:
            shown.update(step.step, steps, step_text(step, loaded.device.type))

        def stop() -> bool:
            if peers.size == 1:
                return asked.to_stop
            heard = peers.largest(asked.signal)  # whoever of them was asked, all end after the same step
            if heard:  # else one that is asked meanwhile would forget it
                asked.signal = heard
            return heard > 0

        record = run_training(prepared, loaded, folder, resume=resume, told=Told(say, on_step, stop), peers=peers)
    if record is None:
        processes = peers.size if started_by_nproc() else 1
        note(f"stopped and saved; continue with: {command_to_continue(folder, processes)}")
        raise typer.Exit(asked.exit_code)
    return record


def step_text(step: Step, device: str) -> str:
    from pacos.training.record import peak_memory_bytes

    held_out = "" if step.eval_loss is None else f" validation {step.eval_loss:.3f}"
    pace = step.tokens / step.seconds
    return f"loss {step.loss:.3f}{held_out}  {pace:,.0f} tokens/s  {size(peak_memory_bytes(device))}"


def summary(prepared: Prepared) -> str:
    rows, held = prepared.train, len(prepared.test)
    return (
        f"{len(rows.rendered):,} rows to train on ({tokens(rows.num_tokens)} tokens, {tokens(rows.num_targets)} of them carry loss), "
        f"{len(prepared.watched)} to watch, {held} held out; {prepared.steps} steps; split: {prepared.split_file}"
    )


def print_plan(prepared: Prepared, folder: Path, as_json: bool) -> None:
    from pacos.recipes import resolved_tree
    from pacos.training.plan import memory_here

    memory = memory_here(prepared, note)
    figures: dict[str, Any] = {
        "out": str(folder),
        "rows": {
            "train": len(prepared.train.rendered),
            "validation": len(prepared.validation.rendered),
            "test": len(prepared.test),
        },
        "tokens": prepared.train.num_tokens,
        "response_tokens": prepared.train.num_targets,
        "steps": prepared.steps,
        "pack_fill": prepared.batches.fill,
        "memory_bytes": memory.parts | {"total": memory.total},
    }
    if as_json:
        print(json.dumps({"recipe": resolved_tree(prepared.recipe), **figures}))
        return
    console = out()
    console.print(recipe_to_yaml(prepared.recipe), markup=False)
    console.print(summary(prepared), markup=False)
    options = prepared.recipe.train
    step = f"{options.batch_tokens} tokens" if options.batch_tokens else f"{options.batch_size} rows"
    console.print(
        f"packs of {options.pack_tokens} tokens, {figures['pack_fill']:.1%} full with steps of {step}", markup=False
    )
    parts = ", ".join(f"{name} {size(value)}" for name, value in memory.parts.items())
    console.print(f"memory at the peak, by the step run on shapes: {size(memory.total)} ({parts})", markup=False)


def print_result(record: RunRecord, folder: Path) -> None:
    result, receipt = record.result, record.receipts[0]
    console = out()
    validation = "" if result.best_eval_loss is None else f", validation {result.best_eval_loss:.3f}"
    console.print(
        f"trained {result.steps} steps in {duration(result.seconds)} at {result.tokens_per_second:,.0f} tokens/s, "
        f"peak memory {size(result.peak_memory_bytes)}",
        markup=False,
    )
    console.print(f"loss {result.first_loss:.3f} -> {result.last_loss:.3f}{validation}", markup=False)
    console.print(
        f"saved = live: largest logit difference {receipt.max_logit_difference:.2g}, "
        f"top-1 agreement {receipt.top1_agreement:.2%} on {receipt.num_positions} positions",
        markup=False,
    )
    console.print(
        f"written to {folder} (loss.svg is the picture)\nnext: pacos eval {folder}   pacos chat {folder}", markup=False
    )
