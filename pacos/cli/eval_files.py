"""What an evaluation leaves behind: eval.json, report.html and report.md in a folder, and an entry in the ledger."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacos.errors import UsageError
from pacos.workspace import FILE, find_workspace

if TYPE_CHECKING:
    from pacos.evaluation import Evaluation
    from pacos.evaluation.ledger import Entry, Subject
    from pacos.evaluation.pairwise import Told
    from pacos.evaluation.suites.results import SuiteResult

FILES = ("eval.json", "report.html", "report.md")


def write_evaluation(evaluation: Evaluation, folder: Path, workspace: Path | None = None) -> Path:
    """The files of `folder` and the entry of the ledger."""
    write_files(evaluation, folder)
    keep(evaluation, workspace or find_workspace(None))
    return folder


def write_files(evaluation: Evaluation, folder: Path) -> None:
    """eval.json and the reports. An earlier evaluation of the folder is kept under earlier/N."""
    from pacos.evaluation import markdown_table, write_report

    if (folder / FILES[0]).exists():
        set_aside(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_report(evaluation, folder / "report.html")
    (folder / "report.md").write_text(markdown_table(evaluation), encoding="utf-8", errors="replace")
    (folder / "eval.json").write_text(json.dumps(evaluation.to_json(), indent=1) + "\n", encoding="utf-8")


def keep(evaluation: Evaluation, workspace: Path) -> int:
    """The evaluation's number in the ledger."""
    from pacos.evaluation.ledger import add_evaluation, open_ledger

    with open_ledger(workspace) as ledger:
        return add_evaluation(ledger, entry_of(evaluation), evaluation)


def with_comparisons(evaluation: Evaluation, workspace: Path) -> Evaluation:
    """The evaluation with the finished blind comparisons of its two models."""
    sides = entry_of(evaluation).sides
    return replace(evaluation, comparisons=comparisons_in(workspace, sides["base"], sides["tuned"]))


def comparisons_in(workspace: Path, base: Subject, tuned: Subject) -> tuple[Told, ...]:
    """Finished blind comparisons of two models that the workspace has, the newest first."""
    from pacos.evaluation.pairwise import comparisons_of, open_comparisons

    if not (workspace / FILE).exists():
        return ()
    with open_comparisons(workspace) as store:
        return comparisons_of(store, base, tuned)


def check_ledger(workspace: Path) -> None:
    """Raises, before anything is computed, where the ledger could not be written."""
    from pacos.evaluation.ledger import open_ledger

    with open_ledger(workspace):
        pass


def entry_of(evaluation: Evaluation | SuiteResult) -> Entry:
    """The ledger's head of an evaluation, from the record that `pacos eval` makes."""
    from pacos.evaluation.ledger import Entry, Subject

    record, told = evaluation.record, evaluation.to_json()
    base = record["base"]
    weights = {"base": base["name"], "revision": base["revision"], "weights_sha256": base["weights_sha256"]}
    contract = record["contract_sha256"]
    return Entry(
        kind="eval",
        name=record["run"],
        created=record["date"],
        verdict=evaluation.headline,
        sides={
            "base": Subject(base["name"], **weights, contract_sha256=contract),
            "tuned": Subject(
                record["run"],
                **weights,
                adapter=record["adapter"],
                adapter_sha256=record["adapter_sha256"],
                contract_sha256=contract,
            ),
        },
        data=record["data"],
        dataset_sha256=record["dataset_sha256"],
        split_sha256=record["split_sha256"],
        sampling=record["sampling"],
        seed=record["seed"],
        versions=record["libraries"],
        record=record,
        result={key: value for key, value in told.items() if key not in ("rows", "record")},
    )


def adapter_sha256(folder: Path) -> str:
    """Names the weights that training made: the hashes of a run's weight files, from its manifest."""
    entries = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
    lines = sorted(f"{name} {entry['sha256']}\n" for name, entry in entries.items() if name.endswith(".safetensors"))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def contract_sha256(contract: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(contract, sort_keys=True).encode()).hexdigest()


def data_sha256(data: str | Path) -> str:
    """Of a file's contents, of a folder's files in order of their names, and of anything else (a hub's name) its name."""
    path, digest = Path(data), hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path] if path.is_file() else []
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest() if files else hashlib.sha256(str(data).encode()).hexdigest()


def refuse_unwritable(folder: Path) -> None:
    """Raises UsageError where the result could not be written, before anything is computed."""
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not there.is_dir():
        raise UsageError(f"--out {folder}: {there} is a file; give a folder")
    if not os.access(there, os.W_OK):
        raise UsageError(f"{folder}: {there} cannot be written to; give another folder with --out")


def set_aside(folder: Path) -> None:
    """Move the last evaluation's files to earlier/N."""
    earlier = folder / "earlier"
    earlier.mkdir(exist_ok=True)
    place = earlier / str(1 + max((int(p.name) for p in earlier.iterdir() if p.name.isdecimal()), default=0))
    place.mkdir()
    for name in FILES:
        if (folder / name).exists():
            (folder / name).rename(place / name)
