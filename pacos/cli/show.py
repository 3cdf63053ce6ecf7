"""How the command line looks: lines for people on stderr or stdout, bars on a terminal, plain lines off it."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pacos.directions import show_directions

PLAIN_LINES = 20
"""Lines of progress that a run prints off a terminal."""


def out() -> Console:
    """Results, on stdout. Made anew each time, so that it follows a redirected stream."""
    return Console(highlight=False, soft_wrap=True)


def err() -> Console:
    """What is going on, on stderr."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters but tab and line end: what a terminal would act on."""


def safe(text: str) -> str:
    """Text of a model or of data, without what a terminal would act on, and with signs of direction made visible."""
    return show_directions(UNSAFE.sub("", text))


def say(text: str) -> None:
    err().print(text, style="dim", markup=False)


def note(text: str) -> None:
    err().print(text, style="yellow", markup=False)


def tokens(number: float) -> str:
    """1234 -> 1,234; 12,345,678 -> 12.3 M"""
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number:,.0f}"


def size(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:.2f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.0f} MiB"


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def print_table(console: Console, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns under a bold header, the first to the left; never cut, however narrow the terminal."""
    widths = [max(map(cell_len, column)) for column in zip(header, *rows, strict=True)]
    for number, row in enumerate([header, *rows]):
        cells = [set_cell_size(row[0], widths[0])]
        cells += [" " * (width - cell_len(cell)) + cell for cell, width in zip(row[1:], widths[1:], strict=True)]
        console.print("  ".join(cells), markup=False, style="bold" if number == 0 else "")


class Bar:
    """One task's progress: a bar on a terminal, about twenty lines off it."""

    def __init__(self, label: str):
        self.label, self.started, self.printed = label, time.monotonic(), -1
        self.label_started = self.started
        self.live = sys.stderr.isatty()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=err(),
            transient=True,
        )
        self.task = self.progress.add_task(label, total=None, detail="")

    def update(self, done: int, total: int, detail: str = "", label: str = "") -> None:
        if label and label != self.label:
            self.label, self.label_started = label, time.monotonic()
        if self.live:
            self.progress.update(self.task, completed=done, total=total, detail=detail, description=self.label)
            return
        twentieth = done * PLAIN_LINES // max(1, total)
        if twentieth != self.printed or done == total:
            self.printed = twentieth
            now = time.monotonic()
            left = f", {duration((now - self.label_started) / done * (total - done))} left" if 0 < done < total else ""
            say(f"{self.label} {done}/{total} {detail} {duration(now - self.started)}{left}")


@contextmanager
def bar(label: str) -> Iterator[Bar]:
    shown = Bar(label)
    if not shown.live:
        yield shown
        return
    with shown.progress:
        yield shown


def plain(value: Any) -> Any:
    """A value for --json: dataclasses and paths as plain types."""
    import dataclasses
    from pathlib import Path

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value
