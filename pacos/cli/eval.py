"""`pacos eval`: base against tuned on rows that the adapter was not trained on.

`pacos eval RUN` is `pacos eval against-base RUN`; a run that is named like a command is given as runs/list.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from pacos.cli.eval_files import check_ledger, refuse_unwritable, with_comparisons, write_evaluation
from pacos.cli.eval_gate import end_by_gates, with_gates
from pacos.cli.eval_ledger import Workspace, difference, list_entries, print_evaluation, show_entry
from pacos.cli.eval_regression import AddRegression, Must, MustNot, save_regression
from pacos.cli.eval_sides import cut_at, said_of, sampling_of, sides_of
from pacos.cli.eval_suite import Judge, MinAnswer, Suite, evaluate_suite, refuse_idle
from pacos.cli.session import OpenRun, find_run, open_run
from pacos.cli.show import bar, note, out, say
from pacos.cli.train import Set
from pacos.errors import DataError, GateError, UsageError
from pacos.recipes import EvalOptions, eval_options
from pacos.workspace import find_workspace

if TYPE_CHECKING:
    from pacos.data import Example, Trained
    from pacos.evaluation import Evaluation


class FirstUnlessNamed(TyperGroup):
    """A group whose first word may be the first argument of its first command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = [next(iter(self.commands)), *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    help="Base against tuned on held-out rows: `pacos eval RUN`. Every evaluation is kept; list, show and diff them.",
    cls=FirstUnlessNamed,
    rich_markup_mode=None,
)


@app.command("against-base")
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
    cluster: Annotated[
        str | None, typer.Option(help="column whose equal values mean related rows; rows of one lineage if not given")
    ] = None,
    gate: Annotated[
        Path | None,
        typer.Option(help="YAML of conditions; ends with 5 where one does not hold, 6 if it cannot be told"),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--out", help="folder of report.html, report.md and eval.json; RUN/eval where not given"),
    ] = None,
    set_: Set = [],  # noqa: B006
    suite: Suite = None,
    judge: Judge = None,
    min_answer: MinAnswer = None,
    add_regression: AddRegression = None,
    must: Must = None,
    must_not: MustNot = None,
    workspace: Workspace = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Compare base and tuned on held-out rows: perplexity, ROUGE-L, BLEU, exact match, each with an interval."""
    from pacos.evaluation.gates import load_gates
    from pacos.training import read_record

    given = {"limit": limit, "seed": seed, "max_new_tokens": max_new_tokens, "batch_size": batch_size}
    changed = {name: value for name, value in given.items() if value is not None}
    if add_regression is not None:
        others = {
            "suite": suite,
            "judge": judge,
            "min_answer": min_answer,
            "data": data,
            "cluster": cluster,
            "gate": gate,
            "out": report,
            "set": set_ or None,
            **changed,
        }
        refuse_idle("with --add-regression", others)
        save_regression(add_regression, must or (), must_not or (), find_workspace(workspace))
        return
    refuse_idle("without --add-regression", {"must": must, "must_not": must_not})
    if suite is not None:
        refuse_idle("with --suite", {"data": data, "cluster": cluster})
        name = chosen(run, adapter_path)
        evaluate_suite(name, suite, changed, set_, judge, min_answer, gate, report, find_workspace(workspace), as_json)
        return
    refuse_idle("without --suite", {"judge": judge, "min_answer": min_answer})
    conditions = load_gates(gate) if gate else ()
    name = chosen(run, adapter_path)
    kept = find_run(name)
    options = eval_options({**read_record(kept).recipe["eval"], **changed}, kept.name, set_)
    target = report or kept / "eval"
    refuse_unwritable(target)
    check_ledger(find_workspace(workspace))
    opened = open_run(name)
    evaluation = evaluate_run(opened, options, data, cluster)
    evaluation = with_comparisons(with_gates(evaluation, conditions, options.seed), find_workspace(workspace))
    folder = write_evaluation(evaluation, target, find_workspace(workspace))
    if as_json:
        print(json.dumps(evaluation.to_json()))
    else:
        print_evaluation(evaluation)
        out().print(f"written to {folder}/report.html, report.md and eval.json", markup=False)
    end_by_gates(evaluation)


app.command("list")(list_entries)
app.command("show")(show_entry)
app.command("diff")(difference)


def chosen(run: str | None, adapter_path: str | None) -> str | None:
    """The one of the two spellings that was given. Raises UsageError for both."""
    if run is not None and adapter_path is not None and run != adapter_path:
        raise UsageError(f"two runs given: '{run}' and --adapter-path '{adapter_path}'; give one")
    return run if run is not None else adapter_path


def evaluate_run(
    opened: OpenRun, options: EvalOptions, data: str | None = None, cluster: str | None = None
) -> Evaluation:
    """The comparison on the run's test rows, or on `data`. Raises DataError for rows that were trained on."""
    import numpy as np

    from pacos.evaluation import evaluate as compare_models

    examples = sample(held_out(opened, data), options.limit, options.seed)
    say(f"evaluating base and tuned on {len(examples)} rows")
    sampling, base, tuned = sampling_of(options), *sides_of(opened, options)
    with bar("evaluating") as shown:
        return compare_models(
            base,
            tuned,
            examples,
            cut_at(options.stop, opened.renderer),
            sampling=sampling,
            rng=np.random.default_rng(options.seed),
            resamples=options.resamples,
            max_length=opened.network.max_length,
            cluster_by=cluster,
            record={**about(opened, data), "sampling": said_of(sampling, options), "seed": options.seed},
            on_progress=lambda stage, done, total: shown.update(done, total, label=stage),
        )


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
    """What the report and the ledger say of the run."""
    from datetime import UTC, datetime

    from pacos.cli.eval_files import adapter_sha256, contract_sha256, data_sha256

    record, folder = opened.record, opened.folder
    assert folder is not None
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": opened.name,
        "base": record.base.model_dump(),
        "adapter": str(folder),
        "adapter_sha256": adapter_sha256(folder),
        "recipe": record.recipe,
        "data": data or "the run's test rows",
        "dataset_sha256": data_sha256(data or folder / "test.jsonl"),
        "split_sha256": record.data.split_sha256,
        "template": record.contract.get("template"),
        "contract_sha256": contract_sha256(record.contract),
        "hardware": record.hardware,
        "libraries": record.libraries,
    }
