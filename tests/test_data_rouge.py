"""ROUGE-L and novelty decide as rouge-score does, pair by pair, whatever is left out on the way."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer, tokenize

from pacos.data import marks
from pacos.data.rouge import Near, NearestIndex, f_measure, novelty, rouge_l, words

alpaca = Path(__file__).resolve().parents[2] / "shared" / "data" / "alpaca" / "alpaca_data.json"
quick = settings(max_examples=60, deadline=None, derandomize=True)

some_words = st.lists(st.sampled_from(["a", "a", "b", "c", "d", "e", "f", "g"]), max_size=14).map(" ".join)
sets_of_texts = st.lists(some_words, max_size=14)
thresholds = st.sampled_from([0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])


Measure = Callable[[str, str], float]


@cache
def peer(one: str, other: str) -> float:
    return rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False).score(one, other)["rougeL"].fmeasure


def ranking(text: str, others: Sequence[str], floor: float, measure: Measure = peer) -> list[Near]:
    """All above the floor, by comparing with each."""
    scored = sorted((-measure(text, other), number) for number, other in enumerate(others))
    return [Near(number, -score) for score, number in scored if -score > floor]


def expected_novelty(texts: Sequence[str], threshold: float, measure: Measure = peer) -> list[Near | None]:
    return [next(iter(ranking(text, texts[:n], threshold, measure)), None) for n, text in enumerate(texts)]


def texts_with_copies(count: int, longest: int, seed: int = 0) -> list[str]:
    """Random texts, half of them a copy of an earlier one with some words changed, left out or moved."""
    draw = random.Random(seed)
    texts: list[str] = []
    for _ in range(count):
        ws = [f"w{int(draw.paretovariate(0.4))}" for _ in range(draw.randint(1, longest))]
        if texts and draw.random() < 0.5:
            ws = draw.choice(texts).split()
            for _ in range(draw.randint(0, len(ws) // 2)):
                ws.insert(draw.randrange(len(ws)), ws.pop(draw.randrange(len(ws))))
                ws[draw.randrange(len(ws))] = draw.choice(["w1", "w2", f"w{draw.randrange(9999)}"])
        texts.append(" ".join(ws))
    return texts


@quick
@given(st.text(st.characters(codec="utf-8") | st.sampled_from("aZ09 _-İK\n")))
def test_words_are_those_of_rouge_score(text: str) -> None:
    assert words(text) == tokenize.tokenize(text, None)


@quick
@given(some_words, some_words)
def test_rouge_l_is_rouge_scores_to_the_last_bit(one: str, other: str) -> None:
    assert rouge_l(one, other) == rouge_l(other, one) == peer(one, other)


@quick
@given(sets_of_texts, thresholds)
def test_novelty_is_that_of_comparing_each_with_all_before(texts: list[str], threshold: float) -> None:
    assert novelty(texts, threshold) == expected_novelty(texts, threshold)


@quick
@given(sets_of_texts, thresholds)
def test_texts_added_if_novel_are_those_of_alpacas_loop(texts: list[str], threshold: float) -> None:
    index, accepted = NearestIndex(threshold), []
    for text in texts:
        expected = next(iter(ranking(text, accepted, threshold)), None)
        assert index.add_if_novel(text) == expected
        accepted += [text] if expected is None else []
    assert len(index) == len(accepted)


@quick
@given(sets_of_texts, some_words, st.integers(1, 5), thresholds)
def test_the_closest_are_the_first_of_the_whole_ranking(texts: list[str], text: str, k: int, floor: float) -> None:
    index = NearestIndex()
    assert [index.add(other) for other in texts] == list(range(len(texts)))
    assert index.closest(text, k, floor) == ranking(text, texts, floor)[:k]


@pytest.mark.parametrize(("longest", "threshold"), [(12, 0.7), (12, 0.5), (150, 0.7), (150, 0.5)])
def test_among_many_short_or_long_texts_the_nearest_are_found(longest: int, threshold: float) -> None:
    texts = texts_with_copies(120, longest)
    found = novelty(texts, threshold)
    assert found == expected_novelty(texts, threshold, rouge_l)
    assert 20 < sum(near is not None for near in found) < 100


@pytest.mark.parametrize(
    ("common", "length", "other"), [(7, 10, 10), (7, 8, 12), (14, 20, 20), (21, 27, 33), (35, 49, 51)]
)
def test_at_the_threshold_rounding_decides_as_in_rouge_score(common: int, length: int, other: int) -> None:
    shared = [f"s{n}" for n in range(common)]
    one = " ".join([*shared, *(f"a{n}" for n in range(length - common))])
    two = " ".join([*shared, *(f"b{n}" for n in range(other - common))])
    assert peer(one, two) == pytest.approx(0.7, abs=1e-12)
    decided = [near is not None for near in novelty([one, two], 0.7)]
    assert decided == [False, peer(one, two) > 0.7]


def test_both_sides_of_the_threshold_occur_by_rounding() -> None:
    scores = {f_measure(7 * n, length, 20 * n - length) for n in range(1, 30) for length in range(7 * n, 13 * n)}
    assert min(scores) < 0.7 < max(scores)
    assert max(scores) - min(scores) < 1e-15


def test_of_equally_near_texts_the_first_is_named() -> None:
    index = NearestIndex()
    for text in ("a b c d x", "q r s t", "a b c d y", "a b c d"):
        index.add(text)
    shorter, same_length = peer("a b c d z", "a b c d"), peer("a b c d z", "a b c d x")
    assert index.closest("a b c d z", k=9) == [Near(3, shorter), Near(0, same_length), Near(2, same_length)]
    assert index.closest("a b c d z", k=9, floor=same_length) == [Near(3, shorter)]
    assert novelty(["A b!", "a-B", "c", "a b"]) == [None, Near(0, 1.0), None, Near(0, 1.0)]


def test_a_text_without_words_is_near_nothing() -> None:
    assert novelty(["", "東京", "...", "", "a", "東京"]) == [None] * 6
    index = NearestIndex()
    assert [index.add_if_novel(text) for text in ("", "?", "a")] == [None, None, None]
    assert (len(index), index.closest("!", floor=0.0), index.closest("a")) == (3, [], [Near(2, 1.0)])
    assert NearestIndex().closest("a", k=3, floor=0.0) == []
    assert novelty([]) == []


def test_more_words_than_there_are_code_points_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = texts_with_copies(60, 12, seed=1)
    expected = novelty(texts, 0.5)
    monkeypatch.setattr(marks, "CODE_POINTS", 20)
    assert (marks.pack([3, 19]), marks.pack([3, 20])) == ("\x03\x13", (3, 20))
    assert novelty(texts, 0.5) == expected
    assert sum(near is not None for near in expected) > 20


def test_repeated_words_are_marks_of_their_own_and_a_signature_counts_what_differs() -> None:
    marker = marks.Marker()
    one, other = marker.mark(["the", "cat", "the"]), marker.mark(["the", "dog", "the", "the"])
    assert (one.marks, other.marks) == ([0, 1, 2], [0, 3, 2, 4])
    assert other.sequence == "\x00\x02\x00\x00"
    differing = np.array([one.signature ^ other.signature, 0, 2**64 - 1], dtype=np.uint64)
    assert marks.count_ones(differing).tolist() == [3, 0, 64]


@pytest.mark.skipif(not alpaca.exists(), reason="needs ../shared/data/alpaca/alpaca_data.json")
def test_real_instructions_with_changed_copies_are_decided_as_by_rouge_score() -> None:
    texts = [row["instruction"] for row in json.loads(alpaca.read_text(encoding="utf-8"))[:60]]
    draw = random.Random(0)
    copies = [" ".join(w for w in text.split() if draw.random() < 0.7) for text in texts[:40]]
    found = novelty(texts + copies, 0.7)
    assert found == expected_novelty(texts + copies, 0.7)
    assert 10 < sum(near is not None for near in found) < 40
