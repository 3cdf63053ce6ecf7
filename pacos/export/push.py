"""To the hub, with the user's own token (HF_TOKEN, or `hf auth login`); without it nothing leaves this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pacos.errors import UsageError, UserError
from pacos.models.artifact import files_of, verify
from pacos.models.hub import HUB_ID, transport_error

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

    if not _logged_in():
        raise UsageError("no token for the hub: set HF_TOKEN, or run: hf auth login")
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)  # as it is now, not as it was at the import
    try:
        api.create_repo(upload.repository, private=True, exist_ok=True)
        done = api.upload_folder(
            repo_id=upload.repository,
            folder_path=folder,
            allow_patterns=[name for name, _ in upload.files],
            commit_message="Export by pacos",
        )
    except HfHubHTTPError as error:
        raise _refusal(upload.repository, error.response.status_code, error) from None
    except transport_error():
        raise UserError(f"{upload.repository}: the hub ({api.endpoint}) cannot be reached") from None
    except (OSError, ValueError) as error:
        raise _refusal(upload.repository, 0, error) from None
    return str(done.commit_url)


def _refusal(repository: str, status: int, error: Exception) -> UserError:
    """What a status of the hub means, and what to do."""
    if status == 401:
        return UsageError(
            f"{repository}: the hub does not know this token; make one with write access and set HF_TOKEN, "
            "or run: hf auth login"
        )
    if status == 403:
        owner = repository.partition("/")[0]
        return UsageError(
            f"{repository}: the token may not write there; use one with write access to '{owner}', or another OWNER/NAME"
        )
    if status in (409, 412):
        return UserError(f"{repository}: the repository changed meanwhile; run it again")
    return UserError(f"{repository}: the hub did not take it: {' '.join(str(error).split())[:200]}")


def _logged_in() -> bool:
    from huggingface_hub import get_token

    return bool(get_token())
