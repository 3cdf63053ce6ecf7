"""ROUGE-L between texts, and who is nearest among many: the novelty test of Self-Instruct, exact and without all pairs.

    F = 2 P R / (P + R),   P = LCS / |a|,   R = LCS / |b|,   LCS = longest common subsequence of words

Words, arithmetic and so every decision `F > threshold` are rouge-score's. As F = 2 LCS / (|a| + |b|), and the LCS is at most
the number of words in common (a word that comes twice counts twice), F > t needs  common > t (|a| + |b|) / 2.  Hence

    prefix      of the words of a, rare ones first, one of the first |a| - needed + 1 is in b    (Chaudhuri et al. 2006)
    signature   one bit a word, xor: texts differ in at least as many words as bits              (Sandes et al. 2017)
    count       words of the prefix that are in b, and all words of a behind it, are at least `needed`

and an LCS is computed for what is left, in the order of the bound on F, until no other can be nearer.
"""

from __future__ import annotations

import math
import re
from array import array
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rapidfuzz.distance import LCSseq

from pacos.data.marks import Column, Marked, Marker, WordSequence, count_ones, pack

_WORD = re.compile("[a-z0-9]+")
_CHEAP = 256
_LEVELS = (0.5, 0.3)
_SLACK = 1e-9


def words(text: str) -> list[str]:
    """Lower case, runs of a-z and 0-9; everything else separates. As rouge-score's tokenizer without stemming."""
    return _WORD.findall(text.lower())


def rouge_l(a: str, b: str) -> float:
    """ROUGE-L F, 0 to 1: what `RougeScorer(["rougeL"], use_stemmer=False)` gives. 0 where a text has no word."""
    known: dict[str, int] = {}
    one, other = ([known.setdefault(word, len(known)) for word in words(text)] for text in (a, b))
    return f_measure(LCSseq.similarity(pack(one), pack(other)), len(one), len(other))


def f_measure(common: int, length: int, other: int) -> float:
    """F of an LCS of `common` words, in rouge-score's order of operations: its rounding decides at the threshold."""
    return float(_f(common, length, other)) if common else 0.0


def _f(common: Any, length: Any, other: Any) -> Any:
    precision, recall = common / length, common / other
    return 2 * precision * recall / (precision + recall)


@dataclass(frozen=True, slots=True)
class Near:
    """A text that is near: its number, counted from 0 in the order of adding, and its ROUGE-L F."""

    number: int
    score: float


class NearestIndex:
    """Texts that can be asked for those near to another. Adding costs microseconds, at any size."""

    def __init__(self, threshold: float = 0.7):
        self.threshold = threshold
        self._marker = Marker()
        self._sequences: list[WordSequence] = []
        self._lengths, self._signatures = Column(np.int32), Column(np.uint64)
        self._holders: list[array[int]] = []
        """For each mark the numbers of the texts that have it, ascending."""
        self._shortest = 1 << 30

    def __len__(self) -> int:
        return len(self._sequences)

    def add(self, text: str) -> int:
        """The number of the text, which is in the index from now on."""
        return self._add(self._marker.mark(words(text)))

    def closest(self, text: str, k: int = 1, floor: float | None = None) -> list[Near]:
        """The `k` nearest, best first, with F above `floor` (not at it); of equal ones the first added comes first.

        `floor` is the threshold unless given; with 0 all that share a word count. The lower, the slower.
        """
        return self._closest(self._marker.mark(words(text)), k, self.threshold if floor is None else floor)

    def add_if_novel(self, text: str) -> Near | None:
        """None where no text has F above the threshold, and then the text is added; else the nearest."""
        read = self._marker.mark(words(text))
        near = self._closest(read, 1, self.threshold)
        if near:
            return near[0]
        self._add(read)
        return None

    def _add(self, text: Marked) -> int:
        number = len(self)
        self._sequences.append(text.sequence)
        self._lengths.append(len(text.marks))
        self._signatures.append(text.signature)
        if text.marks:
            self._shortest = min(self._shortest, len(text.marks))
            self._holders.extend(array("i") for _ in range(max(text.marks) + 1 - len(self._holders)))
        for mark in text.marks:
            self._holders[mark].append(number)
        return number

    def _closest(self, text: Marked, k: int, floor: float) -> list[Near]:
        """From the top down: most often the nearest are far above a low floor, and a high one is quickly asked."""
        for level in (*(level for level in _LEVELS if level > floor), floor):
            best = self._above(text, k, level)
            if len(best) == k:
                break
        return best

    def _above(self, text: Marked, k: int, floor: float) -> list[Near]:
        best: list[tuple[float, int]] = []
        for number, bound in zip(*(column.tolist() for column in self._candidates(text, floor)), strict=True):
            if len(best) == k and (-bound, number) > best[-1]:
                break
            score = self._score(text, number)
            if score > floor:
                insort(best, (-score, number))
                del best[k:]
        return [Near(number, -score) for score, number in best]

    def _score(self, text: Marked, number: int) -> float:
        sequence = self._sequences[number]
        return f_measure(LCSseq.similarity(text.sequence, sequence), len(text.marks), len(sequence))

    def _candidates(self, text: Marked, floor: float) -> tuple[np.ndarray, np.ndarray]:
        """(numbers, upper bounds of F), highest bound first, of all texts that can have F > floor."""
        length = len(text.marks)
        shortest = max(self._shortest, math.ceil(length * floor / (2 - floor) - _SLACK))
        needed = max(1, math.floor(floor * (length + shortest) / 2 - _SLACK) + 1)
        if not length or needed > length:
            return np.empty(0, np.int64), np.empty(0)
        holders, behind = self._prefix(text.marks, length - needed + 1)
        found = np.frombuffer(b"".join(holders), np.int32) if holders else np.empty(0, np.int32)
        lengths = self._lengths.values.take(found)
        differing = count_ones(self._signatures.values.take(found) ^ np.uint64(text.signature))
        fits = np.maximum(differing, np.abs(lengths - length)) < (1 - floor) * (lengths + length) + _SLACK
        numbers, common = np.unique(found[fits], return_counts=True)
        lengths = self._lengths.values[numbers]
        bounds = _f(np.minimum(common + behind, lengths), length, lengths)
        order = np.argsort(-bounds, kind="stable")
        order = order[: np.count_nonzero(bounds > floor - _SLACK)]
        return numbers[order], bounds[order]

    def _prefix(self, marks: Sequence[int], least: int) -> tuple[list[array[int]], int]:
        """Who holds the rarest marks, one array a mark: `least` of them, and more while that is cheap; and how many are left."""
        known = [self._holders[mark] for mark in marks if mark < len(self._holders)]
        known.sort(key=len)
        taken, total = max(0, least - (len(marks) - len(known))), 0
        for number, holders in enumerate(known):
            total += len(holders)
            if number >= taken and total > _CHEAP:
                break
            taken = max(taken, number + 1)
        return known[:taken], len(known) - taken


def novelty(texts: Sequence[str], threshold: float = 0.7) -> list[Near | None]:
    """For each text the nearest of all before it, by number in `texts`, where F is above the threshold; None: novel.

    Before means all before, novel or not; `add_if_novel` asks only the novel ones. Long texts are gone through first: a
    text then meets none shorter than itself, so that a near one has more than `threshold` of its words.
    """
    index = NearestIndex(threshold)
    read = [index._marker.mark(words(text)) for text in texts]
    first: dict[WordSequence, int] = {}
    copied = [first.setdefault(text.sequence, number) for number, text in enumerate(read)]
    order = np.array(sorted(first.values(), key=lambda number: -len(read[number].marks)), dtype=np.int64)
    best = _Best(len(read), threshold)
    for number in order.tolist():
        _compare(read[number], number, index, order, best)
        index._add(read[number])
    for number, original in enumerate(copied):
        if original < number and read[number].marks:
            best.offer(number, original, 1.0)
    return best.found()


def _compare(text: Marked, number: int, index: NearestIndex, order: np.ndarray, best: _Best) -> None:
    """Scores of the text and those in the index, which are the first of `order`, as far as they can be the best of one."""
    places, bounds = index._candidates(text, index.threshold)
    at_once = 1
    while len(places) and len(hope := best.hope(number, order[places], bounds)):
        places, bounds = places[hope], bounds[hope]
        for place in places[:at_once].tolist():
            best.offer(number, int(order[place]), index._score(text, place))
        places, bounds = places[at_once:], bounds[at_once:]
        at_once *= 2


class _Best:
    """For each text the nearest before it of those that were offered, and of equally near ones the first."""

    def __init__(self, count: int, threshold: float):
        self._scores, self._numbers = np.full(count, threshold), np.full(count, -1)

    def offer(self, one: int, other: int, score: float) -> None:
        earlier, later = sorted((one, other))
        if (-score, earlier) < (-self._scores[later], self._numbers[later]):
            self._scores[later], self._numbers[later] = score, earlier

    def hope(self, one: int, others: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        """Which of the pairs (one, other), whose scores are at most `bounds`, would be taken at their bound."""
        earlier, later = np.minimum(one, others), np.maximum(one, others)
        scores = self._scores[later]
        return np.flatnonzero((bounds > scores) | ((bounds == scores) & (earlier < self._numbers[later])))

    def found(self) -> list[Near | None]:
        pairs = zip(self._numbers.tolist(), self._scores.tolist(), strict=True)
        return [Near(number, score) if number >= 0 else None for number, score in pairs]
