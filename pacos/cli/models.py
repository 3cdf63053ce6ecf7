"""`pacos models`: the models that pacos knows by name; `pacos models fetch NAME` gets one into the cache.

Any other base needs no fetching: a hub id, a folder or a .gguf file is named in the recipe as it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pacos.cli.show import out, say, size
from pacos.models import catalog

STEPS = 4
"""Lines that a download prints."""

app = typer.Typer(help="List the models that pacos knows by name, and fetch them.", rich_markup_mode=None)
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for programs")]


@app.callback(invoke_without_command=True)
def models(context: typer.Context, as_json: AsJson = False) -> None:
    """The models that pacos knows by name: size, licence, and whether they are in the cache."""
    if context.invoked_subcommand is None:
        list_models(as_json)


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """The models that pacos knows by name: size, licence, and whether they are in the cache."""
    rows = [describe(entry) for entry in catalog.ENTRIES.values()]
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        out().print(as_text(row), markup=False)


@app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="a name that `pacos models` lists")],
    as_json: AsJson = False,
) -> None:
    """Download a model, check it, and keep it ready in the cache; one that is there and whole is left as it is."""
    catalog.fetch(name, FetchLines())
    row = describe(catalog.find_entry(name))
    if as_json:
        print(json.dumps(row))
    else:
        out().print(f"{name} is ready in {row['folder']} ({size(row['bytes'])})", markup=False)


class FetchLines:
    """Progress as a few plain lines: each stage once, a download at each quarter."""

    def __init__(self) -> None:
        self.last = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        quarter = done * STEPS // total * 100 // STEPS if total else 0
        line = f"{what} {size(total)}: {quarter} %" if total else what
        if line != self.last:
            self.last = line
            say(line)


def describe(entry: catalog.Entry) -> dict[str, Any]:
    """What is known of a model, for --json; `bytes` is what it takes in the cache, 0 where it is not there."""
    folder = catalog.folder_of(entry)
    return {
        "name": entry.name,
        "parameters": entry.num_parameters,
        "licence": entry.licence,
        "download_bytes": entry.wheel.size,
        "hub": entry.hub,
        "state": catalog.state(entry),
        "folder": str(folder),
        "bytes": sum(path.stat().st_size for path in files(folder)),
        "source": catalog.source_of(entry),
    }


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def as_text(row: dict[str, Any]) -> str:
    here = {
        "cached": f"in {row['folder']} ({size(row['bytes'])}, from {row['source']})",
        "damaged": f"damaged in {row['folder']}; get it again with: pacos models fetch {row['name']}",
        "not fetched": f"not fetched; {size(row['download_bytes'])} to download, on first use or with: "
        f"pacos models fetch {row['name']}",
    }[row["state"]]
    return f"{row['name']}\n  {row['parameters'] / 1e6:.1f} M parameters, {row['licence']}, {row['hub']}\n  {here}"
