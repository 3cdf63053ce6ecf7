"""What kinds of tasks a set holds: verbs and nouns, lengths, and how near each instruction is to another.

tree       verbs by rows, each with its nouns: the sunburst of the Alpaca report
lengths    words of instruction, input and output: quantiles, and counts for a histogram with bins that double
nearest    ROUGE-L of a sample of instructions to the nearest other one of the set: Self-Instruct's figure of novelty
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pacos.data.curation.survey import LENGTHS, Survey
from pacos.data.rouge import NearestIndex

VERBS_SHOWN, NOUNS_SHOWN = 20, 8
ASKED, AMONG, FLOOR = 500, 60_000, 0.2
BINS = 11
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


@dataclass(frozen=True)
class Diversity:
    """`tree`: (verb, rows, ((noun, rows), ...)); `told`: rows with a verb; `histograms[name][k]`: rows of 2^(k-1) to 2^k - 1
    words; `nearest`: F of each instruction asked about, 0 where none is above FLOOR; `among`: instructions compared with."""

    rows: int
    told: int
    pairs: int
    tree: tuple[tuple[str, int, tuple[tuple[str, int], ...]], ...]
    quantiles: dict[str, tuple[int, ...]]
    histograms: dict[str, tuple[int, ...]]
    nearest: tuple[float, ...]
    among: int
    languages: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        tree = [{"verb": v, "rows": n, "nouns": dict(nouns)} for v, n, nouns in self.tree]
        mean = float(np.mean(self.nearest)) if self.nearest else None
        return {
            "rows": self.rows,
            "with_verb": self.told,
            "different_pairs": self.pairs,
            "verbs": tree,
            "length_quantiles": {"at": list(QUANTILES), **{k: list(v) for k, v in self.quantiles.items()}},
            "rouge_l_to_nearest": {"asked": len(self.nearest), "among": self.among, "mean": mean},
            "languages": self.languages,
        }


def diversity(survey: Survey, instructions: Sequence[str]) -> Diversity:
    """`instructions`: the sample that `Sample` kept."""
    pairs = Counter({pair: n for pair, n in survey.pairs.items() if pair[0]})
    told = pairs.total()
    lengths = survey.lengths if len(survey.lengths) else np.zeros((1, len(LENGTHS)), np.int32)
    return Diversity(
        len(survey.ids),
        told,
        sum(1 for _, noun in pairs if noun),
        verb_tree(pairs),
        {name: tuple(int(q) for q in np.quantile(lengths[:, k], QUANTILES)) for k, name in enumerate(LENGTHS)},
        {name: divide_lengths(lengths[:, k]) for k, name in enumerate(LENGTHS)},
        to_nearest(instructions),
        len(instructions),
        {name or "not told": count for name, count in survey.languages.most_common()},
    )


def verb_tree(pairs: Counter[tuple[str, str]]) -> tuple[tuple[str, int, tuple[tuple[str, int], ...]], ...]:
    """The VERBS_SHOWN commonest verbs, each with its NOUNS_SHOWN commonest nouns; ties by the alphabet."""
    verbs: Counter[str] = Counter()
    nouns: dict[str, Counter[str]] = {}
    for (verb, noun), count in pairs.items():
        verbs[verb] += count
        if noun:
            nouns.setdefault(verb, Counter())[noun] += count
    return tuple(
        (verb, count, tuple(_commonest(nouns.get(verb, Counter()), NOUNS_SHOWN)))
        for verb, count in _commonest(verbs, VERBS_SHOWN)
    )


def _commonest(counts: Counter[str], number: int) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:number]


def divide_lengths(words: np.ndarray) -> tuple[int, ...]:
    """Rows of 0, 1, 2-3, 4-7, ... words; the last bin holds all that are longer."""
    bins = np.minimum(np.ceil(np.log2(words.astype(float) + 1)).astype(int), BINS)
    return tuple(int(n) for n in np.bincount(bins, minlength=BINS + 1))


def to_nearest(instructions: Sequence[str]) -> tuple[float, ...]:
    """ROUGE-L F of the first ASKED instructions to the nearest other one of all that are given."""
    index = NearestIndex()
    for text in instructions:
        index.add(text)
    found = []
    for number, text in enumerate(instructions[:ASKED]):
        near = [one.score for one in index.closest(text, k=2, floor=FLOOR) if one.number != number]
        found.append(near[0] if near else 0.0)
    return tuple(found)


class Sample:
    """At most AMONG instructions of a stream, chosen by their hashes: the same ones in whatever order they come."""

    def __init__(self, room: int = AMONG):
        self.room, self._held = room, dict[bytes, str]()

    def add(self, text: str) -> None:
        self._held[hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()] = text
        if len(self._held) > 2 * self.room:
            self._held = dict(sorted(self._held.items())[: self.room])

    def texts(self) -> list[str]:
        return [text for _, text in sorted(self._held.items())[: self.room]]
