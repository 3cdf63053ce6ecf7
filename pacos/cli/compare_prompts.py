"""What is asked: the prompts of a file, or of the first contestant's answers; and the key by which answers find them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pacos.errors import DataError, UsageError

if TYPE_CHECKING:
    from pacos.cli.compare_sources import Source
    from pacos.data import Example
    from pacos.evaluation.ledger import Prompt

Key = tuple[str, str, int]
"""Instruction and input, normalized, and for prompts that come more than once which time it is."""


def as_prompt(example: Example, cluster: str = "") -> Prompt:
    """The prompt of a row as raters see it: what was said before stands above the instruction."""
    from pacos.data import Example as Row
    from pacos.evaluation.ledger import Prompt

    before = [("system", example.system)] if example.system else []
    before += [(message.role, message.content) for message in example.history]
    if before:
        turns = "\n\n".join(f"{role}: {text}" for role, text in (*before, ("user", example.instruction)))
        example = Row(turns, example.input, example.output)
    return Prompt(example.id, example.instruction, example.input, example.output, cluster=cluster)


def keys_of(prompts: Sequence[Prompt]) -> list[Key]:
    from pacos.data import normalize

    seen: Counter[tuple[str, str]] = Counter()
    found = []
    for prompt in prompts:
        text = (normalize(prompt.instruction), normalize(prompt.input))
        found.append((*text, seen[text]))
        seen[text] += 1
    return found


def read_prompts(path: str | None, sources: Sequence[Source]) -> list[Example]:
    """The prompts of a file; where none is given, those that the first source has answers to."""
    from pacos.data import Example, load_examples

    if path is None:
        writers = [source.spec for source in sources if source.kept is None]
        if writers:
            raise UsageError(f"{', '.join(writers)}: which prompts? Give a file with --prompts")
        first = sources[0]
        assert first.kept is not None
        if Path(first.spec).expanduser().is_file():
            return load_examples(first.spec, keep_blank=True).examples
        related = [(p, (p.cluster,) if p.cluster else ()) for p, _ in first.kept.values()]
        return [Example(p.instruction, p.input, p.reference, lineage=lineage) for p, lineage in related]
    if Path(path).suffix.lower() == ".txt":
        return instructions_in(path)
    try:
        return load_examples(path, keep_blank=True).examples
    except DataError as error:
        try:
            return instructions_in(path)  # rows without an output, which prompts do not need
        except DataError:
            raise error from None


def instructions_in(path: str) -> list[Example]:
    from pacos.self_instruct.rows import read_instructions

    return read_instructions(path)
