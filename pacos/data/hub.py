"""Datasets on the Hugging Face hub: `yahma/alpaca-cleaned`, or `openai/gsm8k/main` for one folder of a dataset.

Which files are the training rows is told from their names; they go to the hub's own cache, so that the second run needs
no network. `HF_ENDPOINT` and `HF_HUB_OFFLINE` are honoured.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

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
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise UsageError(f"{name}: no such file; reading it from the hub needs: pip install 'pacos[hub]'") from None
    owner, repo, *folders = name.split("/")
    dataset, folder, endpoint = f"{owner}/{repo}", "/".join(folders), os.environ.get("HF_ENDPOINT") or None
    # OSError, and the base error of whichever HTTP client this version of the hub's library uses.
    network_errors: Any = HfHubHTTPError.__bases__
    try:
        return _download(name, dataset, folder, endpoint)
    except network_errors as error:
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
    where = snapshot_download(dataset, repo_type="dataset", allow_patterns=files, endpoint=endpoint)
    return Path(str(where)), files


def _cached(name: str, dataset: str, folder: str, problem: Exception) -> tuple[Path, list[str]]:
    """What an earlier run fetched. Raises UserError, with the network's problem, where that is nothing, or not all."""
    unreachable = f"the hub cannot be reached ({' '.join(str(problem).split())[:160]})"
    snapshot = _snapshot(dataset)
    if snapshot is None:
        raise UserError(
            f"{name}: no such file, not in the hub's cache, and {unreachable}; check the connection, or give a file"
        )
    files = choose_files([path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*")], name, folder)
    if not all_shards(files):
        raise UserError(f"{name}: the hub's cache holds a part of it, and {unreachable}; check the connection")
    return snapshot, files


def _snapshot(dataset: str) -> Path | None:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = [r for r in scan_cache_dir(HF_HUB_CACHE).repos if r.repo_type == "dataset" and r.repo_id == dataset]
    except CacheNotFound:
        return None
    return next((revision.snapshot_path for r in repos for revision in r.revisions if "main" in revision.refs), None)


def all_shards(files: Iterable[str]) -> bool:
    """Whether every `-of-00003` has its three files."""
    shards = Counter(match[1] for file in files if (match := re.search(r"-of-(\d+)", file)))
    return all(count >= int(number) for number, count in shards.items())
