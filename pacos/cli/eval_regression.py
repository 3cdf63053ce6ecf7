"""`pacos eval --add-regression`: a prompt that broke, out of the ledger or as given, is asked from then on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pacos.cli.show import out, safe, say
from pacos.errors import UsageError

REGRESSIONS = "regressions.yaml"
_ENTRY = re.compile(r"(\d+):(\S+)")

AddRegression = Annotated[
    str | None,
    typer.Option(
        help=f"save a prompt that broke in {REGRESSIONS} and end: EVALUATION:ROW of the ledger, or the prompt itself"
    ),
]
Must = Annotated[
    list[str] | None, typer.Option(help="with --add-regression: KEY=VALUE, as in contains=Paris; more than once")
]
MustNot = Annotated[list[str] | None, typer.Option(help="with --add-regression: the same, of what must not be")]


def save_regression(what: str, must: Sequence[str], must_not: Sequence[str], workspace: Path) -> None:
    """Save a prompt, of the ledger or given, in the workspace's file of regressions."""
    from pacos.evaluation.ledger import open_ledger
    from pacos.evaluation.suites.add import add_prompt, from_ledger, given
    from pacos.evaluation.suites.keep import find_prompt

    path = workspace / REGRESSIONS
    if entry := _ENTRY.fullmatch(what):
        with open_ledger(workspace, to_read=True) as ledger:
            prompt = find_prompt(ledger, int(entry[1]), entry[2])
        added = add_prompt(path, from_ledger(prompt, int(entry[1]), must, must_not))
    elif must or must_not:
        added = add_prompt(path, given(what, must, must_not))
    else:
        raise UsageError("--add-regression: what must its answer be? give --must or --must-not, as in contains=Paris")
    out().print(safe(f"saved '{added.id}' in {path}: {added.case.expected}"), markup=False)
    say("run them with: pacos eval RUN --suite regression")
