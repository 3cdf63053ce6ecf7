"""How a generation is shown: a live table on a terminal, about twenty plain lines off it, and the summary at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.table import Table
from rich.text import Text

from pacos.cli.show import PLAIN_LINES, duration, err, out, safe, say, tokens

if TYPE_CHECKING:
    from pacos.self_instruct.loop import Progress

REFRESH_SECONDS = 0.25
QUIET_SECONDS = 30.0
"""Off a terminal, a line at least this often."""


def seconds_left(progress: Progress) -> float | None:
    """At the pace of this process so far; None where that cannot be told."""
    if progress.wanted is None or not progress.accepted_here:
        return None
    return progress.seconds / progress.accepted_here * max(0, progress.wanted - progress.accepted)


def yield_of(progress: Progress) -> float:
    """Share of the tasks read that were accepted."""
    judged = progress.accepted + sum(progress.rejected.values())
    return progress.accepted / judged if judged else 0.0


def cells(progress: Progress) -> list[tuple[str, str]]:
    """What is told, as (name, value)."""
    rejected = ", ".join(f"{reason} {n:,}" for reason, n in progress.rejected.most_common())
    left = seconds_left(progress)
    of = f" of {progress.wanted:,}" if progress.wanted is not None else ""
    return [
        ("accepted", f"{progress.accepted:,}{of}"),
        ("rejected", rejected or "none"),
        ("yield", f"{yield_of(progress):.0%}"),
        (
            "requests",
            f"{progress.requests:,} done, {progress.in_flight} under way, {progress.failures:,} attempts failed",
        ),
        ("spent", f"{tokens(progress.spent.tokens)} tokens, {dollars(progress.spent.dollars)}"),
        ("time", duration(progress.seconds) + (f", {duration(left)} left" if left else "")),
    ]


def dollars(amount: float) -> str:
    return f"${amount:.2f}" if amount >= 1 or amount == 0 else f"${amount:.4f}"


def as_table(progress: Progress) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in cells(progress):
        table.add_row(Text(name, style="bold"), Text(value))
    return table


def as_line(progress: Progress) -> str:
    return "; ".join(f"{name} {value}" for name, value in cells(progress))


class Shown:
    """Progress as it comes in. `live` where stderr is a terminal."""

    def __init__(self, live: Live | None):
        self.live, self.printed, self.at = live, -1, time.monotonic()

    def update(self, progress: Progress) -> None:
        now = time.monotonic()
        if self.live is not None:
            if now - self.at >= REFRESH_SECONDS:
                self.at = now
                self.live.update(as_table(progress), refresh=True)
            return
        twentieth = progress.accepted * PLAIN_LINES // max(1, progress.wanted or progress.accepted or 1)
        if twentieth != self.printed or now - self.at >= QUIET_SECONDS:
            self.printed, self.at = twentieth, now
            say(as_line(progress))


@contextmanager
def table() -> Iterator[Shown]:
    if not sys.stderr.isatty():
        yield Shown(None)
        return
    with Live(console=err(), auto_refresh=False, transient=True) as live:
        yield Shown(live)


def summary(progress: Progress, ending: str) -> dict[str, Any]:
    """The result of a run, for --json."""
    return {
        "ending": ending,
        "accepted": progress.accepted,
        "rejected": dict(progress.rejected),
        "yield": round(yield_of(progress), 4),
        "requests": progress.requests,
        "failed_attempts": progress.failures,
        "tokens": progress.spent.tokens,
        "dollars": round(progress.spent.dollars, 6),
        "seconds": round(progress.seconds, 3),
    }


def print_tasks(tasks: Sequence[Mapping[str, Any]]) -> None:
    """Tasks of a log's records, with what became of them."""
    console = out()
    for task in tasks:
        near = ", nearest {0[0]} at {0[1]:.2f}".format(task["nearest"][0]) if task.get("nearest") else ""
        console.rule(style="dim")
        console.print(
            f"{task['verdict']}{near}", markup=False, style="green" if task["verdict"] == "accepted" else "yellow"
        )
        for name in ("instruction", "input", "output"):
            if task[name]:
                console.print(f"{name.capitalize()}: {safe(task[name])}", markup=False)
