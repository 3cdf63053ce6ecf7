"""A person's session in the terminal: a question, a key, the next question. Every vote is kept before the next is shown.

Off a terminal each line of stdin is a key, and `c TEXT` a comment, so a session can be driven by a script.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pacos.cli.show import err, note, safe, say

if TYPE_CHECKING:
    from pacos.evaluation.pairwise import Choice, Comparisons, Shown

KEYS = "\u2190 or l left   \u2192 or r right   t tie   b both bad   s skip   c comment   u undo   q quit"
CHOICES: dict[str, Choice] = {
    "\x1b[D": "left", "\x1bOD": "left", "l": "left", "1": "left",
    "\x1b[C": "right", "\x1bOC": "right", "r": "right", "2": "right",
    "t": "tie", "=": "tie", "b": "both bad", "s": "skip",
}  # fmt: skip
QUITS = ("q", "\x04", "")
SIDE_BY_SIDE = 100
"""Columns of a terminal from which the answers stand beside each other."""

Read = Callable[[], str]


def vote(store: Comparisons, number: int, rater: str) -> bool:
    """Questions until all are answered (True), or the rater quits (False)."""
    from pacos.evaluation.pairwise import next_question

    with keys() as (read, read_line):
        while (shown := next_question(store, number, rater)) is not None:
            left = f"{shown.done} of {shown.total} answered, and kept; go on with: pacos compare vote {number}"
            try:
                show_question(shown)
                if answer(store, number, rater, shown, read, read_line):
                    continue
            except KeyboardInterrupt:
                say(left)
                raise
            say(left)
            return False
    return True


def answer(store: Comparisons, number: int, rater: str, shown: Shown, read: Read, read_line: Read) -> bool:
    """One vote, or one taken back; False where the rater quits."""
    from pacos.evaluation.pairwise import cast, undo

    comment, began = "", time.monotonic()
    while True:
        key = read()
        word, _, rest = key.partition(" ")
        if word in CHOICES:
            seconds = time.monotonic() - began
            cast(store, number, rater, shown.number, CHOICES[word], comment=comment, seconds=seconds)
            say(f"{CHOICES[word]}")
            return True
        if word in QUITS:
            return False
        if word == "u":
            if undo(store, number, rater) is not None:
                say("the last vote is taken back")
                return True
            note("there is no vote to take back")
        elif word == "c":
            comment = rest.strip() or read_line()
            say("comment kept; now the vote")
        else:
            say(KEYS)


def show_question(shown: Shown) -> None:
    console = Console(stderr=True, highlight=False)
    console.rule(f"question {shown.done + 1} of {shown.total}", style="dim")
    console.print(Text(safe(shown.instruction), style="bold"))
    if shown.input:
        console.print(Text(safe(shown.input)))
    panels = [Panel(Text(safe(text)), title=side) for side, text in (("left", shown.left), ("right", shown.right))]
    if console.width >= SIDE_BY_SIDE:
        both = Table.grid(expand=True)
        both.add_column(ratio=1)
        both.add_column(ratio=1)
        both.add_row(*panels)
        console.print(both)
    else:
        console.print(Group(*panels))
    console.print(Text(KEYS, style="dim"))


@contextmanager
def keys() -> Iterator[tuple[Read, Read]]:
    """How keys and lines are read: from the terminal as they are pressed, or line by line where there is none."""
    if not sys.stdin.isatty():
        lines = iter(sys.stdin)
        yield (lambda: next(lines, "q\n").strip() or "?"), (lambda: next(lines, "").strip())
        return
    try:
        import termios
        import tty
    except ImportError:  # no such terminal here: keys are followed by Enter
        yield (lambda: input("> ").strip() or "?"), (lambda: input("comment: "))
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def typed_line() -> str:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        err().print("comment: ", end="")
        try:
            return sys.stdin.readline().strip()
        finally:
            tty.setcbreak(fd, termios.TCSADRAIN)

    tty.setcbreak(fd)
    try:
        yield (lambda: pressed(fd)), typed_line
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def pressed(fd: int) -> str:
    """One key; arrows come as an escape and two letters more. Empty where the terminal is gone."""
    import select

    key = os.read(fd, 1)
    while key.startswith(b"\x1b") and len(key) < 3 and select.select([fd], [], [], 0.05)[0]:
        more = os.read(fd, 1)
        if not more:
            break
        key += more
    return key.decode("utf-8", "replace")
