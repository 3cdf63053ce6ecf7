"""Datasets on the Hugging Face hub: `yahma/alpaca-cleaned`, or `openai/gsm8k/main` for one folder of a dataset.

Which files are the training rows is told from their names; they go to the hub's own cache, so that the second run needs
no network. `HF_ENDPOINT` and `HF_HUB_OFFLINE` are honoured.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pacos.data.raw import SUFFIXES
from pacos.data.sides import Side, side_of_file
from pacos.errors import UsageError, UserError

NOT_DATA = ("dataset_infos.json", "dataset_info.json", "state.json", "config.json", "package.json", "manifest.json")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(/[\w.-]+)*")


def is_dataset_name(name: str) -> bool:
    """`owner/name`, or `owner/name/folder`; a name that ends like a data file is a path."""
    return bool(_NAME.fullmatch(name)) and PurePosixPath(name).suffix.lower() not in (*SUFFIXES, ".txt", ".gz", ".zip")


def choose_files(files: Iterable[str], name: str, folder: str = "") -> list[str]:
    """The files that hold a dataset's training rows. Raises UsageError where none does, or a folder must be named."""
    data = sorted(file for file in files if _suffix(file) in SUFFIXES and PurePosixPath(file).name not in NOT_DATA)
    inside = [file for file in data if file.startswith(f"{folder}/")] if folder else data
    train = [file for file in inside if _side(file) == "train"] or [file for file in inside if not _side(file)]
    if not train:
        among = f"its files: {', '.join(data[:10])}" if data else f"pacos reads {', '.join(SUFFIXES)}"
        raise UsageError(f"{name}: no file with training rows; {among}")
    # The same rows often stand there in two formats.
    suffix = min((_suffix(file) for file in train), key=(".parquet", *SUFFIXES).index)
    train = [file for file in train if _suffix(file) == suffix]
    folders = sorted({str(PurePosixPath(file).parent) for file in train})
    if len(folders) > 1:
        raise UsageError(f"{name}: holds several datasets; give one of: {', '.join(f'{name}/{f}' for f in folders)}")
    return train


def _suffix(file: str) -> str:
    return PurePosixPath(file).suffix.lower()


def _side(file: str) -> Side | None:
    return side_of_file(file) or side_of_file(PurePosixPath(file).parent.name)


def fetch(name: str) -> tuple[Path, list[str]]:
    """(folder, files in it) of a hub dataset's training rows, from the cache where that has them. Raises UserError."""
    try:
        import huggingface_hub  # noqa: F401
    except ImportError:
        raise UsageError(f"{name}: no such file; reading it from the hub needs: pip install 'pacos[hub]'") from None
    owner, repo, *folders = name.split("/")
    dataset, folder, endpoint = f"{owner}/{repo}", "/".join(folders), os.environ.get("HF_ENDPOINT") or None
    try:
        return _download(name, dataset, folder, endpoint)
    except UserError:
        raise
    except Exception as error:  # the client's network errors have no base in common
        return _cached(name, dataset, folder, error)


def _download(name: str, dataset: str, folder: str, endpoint: str | None) -> tuple[Path, list[str]]:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = HfApi(endpoint=endpoint).dataset_info(dataset)
    except RepositoryNotFoundError:
        raise UsageError(
            f"{name}: no such file, and no such dataset on the hub (or a private one: set HF_TOKEN)"
        ) from None
    files = choose_files([sibling.rfilename for sibling in info.siblings or []], name, folder)
    where = snapshot_download(dataset, repo_type="dataset", revision=info.sha, allow_patterns=files, endpoint=endpoint)
    return Path(str(where)), files


def _cached(name: str, dataset: str, folder: str, problem: Exception) -> tuple[Path, list[str]]:
    """What an earlier run fetched. Raises UserError, with the network's problem, where there is nothing."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        cached = Path(str(snapshot_download(dataset, repo_type="dataset", local_files_only=True)))
    except LocalEntryNotFoundError:
        reason = " ".join(str(problem).split())[:160]
        raise UserError(
            f"{name}: no such file, not in the hub's cache, and the hub cannot be reached ({reason}); "
            "check the connection, or give a file"
        ) from None
    return cached, choose_files([path.relative_to(cached).as_posix() for path in cached.rglob("*")], name, folder)
