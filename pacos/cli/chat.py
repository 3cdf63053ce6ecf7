"""`pacos chat`: talk to a tuned model in the terminal.

Answers go to stdout as they are written; everything else that is said goes to stderr. Off a terminal each line of stdin
is a message, so `echo "Name a colour." | pacos chat` prints an answer and ends.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from pacos.cli.chat_voices import Voices, open_voices
from pacos.cli.eval import chosen
from pacos.cli.show import note, safe, say
from pacos.errors import UsageError, UserError, did_you_mean

if TYPE_CHECKING:
    from pacos.inference import ChatSession

ENDS = ("quit", "exit", "q")
HELP = """/reset          forget the conversation
/system TEXT    use another system message; without TEXT, the template's own
/adapter NAME   go on with another run of the same base; without NAME, with the base itself
/help           this
quit, exit, q or Ctrl-D ends; Ctrl-C stops the answer under way"""


def chat(
    run: Annotated[
        str | None, typer.Argument(help="folder or name of a run; the newest under runs/ if not given")
    ] = None,
    adapter_path: Annotated[
        str | None, typer.Option("--adapter-path", "--adapter_path", help="the same, as an option")
    ] = None,
    base: Annotated[
        bool, typer.Option("--base", help="talk to the run's base model, or to a model by its name")
    ] = False,
    system: Annotated[str, typer.Option(help="system message; the template's own if not given")] = "",
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token; 0.7 varies")] = 0.0,
    top_p: Annotated[
        float, typer.Option(help="draw from the likeliest tokens that together have this probability")
    ] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="longest answer, in tokens")] = 512,
    seed: Annotated[int, typer.Option(help="seed of what is drawn; the same words get the same answer")] = 0,
    stop: Annotated[
        list[str] | None, typer.Option(help="an answer ends before this text; may be given several times")
    ] = None,
) -> None:
    """Talk to the tuned model. Ends on quit, exit, q or Ctrl-D; /help lists the commands."""
    from pacos.inference import ChatSession, Sampling

    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed)
    texts = [refuse_empty(text) for text in stop or ()]
    voices = open_voices(chosen(run, adapter_path), base)
    voice = voices.first
    session = ChatSession(voice.engine, voice.renderer, sampling, system, texts)
    session.use(*voice.parts)
    talk(session, voices)


def refuse_empty(stop: str) -> str:
    if not stop:
        raise UsageError("--stop: a text is empty; give at least one character")
    return stop


def talk(session: ChatSession, voices: Voices) -> None:
    """The conversation on this process's terminal, or over its stdin and stdout."""
    live = sys.stdin.isatty()
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")
    if live:
        say(f"{voices.first.name}: say something; /help lists the commands, quit ends")
    converse(session, typed_lines() if live else iter(sys.stdin), live, voices)


def typed_lines() -> Iterator[str]:
    """Lines from the terminal, with the arrow keys where readline is there. Ctrl-C clears the line, twice ends."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    interrupted = False
    while True:
        try:
            line = input("> ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            note("\nCtrl-C once more ends")
            continue
        interrupted = False
        yield line


def converse(session: ChatSession, lines: Iterator[str], live: bool, voices: Voices | None = None) -> None:
    """Answer each line until one ends it. On a terminal a message that cannot be answered is told, elsewhere raised."""
    for line in lines:
        text = line.strip()
        if text.lower() in ENDS:
            return
        try:
            if text.startswith("/"):
                command(session, text, voices)
            elif text:
                answer(session, text, live)
        except UserError as error:
            if not live:
                raise
            note(str(error))


def command(session: ChatSession, text: str, voices: Voices | None = None) -> None:
    """One of the words with a slash."""
    word, _, rest = text.partition(" ")
    commands: dict[str, Callable[[], str]] = {
        "/reset": lambda: _reset(session),
        "/system": lambda: _system(session, rest.strip()),
        "/adapter": lambda: _adapter(session, voices, rest.strip()),
        "/help": lambda: HELP,
    }
    if word in commands:
        say(commands[word]())
    else:
        note(f"{word}: unknown command{did_you_mean(word, commands)}; known: {', '.join(commands)}")


def _adapter(session: ChatSession, voices: Voices | None, run: str) -> str:
    assert voices is not None
    voice = voices.find(run)
    session.use(*voice.parts)
    return f"{voice.name} answers from here on"


def _reset(session: ChatSession) -> str:
    session.reset()
    return "the conversation is forgotten"


def _system(session: ChatSession, text: str) -> str:
    session.set_system(text)
    return f"system message: {text}" if text else "system message: the template's own"


def answer(session: ChatSession, text: str, live: bool) -> None:
    """Print the answer as it is written. On a terminal Ctrl-C stops it; what was written stays in the conversation."""
    before = session.turns_left_out
    pieces = session.send(text)
    if session.turns_left_out and not before:
        note("the conversation has outgrown the model's context: the oldest turns are left out from here on")
    try:
        for piece in pieces:
            sys.stdout.write(safe(piece))
            sys.stdout.flush()
    except KeyboardInterrupt:
        if not live:
            raise
        note("\nstopped")
    finally:
        pieces.close()
        sys.stdout.write("\n")
        sys.stdout.flush()
