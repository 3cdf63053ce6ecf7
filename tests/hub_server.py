"""A model hub on localhost that serves one folder, with what the real one says: commits, trees, ETags, error codes.

with serve({"tiny/llama": folder}) as hub:      hub.url, hub.requests (paths asked for), hub.refuse = "GatedRepo"
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REVISIONS = ("main", "v1", COMMIT)


class Hub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, repos: dict[str, Path]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos, self.requests, self.refuse = repos, [], ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        self.server.requests.append(path)
        name = next((repo for repo in self.server.repos if repo in path), "")
        rest = path.replace("api/models/", "").removeprefix(name).strip("/").split("/")
        revision = rest[1] if len(rest) > 1 else "main"
        if self.server.refuse or not name:
            return self._error(self.server.refuse or "RepoNotFound")
        if revision not in REVISIONS:
            return self._error("RevisionNotFound")
        folder = self.server.repos[name]
        if rest[0] == "resolve":
            return self._file(folder / "/".join(rest[2:]))
        if rest[0] == "tree":
            entries = [
                {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": etag(f)} for f in folder.iterdir()
            ]
            return self._answer(json.dumps(entries).encode(), "application/json")
        siblings = [{"rfilename": f.name} for f in folder.iterdir()]
        info = {"_id": "1", "id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "tags": []}
        return self._answer(json.dumps(info).encode(), "application/json")

    def _file(self, path: Path) -> None:
        if not path.is_file():
            return self._error("EntryNotFound")
        return self._answer(path.read_bytes(), "application/octet-stream", {"ETag": f'"{etag(path)}"'})

    def _answer(self, body: bytes, kind: str, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_response(status)
        for key, value in {"Content-Type": kind, "X-Repo-Commit": COMMIT, **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, code: str) -> None:
        status = 403 if code == "GatedRepo" else 404
        self._answer(b"{}", "application/json", {"X-Error-Code": code, "X-Error-Message": code}, status)


def etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


@contextmanager
def serve(repos: dict[str, Path]) -> Iterator[Hub]:
    hub = Hub(repos)
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
