"""Several processes behind one command: `--nproc N` starts them, and they speak with one voice.

    pacos train RECIPE --nproc 2
      └ torchrun's agent, in this process
          ├ pacos train RECIPE   RANK=0   prints, writes
          └ pacos train RECIPE   RANK=1   silent, but for an error of its own

Ctrl-C and SIGTERM go on to the processes, which save and end; the exit code is theirs.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import typer

from pacos.cli.show import note
from pacos.errors import UserError

CODES = "PACOS_EXIT_CODES"
"""Folder in which the processes of `launch` leave their exit codes: the agent keeps them to itself where a signal ends it."""
SAVING_SECONDS = "600"
"""How long processes that were asked to stop may take to end their step and save."""


def launch(nproc: int, arguments: Sequence[str], folder: Path) -> int:
    """Run `pacos ARGUMENTS`, which trains the run `folder`, in `nproc` processes of this machine, as `torchrun --standalone`
    does. Returns the exit code."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory(prefix="pacos-") as codes, environment(nproc, codes):
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=nproc,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            run_id=f"pacos-{os.getpid()}",
            max_restarts=0,
        )
        try:
            elastic_launch(config, sys.executable)("-m", "pacos", *arguments)
            return 0
        except SignalException as error:
            return exit_code(Path(codes), nproc, 128 + error.sigval)
        except ChildFailedError as error:
            ended = {rank: -failure.exitcode for rank, failure in sorted(error.failures.items())}
            # SIGTERM is the agent's own, to those that are left
            killed = {rank: by for rank, by in ended.items() if by > 0 and by != signal.SIGTERM}
            for rank, by in killed.items():
                note(f"process {rank} of {nproc} was ended by {signal.Signals(by).name}")
            if killed and saved_recipe(folder).is_file():
                note(f"what was saved is kept; continue with: {command_to_continue(folder, nproc)}")
            return exit_code(Path(codes), nproc, 1)


def saved_recipe(folder: Path) -> Path:
    """The recipe of the unfinished run `folder`."""
    from pacos.training.record import partial_of

    return partial_of(folder) / "recipe.yaml"


def command_to_continue(folder: Path, nproc: int) -> str:
    """What to type for the run `folder` to go on in as many processes."""
    again = f" --nproc {nproc}" if nproc > 1 else ""
    return f"pacos train {saved_recipe(folder)} --out {folder} --resume{again}"


@contextmanager
def environment(nproc: int, codes: str) -> Iterator[None]:
    """What the processes find in their environment: the cores divided among them, and where to leave their exit codes.

    The agent's own account of what they say already is not printed meanwhile.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    before = dict(os.environ)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // nproc)))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", SAVING_SECONDS)
    os.environ[CODES] = codes
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        os.environ.clear()
        os.environ.update(before)


def exit_code(folder: Path, nproc: int, otherwise: int) -> int:
    """What the processes agree on, or the code of the one that says more than that something failed."""
    codes = sorted(int(path.read_text(encoding="utf-8")) for path in folder.iterdir())
    if codes == [0] * nproc:
        return 0
    return next((code for code in codes if code > 1), otherwise)


@contextmanager
def one_voice() -> Iterator[None]:
    """Within, of several processes only the first prints; an error that all of them find is said once."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    from pacos.training.distributed import first_to_say, is_lost_peer

    try:
        with ExitStack() as stack:
            if os.environ["RANK"] != "0":
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(redirect_stdout(nowhere))
                stack.enter_context(redirect_stderr(nowhere))
            yield
        leave_code(0)
    except UserError as error:
        leave_code(error.exit_code)
        if not first_to_say(str(error)):
            raise typer.Exit(error.exit_code) from None
        raise
    except KeyboardInterrupt:
        leave_code(130)
        raise typer.Exit(130) from None
    except typer.Exit as ending:
        leave_code(ending.exit_code)
        raise
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        raise typer.Exit(1) from None  # the one that is gone has said why, or its launcher does


def started_by_nproc() -> bool:
    return CODES in os.environ


def leave_code(code: int) -> None:
    if folder := os.environ.get(CODES):
        (Path(folder) / os.environ["RANK"]).write_text(str(code), encoding="utf-8")
