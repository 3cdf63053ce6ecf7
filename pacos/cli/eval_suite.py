"""`pacos eval RUN --suite NAME`: both models on a suite, into files, the ledger and the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pacos.cli.eval_files import FILES, check_ledger, entry_of, refuse_unwritable, set_aside
from pacos.cli.eval_gate import end_by_gates, print_gates, with_gates
from pacos.cli.eval_sides import cut_at, said_of, sampling_of, sides_of
from pacos.cli.eval_suite_plans import SUITES, Asked, Plan, plan_suite
from pacos.cli.session import OpenRun, find_run, open_run
from pacos.cli.show import bar, out, print_table, safe, say
from pacos.errors import UsageError
from pacos.recipes import EvalOptions, eval_options

if TYPE_CHECKING:
    import numpy as np

    from pacos.evaluation.ledger import Paired
    from pacos.evaluation.suites.results import SuiteResult

Suite = Annotated[
    str | None,
    typer.Option(help=f"in place of held-out rows: {', '.join(SUITES)}, or a YAML file of regression prompts"),
]
Judge = Annotated[
    str | None, typer.Option(help="with --suite: who answers a file's judge questions, MODEL, MODEL@URL or @URL")
]
MinAnswer = Annotated[
    int | None,
    typer.Option(
        "--min-answer",
        help="with --suite memorization: rows with a shorter answer, in tokens, are skipped (16)",
        min=2,
    ),
]


def refuse_idle(where: str, given: Mapping[str, Any]) -> None:
    """Raises UsageError for options that say nothing here."""
    idle = [f"--{name.replace('_', '-')}" for name, value in given.items() if value not in (None, [], ())]
    if idle:
        raise UsageError(f"{' and '.join(idle)} {'have' if len(idle) > 1 else 'has'} no effect {where}; leave it out")


def evaluate_suite(
    name: str | None,
    suite: str,
    changed: Mapping[str, int],
    overrides: Sequence[str],
    judge: str | None,
    min_answer: int | None,
    gate: Path | None,
    report: Path | None,
    workspace: Path,
    as_json: bool,
) -> None:
    """The whole command. `changed`: limit, seed, tokens and batch size, where not the recipe's."""
    from pacos.cli.eval import about
    from pacos.evaluation.gates import load_gates
    from pacos.training import read_record

    options = eval_options({**read_record(find_run(name)).recipe["eval"], **changed}, suite, overrides)
    asked = Asked(
        name=suite,
        limit=changed.get("limit"),
        seed=options.seed,
        resamples=options.resamples,
        max_new_tokens=options.max_new_tokens,
        judge=judge,
        min_answer=min_answer,
        workspace=workspace,
    )
    plan = plan_suite(asked)
    conditions = load_gates(gate, plan.measures) if gate else ()
    target = report or find_run(name) / f"eval-{plan.name}"
    refuse_unwritable(target)
    check_ledger(workspace)
    opened = open_run(name)
    sides = sides_of(opened, options)
    opened = replace(opened, renderer=cut_at(options.stop, opened.renderer))
    result = run_suite(opened, plan, options, sides, about(opened, plan.data))
    result = with_gates(result, conditions, asked.seed)
    write_suite(result, target, workspace)
    if as_json:
        print(json.dumps(result.to_json()))
    else:
        print_suite(result)
        out().print(f"written to {target}/report.html, report.md and eval.json", markup=False)
    end_by_gates(result)


def run_suite(
    opened: OpenRun, plan: Plan, options: EvalOptions, sides: tuple[Any, Any], record: dict[str, Any]
) -> SuiteResult:
    """Both models on the suite."""
    import numpy as np

    from pacos.evaluation.suites.results import suite_result

    sampling = sampling_of(options)
    say(f"suite {plan.name}")
    with bar(plan.name) as shown:
        rows, facts = plan.run(
            opened, sides, sampling, lambda stage, done, total: shown.update(done, total, label=stage)
        )
    return suite_result(
        plan.name,
        rows,
        plan.measures,
        rng=np.random.default_rng(options.seed),
        resamples=options.resamples,
        by_kind=plan.by_kind,
        facts=facts,
        record={
            **record,
            "suite": plan.name,
            "data": plan.data,
            "sampling": said_of(sampling, options),
            "seed": options.seed,
        },
    )


def show_suite(found: Paired, rng: np.random.Generator, resamples: int, report: Path | None, as_json: bool) -> None:
    """`pacos eval diff` of two entries of one suite."""
    from pacos.evaluation.suites.keep import suite_difference

    result = suite_difference(found, rng=rng, resamples=resamples)
    if report:
        write_suite_files(result, report)
    if as_json:
        print(json.dumps(result.to_json()))
    else:
        print_suite(result)


def write_suite(result: SuiteResult, folder: Path, workspace: Path) -> None:
    """The files of `folder` and the entry of the ledger."""
    from pacos.evaluation.ledger import open_ledger
    from pacos.evaluation.suites.keep import KIND, add_suite

    write_suite_files(result, folder)
    with open_ledger(workspace) as ledger:
        add_suite(ledger, replace(entry_of(result), kind=f"{KIND}:{result.suite}"), result)


def write_suite_files(result: SuiteResult, folder: Path) -> None:
    """report.html, report.md and eval.json. An earlier result is kept under earlier/N."""
    from pacos.evaluation.suites.page import suite_page
    from pacos.evaluation.suites.tables import suite_markdown

    if (folder / FILES[0]).exists():
        set_aside(folder)
    folder.mkdir(parents=True, exist_ok=True)
    texts = (json.dumps(result.to_json(), indent=1) + "\n", suite_page(result), suite_markdown(result))
    for name, text in zip(FILES, texts, strict=True):
        (folder / name).write_text(text, encoding="utf-8", errors="replace")


def print_suite(result: SuiteResult) -> None:
    from pacos.evaluation.suites import tables

    console = out()
    console.print(safe(result.headline), markup=False)
    print_table(console, tables.HEADER, tables.suite_table(result))
    if kinds := tables.kinds_table(result):
        print_table(console, ("by kind", *tables.HEADER[1:]), kinds)
    for line in (*tables.broken_lines(result), *tables.fact_lines(result)):
        console.print(safe(line), markup=False)
    print_gates(result)
    console.print(tables.method_note(result), style="dim", markup=False)
