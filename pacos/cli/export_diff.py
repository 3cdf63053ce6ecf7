"""`pacos export diff` and `recover`: a tuned model without its base's weights, and back, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pacos.cli.show import out


def diff(
    tuned: Annotated[Path, typer.Argument(help="folder of a merged model")],
    base: Annotated[str, typer.Option("--base", help="the base model: hub id, folder or known name")],
    target: Annotated[Path, typer.Option("--out", help="folder to make")],
) -> None:
    """The difference of a tuned model to its base, with a checksum that proves its recovery."""
    from pacos.export.weight_diff import write_diff

    tree = write_diff(tuned, base, target)
    out().print(f"written to {target}; recovered it has sha256 {tree['tuned_sha256']}", markup=False)
    out().print(f"next: pacos export recover {target} --base {base} --out FOLDER", markup=False)


def recover(
    folder: Annotated[Path, typer.Argument(help="folder of a difference")],
    target: Annotated[Path, typer.Option("--out", help="folder to make")],
    base: Annotated[str, typer.Option("--base", help="the base model, where it is elsewhere than at its making")] = "",
) -> None:
    """The tuned model from a difference and its base; refused where a single bit would be another."""
    from pacos.export.weight_diff import recover as make

    tree = make(folder, base, target)
    out().print(f"written to {target}; sha256 {tree['tuned_sha256']} as at its making", markup=False)
