"""`pacos compare read | write`: AlpacaEval's annotation files in and out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pacos.cli.eval_ledger import AsJson, Workspace
from pacos.cli.show import out
from pacos.errors import UsageError
from pacos.workspace import find_workspace


def read(
    file: Annotated[Path, typer.Argument(help="annotations as AlpacaEval writes them (JSON)")],
    seed: Annotated[int, typer.Option(help="seed of the bootstrap", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Win rate, standard error and length-controlled rate of AlpacaEval's annotations."""
    from pacos.cli.compare_show import as_json as to_json
    from pacos.cli.compare_show import print_result
    from pacos.errors import UndecidedError
    from pacos.evaluation.pairwise import read_annotations, result_of

    ballots, names = read_annotations(file)
    found = result_of(ballots, names, sides_known=False, seed=seed)
    if not found.pairs:
        raise UndecidedError(f"{file}: no preference in it says anything")
    if as_json:
        print(json.dumps(to_json(found, {})))
    else:
        print_result(found, {})


def write(
    number: Annotated[int, typer.Argument(help="number of a comparison, from pacos compare list")],
    target: Annotated[Path, typer.Option("--out", help="file to write (JSON)")],
    answers: Annotated[
        str | None, typer.Option(help="name of a contestant: write its answers in place of the votes")
    ] = None,
    workspace: Workspace = None,
) -> None:
    """The votes of a comparison as AlpacaEval's annotations, with the names; or a contestant's answers as its outputs."""
    from pacos.data import write_whole
    from pacos.evaluation.pairwise import ballots_of, open_comparisons, texts_of, write_annotations, write_outputs

    if target.exists():
        raise UsageError(f"{target}: exists; give another --out")
    with open_comparisons(find_workspace(workspace), to_read=True) as store:
        names = store.get(number).contestants
        if answers is not None and answers not in names:
            raise UsageError(f"comparison {number} has no contestant '{answers}'; it has: {', '.join(names)}")
        texts = texts_of(store, number)
        rows = (
            write_annotations(ballots_of(store, number), names, texts)
            if answers is None
            else write_outputs(names.index(answers), names, texts)
        )
    write_whole(target, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    out().print(f"{len(rows):,} {'annotations' if answers is None else 'answers'} written to {target}", markup=False)
