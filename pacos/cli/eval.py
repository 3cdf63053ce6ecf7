"""`pacos eval`: base against tuned on rows that the adapter was not trained on."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pacos.cli.session import OpenRun, find_run, load_base, open_run
from pacos.cli.show import bar, note, out, print_table, say
from pacos.errors import DataError, GateError, UsageError

if TYPE_CHECKING:
    from pacos.data import Example, Trained
    from pacos.evaluation import Evaluation


def evaluate(
    run: Annotated[
        str | None, typer.Argument(help="folder or name of a run; the newest under runs/ where not given")
    ] = None,
    adapter_path: Annotated[
        str | None, typer.Option("--adapter-path", "--adapter_path", help="the same, as an option")
    ] = None,
    data: Annotated[str | None, typer.Option(help="evaluate on these rows in place of the run's test rows")] = None,
    limit: Annotated[int | None, typer.Option(help="rows evaluated, at most", min=2)] = None,
    seed: Annotated[int | None, typer.Option(help="seed of the choice of rows and of the bootstrap", min=0)] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="longest answer, in tokens", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(help="answers written at once", min=1)] = None,
    report: Annotated[
        Path | None, typer.Option("--out", help="folder of report.html and eval.json; RUN/eval where not given")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Compare base and tuned on held-out rows: perplexity, ROUGE-L, BLEU, exact match, each with an interval."""
    name = chosen(run, adapter_path)
    target = report or find_run(name) / "eval"
    refuse_unwritable(target)
    opened = open_run(name)
    given = {"limit": limit, "seed": seed, "max_new_tokens": max_new_tokens, "batch_size": batch_size}
    options = Options(**{**opened.record.recipe["eval"], **{k: v for k, v in given.items() if v is not None}})
    evaluation = evaluate_run(opened, options, data)
    folder = write_evaluation(evaluation, target)
    if as_json:
        print(json.dumps(evaluation.to_json()))
        return
    print_evaluation(evaluation)
    out().print(f"written to {folder}/report.html and eval.json", markup=False)


@dataclass(frozen=True)
class Options:
    """The recipe's `eval` section with what the command line changed."""

    limit: int
    max_new_tokens: int
    batch_size: int
    seed: int
    resamples: int


def chosen(run: str | None, adapter_path: str | None) -> str | None:
    """The one of the two spellings that was given. Raises UsageError for both."""
    if run is not None and adapter_path is not None and run != adapter_path:
        raise UsageError(f"two runs given: '{run}' and --adapter-path '{adapter_path}'; give one")
    return run if run is not None else adapter_path


def evaluate_run(opened: OpenRun, options: Options, data: str | None = None) -> Evaluation:
    """The comparison on the run's test rows, or on `data`. Raises DataError for rows that were trained on."""
    import numpy as np

    from pacos.evaluation import evaluate as compare_models
    from pacos.inference import Sampling

    examples = sample(held_out(opened, data), options.limit, options.seed)
    say(f"evaluating base and tuned on {len(examples)} rows")
    with bar("evaluating") as shown:
        return compare_models(
            Side(opened, tuned=False, slots=options.batch_size),
            Side(opened, tuned=True, slots=options.batch_size),
            examples,
            opened.renderer,
            sampling=Sampling(max_new_tokens=options.max_new_tokens),
            rng=np.random.default_rng(options.seed),
            resamples=options.resamples,
            max_length=opened.network.max_length,
            record=about(opened, data),
            on_progress=lambda stage, done, total: shown.update(done, total, label=stage),
        )


class Side:
    """One side of the comparison: the same network with its adapter on or off, or the base loaded apart."""

    def __init__(self, opened: OpenRun, *, tuned: bool, slots: int):
        from pacos.inference import Engine
        from pacos.models import Network

        self.off = opened.adapter is not None and not tuned
        self.opened = opened
        network = opened.network
        if opened.adapter is None and not tuned:
            network = Network(load_base(opened.record).model)
        self.engine = Engine(network, opened.renderer.stop_ids, slots=slots)

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Any, **hooks: Any) -> Any:
        return self._run(self.engine.generate, prompts, sampling, **hooks)

    def score(self, rows: Sequence[Any]) -> Any:
        return self._run(self.engine.score, rows)

    def _run(self, work: Any, *arguments: Any, **hooks: Any) -> Any:
        with self.opened.base() if self.off else nullcontext():
            return work(*arguments, **hooks)


def held_out(opened: OpenRun, data: str | None) -> list[Example]:
    """Rows to evaluate on, none of which was trained on, exactly or nearly.

    Of the run's own test rows, near-copies of training rows are left out and counted (a split that the data declares may
    have some); in rows given by hand they are a DataError that names them.
    """
    from pacos.data import find_trained, load_examples, load_split

    assert opened.folder is not None
    own = opened.folder / "test.jsonl"
    if data is None and own.stat().st_size == 0:
        raise DataError(f"{opened.folder}: the run held out no test rows; give rows with --data")
    loaded = load_examples(data or own)
    for text in loaded.left_out:
        note(text)
    split = load_split(opened.folder / "split.json")
    if data is None and not {example.id for example in loaded.examples} <= set(split.test):
        raise GateError(f"{own}: holds rows that are not the run's test rows; give rows with --data, or train anew")
    trained = find_trained(split, loaded.examples)
    if trained and data is not None:
        raise DataError(
            f"{data}: {len(trained)} of {len(loaded.examples)} rows were trained on, exactly or nearly; "
            "a score on them means nothing.\n  Leave them out, or evaluate on the run's own test rows",
            [trained_line(found) for found in trained],
        )
    if trained:
        note(f"{len(trained)} of {len(loaded.examples)} test rows are nearly training rows; they are left out")
    seen = {found.number for found in trained}
    return [example for number, example in enumerate(loaded.examples) if number not in seen]


def trained_line(found: Trained) -> str:
    nearly = f" nearly: {found.similarity:.0%} the same" if found.id != found.train_id else ""
    return f"row {found.number + 1} ({found.id}) is training row {found.train_id}{nearly}"


def sample(examples: list[Example], limit: int, seed: int) -> list[Example]:
    """At most `limit` examples, chosen by hash of seed and id: the same ones whatever their order in the file."""
    import hashlib

    if len(examples) <= limit:
        return examples
    drawn = sorted(examples, key=lambda e: hashlib.sha256(f"{seed}:{e.id}".encode()).digest())[:limit]
    kept = {id(e) for e in drawn}
    return [e for e in examples if id(e) in kept]


def about(opened: OpenRun, data: str | None) -> dict[str, Any]:
    """What the report says of the run."""
    from datetime import UTC, datetime

    record = opened.record
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": opened.name,
        "base": record.base.model_dump(),
        "recipe": record.recipe,
        "data": data or "the run's test rows",
        "split_sha256": record.data.split_sha256,
        "template": record.contract.get("template"),
        "hardware": record.hardware,
        "libraries": record.libraries,
    }


def write_evaluation(evaluation: Evaluation, folder: Path) -> Path:
    """eval.json and report.html. An earlier evaluation of the folder is kept under earlier/N."""
    from pacos.evaluation import write_report

    if (folder / "eval.json").exists():
        set_aside(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "eval.json").write_text(json.dumps(evaluation.to_json(), indent=1) + "\n", encoding="utf-8")
    write_report(evaluation, folder / "report.html")
    return folder


def refuse_unwritable(folder: Path) -> None:
    """Raises UsageError where the result could not be written, before anything is computed."""
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not there.is_dir():
        raise UsageError(f"--out {folder}: {there} is a file; give a folder")
    if not os.access(there, os.W_OK):
        raise UsageError(f"{folder}: {there} cannot be written to; give another folder with --out")


def set_aside(folder: Path) -> None:
    """Move the last evaluation's files to earlier/N."""
    earlier = folder / "earlier"
    earlier.mkdir(exist_ok=True)
    place = earlier / str(1 + max((int(p.name) for p in earlier.iterdir() if p.name.isdecimal()), default=0))
    place.mkdir()
    for name in ("eval.json", "report.html"):
        if (folder / name).exists():
            (folder / name).rename(place / name)


def print_evaluation(evaluation: Evaluation) -> None:
    from pacos.evaluation import GROUP_HEADER, HEADER, method_note, render_groups, render_table

    console = out()
    console.print(evaluation.headline, markup=False)
    print_table(console, HEADER, render_table(evaluation))
    groups = render_groups(evaluation)
    if groups:
        print_table(console, GROUP_HEADER, groups)
    console.print(method_note(evaluation), style="dim", markup=False)
