"""Hub datasets, from a server in the test that answers as the hub does."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pacos.data import load_examples
from pacos.data.hub import choose_files, is_dataset_name
from pacos.errors import UsageError, UserError

constants = pytest.importorskip("huggingface_hub.constants", reason="needs huggingface_hub (pip install 'pacos[hub]')")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROWS = [{"instruction": f"Add {n} and 1.", "input": "", "output": str(n + 1)} for n in range(3)]


class Hub(ThreadingHTTPServer):
    """`files` holds {dataset: {name: bytes}}; `asked` the paths that were requested."""

    def __init__(self, files: dict[str, dict[str, bytes]]):
        self.files, self.asked = files, []
        super().__init__(("127.0.0.1", 0), Answer)


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        dataset = "/".join(self.path.removeprefix("/api").split("/")[2:4])
        files = self.server.files.get(dataset)
        if files is None:
            return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if "/tree/" in self.path:
            listed = [{"type": "file", "path": n, "size": len(f), "oid": "0" * 40} for n, f in files.items()]
            return self.answer(200, json.dumps(listed).encode(), {"Content-Type": "application/json"})
        if self.path.startswith("/api/"):
            tree = {"id": dataset, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files], "tags": []}
            return self.answer(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
        content = files[self.path.split(f"/resolve/{COMMIT}/")[1]]
        etag = hashlib.sha256(content).hexdigest()
        return self.answer(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    do_HEAD = do_GET

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub(
        {"yahma/alpaca-cleaned": {"README.md": b"# data", "alpaca_data_cleaned.json": json.dumps(ROWS).encode()}}
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_hub_dataset_is_fetched_and_read(server: Hub) -> None:
    data = load_examples("yahma/alpaca-cleaned")
    assert (data.format, [e.output for e in data.examples]) == ("alpaca JSON", ["1", "2", "3"])
    assert data.examples[0].source == "yahma/alpaca-cleaned/alpaca_data_cleaned.json:1"
    assert data.sha256 == hashlib.sha256(json.dumps(ROWS).encode()).hexdigest()
    assert not any("README" in path for path in server.asked)


def test_what_was_fetched_is_read_again_without_the_network(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_examples("yahma/alpaca-cleaned")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert load_examples("yahma/alpaca-cleaned") == first


def test_a_dataset_fetched_in_part_is_not_taken_for_the_whole(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    row = json.dumps(ROWS[0]).encode()
    server.files["a/b"] = {f"train-{n:05}-of-00002.jsonl": row for n in range(2)}
    assert load_examples("a/b").duplicates == 1
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    (shard,) = Path(constants.HF_HUB_CACHE).rglob("snapshots/*/train-00001-of-00002.jsonl")
    shard.unlink()
    with pytest.raises(UserError, match="a/b: the hub's cache holds a part of it, and the hub cannot be reached"):
        load_examples("a/b")


def test_an_unreachable_hub_is_one_clear_error(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        UserError, match="owner/other: no such file, not in the hub's cache, and the hub cannot be reached"
    ):
        load_examples("owner/other")


def test_a_dataset_that_does_not_exist_is_asked_wrongly(server: Hub) -> None:
    with pytest.raises(UsageError, match="owner/other: no such file, and no such dataset on the hub"):
        load_examples("owner/other")


def test_a_dataset_of_several_folders_asks_for_one(server: Hub) -> None:
    row = b'{"question": "2 + 3?", "answer": "5"}\n'
    server.files["openai/gsm8k"] = {"main/train.jsonl": row, "socratic/train.jsonl": row, "main/test.jsonl": row}
    with pytest.raises(
        UsageError, match="holds several datasets; give one of: openai/gsm8k/main, openai/gsm8k/socratic"
    ):
        load_examples("openai/gsm8k")
    data = load_examples("openai/gsm8k/main")
    assert [e.source for e in data.examples] == ["openai/gsm8k/main/main/train.jsonl:1"]


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (
            ["README.md", "dataset_infos.json", "data/train-00000-of-00001-a09b.parquet"],
            ["data/train-00000-of-00001-a09b.parquet"],
        ),
        (
            ["data/train-0.parquet", "data/train-1.parquet", "data/test-0.parquet"],
            ["data/train-0.parquet", "data/train-1.parquet"],
        ),
        (["databricks-dolly-15k.jsonl", "README.md"], ["databricks-dolly-15k.jsonl"]),
        (["rows.json", "rows.csv", "rows.parquet", "test.json"], ["rows.parquet"]),
        (["train/a.jsonl", "test/a.jsonl"], ["train/a.jsonl"]),
    ],
)
def test_training_files_are_told_from_their_names(files: list[str], chosen: list[str]) -> None:
    assert choose_files(files, "owner/name") == chosen


def test_a_dataset_without_training_rows_names_its_files() -> None:
    with pytest.raises(UsageError, match=r"owner/name: no file with training rows; its files: test\.json"):
        choose_files(["test.json", "README.md"], "owner/name")
    with pytest.raises(UsageError, match=r"no file with training rows; pacos reads \.jsonl, \.json"):
        choose_files(["README.md"], "owner/name")


def test_paths_are_not_taken_for_datasets() -> None:
    names = ["yahma/alpaca-cleaned", "openai/gsm8k/main", "data/train.json", "/abs/path", "../up/one", "alone", "a b/c"]
    assert [is_dataset_name(name) for name in names] == [True, True, False, False, False, False, False]
