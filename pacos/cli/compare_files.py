"""`pacos compare read | write`: AlpacaEval's annotation files in and out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pacos.cli.compare_show import print_told, refuse_existing
from pacos.cli.eval_ledger import AsJson, Workspace
from pacos.cli.show import out
from pacos.errors import UndecidedError, UsageError
from pacos.workspace import find_workspace

Pair = Annotated[
    tuple[str, str] | None,
    typer.Option("--pair", metavar="A B", help="two contestants; an annotation file holds one pair"),
]


def read(
    file: Annotated[Path, typer.Argument(help="annotations as AlpacaEval writes them (JSON)")],
    seed: Annotated[int, typer.Option(help="seed of the bootstrap", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Win rate, standard error and length-controlled rate of AlpacaEval's annotations."""
    from pacos.evaluation.pairwise import Told, read_annotations, result_of

    ballots, names = read_annotations(file)
    found = result_of(ballots, names, sides_known=False, seed=seed)
    if not found.pairs:
        raise UndecidedError(f"{file}: no preference in it says anything")
    print_told(Told(0, "", str(file), found, {}), as_json)


def write(
    number: Annotated[int, typer.Argument(help="number of a comparison, from pacos compare list")],
    target: Annotated[Path, typer.Option("--out", help="file to write (JSON)")],
    pair: Pair = None,
    answers: Annotated[
        str | None, typer.Option(help="name of a contestant: write its answers in place of the votes")
    ] = None,
    workspace: Workspace = None,
) -> None:
    """The votes of a comparison as AlpacaEval's annotations, with the names; or a contestant's answers as its outputs."""
    from pacos.data import write_whole
    from pacos.evaluation.pairwise import ballots_of, open_comparisons, texts_of, write_annotations, write_outputs

    refuse_existing(target)
    with open_comparisons(find_workspace(workspace), to_read=True) as store:
        names = store.get(number).contestants
        if answers is not None:
            if pair is not None:
                raise UsageError("--pair has no effect with --answers; leave it out")
            rows = write_outputs(_contestant(number, names, answers), names, texts_of(store, number))
        else:
            chosen = _chosen(number, names, pair)
            votes = [ballot for ballot in ballots_of(store, number) if ballot.pair == chosen]
            rows = write_annotations(votes, names, texts_of(store, number))
    write_whole(target, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    out().print(f"{len(rows):,} {'annotations' if answers is None else 'answers'} written to {target}", markup=False)


def _contestant(number: int, names: tuple[str, ...], name: str) -> int:
    if name not in names:
        raise UsageError(f"comparison {number} has no contestant '{name}'; it has: {', '.join(names)}")
    return names.index(name)


def _chosen(number: int, names: tuple[str, ...], pair: tuple[str, str] | None) -> tuple[int, int]:
    """The contestants whose votes are written, the lower number first. Raises UsageError where they are not two."""
    if pair is None:
        if len(names) > 2:
            raise UsageError(
                f"comparison {number} has {len(names)} contestants ({', '.join(names)}), and a file of annotations holds "
                f"one pair; give one, as in --pair '{names[0]}' '{names[1]}', and a file to each"
            )
        return (0, 1)
    first, second = sorted(_contestant(number, names, name) for name in pair)
    if first == second:
        raise UsageError(f"--pair: '{pair[0]}' is given twice; give two contestants of {', '.join(names)}")
    return first, second
