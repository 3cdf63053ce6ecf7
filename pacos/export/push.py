"""To the hub, with the user's own token (HF_TOKEN, or `hf auth login`); without it nothing leaves this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pacos.errors import UsageError, UserError
from pacos.models.artifact import files_of, verify
from pacos.models.hub import HUB_ID

KEPT_HERE = ("test.jsonl", "validation.jsonl", "checkpoints", "eval", "tensorboard")
"""Rows of the user's data, and what is of no use to others: not uploaded."""


@dataclass(frozen=True)
class Upload:
    """What would go where."""

    repository: str
    files: tuple[tuple[str, int], ...]
    """Name and bytes."""


def planned(folder: Path, repository: str) -> Upload:
    """What an upload of the folder would send. Raises UsageError for no hub id, DataError where it is damaged."""
    if not HUB_ID.fullmatch(repository):
        raise UsageError(f"--push {repository}: not a hub id; give OWNER/NAME")
    verify(folder)
    files = [(path.relative_to(folder), path.stat().st_size) for path in files_of(folder)]
    return Upload(repository, tuple((str(name), size) for name, size in files if name.parts[0] not in KEPT_HERE))


def push(folder: Path, upload: Upload) -> str:
    """Send it, into a private repository where there is none yet. Returns its address. Raises UserError."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    if not api.token and not _logged_in():
        raise UsageError("no token for the hub: set HF_TOKEN, or run: hf auth login")
    try:
        api.create_repo(upload.repository, private=True, exist_ok=True)
        done = api.upload_folder(
            repo_id=upload.repository,
            folder_path=folder,
            allow_patterns=[name for name, _ in upload.files],
            commit_message="Export by pacos",
        )
    except (HfHubHTTPError, OSError) as error:
        raise UserError(f"{upload.repository}: the hub did not take it: {' '.join(str(error).split())[:200]}") from None
    return str(done.commit_url)


def _logged_in() -> bool:
    from huggingface_hub import get_token

    return bool(get_token())
