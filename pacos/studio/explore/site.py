"""The site around a database: datasette's tables, search, SQL, JSON and CSV, and a start page of ours. It only reads.

    request -> Guard (host, method, security headers) -> start page, random row, or datasette

Three things keep a stored `<script>` from running: datasette escapes it; the page's policy runs only scripts that carry
the page's nonce, which templates have and data has not; and nothing outside this server may be loaded at all.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from datasette.app import Datasette
from datasette.database import Database
from datasette.utils.asgi import Request as PageRequest
from datasette.version import __version__
from jinja2 import BaseLoader, Environment
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from pacos.data.rouge import rouge_l
from pacos.studio.explore.database import read_about
from pacos.studio.explore.queries import BY_RULE, BY_SPLIT, QUERIES, Query
from pacos.studio.explore.whole_csv import whole_csv

NAME = "data"
SHOWN = 10
"""Values of a facet on the start page."""
MOST_BYTES = 64 * 2**20
"""A value that SQL may make, beside what the file itself holds; more would fill the memory."""
HERE = Path(__file__).parent
LOCAL = ("localhost", "127.0.0.1", "::1")
SETTINGS = {
    "default_page_size": 50,
    "max_returned_rows": 5000,
    "sql_time_limit_ms": 10_000,
    "facet_time_limit_ms": 3000,
    "suggest_facets": False,
    "truncate_cells_html": 600,
    "max_csv_mb": 0,
    "default_facet_size": 20,
}
POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
_NONCE: ContextVar[str] = ContextVar("nonce", default="")
Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


def make_app(path: Path, *, base_url: str = "/", hosts: Sequence[str] | None = LOCAL) -> App:
    """The site of a database that `open_database` made, as an ASGI app to serve, or to mount at `base_url`.

    `hosts` are the names that it answers to (a page elsewhere could otherwise read it through a name that leads here);
    None is any.
    """
    about = read_about(path)
    pages = Pages(_datasette(path, about, base_url), about)
    routes = [Route("/", pages.start), Route("/random", pages.random), Mount("/", pages.datasette)]
    routes[:0] = [Route(f"/{NAME}.csv", pages.csv), Route(f"/{NAME}/{{question}}.csv", pages.csv)]
    return Guard(Starlette(routes=routes), hosts)


class Guard:
    """Answers GET and HEAD to known names, and puts the security headers on everything."""

    def __init__(self, app: App, hosts: Sequence[str] | None):
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        _NONCE.set(secrets.token_urlsafe(16))
        headers = [
            (k.encode(), v.encode())
            for k, v in {**HEADERS, "content-security-policy": POLICY.format(nonce=_NONCE.get())}.items()
        ]

        async def send_guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *headers]}
            await send(message)

        await (self._refusal(scope) or self.app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        if self.hosts is not None and _host(scope) not in self.hosts:
            return PlainTextResponse("This name is not answered to; use the address that pacos explore printed.\n", 421)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("Only reading is possible here.\n", 405, {"allow": "GET, HEAD"})
        return None


def _host(scope: Scope) -> str:
    """The name in the Host header, without port and brackets."""
    value = dict(scope["headers"]).get(b"host", b"").decode("latin1").lower()
    return re.sub(r":\d*$", "", value).strip("[]")


class ReadOnly(Database):
    """An immutable file, whatever its name, with the functions that the questions use."""

    def connect(self, write: bool = False) -> sqlite3.Connection:
        assert not write
        uri = f"file:{quote(str(self.path))}?immutable=1"
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        connection.execute("pragma query_only=1")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_BYTES + Path(self.path).stat().st_size)
        connection.create_function("shuffle", 2, shuffle, deterministic=True)
        connection.create_function("any_word", 2, any_word, deterministic=True)
        connection.create_function("rouge_l", 2, lambda a, b: rouge_l(str(a or ""), str(b or "")), deterministic=True)
        self._all_file_connections.append(connection)
        return connection


def shuffle(seed: object, key: object) -> int:
    """A number that orders rows at random, the same for the same seed."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=7).digest())


def any_word(columns: str, text: str) -> str:
    """An FTS5 query for rows with any of the words, in one of the columns."""
    words = " OR ".join(f'"{word}"' for word in dict.fromkeys(re.findall(r"\w+", str(text or "").lower())))
    return f"{{{columns}}} : ({words})" if words else '""'


def _datasette(path: Path, about: dict[str, Any], base_url: str) -> Datasette:
    counts = {"rows": {"count": about["rows"]}}
    site = Datasette(
        [],
        metadata=_metadata(about),
        settings={**SETTINGS, "base_url": base_url},
        template_dir=str(HERE / "templates"),
        static_mounts=[("assets", str(HERE / "static"))],
        inspect_data={NAME: {"hash": about["key"], "size": path.stat().st_size, "file": path.name, "tables": counts}},
    )
    site.remove_database("_memory")
    site.add_database(ReadOnly(site, str(path), is_mutable=False), name=NAME)
    assert site.jinja_env.loader is not None
    site.jinja_env.loader = NonceLoader(site.jinja_env.loader)
    site.jinja_env.globals.update(nonce=_NONCE.get, dataset=about["name"], number_of_rows=about["rows"])
    return site


class NonceLoader(BaseLoader):
    """Templates whose own scripts carry the page's nonce; what is filled into them cannot."""

    def __init__(self, loader: BaseLoader):
        self.loader = loader

    def get_source(self, environment: Environment, template: str) -> Any:
        source, *rest = self.loader.get_source(environment, template)
        return (re.sub(r"<script(?=[\s>{])", '<script nonce="{{ nonce() }}"', source), *rest)

    def list_templates(self) -> list[str]:
        return self.loader.list_templates()


def _metadata(about: dict[str, Any]) -> dict[str, Any]:
    rows = {"title": about["name"], "facets": about["facets"], "columns": about["columns"]}
    queries = {
        name: {"sql": query.sql, "title": query.title, "description": query.about}
        for name, query in questions(about).items()
    }
    tables = {"rows": rows, "about": {"hidden": True}, "findings": {"facets": ["rule"]}}
    return {
        "title": f"{about['name']} - pacos explore",
        "databases": {NAME: {"title": about["name"], "tables": tables, "queries": queries}},
    }


def questions(about: dict[str, Any]) -> dict[str, Query]:
    """The questions that this dataset has an answer to."""
    by_split = {"by-split": BY_SPLIT} if "split" in about["facets"] else {}
    by_rule = {"by-rule": BY_RULE} if about["findings"] is not None else {}
    return {**QUERIES, **by_split, **by_rule}


class Pages:
    """The pages that are ours: the start, and the way to a random row."""

    def __init__(self, site: Datasette, about: dict[str, Any]):
        self.site, self.about, self.datasette = site, about, site.app()
        self.random_number = secrets.SystemRandom().randint

    async def start(self, request: Request) -> Response:
        """Counts, a search box, facets, the questions, and a few rows."""
        await self.site.invoke_startup()
        context = {
            "about": self.about,
            "facets": [await self._facet(facet) for facet in self.about["facets"]],
            "questions": [
                {"link": self._link(name, query), "title": query.title, "about": query.about}
                for name, query in questions(self.about).items()
            ],
            "datasette_version": __version__,
            "rows_url": self.site.urls.table(NAME, "rows"),
            "data_url": self.site.urls.database(NAME),
            "random_url": self.site.urls.path("/random"),
        }
        page = PageRequest({**request.scope, "csrftoken": str}, request.receive)  # nothing can be posted
        return HTMLResponse(await self.site.render_template("start.html", context, request=page))

    async def random(self, request: Request) -> Response:
        number = self.random_number(1, self.about["rows"])
        return RedirectResponse(self.site.urls.row(NAME, "rows", str(number)), 302, {"cache-control": "no-store"})

    async def csv(self, request: Request) -> App:
        """All rows of a query or a question; tables, and what is wrong with a query, are datasette's."""
        values = dict(request.query_params)
        asked = questions(self.about).get(request.path_params.get("question", ""))
        sql = asked.sql if asked else "" if request.path_params else values.get("sql", "")
        name = "_dl" in values and f"{request.path_params.get('question', 'query')}.csv"
        seconds = SETTINGS["sql_time_limit_ms"] / 1000
        answer = sql and await whole_csv(self.site.get_database(NAME), sql, values, seconds, download=name or "")
        return answer or self.datasette

    def _link(self, name: str, query: Query) -> str:
        filled = f"?{urlencode(query.example)}" if query.example else ""
        return self.site.urls.query(NAME, name) + filled

    async def _facet(self, facet: Any) -> dict[str, Any]:
        """Name, whether there are more, and (value, number of rows, link) of the most frequent values."""
        name, array = (facet["array"], True) if isinstance(facet, dict) else (facet, False)
        column = '"' + name.replace('"', '""') + '"'
        source = f"rows, json_each(rows.{column})" if array else "rows"
        value = "json_each.value" if array else column
        sql = (
            f"select {value} as value, count(*) as count from {source} group by 1 order by 2 desc, 1 limit {SHOWN + 1}"
        )
        found = (await self.site.get_database(NAME).execute(sql)).rows
        values = [(*row, self._rows_with(name, row[0], array)) for row in found[:SHOWN]]
        return {"name": name, "values": values, "more": len(found) > SHOWN}

    def _rows_with(self, column: str, value: Any, array: bool) -> str:
        how = "__isnull" if value is None else "__arraycontains" if array else ""
        condition = {column + how: 1 if value is None else value}
        return f"{self.site.urls.table(NAME, 'rows')}?{urlencode(condition)}"
