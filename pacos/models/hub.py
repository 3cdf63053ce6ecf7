"""Models of the Hugging Face hub: safetensors, JSON and tokenizer files of one commit, in the hub client's own cache.

`HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN` and `HF_HUB_OFFLINE` hold as everywhere. No other kind of file is asked for, so no
pickle and no code arrives.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pacos.errors import ResourceError, UsageError, UserError, nearest_first

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
TEXTS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
WEIGHTS = ("model*.safetensors", "model.safetensors.index.json")


def download(name: str, revision: str = "", *, weights: bool = True) -> Path:
    """The snapshot folder of a hub model; its name is the commit. Cached files do where the hub is out of reach."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UserError(f"{name}: hub models need huggingface_hub: pip install 'pacos[hub]'") from None
    patterns = [*TEXTS, *(WEIGHTS if weights else ())]
    with _explained(name, revision):
        endpoint = os.environ.get("HF_ENDPOINT") or None  # as it is now, not as it was when the client was imported
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=patterns, endpoint=endpoint))


def transport_error() -> Any:
    """What the HTTP library that this version of the client is built on raises where nothing answers."""
    from huggingface_hub import errors

    return errors.HfHubHTTPError.__bases__[0]


def _not_here(name: str) -> str:
    """What to say first where a hub id may be meant as a path: its owner is a folder here, and holds others."""
    folder = Path(name).parent
    others = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    others = [other for other in others if not other.startswith(".")]
    if not others:
        return ""
    return f"no such folder here; in {folder}/ there are: {', '.join(nearest_first(Path(name).name, others))}\n  and "


@contextmanager
def _explained(name: str, revision: str) -> Iterator[None]:
    """What the hub client raises, as one line that says what to do."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise UserError(
            f"{name}: the hub asks you to accept this model's terms first; do so on its page, then run: hf auth login"
        ) from None
    except errors.RevisionNotFoundError:
        raise UsageError(f"{name}: has no revision '{revision}'; give one of its branches, tags or commits") from None
    except errors.RepositoryNotFoundError:
        raise UsageError(
            f"{name}: {_not_here(name)}the hub has no such model, or it is private; check the name, or run: hf auth login"
        ) from None
    except errors.HFValidationError:
        raise UsageError(f"{name}: not a hub id; give it as owner/name") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HfHubHTTPError, transport_error()):
        raise UserError(
            f"{name}: {_not_here(name)}the hub cannot be reached, and the model is not in its cache; "
            "connect, or give a folder"
        ) from None
    except OSError as error:
        raise ResourceError(
            f"{name}: cannot be kept: {error.strerror or error}; free some space, or set HF_HOME"
        ) from None
