"""Rows that are longer than train.max_length: counted, named, and an error where they are too many.

An answer that does not fit is cut at its end, its stop token kept. A prompt that leaves no room for an answer takes its row
out. Both count as over-length; above data.max_cut_share of all rows they are an error, since what a model learns from cut
answers is to stop early.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pacos.data import Example
from pacos.errors import DataError
from pacos.prompts import Rendered, RowTable
from pacos.recipes import Recipe

NAMED = 5
"""Rows named in a message before it says how many more there are."""


def check_lengths(examples: Sequence[Example], rows: RowTable, recipe: Recipe) -> list[str]:
    """A note on the rows that are cut or left out, of all sides of the split together.

    Raises DataError where they are too many, or where a row has no token that carries loss.
    """
    mute = [examples[i] for i in np.flatnonzero(rows.fits & (rows.num_targets == 0)).tolist()]
    if mute:
        raise DataError(
            f"{recipe.data.path}: {len(mute)} rows have nothing to learn from; give them an answer, or leave them out",
            [f"{place(example)}: no token of it carries loss" for example in mute],
        )
    long = np.flatnonzero((rows.cut > 0) | ~rows.fits)
    if not len(long):
        return []
    over = [f"{place(examples[i])}: {_what(rows[i])}" for i in long.tolist()]
    message = _count(rows, len(over), recipe.train.max_length)
    share, allowed = len(over) / len(rows), recipe.data.max_cut_share
    if share > allowed:
        raise DataError(
            f"{message}.\n  More than data.max_cut_share={allowed:g} allows: raise train.max_length, "
            f"or allow it with --set data.max_cut_share={share + 0.005:.2f}",
            over,
        )
    return [f"{message}: {'; '.join(some(over))}"]


def _what(row: Rendered) -> str:
    if not row.fits:
        return f"left out, its prompt leaves no room for an answer ({len(row.ids)} tokens in all)"
    return f"{row.cut} tokens cut"


def _count(rows: RowTable, over: int, max_length: int) -> str:
    return (
        f"{over} of {len(rows)} rows ({over / len(rows):.1%}) are longer than train.max_length={max_length}; "
        f"{rows.cut.sum()} tokens are cut from the ends of their answers, the stop token kept"
    )


def place(example: Example) -> str:
    """Where a row is from, and its id."""
    return f"{example.source or 'row'} ({example.id})"


def some(lines: Sequence[str]) -> list[str]:
    """The first few, and how many more there are."""
    more = [f"and {len(lines) - NAMED} more"] if len(lines) > NAMED else []
    return [*lines[:NAMED], *more]
