"""The nouns of the ledger: who answered what, under which conditions, and how it scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Subject:
    """A model as it answered: base weights, the adapter on them if any, and the template contract."""

    name: str
    base: str
    revision: str = ""
    weights_sha256: str = ""
    adapter: str = ""
    adapter_sha256: str = ""
    contract_sha256: str = ""


@dataclass(frozen=True)
class Prompt:
    """What was asked. `id` names its content; rows of one `cluster` are related ("" for a row by itself)."""

    id: str
    instruction: str
    input: str = ""
    reference: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)
    cluster: str = ""


@dataclass(frozen=True)
class Written:
    """An answer. `scores`: metric -> its counts, of which sums over rows make the figure. `nll` in nats, of the reference."""

    text: str
    prompt_ids: tuple[int, ...] = ()
    ids: tuple[int, ...] = ()
    finish_reason: str = "stop"
    tokens: int = 0
    generated_tokens: int = 0
    seconds: float = 0.0
    nll: float | None = None
    nll_tokens: int | None = None
    scores: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One evaluation, its answers apart. `kind`: eval, or what another verb calls its own. `result` is what was said then."""

    kind: str
    name: str
    created: str
    verdict: str
    sides: Mapping[str, Subject]
    data: str = ""
    dataset_sha256: str = ""
    split_sha256: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    id: int = 0
    """Given by the ledger; 0 before that."""
    num_prompts: int = 0
    """Counted by the ledger."""
