"""Metrics agree with the packages that define them, and rows add up to the corpus figure."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU

from pacos.data.rouge import rouge_l
from pacos.evaluation.metrics import METRICS, bleu, bleu_counts, bleu_signature, exact_match, measure

shared_data = Path(__file__).resolve().parents[2] / "shared" / "data"
alpaca = shared_data / "alpaca" / "alpaca_data.json"
WORDS = [
    "the",
    "The",
    "cat",
    "dog's",
    "sat",
    "on",
    "a",
    "mat.",
    "12",
    "3.5",
    "naïve",
    "東京",
    "it's",
    "x_y",
    "-",
    "\n",
    "",
]


def random_pairs(count, seed=0):
    draw = random.Random(seed)
    return [tuple(" ".join(draw.choices(WORDS, k=draw.randrange(0, 30))) for _ in range(2)) for _ in range(count)]


def answer(reference="a b", text="a b", tokens=2, finish_reason="stop", seconds=1.0, nll=2.0, nll_tokens=4):
    return measure(
        reference,
        text,
        tokens=tokens,
        generated_tokens=tokens + (finish_reason == "stop"),
        finish_reason=finish_reason,
        seconds=seconds,
        nll=nll,
        nll_tokens=nll_tokens,
    )


def figures(answers):
    return {m.name: float(m.value(m.table(answers).sum(axis=0))) for m in METRICS}


def assert_rouge_agrees(pairs):
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    for ours, reference in pairs:
        theirs = scorer.score(reference, ours)["rougeL"].fmeasure
        assert rouge_l(ours, reference) == pytest.approx(theirs, abs=1e-12), (ours, reference)


def test_rouge_l_is_rouge_scores_on_random_pairs():
    pairs = random_pairs(400)
    assert_rouge_agrees(pairs)
    assert sum(rouge_l(*pair) > 0 for pair in pairs) > 300


@pytest.mark.skipif(not alpaca.exists(), reason="needs ../shared/data/alpaca/alpaca_data.json")
def test_rouge_l_and_bleu_are_the_packages_on_real_answers():
    outputs = [row["output"] for row in json.loads(alpaca.read_text(encoding="utf-8"))[:301]]
    pairs = list(zip(outputs[1:], outputs, strict=False))
    assert len(pairs) == 300
    assert_rouge_agrees(pairs)
    counts = np.array([bleu_counts(*pair) for pair in pairs]).sum(axis=0)
    theirs = BLEU().corpus_score([p[0] for p in pairs], [[p[1] for p in pairs]]).score
    assert float(bleu(counts)) == pytest.approx(theirs, abs=1e-9)


def test_rouge_l_has_known_values():
    assert rouge_l("the cat sat", "The cat, sat!") == 1.0
    assert rouge_l("a b c d", "a x c y") == 0.5
    assert rouge_l("", "a") == rouge_l("東京", "東京") == 0.0


@pytest.mark.parametrize("seed", range(40))
def test_summed_bleu_counts_give_sacrebleus_corpus_score(seed):
    size = seed % 7 + 1
    pairs = [p for p in random_pairs(size * 2, seed) if p[1].strip()][:size] or [("a", "b")]
    counts = np.array([bleu_counts(*pair) for pair in pairs], float).sum(axis=0)
    theirs = BLEU().corpus_score([p[0] for p in pairs], [[p[1] for p in pairs]]).score
    assert float(bleu(counts)) == pytest.approx(theirs, abs=1e-10)


@pytest.mark.parametrize(
    ("ours", "reference"),
    [("", "a b c"), ("a b", "a b"), ("a b c d", "a b c d"), ("x", "y"), ("a", "a b c d e"), ("a c", "a b c d e")],
)
def test_bleu_at_its_edges_is_sacrebleus(ours, reference):
    theirs = BLEU().corpus_score([ours], [[reference]]).score
    assert float(bleu(np.array(bleu_counts(ours, reference), float))) == pytest.approx(theirs, abs=1e-10)


def test_bleu_of_many_resamples_at_once_is_that_of_each():
    sums = np.random.default_rng(0).integers(0, 9, (50, 10)).cumsum(axis=0).astype(float)
    assert bleu(sums).tolist() == [float(bleu(row)) for row in sums]


def test_the_bleu_signature_names_case_tokenizer_smoothing_and_version():
    signature = bleu_signature()
    assert signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        ("Paris", "Paris", True),
        ("  Paris \n", "Paris", True),
        ("a \r\nb", "a\nb", True),
        ("cafe\u0301", "caf\u00e9", True),
        ("paris", "Paris", False),
        ("Paris.", "Paris", False),
        ("a  b", "a b", False),
        ("a\n\nb", "a\nb", False),
        ("", "Paris", False),
    ],
)
def test_exact_match_forgives_only_spaces_at_line_ends_and_unicode_forms(text, reference, expected):
    assert exact_match(text, reference) is expected


def test_perplexity_weighs_tokens_and_not_rows():
    rows = [answer(nll=1.0, nll_tokens=1), answer(nll=18.0, nll_tokens=9)]
    assert figures(rows)["perplexity"] == pytest.approx(math.exp(19 / 10), abs=1e-12)


def test_every_measure_of_a_small_corpus_is_known():
    rows = [
        answer("a b c d", "a b c d", tokens=4, seconds=1.0, nll=math.log(2) * 4, nll_tokens=4),
        answer("a b c d", " \n", tokens=0, seconds=0.0, nll=math.log(2) * 4, nll_tokens=4),
        answer("a b c d", "a x c y", tokens=8, finish_reason="length", seconds=3.0, nll=math.log(2) * 2, nll_tokens=2),
    ]
    found = figures(rows)
    assert found.pop("bleu") == pytest.approx(
        BLEU().corpus_score([r.text for r in rows], [["a b c d"] * 3]).score, abs=1e-10
    )
    assert found == pytest.approx(
        {
            "exact_match": 1 / 3,
            "perplexity": 2.0,
            "rouge_l": (1 + 0 + 0.5) / 3,
            "response_tokens": 4.0,
            "empty_share": 1 / 3,
            "unstopped_share": 1 / 3,
            "seconds_per_token": 4.0 / (4 + 0 + 7),
        }
    )


def test_an_answer_of_one_token_adds_nothing_to_the_time_per_token():
    one = answer(tokens=0, seconds=0.0)
    assert (one.generated_tokens, one.stepped_tokens) == (1, 0)
    rows = [answer(tokens=4, seconds=2.0), one]
    assert figures(rows)["seconds_per_token"] == figures(rows[:1])["seconds_per_token"] == 0.5
    assert figures([one, one])["seconds_per_token"] == 0.0
