"""Findings that need the whole set: duplicates, same prompts, near-copies, leaks, unusual lengths and languages.

Of duplicates one row is kept: the one with the fewest errors and warnings, of those the first. The others name it. What
leaks are told from is the evaluation side: the test rows of a split, and any files given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pacos.data.curation.ngrams import SET_PHRASE, Passages
from pacos.data.curation.rules import RULES
from pacos.data.curation.similar import best_matches, clusters
from pacos.data.curation.stream import Row
from pacos.data.curation.survey import Survey, hashes
from pacos.data.near import exact_key, join_groups, sketch, words_of
from pacos.data.records import Example
from pacos.data.rouge import novelty
from pacos.data.split import prompt_text

DEVIATIONS = 5.0
COMMON_LANGUAGE = 0.9


@dataclass(frozen=True)
class Cluster:
    """Rows that are one row, or nearly: the one kept, and the others, as places."""

    kind: str
    kept: str
    others: tuple[str, ...]


def faults(survey: Survey) -> np.ndarray:
    """Errors and warnings of each sound row: what the choice of the row that is kept looks at."""
    counts: Counter[int] = Counter()
    for name, numbers in survey.findings.rows.items():
        if RULES[name].severity != "note":
            counts.update(numbers)
    return np.array([counts.get(number, 0) for number in survey.numbers], dtype=np.int64)


def find_duplicates(
    survey: Survey, rules: Sequence[str], threshold: float, prompts: Sequence[str] = ()
) -> list[Cluster]:
    """Clusters of equal rows, then of near-copies among those that are kept; `prompts` are compared by ROUGE-L as well."""
    wrong = faults(survey)
    found = _equal_rows(survey, wrong, "duplicate" in rules)
    kept = np.ones(len(survey.ids), dtype=bool)
    kept[[row for cluster in found for row in cluster[1:]]] = False
    if "same-prompt" in rules:
        _same_prompts(survey, kept)
    near = _near_rows(survey, wrong, kept, _nearest(survey, threshold, prompts)) if "near-duplicate" in rules else []
    named = [("duplicate", members) for members in found] + [("near-duplicate", members) for members in near]
    return [
        Cluster(kind, survey.place(members[0]), tuple(survey.place(row) for row in members[1:]))
        for kind, members in named
    ]


def _equal_rows(survey: Survey, wrong: np.ndarray, report: bool) -> list[list[int]]:
    groups = [_best_first(members, wrong) for members in _groups(survey.rows)] if report else []
    for best, *others in groups:
        for row in others:
            same = "word for word" if survey.ids[row] == survey.ids[best] else "but for case, spaces or punctuation"
            survey.add(row, "duplicate", f"the same as {survey.place(best)}, {same}")
    return groups


def _same_prompts(survey: Survey, kept: np.ndarray) -> None:
    rows = np.flatnonzero(kept)
    for members in _groups(survey.prompts[rows]):
        first, *others = rows[members]
        for row in others:
            survey.add(
                int(row), "same-prompt", f"asks the same as {survey.place(int(first))}, and is answered otherwise"
            )


def _nearest(survey: Survey, threshold: float, prompts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `clusters`, by shingles, and by ROUGE-L F above the threshold where prompts are given."""
    labels, other, alike = clusters(survey.sketches, threshold)
    ties = [(row, near) for row, near in enumerate(novelty(prompts, threshold)) if near]
    for row, near in ties:
        if near.score > alike[row]:
            other[row], alike[row] = near.number, near.score
    joined = join_groups(labels.tolist(), [(row, near.number) for row, near in ties])
    return np.array(joined, dtype=np.int64), other, alike


def _near_rows(
    survey: Survey, wrong: np.ndarray, kept: np.ndarray, near: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> list[list[int]]:
    """Near-copies of prompts. Rows with equal prompts count once: they are duplicates, or have answers of their own."""
    labels, other, alike = near
    first = np.zeros(len(kept), dtype=bool)
    first[np.unique(survey.prompts, return_index=True)[1]] = True
    rows = np.flatnonzero(kept & first)
    groups = [_best_first([int(rows[m]) for m in members], wrong) for members in _groups(labels[rows])]
    for best, *others in groups:
        for row in others:
            nearest = f"; {alike[row]:.0%} like {survey.place(int(other[row]))}" if other[row] not in (-1, best) else ""
            share = f"{alike[row]:.0%} " if other[row] == best else ""
            survey.add(row, "near-duplicate", f"{share}like {survey.place(best)}, which is kept{nearest}")
    return groups


def _groups(labels: np.ndarray) -> list[list[int]]:
    """Numbers of equal labels, for each label that stands twice; in the order of their first members."""
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=labels[order][:1] + 1 if len(order) else []))
    parts = [part for part in np.split(order, starts[1:]) if len(part) > 1] if len(order) else []
    return sorted(([int(row) for row in part] for part in parts), key=lambda part: part[0])


def _best_first(members: Sequence[int], wrong: np.ndarray) -> list[int]:
    best = min(members, key=lambda row: (wrong[row], row))
    return [best, *(row for row in members if row != best)]


class Reference:
    """The evaluation side: rows that training must not have seen, where they stand, and their passages."""

    def __init__(self, rows: Iterable[Row], size: int | None = None):
        from pacos.data.curation.ngrams import fitting_size

        held = [(row.place, row.example) for row in rows if row.example is not None]
        self.places = [place for place, _ in held]
        self.examples: list[Example] = [example for _, example in held]
        self.texts = [f"{prompt_text(example)}\n{example.output}" for example in self.examples]
        self.size = size or fitting_size(self.texts)
        self.passages = Passages(self.texts, self.size)

    def words(self, passage: int) -> str:
        at = int(self.passages.at[passage])
        return " ".join(words_of(self.texts[self.passages.rows[passage]])[at : at + self.size])


def find_leaks(survey: Survey, reference: Reference, threshold: float, ignore: frozenset[int] = frozenset()) -> None:
    """Rows that ask what the evaluation side asks, nearly so, or hold a passage of it. `ignore`: ids that are that side."""
    prompts = [prompt_text(example) for example in reference.examples]
    keys = {int(key): n for n, key in reversed(list(enumerate(hashes([exact_key(prompt) for prompt in prompts]))))}
    best, alike = best_matches(survey.sketches, sketch(prompts), threshold)
    held = _passages_held(survey, reference)
    for row, (prompt, id) in enumerate(zip(survey.prompts, survey.ids, strict=True)):
        if int(id) in ignore:
            continue
        passage = held.get(survey.numbers[row])
        if int(prompt) in keys:
            survey.add(row, "leak", f"asks the same as {reference.places[keys[int(prompt)]]}")
        elif best[row] >= 0:
            survey.add(row, "leak", f"{alike[row]:.0%} like {reference.places[int(best[row])]}")
        elif passage is not None:
            place = reference.places[int(reference.passages.rows[passage])]
            survey.add(row, "leak", f"holds {reference.size} words in a row of {place}: '{reference.words(passage)}'")


def _passages_held(survey: Survey, reference: Reference) -> dict[int, int]:
    """{row number: first passage that it holds}, set phrases left out."""
    if not len(survey.hits):
        return {}
    counts = np.bincount(survey.hits[:, 1], minlength=len(reference.passages.hashes))
    held: dict[int, int] = {}
    for number, passage in survey.hits[counts[survey.hits[:, 1]] <= SET_PHRASE]:
        held.setdefault(int(number), int(passage))
    return held


def find_unusual(survey: Survey, rules: Sequence[str]) -> None:
    """Lengths more than DEVIATIONS robust deviations from the median, in log words; languages other than the set's."""
    for column, name in ((0, "instruction"), (2, "output")) if "length" in rules and len(survey.ids) else ():
        words = np.log1p(survey.lengths[:, column])
        middle = float(np.median(words))
        spread = max(1.4826 * float(np.median(np.abs(words - middle))), 0.2)
        for row in np.flatnonzero(np.abs(words - middle) > DEVIATIONS * spread).tolist():
            long = f"the {name} has {survey.lengths[row, column]:,} words; the median is {np.expm1(middle):.0f}"
            survey.add(row, "length", long)
    if "language" in rules:
        _other_languages(survey)


def _other_languages(survey: Survey) -> None:
    told = survey.languages.total() - survey.languages[""]
    common, count = max(((n, c) for n, c in survey.languages.items() if n), key=lambda pair: pair[1], default=("", 0))
    if count < COMMON_LANGUAGE * told:
        return
    for row, name in enumerate(survey.language_of_row):
        if name not in ("", common):
            survey.add(row, "language", f"the instruction is in '{name}'; {count:,} of {told:,} are in '{common}'")
