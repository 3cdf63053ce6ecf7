"""A model hub on localhost that takes uploads: create repo, validate-yaml, preupload, LFS batch and PUT, commit.

with serve_uploads() as hub:      hub.url, hub.files ("owner/name" -> path -> bytes), hub.tokens (paths asked with each)
    hub.refuse = ("commit", 403)  what is answered to paths that hold this word
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c" * 40


class UploadHub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.objects: dict[str, bytes] = {}
        self.tokens: dict[str, list[str]] = {}
        self.refuse = ("", 0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: UploadHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._taken()
        self._say({"error": "nothing to read here"}, 404)

    def do_PUT(self) -> None:
        self.server.objects[self.path.rpartition("/")[2]] = self._taken()
        self._say({})

    def do_POST(self) -> None:
        body, hub, path = self._taken(), self.server, self.path.partition("?")[0]
        word, code = hub.refuse
        if word and word in path:
            return self._say({"error": "You are not allowed"}, code)
        if path == "/api/repos/create":
            told = json.loads(body)
            name = f"{told['organization']}/{told['name']}"
            hub.private[name] = told.get("visibility") == "private"
            if name in hub.files:
                return self._say({"error": "You already created this model repo", "url": f"{hub.url}/{name}"}, 409)
            hub.files[name] = {}
            return self._say({"url": f"{hub.url}/{name}", "name": name})
        if path == "/api/validate-yaml":
            return self._say({"errors": [], "warnings": []})
        if "/preupload/" in path:
            files = json.loads(body)["files"]
            large = (".safetensors", ".gguf")
            modes = [
                {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(large) else "regular", "oid": None}
                for f in files
            ]
            return self._say({"files": [{**mode, "shouldIgnore": False} for mode in modes]})
        if path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            actions = [{"upload": {"href": f"{hub.url}/put/{o['oid']}", "header": {}}} for o in objects]
            answers = [{**o, "actions": action} for o, action in zip(objects, actions, strict=True)]
            return self._say({"transfer": "basic", "objects": answers})
        if "/commit/" in path:
            name = path.removeprefix("/api/models/").partition("/commit/")[0]
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    hub.files[name][value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    hub.files[name][value["path"]] = hub.objects[value["oid"]]
            return self._say({"commitUrl": f"{hub.url}/{name}/commit/{COMMIT}", "commitOid": COMMIT})
        return self._say({"error": "not known"}, 404)

    def _taken(self) -> bytes:
        self.server.tokens.setdefault(self.headers.get("Authorization", ""), []).append(self.path)
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _say(self, tree: Any, code: int = 200) -> None:
        body = json.dumps(tree).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serve_uploads() -> Iterator[UploadHub]:
    hub = UploadHub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
