"""`pacos train RECIPE --show-rows N`: rows as the model will see them.

The text with what carries loss in another colour, the ids, and beside them the ids that serving would send for the same
prompt: up to the answer they must be the same, and the first difference would be marked.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rich.text import Text

from pacos.cli.show import out, safe
from pacos.errors import GateError

if TYPE_CHECKING:
    from pacos.prompts import Rendered, Renderer
    from pacos.training import Prepared

LOSS, PLAIN = "bold green", "dim"


def print_rows(prepared: Prepared, number: int) -> None:
    """Print the first rows. Raises GateError where serving would send other ids than training saw."""
    console, rows = out(), prepared.train
    console.print(Text.assemble("dim: prompt, no loss; ", ("green: carries loss", LOSS)))
    wrong = []
    for example, rendered in list(zip(rows.examples, rows.rendered, strict=True))[:number]:
        served = prepared.renderer.render_prompt(example)
        console.rule(f"{example.id}  {example.source}  {len(rendered.ids)} tokens, {sum(rendered.loss_mask)} with loss")
        console.print(row_text(rendered, prepared.renderer))
        console.print(Text.assemble("train ", ids_text(rendered)))
        at = first_difference(rendered.ids[: len(served)], served)
        console.print(f"serve {' '.join(map(str, served))}", markup=False)
        if at is None:
            console.print(f"      the same {len(served)} ids", style="green")
        else:
            console.print(
                f"      first difference at token {at}: {rendered.ids[at]} at training, {served[at]} at serving",
                style="bold red",
            )
            wrong.append(example.id)
    if wrong:
        raise GateError(f"serving would send other ids than training: rows {', '.join(wrong)}")


def row_text(rendered: Rendered, renderer: Renderer) -> Text:
    """The decoded row; runs of equal mask are decoded together, so that characters of several tokens stay whole."""
    text = Text()
    for carries_loss, run in groupby(zip(rendered.ids, rendered.loss_mask, strict=True), key=lambda pair: pair[1]):
        text.append(safe(renderer.show([id for id, _ in run])), style=LOSS if carries_loss else PLAIN)
    return text


def ids_text(rendered: Rendered) -> Text:
    text = Text()
    for id, carries_loss in zip(rendered.ids, rendered.loss_mask, strict=True):
        text.append(f"{id} ", style=LOSS if carries_loss else PLAIN)
    return text


def first_difference(trained: tuple[int, ...], served: tuple[int, ...]) -> int | None:
    """Position of the first id that differs, or of the first that only one of them has."""
    pairs = zip(trained, served, strict=False)
    differing = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
    return differing if differing is not None or len(trained) == len(served) else min(len(trained), len(served))
