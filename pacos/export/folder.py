"""The folder of an export: whole or not there, with export.json, which says what it is and holds its receipts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacos.errors import UsageError
from pacos.models.artifact import sweep, whole_folder
from pacos.training.record import environment

if TYPE_CHECKING:
    from pacos.export.origin import Origin


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A draft that becomes `out`. Raises UsageError where there is something already.

    Drafts that killed exports left beside it are removed.
    """
    if out.exists():
        raise UsageError(f"{out}: is there already, and nothing is overwritten; give another --out, or remove it")
    sweep(out.parent)
    with whole_folder(out) as draft:
        yield draft


def write_export(
    folder: Path, kind: str, origin: Origin, about: dict[str, Any], receipts: Sequence[dict[str, Any]], **more: Any
) -> dict[str, Any]:
    """Write export.json; returns it. The receipts of the origin come first: the chain from the live model on."""
    where = environment()
    tree = {
        "format": 1,
        "kind": kind,
        "name": origin.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "about": about,
        **more,
        "receipts": [*origin.receipts, *receipts],
        "libraries": where.libraries,
        "hardware": where.hardware,
        "contract": origin.contract,
    }
    (folder / "export.json").write_text(json.dumps(tree, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return tree
