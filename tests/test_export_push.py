"""The upload to a hub, through huggingface_hub's own code to a server on localhost: files, token, refusals."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from pacos.export import push
from pacos.export.merge import merge
from pacos.export.origin import open_origin
from tests.conftest import Cli
from tests.exporting import save_base
from tests.upload_server import COMMIT, UploadHub, serve_uploads

TOKEN = "hf_secretsecretsecret"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("push")
    merge(open_origin(str(save_base(folder / "base", "llama"))), folder / "out", dtype="fp32", say=lambda _: None)
    return folder / "out"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadHub]:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # whose protocol the server does not speak
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serve_uploads() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_every_file_arrives_in_a_private_repository_and_the_token_is_in_the_header_alone(
    exported: Path, hub: UploadHub, cli: Cli, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (exported / "test.jsonl").write_text("{}\n")  # rows of the user's, which stay here
    try:
        push_code, told, error = cli("export", "card", exported, "--push", "me/mine", "--no-dry-run")
    finally:
        (exported / "test.jsonl").unlink()
    assert (push_code, told.splitlines()[-1]) == (0, f"{hub.url}/me/mine/commit/{COMMIT}")
    assert hub.private == {"me/mine": True}
    assert hub.files["me/mine"] == {
        str(path.relative_to(exported)): path.read_bytes() for path in push.files_of(exported)
    }
    assert "model.safetensors" in hub.files["me/mine"]
    asked = hub.tokens[f"Bearer {TOKEN}"]
    assert [path for path in asked if "/commit/" in path] == ["/api/models/me/mine/commit/main"]
    assert all(path.startswith("/put/") for path in hub.tokens.get("", []))  # storage is not given the token
    assert TOKEN not in told + error + caplog.text
    assert cli("export", "card", exported, "--push", "me/mine", "--no-dry-run")[0] == 0  # a repository that is there


@pytest.mark.parametrize(
    ("at", "status", "code", "expected"),
    [
        ("create", 401, 2, "the hub does not know this token; make one with write access and set HF_TOKEN, or run: hf"),
        ("create", 403, 2, "the token may not write there; use one with write access to 'me', or another OWNER/NAME"),
        ("commit", 403, 2, "the token may not write there; use one with write access to 'me', or another OWNER/NAME"),
        ("commit", 409, 1, "the repository changed meanwhile; run it again"),
        ("batch", 413, 1, "the hub did not take it: "),
    ],
)
def test_a_refusal_is_one_clear_line(
    at: str, status: int, code: int, expected: str, exported: Path, hub: UploadHub, cli: Cli
) -> None:
    hub.refuse = (at, status)
    found, _, error = cli("export", "card", exported, "--push", "me/mine", "--no-dry-run")
    assert found == code, error
    assert error.splitlines()[-1].startswith(f"pacos: me/mine: {expected}")
    assert TOKEN not in error
    assert hub.files.get("me/mine", {}) == {}


def test_a_hub_that_does_not_answer_is_one_clear_line(
    exported: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    code, _, error = cli("export", "card", exported, "--push", "me/mine", "--no-dry-run")
    assert (code, error.splitlines()[-1]) == (1, "pacos: me/mine: the hub (http://127.0.0.1:9) cannot be reached")
