"""`pacos export card`: the model card, and the way to the hub, which asks before anything leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pacos.cli.show import out, say, size


def card(
    folder: Annotated[Path, typer.Argument(help="folder of an export, or of a run")],
    push: Annotated[str, typer.Option("--push", help="hub repository, OWNER/NAME")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run/--no-dry-run", help="say what would be sent, and send nothing")
    ] = True,
) -> None:
    """Print the card; with --push, what an upload would send, and with --no-dry-run send it."""
    from pacos.export.push import planned
    from pacos.export.push import push as send

    print(text_of(folder), end="")
    if not push:
        return
    upload = planned(folder, push)
    for name, num_bytes in upload.files:
        say(f"{size(num_bytes):>10}  {name}")
    total = size(sum(num_bytes for _, num_bytes in upload.files))
    if dry_run:
        say(f"would send {len(upload.files)} files, {total}, to {push} (private); with --no-dry-run it does")
        return
    out().print(send(folder, upload), markup=False)


def text_of(folder: Path) -> str:
    """The card of an export from its export.json, of a run from its record. Raises UserError where it is neither."""
    from pacos.export.card import export_card
    from pacos.export.origin import EXPORT, read_export
    from pacos.training.card import model_card
    from pacos.training.record import read_record

    if (folder / EXPORT).is_file():
        return export_card(read_export(folder))
    return model_card(read_record(folder))
