"""`pacos explore DATA`: a dataset in the browser, searched, faceted and queried, offline and read-only."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pacos.cli.show import note, out, say
from pacos.errors import UsageError

if TYPE_CHECKING:
    from pacos.studio.explore import Built

PORT = 8001
EVERYWHERE = ("0.0.0.0", "::")


def explore(
    data: Annotated[str, typer.Argument(help="starter, a file, a folder, or a hub dataset (owner/name)")],
    split: Annotated[Path | None, typer.Option(help="a split.json: its sides become a facet")] = None,
    findings: Annotated[
        Path | None, typer.Option(help="what pacos curate --findings wrote: its rules become a facet")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="rows read, at most", min=1)] = None,
    keep: Annotated[Path | None, typer.Option(help="write the SQLite database here, and leave it")] = None,
    host: Annotated[
        str, typer.Option(help="address to listen on; 0.0.0.0 shows the data to the network")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port to listen on; 0 takes a free one", min=0, max=65535)] = PORT,
    browser: Annotated[bool, typer.Option(help="open the page in the browser")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="print where it is as JSON, once it is ready")] = False,
) -> int:
    """Browse, search and query a dataset in the browser, offline. Ctrl-C ends it."""
    require("datasette", "uvicorn")
    listening = listen(host, port)
    built = open_sources(data, split, findings, limit, keep)
    url = address(host, listening.getsockname()[1])
    ready = {"url": url, "rows": built.about["rows"], "database": str(built.path), "reused": built.reused}
    line = f"{data}: {rows_of(built.about['rows'])} at {url}  (Ctrl-C ends)"
    with ended_by_signal() as ended:
        serve(built, host, listening, lambda: announce(url, json.dumps(ready) if as_json else line, browser))
    return 128 + ended[0] if ended else 0


def rows_of(number: int) -> str:
    """`1 row`, `52,002 rows`"""
    return f"{number:,} {'row' if number == 1 else 'rows'}"


def require(*modules: str) -> None:
    """Raises ModuleNotFoundError before anything is read, for what the site would need later."""
    for name in modules:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(name=name)


def listen(host: str, port: int) -> socket.socket:
    """A bound socket, before anything is read. Raises UsageError for a port in use and an address that is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    if sys.platform != "win32":
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()
    except OSError as error:
        listening.close()
        reason = error.strerror or str(error)
        raise UsageError(f"port {port} of {host}: {reason}; give another with --port (0 takes a free one)") from None
    return listening


def address(host: str, port: int) -> str:
    shown = "127.0.0.1" if host in EVERYWHERE else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/"


def open_sources(data: str, split: Path | None, findings: Path | None, limit: int | None, keep: Path | None) -> Built:
    """The database, from the cache or made. Says what was left out."""
    from pacos.models.catalog import cache_folder
    from pacos.studio.explore import Sources, open_database

    # Loading the site takes as long as the index, which another core makes.
    built = open_database(
        Sources(data, split, findings, limit),
        cache_folder() / "explore",
        keep,
        meanwhile=lambda: importlib.import_module("pacos.studio.explore.site"),
    )
    if built.about["skipped"]:
        note(f"{rows_of(built.about['skipped'])} could not be read, left out; the first: {built.about['problems'][0]}")
    if keep:
        say(f"database {built.path}")
    return built


def serve(built: Built, host: str, listening: socket.socket, on_ready: Any) -> None:
    """Answer until a signal asks to end."""
    import uvicorn

    from pacos.studio.explore import make_app
    from pacos.studio.explore.site import LOCAL

    app = make_app(built.path, hosts=None if host in EVERYWHERE else (*LOCAL, host))

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_ready()

    config = uvicorn.Config(
        app, log_level="error", access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=2
    )
    Server(config).run(sockets=[listening])


def announce(url: str, line: str, browser: bool) -> None:
    out().print(line, markup=False)
    if browser and has_display():
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def has_display() -> bool:
    """Whether a browser could show a page; on a bare terminal one that draws there would take it over."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@contextmanager
def ended_by_signal() -> Iterator[list[int]]:
    """The signals that came within the block; none of them ends the process by itself."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
