"""One pass over the data: every row looked at once, by a process a core, and little of it kept.

    rows -> chunks -> workers: rules, sketch of the prompt, hashes, lengths, verb and noun -> Survey

What is kept of a row is its index: hashes, a sketch, a few numbers (some 300 bytes, no text). Findings of single rows come
out of the workers; those that need the whole set (duplicates, leaks, lengths) are added by `sets.py` from the index.
"""

from __future__ import annotations

import itertools
import os
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from pacos.data.curation.findings import Findings
from pacos.data.curation.language import language_of
from pacos.data.curation.ngrams import Passages
from pacos.data.curation.rule import Finding
from pacos.data.curation.rules import RULES
from pacos.data.curation.similar import join
from pacos.data.curation.stream import Row
from pacos.data.curation.verbs import verb_and_noun
from pacos.data.near import Sketches, exact_key, sketch
from pacos.data.records import Example
from pacos.data.split import prompt_text

CHUNK, FEW = 500, 2000
LENGTHS = ("instruction", "input", "output")


@dataclass(frozen=True)
class Chunk:
    """What a worker makes of some rows, in their order. `hits` are (row number, passage number) pairs."""

    findings: list[Finding]
    ids: np.ndarray
    rows: np.ndarray
    prompts: np.ndarray
    lengths: np.ndarray
    languages: list[str]
    pairs: list[tuple[str, str]]
    sketches: Sketches
    hits: np.ndarray
    mendable: list[int]
    """Numbers of rows that a safe fix would change or drop."""


@dataclass
class Survey:
    """The index of a dataset, one entry a sound row, in the order they were read.

    `ids`, `rows`, `prompts` are uint64 hashes of the content, of prompt and answer without case and punctuation, and of the
    prompt so; `lengths` (N, 3) are words of instruction, input and output; `numbers` places the row among all rows read,
    the malformed too.
    """

    findings: Findings
    num_rows: int = 0
    layout: str = ""
    numbers: array[int] = field(default_factory=lambda: array("q"))
    lines: array[int] = field(default_factory=lambda: array("q"))
    files: dict[str, int] = field(default_factory=dict)
    file_of: array[int] = field(default_factory=lambda: array("H"))
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    prompts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    lengths: np.ndarray = field(default_factory=lambda: np.zeros((0, len(LENGTHS)), np.int32))
    sketches: Sketches = field(default_factory=lambda: sketch([]))
    hits: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    languages: Counter[str] = field(default_factory=Counter)
    language_of_row: list[str] = field(default_factory=list)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    mendable: array[int] = field(default_factory=lambda: array("q"))
    """Numbers of rows that the safe fix of a row rule would change or drop."""

    def place(self, row: int) -> str:
        """file:line of a sound row."""
        name = list(self.files)[self.file_of[row]]
        return f"{name}:{self.lines[row]}" if self.lines[row] else name

    def id(self, row: int) -> str:
        return f"{int(self.ids[row]):016x}"

    def add(self, row: int, rule: str, why: str) -> None:
        """A finding about a sound row."""
        self.findings.add(Finding(self.numbers[row], self.place(row), self.id(row), rule, why))


def take_survey(
    rows: Iterable[Row],
    rules: Sequence[str],
    *,
    passages: Passages | None = None,
    workers: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Survey:
    """Read everything once. `rules` are names of row rules to apply; `passages` those of the evaluation side."""
    survey, parts = Survey(Findings()), []
    looks = tuple(name for name in rules if RULES[name].look)
    sound = _sound(rows, survey, "malformed" in rules)
    for chunk in _look_at_all(_chunks(sound), looks, passages, os.cpu_count() or 1 if workers is None else workers):
        parts.append(_light(chunk))
        survey.language_of_row += chunk.languages
        survey.pairs.update(chunk.pairs)
        survey.mendable.extend(chunk.mendable)
        for finding in chunk.findings:
            survey.findings.add(finding)
        if on_progress:
            on_progress(len(survey.language_of_row))
    for name in ("ids", "rows", "prompts", "lengths", "hits"):
        if parts:
            setattr(survey, name, np.concatenate([getattr(part, name) for part in parts]))
    survey.sketches = join([part.sketches for part in parts])
    survey.languages.update(survey.language_of_row)
    return survey


def _light(chunk: Chunk) -> Chunk:
    return Chunk([], chunk.ids, chunk.rows, chunk.prompts, chunk.lengths, [], [], chunk.sketches, chunk.hits, [])


def _sound(rows: Iterable[Row], survey: Survey, malformed: bool) -> Iterator[Row]:
    """The rows that are examples. Places of all are kept, and the malformed become findings."""
    for row in rows:
        survey.num_rows += 1
        survey.layout = survey.layout or row.layout
        if row.example is not None:
            file, _, line = row.place.rpartition(":")
            known = line.isdecimal()
            name = file if known else row.place
            survey.numbers.append(row.number)
            survey.lines.append(int(line) if known else 0)
            survey.file_of.append(survey.files.setdefault(name, len(survey.files)))
            yield row
        elif malformed:
            survey.findings.add(Finding(row.number, row.place, "", "malformed", row.problem))


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    rows = iter(rows)
    while chunk := list(itertools.islice(rows, CHUNK)):
        yield chunk


def _look_at_all(
    chunks: Iterator[list[Row]], rules: tuple[str, ...], passages: Passages | None, workers: int
) -> Iterator[Chunk]:
    """Chunks in their order, a few ahead of the reader at most; in this process where they are few."""
    first = list(itertools.islice(chunks, FEW // CHUNK))
    if workers < 2 or len(first) < FEW // CHUNK:
        _prepare(rules, passages)
        yield from map(look_at, itertools.chain(first, chunks))
        return
    with ProcessPoolExecutor(workers, initializer=_prepare, initargs=(rules, passages)) as pool:
        waiting: deque[Future[Chunk]] = deque()
        for chunk in itertools.chain(first, chunks):
            waiting.append(pool.submit(look_at, chunk))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_PREPARED: list[tuple[tuple[str, ...], Passages | None]] = []
"""What a worker needs for every chunk, handed over once."""


def _prepare(rules: tuple[str, ...], passages: Passages | None) -> None:
    _PREPARED[:] = [(rules, passages)]


def look_at(rows: Sequence[Row]) -> Chunk:
    """Everything that is found out about some rows without the others."""
    names, passages = _PREPARED[0]
    looks = [(name, RULES[name].look) for name in names]
    examples = [row.example for row in rows if row.example is not None]
    findings, mendable = list[Finding](), list[int]()
    for row, example in zip(rows, examples, strict=True):
        found = [
            Finding(row.number, row.place, example.id, name, why)
            for name, look in looks
            if look and (why := look(example))
        ]
        findings += found
        if any((mend := RULES[one.rule].mend) and mend(example) != example for one in found):
            mendable.append(row.number)
    prompts = [prompt_text(example) for example in examples]
    keys = [exact_key(prompt) for prompt in prompts]
    answers = [exact_key(example.output) for example in examples]
    return Chunk(
        findings,
        np.array([int(example.id, 16) for example in examples], dtype=np.uint64),
        hashes([f"{key}\n\n{answer}" for key, answer in zip(keys, answers, strict=True)]),
        hashes(keys),
        np.array([_lengths(example) for example in examples], dtype=np.int32).reshape(-1, len(LENGTHS)),
        [language_of(example.instruction) for example in examples],
        [verb_and_noun(example.instruction) for example in examples],
        sketch(prompts),
        _hits(rows, prompts, examples, passages),
        mendable,
    )


def _lengths(example: Example) -> tuple[int, int, int]:
    return len(example.instruction.split()), len(example.input.split()), len(example.output.split())


def _hits(
    rows: Sequence[Row], prompts: Sequence[str], examples: Sequence[Example], passages: Passages | None
) -> np.ndarray:
    found = []
    for row, prompt, example in zip(rows, prompts, examples, strict=True) if passages else ():
        assert passages is not None
        found += [(row.number, int(k)) for k in passages.find(f"{prompt}\n{example.output}")]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def hashes(texts: Sequence[str]) -> np.ndarray:
    """A 64-bit hash of each text."""
    digests = (blake2b(text.encode("utf-8", "replace"), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)
