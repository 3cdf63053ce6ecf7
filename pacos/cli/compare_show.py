"""How a comparison's result is printed, and written as a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pacos.cli.show import out, print_table, safe
from pacos.errors import UsageError

if TYPE_CHECKING:
    from pacos.evaluation.pairwise import Told


def print_told(told: Told, as_json: bool) -> None:
    """The verdict first, then a table of pairs, then what it rests on; or all of it as JSON."""
    from pacos.evaluation.pairwise import tables

    if as_json:
        print(json.dumps(told.to_json()))
        return
    console = out()
    for line in told.headlines:
        console.print(safe(line), markup=False)
    for header, rows in (
        (tables.HEADER, tables.pair_rows(told.result)),
        (tables.RATING_HEADER, tables.rating_rows(told.result)),
    ):
        if rows:
            print_table(console, header, [tuple(map(safe, row)) for row in rows])
    for line in told.notes:
        console.print(safe(line), markup=False, style="dim")


def refuse_existing(path: Path | None) -> None:
    """Raises UsageError where a file would be overwritten."""
    if path is not None and path.exists():
        raise UsageError(f"{path}: exists; give another --out")


def write_page(told: Told, path: Path) -> None:
    from pacos.data import write_whole
    from pacos.evaluation.pairwise.page import comparison_page

    write_whole(path, comparison_page(told))
