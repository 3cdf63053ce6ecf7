"""Which weights these are: the safetensors files of a folder, whether they are whole, and the hash that names them.

    8 bytes     length n of the header, little endian
    n bytes     JSON: tensor name -> dtype, shape, data_offsets (from the end of the header)
    the rest    the tensors, without gaps

So a file that was cut short or overwritten shows without reading its gigabytes. Every problem of a folder is named at
once. The hash reads all of it, and is remembered by path, size and time of change.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pacos.errors import DataError, UsageError
from pacos.models.artifact import file_sha256

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
LONGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class ModelIdentity:
    """What a run record keeps of its base, to know it again. `revision` is the hub's commit, else empty."""

    name: str
    revision: str
    weights_sha256: str
    architecture: str
    num_parameters: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a model, checked to be whole. Raises UsageError if there are none, else DataError."""
    files: tuple[Path, ...]
    if (folder / SINGLE).is_file():
        files, problems = (folder / SINGLE,), list(file_problems(folder / SINGLE))
    elif (folder / INDEX).is_file():
        files, problems = _sharded(folder)
    else:
        raise UsageError(_no_safetensors(folder))
    if problems:
        raise DataError(f"{folder}: the weights are not whole; get these files again", problems)
    return files


def _sharded(folder: Path) -> tuple[tuple[Path, ...], list[str]]:
    try:
        weight_map: dict[str, str] = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        return (), [f"{INDEX} is not a safetensors index: it needs a 'weight_map' of tensor names to files"]
    outside = [name for name in names if Path(name).name != name or not name.endswith(".safetensors")]
    if outside:
        return (), [f"{INDEX} names '{name}', which is no safetensors file of this folder" for name in outside]
    files = tuple(folder / name for name in names)
    return files, [*(p for file in files for p in file_problems(file)), *_misplaced(folder, weight_map)]


def _misplaced(folder: Path, weight_map: dict[str, str]) -> Iterator[str]:
    """Tensors that the index promises in a shard that is whole but does not hold them."""
    for name in sorted(set(weight_map.values())):
        promised = {tensor for tensor, shard in weight_map.items() if shard == name}
        if (folder / name).is_file() and not any(file_problems(folder / name)):
            yield from (
                f"{name} lacks '{t}', which {INDEX} promises" for t in sorted(promised - _header(folder / name).keys())
            )


def file_problems(path: Path) -> Iterator[str]:
    """What is wrong with a safetensors file, as far as its header tells."""
    if not path.is_file():
        yield f"{path.name} is missing"
        return
    try:
        tensors = _header(path)
        needed = 8 + _header_length(path) + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        yield f"{path.name} is not a safetensors file: its header cannot be read"
        return
    if (size := path.stat().st_size) != needed:
        yield f"{path.name} has {size} bytes; its header says {needed}"


def _header(path: Path) -> dict[str, Any]:
    """Tensor name -> its entry. Raises ValueError where there is no whole header."""
    length = _header_length(path)
    with path.open("rb") as file:
        file.seek(8)
        entries = json.loads(file.read(length))
    return {name: entry for name, entry in entries.items() if name != "__metadata__"}


def _header_length(path: Path) -> int:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(LONGEST_HEADER, path.stat().st_size - 8):
        raise ValueError("no header")
    return length


def _no_safetensors(folder: Path) -> str:
    found = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    what = f"only {', '.join(found[:3])}, which are pickles" if found else "no weights"
    convert = f"M.from_pretrained('{folder}').save_pretrained('{folder}')"
    return (
        f"{folder}: holds {what}; pacos loads safetensors alone (model.safetensors)\n"
        f'  if you trust the files: python -c "from transformers import AutoModelForCausalLM as M; {convert}"'
    )


def weights_sha256(files: Sequence[Path], cache: Path) -> str:
    """One hash for all: of the lines 'file name, sha256 of its contents'. `cache` is a JSON file of known hashes."""
    lines = [f"{file.name} {_known_sha256(file, cache)}\n" for file in sorted(files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _known_sha256(file: Path, cache: Path) -> str:
    stat = file.stat()
    key, stamp = str(file.resolve()), [stat.st_size, stat.st_mtime_ns]
    known = _read_hashes(cache).get(key)
    if isinstance(known, list) and known[:2] == stamp:
        return str(known[2])
    digest = file_sha256(file)
    _write_hashes(cache, {**_read_hashes(cache), key: [*stamp, digest]})
    return digest


def _read_hashes(cache: Path) -> dict[str, Any]:
    try:
        known = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write_hashes(cache: Path, known: dict[str, Any]) -> None:
    draft = cache.with_name(f"{cache.name}.{os.getpid()}")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(known, indent=1), encoding="utf-8")
        draft.replace(cache)
    except OSError:
        draft.unlink(missing_ok=True)  # a cache that cannot be written costs time, nothing else
