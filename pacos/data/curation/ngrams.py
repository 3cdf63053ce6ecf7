"""Passages that two texts share: runs of N words, as GPT-3's authors looked for test sets in their training data.

Brown et al. 2020, appendix C: N is the 5th percentile of the evaluation examples' length in words, 8 at least and 13 at most;
case and punctuation aside; a run that stands in more than ten training rows is a set phrase, and says nothing.

    passages = Passages(texts)        the evaluation side, held as sorted 64-bit hashes
    passages.find(text)               numbers of its runs that the text holds
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from pacos.data.near import words_of

FEWEST_WORDS, MOST_WORDS, SET_PHRASE = 8, 13, 10
_STEP = np.uint64(0x9E3779B97F4A7C15)


@lru_cache(maxsize=200_000)
def _hash_word(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "little") | 1


def run_hashes(words: Sequence[str], size: int) -> np.ndarray:
    """uint64 hash of every run of `size` words, in the order they stand."""
    if len(words) < size:
        return np.zeros(0, dtype=np.uint64)
    hashes = np.fromiter((_hash_word(word) for word in words), dtype=np.uint64, count=len(words))
    mixed = np.zeros(len(words) - size + 1, dtype=np.uint64)
    for place in range(size):
        mixed = (mixed ^ hashes[place : place + len(mixed)]) * _STEP
        mixed ^= mixed >> np.uint64(29)
    return mixed


def fitting_size(texts: Sequence[str]) -> int:
    """GPT-3's N for these evaluation texts."""
    lengths = [len(words_of(text)) for text in texts]
    return int(np.clip(np.percentile(lengths, 5), FEWEST_WORDS, MOST_WORDS)) if lengths else MOST_WORDS


class Passages:
    """Every run of `size` words of the texts. Run k is of text `rows[k]`, from its word `at[k]` on."""

    def __init__(self, texts: Sequence[str], size: int):
        self.size = size
        parts = [run_hashes(words_of(text), size) for text in texts]
        hashes = np.concatenate([*parts, np.zeros(0, dtype=np.uint64)])
        rows = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        at = np.concatenate([*(np.arange(len(part)) for part in parts), np.zeros(0, dtype=np.int64)])
        self.hashes, first = np.unique(hashes, return_index=True)
        self.rows, self.at = rows[first], at[first]

    def find(self, text: str) -> np.ndarray:
        """Runs that the text holds, each once, in the order they stand in it."""
        if not len(self.hashes):
            return np.zeros(0, dtype=np.int64)
        asked = run_hashes(words_of(text), self.size)
        at = np.minimum(np.searchsorted(self.hashes, asked), len(self.hashes) - 1)
        found = at[self.hashes[at] == asked]
        return found[np.sort(np.unique(found, return_index=True)[1])]
