"""The command line: verbs, and the one place where errors are printed and the process ends.

Exit codes: 0 done, 1 failed, 2 asked wrongly, 3 bad data, 4 out of memory or disk, 5 a gate did not pass,
6 cannot be told yet, 130 and 143 on signals, after saving.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from pacos import __version__
from pacos.cli import chat, compare, curate, eval, explore, export, generate, models, plan, quickstart, train
from pacos.errors import ResourceError, UserError, is_out_of_memory

app = typer.Typer(
    name="pacos",
    help="Make a small instruction-following model of your own: fine-tune it, prove what changed, talk to it.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("quickstart")(quickstart.quickstart)
app.command("generate")(generate.command)
app.add_typer(curate.app, name="curate")
app.command("explore")(explore.explore)
app.command("train")(train.train)
app.command("plan")(plan.plan)
app.add_typer(eval.app, name="eval")
app.add_typer(compare.app, name="compare")
app.command("chat")(chat.chat)
app.add_typer(export.app, name="export")
app.add_typer(models.app, name="models")

EXTRAS = {
    "huggingface_hub": "hub",
    "pyarrow": "hub",
    "httpx2": "generate",
    "datasette": "studio",
    "uvicorn": "studio",
}
"""Which extra brings a package; those that are not here come with `train`."""


def _version(asked: bool) -> None:
    if asked:
        print(f"pacos {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="print the version", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


def run() -> None:
    """The console script. Ends the process."""
    quieten()
    sys.exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit code. What a person can mend is printed as it is, without a traceback."""
    try:
        code = app(args=arguments, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except UserError as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("stopped", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        return _fail(_missing(error), 2)
    except OSError as error:
        return _fail(f"{error.filename or 'this machine'}: {error.strerror or error}", ResourceError.exit_code)
    except Exception as error:
        if is_out_of_memory(error):
            return _fail("out of memory; try a smaller batch, or shorter answers", ResourceError.exit_code)
        return _shown(error)


def _shown(error: Exception) -> int:
    """The exit code of a command line that does not parse, once it has said why. Anything else is ours to mend."""
    show = getattr(error, "show", None)  # click's own exceptions, which typer brings along under a private name
    if show is None:
        raise error
    show()
    return error.exit_code  # type: ignore[attr-defined]


def _missing(error: ModuleNotFoundError) -> str:
    """A dependency of an extra is not installed: which extra brings it."""
    if (error.name or "").startswith("pacos"):
        raise error
    extra = EXTRAS.get((error.name or "").partition(".")[0], "train")
    return f"{error.name} is not installed; run: pip install 'pacos[{extra}]'"


def _fail(message: str, code: int) -> int:
    print(f"pacos: {message}", file=sys.stderr)
    return code


def quieten() -> None:
    """Progress bars and advice of the libraries below are not for the reader of a verb's output."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
