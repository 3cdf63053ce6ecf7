"""`pacos export verify`: any export again, ours or another tool's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pacos.cli.session import run_or_model
from pacos.cli.show import out, print_table
from pacos.errors import GateError


def verify(
    path: Annotated[Path, typer.Argument(help="model or adapter folder, .gguf file, Modelfile, weight difference")],
    against: Annotated[str, typer.Option("--against", help="the run or model that it should be equal to")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="print the report as JSON")] = False,
) -> None:
    """Template, stops, BOS, missing or dead tensors, and parity; exit code 5 where a check fails."""
    from pacos.export.receipts import line
    from pacos.export.verify import verify as look

    report = look(path, run_or_model(against) if against else "")
    if as_json:
        print(json.dumps(report.to_tree()))
    else:
        print_table(out(), ["check", "verdict"], [[check.name, check.verdict] for check in report.checks])
        for check in report.checks:
            out().print(f"{check.name}: {check.found}", markup=False)
        for receipt in report.receipts:
            out().print(line(receipt.to_tree()), markup=False)
    if not report.passed:
        failed = ", ".join(check.name for check in report.checks if check.verdict == "failed")
        raise GateError(f"{path}: failed: {failed}")
