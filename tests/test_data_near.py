"""Near-duplicates found are those that comparing every pair would find."""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import pytest

from pacos.data.near import (
    MOST,
    SKETCH,
    NearIndex,
    exact_key,
    join_groups,
    near_duplicate_groups,
    near_matches,
    similarity,
    sketch,
    words_of,
)

WORDS = (
    "a",
    "of",
    "the",
    "in",
    "cat",
    "sum",
    "list",
    "word",
    "number",
    "name",
    "write",
    "sort",
    "find",
    "given",
    "text",
)


def shingles(text: str) -> set[tuple[str, ...]]:
    words = words_of(text)
    return {tuple(words[n : n + 3]) for n in range(max(1, len(words) - 2))}


def jaccard(one: str, other: str) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def texts_with_copies(count: int, seed: int) -> list[str]:
    """Random texts of 1 to 40 words, half of them a copy of an earlier one with up to three words changed."""
    draw = random.Random(seed)
    texts: list[str] = []
    for _ in range(count):
        words = [draw.choice(WORDS) + str(draw.randrange(9)) for _ in range(draw.randint(1, 40))]
        if texts and draw.random() < 0.5:
            words = draw.choice(texts).split()
            for _ in range(draw.randrange(4)):
                words[draw.randrange(len(words))] = draw.choice(WORDS)
        texts.append(" ".join(words))
    return texts


def groups_by_brute_force(texts: list[str], threshold: float) -> list[int]:
    sets = [shingles(text) for text in texts]
    near = [
        (a, b)
        for (a, one), (b, other) in combinations(enumerate(sets), 2)
        if len(one & other) / len(one | other) >= threshold - 1e-9
    ]
    return join_groups(range(len(texts)), near)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 1.0])
def test_groups_are_those_of_brute_force(threshold: float) -> None:
    texts = texts_with_copies(300, seed=7)
    groups = near_duplicate_groups(texts, threshold)
    assert groups == groups_by_brute_force(texts, threshold)
    assert len(set(groups)) < 300


@pytest.mark.parametrize("threshold", [0.4, 0.8])
def test_matches_across_sets_are_the_most_similar_by_brute_force(threshold: float) -> None:
    texts = texts_with_copies(240, seed=3)
    queries, references = texts[::2], texts[1::2]
    found = near_matches(queries, references, threshold)
    best = [max(jaccard(query, reference) for reference in references) for query in queries]
    assert [match is not None for match in found] == [value >= threshold - 1e-9 for value in best]
    for query, match, value in zip(queries, found, best, strict=True):
        if match:
            assert match[1] == pytest.approx(value, abs=1e-12)
            assert jaccard(query, references[match[0]]) == pytest.approx(value, abs=1e-12)
    assert 10 < sum(match is not None for match in found) < 120


def test_similarity_of_short_texts_is_exact_and_of_long_ones_close() -> None:
    draw = random.Random(1)
    words = [str(draw.randrange(10**6)) for _ in range(4000)]
    one, other = " ".join(words[:3000]), " ".join(words[500:3500])
    long = sketch([one, other])
    assert [len(long[0]), len(long[1])] == [SKETCH, SKETCH]
    assert similarity(long[0], long[1]) == pytest.approx(jaccard(one, other), abs=0.12)
    short = sketch(["one two three four five", "one two three four six"])
    assert similarity(short[0], short[1]) == 0.5


def test_long_near_copies_are_one_group() -> None:
    draw = random.Random(2)
    words = [str(draw.randrange(10**6)) for _ in range(2000)]
    copy = [*words[:1990], "something", "else", *words[1992:]]
    other = [str(draw.randrange(10**6)) for _ in range(2000)]
    assert near_duplicate_groups([" ".join(ws) for ws in (words, other, copy)], 0.8) == [0, 1, 0]


def test_case_spacing_and_sentence_punctuation_make_no_difference_but_symbols_do() -> None:
    assert exact_key("Write  a poem, please!") == exact_key("write a POEM please")
    assert near_duplicate_groups(["5 + 3?", "5 - 3?", "5 +  3"], 0.8) == [0, 1, 0]
    assert near_duplicate_groups(["???", "!!!", " ???"], 0.8) == [0, 1, 0]


def test_scripts_without_spaces_are_compared_by_character() -> None:
    assert words_of("请写一首诗 abc") == ["请", "写", "一", "首", "诗", "abc"]
    texts = ["请帮我写一首关于春天和花的诗歌好吗", "请帮我写一首关于春天和花的诗歌好不", "今天天气怎么样"]
    assert near_duplicate_groups(texts, 0.8) == [0, 0, 2]


def test_nothing_is_near_nothing() -> None:
    assert near_duplicate_groups([], 0.8) == []
    assert near_matches([], ["a b c"], 0.8) == []
    assert near_matches(["a b c", ""], [], 0.8) == [None, None]
    assert near_duplicate_groups(["", "", "a"], 0.8) == [0, 0, 2]


def test_shared_boilerplate_costs_bounded_work() -> None:
    boilerplate = "you are given a task please read it with care and answer in one short sentence only here it is"
    texts = [f"{boilerplate} {' '.join(str(12 * n + m) for m in range(12))}" for n in range(900)]
    most_alike = jaccard(texts[0], texts[1])
    index = NearIndex(sketch(texts), most_alike + 0.01)
    assert max(len(index.candidates(shared)) for shared in index.shared(sketch(texts))) <= MOST + 20
    assert near_duplicate_groups(texts, most_alike + 0.01) == list(range(900))
    assert near_duplicate_groups(texts, most_alike) == [0] * 900


def test_sketches_do_not_depend_on_the_texts_beside_them() -> None:
    alone, among = sketch(["sort these words by length"]), sketch(["other words", "sort these words by length"])
    assert np.array_equal(alone[0], among[1])
    assert alone[0].tolist() == sorted(set(alone[0].tolist()))


def test_ties_join_groups_under_the_smallest_label() -> None:
    assert join_groups([0, 1, 2, 2, 4], [(1, 2), (3, 4)]) == [0, 1, 1, 1, 1]
