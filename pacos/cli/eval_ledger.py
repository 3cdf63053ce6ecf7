"""`pacos eval list | show | diff`: what was evaluated before, without running a model again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pacos.cli.eval_gate import print_gates
from pacos.cli.show import out, plain, print_table, safe, say
from pacos.errors import UsageError
from pacos.workspace import find_workspace

if TYPE_CHECKING:
    from pacos.evaluation import Evaluation
    from pacos.evaluation.ledger import Column

Workspace = Annotated[
    Path | None, typer.Option(help="folder of pacos.db; PACOS_WORKSPACE, or the current folder, where not given")
]
AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
Number = Annotated[int, typer.Argument(help="number of an evaluation, from pacos eval list")]


def list_entries(workspace: Workspace = None, as_json: AsJson = False) -> None:
    """Every evaluation of the workspace, the newest first."""
    from pacos.evaluation.ledger import open_ledger

    with open_ledger(find_workspace(workspace), to_read=True) as ledger:
        entries = ledger.entries()
    if as_json:
        brief = ("id", "kind", "name", "created", "num_prompts", "data", "verdict", "seed")
        print(json.dumps([{name: getattr(entry, name) for name in brief} for entry in entries]))
        return
    console = out()
    for entry in entries:
        created = entry.created[:16].replace("T", " ")
        head = f"{entry.id:>4}  {created}  {safe(entry.name)}, {entry.num_prompts:,} rows of {safe(entry.data)}"
        console.print(head, markup=False, style="bold")
        console.print(f"      {safe(entry.verdict)}", markup=False)
    if not entries:
        say("no evaluations yet; make one with: pacos eval")


def show_entry(
    number: Number,
    answers: Annotated[bool, typer.Option("--answers", help="every prompt with its answers too")] = False,
    workspace: Workspace = None,
    as_json: AsJson = False,
) -> None:
    """One evaluation: what was said of it, of which models, under which conditions."""
    from pacos.evaluation.ledger import open_ledger

    with open_ledger(find_workspace(workspace), to_read=True) as ledger:
        entry = ledger.entry(number)
        prompts = ledger.prompts(number) if answers else []
        written = {side: ledger.answers(number, side) for side in entry.sides} if answers else {}
    if as_json:
        rows = [
            {**plain(prompt), **{side: plain(written[side][i]) for side in written}} for i, prompt in enumerate(prompts)
        ]
        print(json.dumps({**plain(entry), **({"rows": rows} if answers else {})}))
        return
    console = out()
    console.print(f"evaluation {entry.id}: {safe(entry.name)}, {entry.created}, {entry.num_prompts} rows", style="bold")
    console.print(safe(entry.verdict), markup=False)
    print_table(console, ("side", "model", "weights", "adapter", "contract"), [
        (side, safe(s.name), s.weights_sha256[:12], s.adapter_sha256[:12] or "none", s.contract_sha256[:12])
        for side, s in entry.sides.items()
    ])  # fmt: skip
    for name in ("data", "dataset_sha256", "split_sha256", "sampling", "seed", "versions"):
        value = getattr(entry, name)
        console.print(f"{name}: {safe(value if isinstance(value, str) else json.dumps(value))}", markup=False)
    for i, prompt in enumerate(prompts):
        console.rule(style="dim")
        console.print(safe(f"{prompt.instruction}\n{prompt.input}".strip()), markup=False, style="bold")
        for side, texts in written.items():
            console.print(f"{side}: {safe(texts[i].text)}", markup=False)
        console.print(f"wanted: {safe(prompt.reference)}", markup=False, style="dim")


def difference(
    first: Annotated[str, typer.Argument(help="number of the evaluation to start from; 12:base is its base model")],
    second: Annotated[str, typer.Argument(help="number of the one to hold against it, or a side of it")],
    report: Annotated[
        Path | None, typer.Option("--out", help="folder for report.html, report.md and eval.json")
    ] = None,
    seed: Annotated[int, typer.Option(help="seed of the bootstrap", min=0)] = 0,
    resamples: Annotated[int, typer.Option(help="resamples of the bootstrap", min=100)] = 2000,
    workspace: Workspace = None,
    as_json: AsJson = False,
) -> None:
    """Two evaluations, paired by prompt, each difference with its interval: their tuned models, or the sides named."""
    import numpy as np

    from pacos.cli.eval_files import comparisons_in, refuse_unwritable, write_files
    from pacos.cli.eval_suite import show_suite
    from pacos.evaluation.ledger import difference, open_ledger, paired

    if report:
        refuse_unwritable(report)
    folder, rng = find_workspace(workspace), np.random.default_rng(seed)
    columns = _column(first), _column(second)
    with open_ledger(folder, to_read=True) as ledger:
        found = paired(ledger, *columns)
    if found.first.kind.startswith("suite:"):
        show_suite(found, rng, resamples, report, as_json)
        return
    told = difference(found, rng=rng, resamples=resamples)
    told = replace(told, comparisons=comparisons_in(folder, *found.subjects))
    if report:
        write_files(told, report)
    if as_json:
        print(json.dumps(told.to_json()))
        return
    print_evaluation(told)


def _column(text: str) -> Column:
    from pacos.evaluation.ledger import read_column

    if (found := read_column(text)) is None:
        raise UsageError(f"'{text}' is no evaluation; give its number, or a side of it, as in 12 or 12:base")
    return found


def print_evaluation(evaluation: Evaluation) -> None:
    from pacos.evaluation import GROUP_HEADER, HEADER, comparison_lines, method_note, render_groups, render_table

    console = out()
    console.print(evaluation.headline, markup=False)
    print_table(console, HEADER, render_table(evaluation))
    groups = render_groups(evaluation)
    if groups:
        print_table(console, GROUP_HEADER, groups)
    print_gates(evaluation)
    for line in comparison_lines(evaluation):
        console.print(safe(line), markup=False)
    console.print(method_note(evaluation), style="dim", markup=False)
