"""Novelty of Alpaca's instructions, each against all before it: ours beside rapidfuzz and rouge-score. `make bench-dedup`.

Ours runs whole, on one core: from texts to decisions, reading included. The peers compare every pair. rapidfuzz's LCS runs
on some random rows against all, rouge-score's on random pairs, both with the words read before, and the time of all pairs
is reckoned from that. Then the decisions: random pairs, and every pair within BAND of the threshold, are scored by
rouge-score; and every pair that rapidfuzz finds near, of all that there are, must be among ours.
Growth: the same on more rows, copies with up to half of their words changed. Without ../shared the starter set is used.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any

import numpy as np
from common import ALPACA, data_name, in_own_process, peak_rss_gb, run_one, write_result

THRESHOLD, BAND = 0.7, 0.02
RANDOM_PAIRS, RAPIDFUZZ_ROWS = 250_000, 1000
GROWTH = (10_000, 52_002, 200_000)
BLOCK = 400
TIMEOUT_SECONDS = 3600


def instructions() -> list[str]:
    from pacos.data import load_examples

    if ALPACA.exists():
        return [row["instruction"] for row in json.loads(ALPACA.read_text(encoding="utf-8"))]
    return [example.instruction for example in load_examples("starter").examples]


def grown(texts: Sequence[str], count: int) -> list[str]:
    """`count` texts: the first ones, and past the last one copies with up to half of the words taken from another."""
    draw = random.Random(0)
    rows = list(texts[:count])
    while len(rows) < count:
        words, others = draw.choice(texts).split(), draw.choice(texts).split()
        for _ in range(draw.randint(0, len(words) // 2) if others else 0):
            words[draw.randrange(len(words))] = draw.choice(others)
        rows.append(" ".join(words))
    return rows


def pacos() -> dict[str, Any]:
    """Whole set at once; then one text at a time, as the generation loop asks."""
    from pacos.data.rouge import novelty

    texts = instructions()
    held, began = peak_rss_gb(), time.perf_counter()
    found = novelty(texts, THRESHOLD)
    seconds = time.perf_counter() - began
    return {
        "rows": len(texts),
        "pairs": pairs_of(len(texts)),
        "seconds": seconds,
        "not_novel": sum(near is not None for near in found),
        "rss_added_gb": peak_rss_gb() - held,
    }


def one_at_a_time() -> dict[str, Any]:
    from pacos.data.rouge import NearestIndex

    texts, index, each = instructions(), NearestIndex(THRESHOLD), []
    for text in texts:
        began = time.perf_counter()
        index.add_if_novel(text)
        each.append(time.perf_counter() - began)
    last = np.sort(each[-len(each) // 10 :]) * 1e3
    began = time.perf_counter()
    for text in texts[:200]:
        index.closest(text, k=10, floor=0.0)
    return {
        "rows": len(index),
        "seconds": sum(each),
        "last_tenth_median_ms": float(np.median(last)),
        "last_tenth_99_percent_ms": float(last[int(0.99 * len(last))]),
        "ten_nearest_of_all_ms": (time.perf_counter() - began) / 200 * 1e3,
    }


def growth() -> dict[str, Any]:
    """Seconds by number of rows; `power`: seconds ~ rows ^ power, from one size to the next."""
    from pacos.data.rouge import novelty

    texts, sizes = instructions(), []
    for count in GROWTH:
        rows = grown(texts, count)
        began = time.perf_counter()
        near = sum(near is not None for near in novelty(rows, THRESHOLD))
        sizes.append({"rows": count, "seconds": time.perf_counter() - began, "not_novel": near})
    for before, after in pairwise(sizes):
        after["power"] = log(after["seconds"] / before["seconds"]) / log(after["rows"] / before["rows"])
    return {"sizes": sizes, "peak_rss_gb": peak_rss_gb()}


def pairs_of(count: int) -> int:
    return count * (count - 1) // 2


@cache
def read() -> tuple[list[str], np.ndarray]:
    """Texts with a character a word, and their lengths: what rapidfuzz reads fastest."""
    from pacos.data.rouge import words

    known: dict[str, int] = {}
    coded = ["".join(chr(known.setdefault(word, len(known))) for word in words(text)) for text in instructions()]
    return coded, np.array([len(text) for text in coded])


def rapidfuzz_near(rows: Sequence[int], floor: float) -> Iterator[tuple[int, int]]:
    """Pairs (row, other), other != row, with F > floor, from LCS of each of the rows with every text."""
    from rapidfuzz.distance import LCSseq
    from rapidfuzz.process import cdist

    coded, lengths = read()
    for at in range(0, len(rows), BLOCK):
        block = list(rows[at : at + BLOCK])
        common = cdist([coded[n] for n in block], coded, scorer=LCSseq.similarity, dtype=np.uint16)
        near = 2.0 * common > floor * (lengths[block][:, None] + lengths)
        yield from ((block[n], int(m)) for n, m in np.argwhere(near) if block[n] != m)


def rapidfuzz() -> dict[str, Any]:
    from rapidfuzz.distance import LCSseq
    from rapidfuzz.process import cdist

    coded, _ = read()
    rows = random.Random(0).sample(range(len(coded)), min(RAPIDFUZZ_ROWS, len(coded)))
    began = time.perf_counter()
    cdist([coded[n] for n in rows], coded, scorer=LCSseq.similarity, dtype=np.uint16)
    return reckoned(time.perf_counter() - began, len(rows) * len(coded))


def rouge_score() -> dict[str, Any]:
    """As stanford_alpaca calls it: `_score_lcs` on words that were read before."""
    from rouge_score.rouge_scorer import _score_lcs
    from rouge_score.tokenize import tokenize

    tokens = [tokenize(text, None) for text in instructions()]
    pairs = random_pairs(RANDOM_PAIRS // 4)
    began = time.perf_counter()
    for one, other in pairs:
        _score_lcs(tokens[one], tokens[other])
    return reckoned(time.perf_counter() - began, len(pairs))


def reckoned(seconds: float, measured: int) -> dict[str, Any]:
    """The time of all pairs, from that of the measured ones."""
    pairs = pairs_of(len(read()[0]))
    return {"pairs_measured": measured, "us_a_pair": seconds / measured * 1e6, "seconds": seconds / measured * pairs}


def random_pairs(count: int) -> list[tuple[int, int]]:
    draw, rows = random.Random(1), len(read()[0])
    return [(draw.randrange(rows), draw.randrange(rows)) for _ in range(count)]


def decisions() -> dict[str, Any]:
    """Our pairs with F above the edge of the band, and how many decisions differ from those of rouge-score."""
    from rouge_score.rouge_scorer import _score_lcs
    from rouge_score.tokenize import tokenize

    from pacos.data.rouge import NearestIndex

    texts = instructions()
    tokens = [tokenize(text, None) for text in texts]
    index, ours = NearestIndex(THRESHOLD), {}
    for number, text in enumerate(texts):
        near = index.closest(text, k=len(texts), floor=THRESHOLD - BAND - 1e-9)
        ours.update({(other.number, number): other.score for other in near})
        index.add(text)

    def differs(pair: tuple[int, int]) -> bool:
        score = _score_lcs(tokens[pair[0]], tokens[pair[1]]).fmeasure
        found = ours.get(pair)
        return score != found if found is not None else score > THRESHOLD - BAND

    drawn = [(min(pair), max(pair)) for pair in random_pairs(RANDOM_PAIRS) if pair[0] != pair[1]]
    theirs = {(min(pair), max(pair)) for pair in rapidfuzz_near(range(len(texts)), THRESHOLD - BAND)}
    return {
        "random_pairs": len(drawn),
        "random_pairs_decided_otherwise": sum(map(differs, drawn)),
        "pairs_in_band": sum(score <= THRESHOLD + BAND + 1e-9 for score in ours.values()),
        "pairs_above_threshold": sum(score > THRESHOLD for score in ours.values()),
        "pairs_from_band_up_decided_otherwise": sum(map(differs, ours)),
        "pairs_compared_by_rapidfuzz": pairs_of(len(texts)),
        "of_these_near": len(theirs),
        "of_these_not_found_by_ours": len(theirs - ours.keys()),
    }


CONTENDERS: dict[str, Callable[[], dict[str, Any]]] = {
    "pacos": pacos,
    "pacos, one at a time": one_at_a_time,
    "rapidfuzz, all pairs": rapidfuzz,
    "rouge-score, all pairs": rouge_score,
    "decisions": decisions,
    "growth": growth,
}


def main() -> None:
    results = {name: in_own_process(Path(__file__), name, TIMEOUT_SECONDS) for name in CONTENDERS}
    for name, result in results.items():
        print(f"{name}: {json.dumps(result)}")
    ours = results["pacos"]
    theirs = {name: result for name, result in results.items() if name.endswith("all pairs") and "failed" not in result}
    ratios = {name: result["seconds"] / ours["seconds"] for name, result in theirs.items()}
    for name, ratio in ratios.items():
        print(f"ours over {name} (reckoned from {theirs[name]['pairs_measured']:,} pairs): {ratio:.0f} times as fast")
    print(f"written to {write_result('dedup', {'data': data_name(), **results}, ratios)}")


if __name__ == "__main__" and not run_one(CONTENDERS):
    main()
