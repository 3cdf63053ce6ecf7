"""From the command line to a comparison in the database: prompts, everyone's answers, questions in their order."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from pacos.cli.compare_prompts import as_prompt, read_prompts
from pacos.cli.compare_sources import Source, Writing, answers_of, leave_unanswered_out, named, open_source
from pacos.cli.eval import sample
from pacos.cli.show import say
from pacos.errors import UsageError

if TYPE_CHECKING:
    from pacos.data import Example
    from pacos.evaluation.ledger import Entry, Prompt
    from pacos.evaluation.pairwise import Comparisons


@dataclass(frozen=True)
class Setup:
    """What is compared, and how."""

    contestants: tuple[str, ...]
    prompts: str | None
    limit: int | None
    seed: int
    repeats: float
    cluster: str | None
    writing: Writing


def prepared(store: Comparisons, setup: Setup) -> int:
    """The number of the comparison: the one that is there, or a new one. Raises UsageError, DataError."""
    if len(setup.contestants) < 2:
        raise UsageError("a comparison needs two contestants or more: pacos compare A B --prompts FILE")
    sources = [open_source(spec, store.ledger) for spec in setup.contestants]
    names = named(sources)
    examples = read_prompts(setup.prompts, sources)
    if setup.limit is not None:
        examples = sample(examples, setup.limit, setup.seed)
    prompts = clustered(examples, setup.cluster)
    key = key_of(setup, sources, prompts)
    if found := store.find(key):
        say(f"comparison {found.id} goes on")
        return found.id
    return new_comparison(store, setup, sources, names, examples, prompts, key)


def new_comparison(
    store: Comparisons,
    setup: Setup,
    sources: list[Source],
    names: list[str],
    examples: list[Example],
    prompts: list[Prompt],
    key: str,
) -> int:
    from pacos.evaluation.pairwise import plan_questions

    columns = [answers_of(source, prompts, examples, setup.writing) for source in sources]
    kept = leave_unanswered_out(columns, names, len(prompts))
    answers = [[column[i] for i in kept] for column in columns]
    texts = [[answer.text for answer in column] for column in answers]
    questions = plan_questions(texts, seed=setup.seed, repeats=setup.repeats)
    entry = entry_of(setup, sources, names)
    bare = [[replace(answer, scores={}) for answer in column] for column in answers]
    return store.add(key, names, entry, [prompts[i] for i in kept], bare, questions)


def clustered(examples: list[Example], column: str | None) -> list[Prompt]:
    """Prompts with the group of related ones that each is in."""
    from pacos.evaluation.comparison import related_rows

    groups = related_rows(examples, column)
    return [as_prompt(example, group) for example, group in zip(examples, groups, strict=True)]


def key_of(setup: Setup, sources: list[Source], prompts: list[Prompt]) -> str:
    """The same contestants, prompts and seeds are the same comparison."""
    writing = setup.writing if any(source.kept is None for source in sources) else None
    parts = [
        [source.identity for source in sources],
        [[prompt.id, prompt.cluster] for prompt in prompts],
        [writing.template, writing.max_new_tokens, writing.temperature] if writing else [],
        [setup.seed, setup.repeats],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def entry_of(setup: Setup, sources: list[Source], names: list[str]) -> Entry:
    from pacos import __version__
    from pacos.cli.eval_files import data_sha256
    from pacos.evaluation.ledger import Entry
    from pacos.evaluation.pairwise import now

    data = setup.prompts or f"the prompts of {setup.contestants[0]}"
    return Entry(
        kind="compare",
        name=" / ".join(names),
        created=now(),
        verdict="answers of a blind comparison: see pacos compare list",
        sides={str(i): replace(s.subject, name=name) for i, (s, name) in enumerate(zip(sources, names, strict=True))},
        data=data,
        dataset_sha256=data_sha256(setup.prompts) if setup.prompts else "",
        sampling=asdict(setup.writing),
        seed=setup.seed,
        versions={"pacos": __version__},
    )
