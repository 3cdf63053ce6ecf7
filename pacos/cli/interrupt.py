"""Ctrl-C and SIGTERM ask a run to save and end; a second one ends it at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pacos.cli.show import note

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Asked:
    """Which signal asked to stop; none yet where `signal` is 0."""

    signal = 0

    @property
    def to_stop(self) -> bool:
        return self.signal != 0

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM, as shells report them."""
        return 128 + self.signal


@contextmanager
def unwound() -> Iterator[None]:
    """Within the block SIGTERM unwinds as Ctrl-C does, so that drafts are removed; exit code 143."""

    def end(number: int, _: Any) -> None:
        note("stopped")
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def interruptible() -> Iterator[Asked]:
    """Within the block the first signal only sets a flag."""
    asked = Asked()

    def ask(number: int, _: Any) -> None:
        if asked.to_stop:
            raise KeyboardInterrupt
        asked.signal = number
        note("stopping after this step, and saving; once more to end at once")

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
