"""Folders that appear whole or not at all, and the manifest that proves it.

    with whole_folder(path) as draft:      # written as path.tmp-PID
        (draft / "a.json").write_text(...)
                                           # files fsynced, manifest.json last, renamed to path, parent fsynced

`manifest.json` holds size and sha256 of every file. What reads such a folder verifies it first: a flipped bit is an error,
not a worse model.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pacos.errors import DataError, ResourceError
from pacos.files import locked, sync

MANIFEST = "manifest.json"
DRAFT = re.compile(r"\..+\.tmp-\d+")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A draft folder that becomes `path` if the block ends well, and vanishes if it does not. `path` must not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.parent / f".{path.name}.tmp-{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir()
        with locked(draft):
            yield draft
            seal(draft)
        os.rename(draft, path)
        sync(path.parent)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise out_of_space(error, path) from None
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def sweep(parent: Path) -> None:
    """Remove the drafts in a folder whose processes were killed. Those of living processes stay."""
    drafts = [path for path in parent.glob(".*.tmp-*") if path.is_dir() and DRAFT.fullmatch(path.name)]
    dead = [draft for draft in drafts if not _is_alive(int(draft.name.rpartition("-")[2]))]
    for draft in dead:
        with locked(draft) as free:  # else a process of another machine is writing it
            if free:
                shutil.rmtree(draft, ignore_errors=True)


def _is_alive(process: int) -> bool:
    """Whether this machine has such a process."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def out_of_space(error: OSError, path: Path) -> Exception:
    """A ResourceError where the disk is full; else the error itself."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(f"{path}: no space left on the device; nothing was kept. Free some space and run it again")
    return error


def seal(folder: Path, ignore: tuple[str, ...] = ()) -> None:
    """Fsync every file, then write the manifest, last. `ignore` names entries that are no part of the artifact."""
    for path in files_of(folder, ignore):
        path.chmod(0o666 & ~_umask())  # safetensors writes files that only their owner can read
        sync(path)
    entries = {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": file_sha256(path)}
        for path in files_of(folder, ignore)
    }
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"format": 1, "files": entries}, indent=1) + "\n", encoding="utf-8")
    sync(manifest)
    sync(folder)


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def verify(folder: Path) -> None:
    """Every file of the manifest is there with its size and hash. Raises DataError that names each that is not."""
    problems = list(damage(folder))
    if problems:
        raise DataError(f"{folder}: damaged, so it is not used; restore it from a copy, or train it again", problems)


def damage(folder: Path) -> Iterator[str]:
    """What differs from the manifest, a line each."""
    try:
        entries = dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"])
        expected = {name: (int(entry["size"]), str(entry["sha256"])) for name, entry in entries.items()}
    except FileNotFoundError:
        yield f"{MANIFEST} is missing: the folder was never finished"
        return
    except (ValueError, KeyError, TypeError):
        yield f"{MANIFEST} cannot be read"
        return
    if not expected:
        yield f"{MANIFEST} names no file"
    for name, (size, sha256) in expected.items():
        path = folder / name
        if not path.is_file():
            yield f"{name} is missing"
        elif path.stat().st_size != size:
            yield f"{name} has {path.stat().st_size} bytes; {size} were written"
        elif file_sha256(path) != sha256:
            yield f"{name} has changed: its sha256 is not the one that was written"


def files_of(folder: Path, ignore: tuple[str, ...] = ()) -> list[Path]:
    """Every file below, manifest and nested manifests' folders in `ignore` left out, in order of name."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path != folder / MANIFEST and path.relative_to(folder).parts[0] not in ignore
    )


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
