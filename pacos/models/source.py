"""Where the files of a base model are, whatever names it: hub id, folder, GGUF file, or a name that pacos knows.

resolve(name) -> Source        a folder with config.json, safetensors and tokenizer, and the hub's commit
tokenizer_of(source)           the fast tokenizer, with exactly the pipeline of its tokenizer.json
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pacos.errors import DataError, UsageError, did_you_mean
from pacos.models import catalog, hub
from pacos.models.artifact import file_sha256, whole_folder
from pacos.models.catalog import Progress


@dataclass(frozen=True)
class Source:
    """Where a model's files are. `revision` is the hub's commit, empty for anything else."""

    name: str
    folder: Path
    revision: str = ""


def resolve(name: str, revision: str = "", *, weights: bool = True, progress: Progress | None = None) -> Source:
    """Find a model's folder, downloading or converting where need be. Raises UsageError where there is none."""
    path = Path(name).expanduser()
    is_hub = name not in catalog.ENTRIES and not path.exists() and hub.HUB_ID.fullmatch(name) and path.suffix != ".gguf"
    if revision and not is_hub:
        raise UsageError(f"{name}: model.revision '{revision}' has no effect: only hub models have revisions")
    if name in catalog.ENTRIES:
        return Source(name, catalog.ensure(name, progress))
    if path.is_dir():
        return Source(name, path)
    if path.is_file() and path.suffix == ".gguf":
        return Source(name, _converted(path, progress))
    if not is_hub:
        raise UsageError(_no_such_model(name, path))
    folder = hub.download(name, revision, weights=weights)
    return Source(name, folder, folder.name)


def _no_such_model(name: str, path: Path) -> str:
    if path.is_file():
        return f"{name}: a model is a folder, a .gguf file, a hub id or a known name; this is another kind of file"
    if path.suffix == ".gguf" or os.sep in name:
        return f"{name}: no such {'file' if path.suffix == '.gguf' else 'folder'}"
    hint = did_you_mean(name, catalog.ENTRIES)
    known = ", ".join(catalog.ENTRIES)
    return f"{name}: no such model{hint}\n  give a hub id (owner/name), a folder, a .gguf file, or: {known}"


def _converted(path: Path, progress: Progress | None) -> Path:
    """The folder of a GGUF file, made once and kept by the hash of the file."""
    from pacos.models.read_gguf import convert_gguf

    folder = catalog.cache_folder() / "gguf" / file_sha256(path)[:32]
    if folder.exists() and not any(catalog.wrong_sizes(folder)):
        return folder
    if folder.exists():
        raise DataError(f"{folder}: damaged; remove this folder, it is made again", list(catalog.wrong_sizes(folder)))
    with whole_folder(folder) as draft:
        convert_gguf(path, draft, progress=progress)
    return folder


def tokenizer_of(source: Source) -> Any:
    """The fast tokenizer of a folder. Raises UsageError where there is none and none can be made."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    from pacos.models.quiet import quiet

    # AutoTokenizer rebuilds the pipeline of some families from their class, and then cuts text otherwise than their
    # tokenizer.json (Llama 2, Mistral, Phi-3: spaces at a start). The file is what the model was trained with.
    has_file = (source.folder / "tokenizer.json").is_file()
    kind: Any = PreTrainedTokenizerFast if has_file else AutoTokenizer
    try:
        with quiet():
            tokenizer = kind.from_pretrained(source.folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises bare Exception for a file that it cannot read
        if has_file:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{source.folder / 'tokenizer.json'}: not a tokenizer: {reason}") from None
        raise UsageError(f"{source.name}: {_no_tokenizer(source.folder)}") from None
    if not getattr(tokenizer, "is_fast", False):
        raise UsageError(f"{source.name}: {_no_tokenizer(source.folder)}")
    return tokenizer


def _no_tokenizer(folder: Path) -> str:
    if (folder / "tokenizer.model").is_file():
        return "has only a tokenizer.model; add its tokenizer.json, or pip install sentencepiece protobuf to convert it"
    return "has no tokenizer files; add the tokenizer.json of the model"
