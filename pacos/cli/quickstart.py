"""`pacos quickstart`: the whole loop on the embedded model and the starter data, in minutes on two CPU cores."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pacos.cli import train
from pacos.cli.eval import evaluate_run, print_evaluation, write_evaluation
from pacos.cli.session import open_run
from pacos.cli.show import duration, out, safe, say
from pacos.cli.train import Set, print_result
from pacos.errors import UsageError
from pacos.recipes import Recipe, eval_options, load_recipe, resolved_tree

if TYPE_CHECKING:
    from pacos.evaluation import Evaluation
    from pacos.training import RunRecord

SHOWN = 4
"""Answers printed side by side."""


def quickstart(
    folder: Annotated[
        Path | None, typer.Option("--out", help="folder of the run; runs/quickstart where not given")
    ] = None,
    set_: Set = [],  # noqa: B006
) -> None:
    """Train, evaluate and try a small model on this machine: SmolLM2-135M on the starter data."""
    from pacos.training import read_record

    began = time.monotonic()
    recipe = load_recipe("quickstart", set_)
    target = folder or Path("runs") / recipe.name
    if target.exists():
        record = read_record(target)
        refuse_another(record.recipe, resolved_tree(recipe), target)
        say(f"{target} is trained already, on {record.created[:10]}; another: pacos quickstart --out runs/another")
    else:
        record = train_run(recipe, target)
    print_result(record, target)
    stored = target / "eval" / "eval.json"
    if stored.exists():
        out().print(json.loads(stored.read_text(encoding="utf-8"))["verdict"], markup=False)
    else:
        evaluation = evaluate_run(open_run(target), eval_options(record.recipe["eval"], str(target)))
        write_evaluation(evaluation, target / "eval")
        print_evaluation(evaluation)
        print_answers(evaluation)
    say(f"all of it took {duration(time.monotonic() - began)}")
    out().print(ending(target), markup=False)


def train_run(recipe: Recipe, target: Path) -> RunRecord:
    """A new run, or one that was interrupted, to its end."""
    from pacos.training.record import partial_of

    return train.train_run(train.prepare_run(recipe), target, resume=partial_of(target).exists())


def refuse_another(trained: dict[str, Any], asked: dict[str, Any], target: Path) -> None:
    """Raises UsageError where the run that is there is not the one asked for: it is neither shown for it nor overwritten."""
    if {**trained, "eval": None} != {**asked, "eval": None}:
        raise UsageError(f"{target}: exists, and was trained with other options; give another place with --out")


def print_answers(evaluation: Evaluation) -> None:
    """Held-out prompts with both answers: the ones that changed most, and one that is still wrong."""
    console = out()
    changed = sorted(evaluation.rows, key=lambda row: -row.change)
    wrong = [row for row in evaluation.rows if not row.tuned.exact]
    for row in [*changed[: SHOWN - 1], *wrong[:1]]:
        console.rule(style="dim")
        prompt = f"{row.instruction}\n{row.input}" if row.input else row.instruction
        console.print(safe(prompt), markup=False, style="bold")
        console.print(f"base:   {one_line(row.base.text)}", markup=False)
        console.print(
            f"tuned:  {one_line(row.tuned.text)}", markup=False, style="green" if row.tuned.exact else "yellow"
        )
        console.print(f"wanted: {one_line(row.reference)}", markup=False, style="dim")


def one_line(text: str, longest: int = 160) -> str:
    flat = " / ".join(safe(text).strip().splitlines())
    return flat if len(flat) <= longest else f"{flat[: longest - 3]}..."


def ending(folder: Path) -> str:
    return (
        f"\nthe adapter:  {folder}\nthe report:   {folder / 'eval' / 'report.html'}\n\n"
        f"talk to it:        pacos chat {folder}\n"
        f"evaluate again:    pacos eval {folder} --limit 100\n"
        "train on your own: pacos train quickstart --set name=mine --set data.path=FILE.jsonl"
    )
