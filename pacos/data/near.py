"""Which texts are nearly the same: Jaccard similarity of their word shingles.

    similarity(A, B) = |A and B| / |A or B|,    A, B sets of three-word shingles, case and sentence punctuation aside

Each text is kept as its SKETCH smallest shingle hashes (a bottom-k sketch, Broder 1997), so the similarity is exact
where both texts have fewer than SKETCH shingles and an estimate beyond. Pairs are found by prefix filtering (Chaudhuri
et al. 2006, Bayardo et al. 2007): with each set's shingles ordered from rare to common, two sets of similarity t must
share one of their first |A| - ceil(t |A|) + 1. This finds every pair, needs no tuning, and gives the same answer each
time. Boilerplate comes last in that order; of the texts that share such a shingle, only the first MOST are compared.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

WORDS_IN_SHINGLE = 3
SKETCH = 128
MOST = 500
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+|[^\s\w.,;:!?'\"“”‘’…]")
_ODD = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def words_of(text: str) -> list[str]:
    """Casefolded words; a Chinese or Japanese character and a symbol (`+`, `{`) are each a word, `.,;:!?` are none."""
    return _WORD.findall(text.casefold()) or [text.strip()]


def exact_key(text: str) -> str:
    """Equal for texts that differ in case, spacing and sentence punctuation alone."""
    return " ".join(words_of(text))


@dataclass(frozen=True)
class Sketches:
    """Shingle hashes of N texts. Text n has `values[starts[n]:starts[n + 1]]`: uint32, ascending, no repeats."""

    values: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, n: int) -> np.ndarray:
        return self.values[self.starts[n] : self.starts[n + 1]]

    @property
    def sizes(self) -> np.ndarray:
        return np.diff(self.starts)

    @property
    def rows(self) -> np.ndarray:
        """The text that each value belongs to."""
        return np.repeat(np.arange(len(self)), self.sizes)


def sketch(texts: Sequence[str]) -> Sketches:
    """Sketches of texts. A text shorter than a shingle is one shingle."""
    return _sketch_words([words_of(text) for text in texts])


def _sketch_words(words: Sequence[Sequence[str]]) -> Sketches:
    known: dict[str, int] = {}
    numbers = np.fromiter((known.setdefault(w, len(known)) for ws in words for w in ws), dtype=np.int64)
    hashes = np.fromiter((_hash_word(w) for w in known), dtype=np.uint64, count=len(known))[numbers]
    counts = np.fromiter((len(ws) for ws in words), dtype=np.int64, count=len(words))
    return _distinct(*_shingles(hashes, counts), len(words))


def _hash_word(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def _shingles(hashes: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(row, uint32 hash) of every run of three words that stays inside its text."""
    rows = np.repeat(np.arange(len(counts)), counts)
    ends = np.cumsum(counts)[rows]
    position = np.arange(len(hashes))
    lengths = np.minimum(counts[rows], WORDS_IN_SHINGLE)
    mixed = np.zeros(len(hashes), dtype=np.uint64)
    for step in range(WORDS_IN_SHINGLE):
        there = np.minimum(position + step, len(hashes) - 1)
        mixed += np.where(step < lengths, hashes[there] * _ODD[step], np.uint64(0))
    mixed ^= mixed >> np.uint64(31)
    mixed *= _ODD[1]
    whole = position + lengths <= ends
    return rows[whole], (mixed >> np.uint64(32)).astype(np.uint32)[whole]


def _distinct(rows: np.ndarray, values: np.ndarray, count: int) -> Sketches:
    """The SKETCH smallest different values of each row."""
    keys = np.unique(rows.astype(np.uint64) << np.uint64(32) | values)
    rows = (keys >> np.uint64(32)).astype(np.int64)
    first = np.searchsorted(rows, np.arange(count))
    kept = np.arange(len(rows)) - first[rows] < SKETCH
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows[kept], minlength=count))])
    return Sketches((keys[kept] & np.uint64(0xFFFFFFFF)).astype(np.uint32), starts)


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Jaccard similarity of two sketches: over their whole union, or over its SKETCH smallest values."""
    union = np.union1d(one, other)
    if max(len(one), len(other)) >= SKETCH:
        union = union[:SKETCH]
    shared = np.intersect1d(one, other, assume_unique=True)
    return float(np.isin(union, shared, assume_unique=True).mean())


class NearIndex:
    """Texts that can be asked for those similar to a sketch."""

    def __init__(self, sketches: Sketches, threshold: float):
        self.sketches, self.threshold = sketches, threshold
        self.known, self.how_often = np.unique(sketches.values, return_counts=True)
        mask = self._in_prefix(sketches)
        order = np.argsort(sketches.values[mask], kind="stable")
        self.posted, self.posted_rows = sketches.values[mask][order], sketches.rows[mask][order]

    def _in_prefix(self, sketches: Sketches) -> np.ndarray:
        """Which values are among the rare ones that a similar set must share one of."""
        order = np.lexsort((sketches.values, self._frequency(sketches.values), sketches.rows))
        needed = sketches.sizes - np.ceil(self.threshold * sketches.sizes - 1e-9).astype(np.int64) + 1
        place = np.arange(len(order)) - sketches.starts[:-1][sketches.rows]
        mask = np.zeros(len(order), dtype=bool)
        mask[order] = place < needed[sketches.rows]
        return mask

    def _frequency(self, values: np.ndarray) -> np.ndarray:
        if not len(self.known):
            return np.zeros(len(values), dtype=np.int64)
        at = np.minimum(np.searchsorted(self.known, values), len(self.known) - 1)
        return np.where(self.known[at] == values, self.how_often[at], 0)

    def shared(self, queries: Sketches, least: int = 1) -> list[np.ndarray]:
        """For each query its prefix values that at least `least` texts of the index have in theirs."""
        mask = self._in_prefix(queries)
        asked = queries.values[mask]
        posts = np.searchsorted(self.posted, asked, "right") - np.searchsorted(self.posted, asked)
        hit, rows = asked[posts >= least], queries.rows[mask][posts >= least]
        bounds = np.cumsum(np.bincount(rows, minlength=len(queries)))
        return np.split(hit, bounds[:-1]) if len(queries) else []

    def candidates(self, shared: np.ndarray) -> np.ndarray:
        """Rows that hold one of the prefix values, ascending; of each value the first MOST."""
        low, high = np.searchsorted(self.posted, shared), np.searchsorted(self.posted, shared, "right")
        high = np.minimum(high, low + MOST)
        return np.unique(np.concatenate([self.posted_rows[a:b] for a, b in zip(low, high, strict=True)]))

    def verified(self, query: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(rows, similarities) of those at least as similar as the threshold."""
        starts = self.sketches.starts[rows]
        sizes = self.sketches.starts[rows + 1] - starts
        fits = np.minimum(sizes, len(query)) >= self.threshold * np.maximum(sizes, len(query)) - 1e-9
        rows, starts, sizes = rows[fits], starts[fits], sizes[fits]
        if not len(rows):
            return rows, np.zeros(0)
        offsets = np.cumsum(sizes) - sizes
        values = self.sketches.values[np.arange(sizes.sum()) - np.repeat(offsets - starts, sizes)]
        at = np.minimum(np.searchsorted(query, values), len(query) - 1)
        shared = np.add.reduceat((query[at] == values).astype(np.int64), offsets)
        found = shared / (sizes + len(query) - shared)
        for n in np.flatnonzero((np.maximum(sizes, len(query)) >= SKETCH) & (shared > 0)):
            found[n] = similarity(query, self.sketches[rows[n]])
        near = found >= self.threshold - 1e-9
        return rows[near], found[near]


def near_duplicate_groups(texts: Sequence[str], threshold: float) -> list[int]:
    """For each text the number of the first text of its group.

    Texts with equal `exact_key`, or with a chain of similarities of at least `threshold` between them, are one group.
    """
    words = [words_of(text) for text in texts]
    first: dict[str, int] = {}
    leader = [first.setdefault(" ".join(ws), n) for n, ws in enumerate(words)]
    distinct = list(first.values())
    sketches = _sketch_words([words[n] for n in distinct])
    index = NearIndex(sketches, threshold)
    labels = np.arange(len(distinct))
    for n, shared in enumerate(index.shared(sketches, least=2)):
        if len(shared):
            rows = index.candidates(shared)
            rows = rows[(rows < n) & (labels[rows] != labels[n])]
            for other in {int(label) for label in labels[index.verified(sketches[n], rows)[0]]}:
                low, high = sorted((int(labels[n]), other))
                labels[labels == high] = low
    position = {n: place for place, n in enumerate(distinct)}
    return [distinct[labels[position[n]]] for n in leader]


def near_matches(
    queries: Sequence[str], references: Sequence[str] | Sketches, threshold: float
) -> list[tuple[int, float] | None]:
    """For each query the most similar reference and the similarity, where that is at least `threshold`."""
    known = references if isinstance(references, Sketches) else sketch(references)
    index, asked = NearIndex(known, threshold), sketch(queries)
    return [_best(index, asked[n], shared) for n, shared in enumerate(index.shared(asked))]


def _best(index: NearIndex, query: np.ndarray, shared: np.ndarray) -> tuple[int, float] | None:
    if not len(shared):
        return None
    rows, found = index.verified(query, index.candidates(shared))
    return (int(rows[found.argmax()]), float(found.max())) if len(rows) else None


def join_groups(labels: Sequence[int], ties: Iterable[Sequence[int]]) -> list[int]:
    """Groups after each tie's members are made one; labelled by the smallest member's label."""
    parent = {label: label for label in labels}

    def root(label: int) -> int:
        while parent[label] != label:
            parent[label] = label = parent[parent[label]]
        return label

    for tie in ties:
        roots = sorted({root(labels[n]) for n in tie})
        parent.update((other, roots[0]) for other in roots[1:])
    return [root(label) for label in labels]
