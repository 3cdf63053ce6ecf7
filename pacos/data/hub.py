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
from pacos.errors import UsageError, UserError

NOT_DATA = ("dataset_infos.json", "dataset_info.json", "state.json", "config.json", "package.json", "manifest.json")
SIDES = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation", "eval": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(/[\w.-]+)*")


def is_dataset_name(name: str) -> bool:
    """`owner/name`, or `owner/name/folder`; a name that ends like a data file is a path."""
    return bool(_NAME.fullmatch(name)) and PurePosixPath(name).suffix.lower() not in (*SUFFIXES, ".txt", ".gz", ".zip")


def declared_side(file_name: str) -> str:
    """train, validation or test, where a file's name says so; else empty."""
    words = re.split(r"[^a-z]+", PurePosixPath(file_name).stem.lower())
    return next((SIDES[word] for word in words if word in SIDES), "")


def choose_files(files: Iterable[str], name: str, folder: str = "") -> list[str]:
    """The files that hold a dataset's training rows. Raises UsageError where none does, or where a folder must be named."""
    data = sorted(
        f for f in files if PurePosixPath(f).suffix.lower() in SUFFIXES and PurePosixPath(f).name not in NOT_DATA
    )
    inside = [f for f in data if not folder or f.startswith(f"{folder}/")]
    train = [f for f in inside if _side(f) == "train"] or [f for f in inside if not _side(f)]
    if not train:
        among = f"; its files: {', '.join(data[:10])}" if data else f"; pacos reads {', '.join(SUFFIXES)}"
        raise UsageError(f"{name}: no file with training rows{among}")
    suffix = min((PurePosixPath(f).suffix.lower() for f in train), key=("parquet", *SUFFIXES).index)
    train = [f for f in train if PurePosixPath(f).suffix.lower() == suffix]
    folders = sorted({str(PurePosixPath(f).parent) for f in train})
    if len(folders) > 1:
        raise UsageError(f"{name}: holds several datasets; give one of: {', '.join(f'{name}/{f}' for f in folders)}")
    return train


def _side(file: str) -> str:
    return declared_side(PurePosixPath(file).name) or declared_side(PurePosixPath(file).parent.name)


def fetch(name: str) -> tuple[Path, list[str]]:
    """(folder, files in it) of a hub dataset's training rows, from the cache where that has them. Raises UserError."""
    try:
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
    except ImportError:
        raise UsageError(f"{name}: no such file; reading it from the hub needs: pip install 'pacos[hub]'") from None
    owner, repo, *folders = name.split("/")
    dataset, folder, endpoint = f"{owner}/{repo}", "/".join(folders), os.environ.get("HF_ENDPOINT") or None
    try:
        info = HfApi(endpoint=endpoint).dataset_info(dataset)
        files = choose_files([s.rfilename for s in info.siblings or []], name, folder)
        where = snapshot_download(
            dataset, repo_type="dataset", revision=info.sha, allow_patterns=files, endpoint=endpoint, tqdm_class=None
        )
        return Path(where), files
    except RepositoryNotFoundError:
        raise UsageError(
            f"{name}: no such file, and no such dataset on the hub (or it is private: set HF_TOKEN)"
        ) from None
    except UserError:
        raise
    except (OSError, ValueError) as error:
        problem: Exception = error
    except Exception as error:  # httpx errors share no base with OSError, and httpx is the hub client's affair
        problem = error
    try:
        cached = Path(snapshot_download(dataset, repo_type="dataset", local_files_only=True, endpoint=endpoint))
        return cached, choose_files([p.relative_to(cached).as_posix() for p in cached.rglob("*")], name, folder)
    except (LocalEntryNotFoundError, UsageError):
        reason = " ".join(str(problem).split())[:200]
        raise UserError(
            f"{name}: no such file, not in the hub's cache, and the hub cannot be reached ({reason}); "
            "check the connection, or give a file"
        ) from None
