"""p-values, shares, related rows, power: they agree with scipy, and on simulated truth they keep what they promise."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pacos.evaluation.metrics import perplexity, ratio
from pacos.evaluation.statistics import (
    FEWEST_ROWS,
    Interval,
    cluster_sums,
    clustered_mean,
    compare,
    holm,
    mcnemar,
    more_prompts,
    permutation_p,
    prompts_needed,
    simulated_power,
    smallest_difference,
    t_quantile,
    wilson,
)

SIMULATIONS = 2000


def rng(seed=0):
    return np.random.default_rng(seed)


def means(values):
    return np.column_stack([values, np.ones(len(values))])


def zeros(count):
    return means(np.zeros(count))


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 30, 251, 9999, 10_001])
def test_t_quantiles_are_scipys(freedom):
    for share in (0.005, 0.3, 0.6, 0.975, 0.9995):
        expected = stats.t.ppf(share, freedom)
        assert t_quantile(share, freedom) == pytest.approx(expected, rel=1e-9 if freedom < 10_000 else 1e-3)


def test_the_exact_permutation_test_is_scipys_and_a_full_enumeration():
    change = rng(1).normal(0.4, 1, 10)
    ours = permutation_p(zeros(10), means(change), ratio, rng=rng())
    theirs = stats.permutation_test((change,), np.mean, permutation_type="samples", n_resamples=np.inf)
    every = [abs(np.mean(np.array(signs) * change)) for signs in itertools.product((1, -1), repeat=10)]
    assert ours == pytest.approx(theirs.pvalue, abs=1e-12)
    assert ours == np.mean([mean >= abs(change.mean()) - 1e-12 for mean in every])
    assert 0.01 < ours < 0.9


def test_the_drawn_permutation_test_is_near_the_t_test_and_never_zero():
    change = rng(2).normal(0.25, 1, 80)
    ours = permutation_p(zeros(80), means(change), ratio, rng=rng())
    assert ours == pytest.approx(stats.ttest_1samp(change, 0).pvalue, abs=0.01)
    assert permutation_p(zeros(80), means(np.ones(80)), ratio, rng=rng()) == 1 / 10_001


def test_rows_that_do_not_differ_take_no_part_in_the_permutations():
    base, tuned = np.zeros(200), np.zeros(200)
    tuned[:6] = 1
    assert permutation_p(means(base), means(tuned), ratio, rng=rng()) == 2 / 2**6
    assert permutation_p(means(base), means(base), ratio, rng=rng()) == 1.0


def test_perplexities_are_permuted_as_corpus_figures():
    nll, tokens = rng(3).exponential(20, 8), rng(4).integers(1, 30, 8).astype(float)
    base, tuned = np.column_stack([nll + 1, tokens]), np.column_stack([nll + rng(5).normal(0, 3, 8), tokens])
    seen, hits = abs(perplexity(tuned.sum(0)) - perplexity(base.sum(0))), 0
    for flips in itertools.product((False, True), repeat=8):
        swap = np.array(flips)[:, None]
        one, other = np.where(swap, tuned, base).sum(0), np.where(swap, base, tuned).sum(0)
        hits += abs(perplexity(other) - perplexity(one)) >= seen - 1e-9
    assert permutation_p(base, tuned, perplexity, rng=rng()) == hits / 2**8


@pytest.mark.parametrize(("successes", "trials"), [(90, 179), (0, 10), (10, 10), (1, 3), (499, 1000)])
def test_wilsons_interval_is_scipys(successes, trials):
    theirs = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson(successes, trials) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_alpacas_blind_test_tells_nothing():
    low, high = wilson(90, 179)
    assert (round(low, 3), round(high, 3)) == (0.430, 0.575)
    assert wilson(0, 0) == Interval(0.0, 1.0)


@pytest.mark.parametrize(("b", "c"), [(10, 3), (3, 10), (0, 6), (5, 5), (0, 0), (400, 300)])
def test_mcnemar_is_the_binomial_test_and_mid_p_counts_what_was_seen_half(b, c):
    found = mcnemar(b, c)
    assert found.exact == pytest.approx(stats.binomtest(b, b + c).pvalue if b + c else 1.0, abs=1e-12)
    seen = stats.binom.pmf(min(b, c), b + c, 0.5) if b + c else 0.0
    assert found.mid_p == pytest.approx(found.exact - seen if b != c else 1 - seen * (b + c > 0), abs=1e-12)


def test_holm_is_the_textbooks_and_keeps_the_order_of_what_it_is_given():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_plain_p_values_and_bonferronis(p_values):
    for p, adjusted in zip(p_values, holm(p_values), strict=True):
        assert p <= adjusted <= min(1.0, len(p_values) * p) + 1e-12


def test_the_clustered_error_is_the_formula_and_without_clusters_the_t_interval():
    values, names = rng(6).normal(size=30), [f"c{i % 7}" for i in range(30)]
    residual = values - values.mean()
    by_hand = 7 / 6 * sum(residual[i::7].sum() ** 2 for i in range(7)) / 30**2
    assert clustered_mean(values, names).standard_error == pytest.approx(math.sqrt(by_hand), rel=1e-12)
    single = clustered_mean(values, [str(i) for i in range(30)])
    theirs = stats.ttest_1samp(values, 0).confidence_interval()
    assert single.interval == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert clustered_mean(values, ["one"] * 30).interval == (-math.inf, math.inf)


def test_clusters_are_summed_in_the_order_in_which_they_appear():
    assert cluster_sums(np.array([[1.0, 1], [2, 1], [4, 1]]), ["b", "a", "b"]).tolist() == [[5, 2], [2, 1]]


def test_the_smallest_difference_and_the_prompts_for_it_are_one_formula():
    assert smallest_difference(252, 0.5) == pytest.approx(0.0882, abs=1e-4)
    assert prompts_needed(0.05, 0.5) == 785
    assert smallest_difference(785, 0.5) == pytest.approx(0.05, abs=1e-4)
    assert prompts_needed(0.0, 0.5) is None


def test_the_formulas_power_is_what_simulated_studies_have():
    differences = rng(7).choice([-1.0, 0.0, 1.0], 400, p=[0.1, 0.75, 0.15])
    shift = smallest_difference(150, differences.std())
    power = simulated_power(differences, shift, rng=rng(), num_prompts=150, simulations=1000, resamples=200)
    assert power == pytest.approx(0.8, abs=0.05)


def test_more_prompts_are_those_that_a_clear_answer_lacks():
    assert more_prompts(100, 0.3, Interval(0.1, 0.5)) == 0
    assert more_prompts(1, -0.5, Interval(-0.5, 0.3)) == FEWEST_ROWS - 1  # no verdict is told of fewer
    assert more_prompts(100, 0.1, Interval(-0.1, 0.3)) == prompts_needed(0.1, 0.2 * 10 / 1.959964) - 100 == 718
    assert more_prompts(100, 0.4, Interval(0.2, 0.6), line=0.3) == 100 * 1 + 618
    assert more_prompts(100, 0.0, Interval(-0.1, 0.1)) is None


def normal(source, size):
    return source.normal(0.2, 1, size), 0.2


def skewed(source, size):
    return source.exponential(1, size), 1.0


def right_or_wrong(source, size):
    return source.choice([-1.0, 0.0, 1.0], size, p=[0.1, 0.7, 0.2]), 0.1


def heavy(source, size):
    return source.lognormal(0, 0.5, size) - source.lognormal(0, 0.5, size), 0.0


@pytest.mark.parametrize("draw", [normal, skewed, right_or_wrong, heavy])
def test_the_interval_covers_the_truth_in_93_to_97_of_100_simulations(draw):
    source, hits = rng(11), 0
    for _ in range(SIMULATIONS):
        values, truth = draw(source, 80)
        low, high = compare(zeros(80), means(values), ratio, rng=source, resamples=300).interval
        hits += low <= truth <= high
    assert 0.93 <= hits / SIMULATIONS <= 0.97


def clustered(source, *, num_clusters=40, rows=4, truth=0.3):
    """Rows of a cluster share half of their variance."""
    shared = np.repeat(source.normal(0, 1, num_clusters), rows)
    return truth + shared + source.normal(0, 1, num_clusters * rows)


def test_clusters_keep_the_coverage_that_rows_taken_one_by_one_lose():
    source, names = rng(12), [str(i // 4) for i in range(160)]
    hits = {"clusters": 0, "formula": 0, "rows": 0}
    for _ in range(SIMULATIONS):
        values = clustered(source)
        sums = cluster_sums(means(values), names)
        base = np.column_stack([np.zeros(len(sums)), sums[:, 1]])
        low, high = compare(base, sums, ratio, rng=source, resamples=300).interval
        hits["clusters"] += low <= 0.3 <= high
        low, high = clustered_mean(values, names).interval
        hits["formula"] += low <= 0.3 <= high
        half = 1.96 * values.std() / math.sqrt(160)
        hits["rows"] += abs(values.mean() - 0.3) <= half
    assert 0.93 <= hits["clusters"] / SIMULATIONS <= 0.97
    assert 0.93 <= hits["formula"] / SIMULATIONS <= 0.97
    assert hits["rows"] / SIMULATIONS < 0.85


@pytest.mark.parametrize("size", [10, 60])
def test_of_equal_models_one_in_twenty_is_told_apart_at_5_percent(size):
    source, alarms = rng(13), 0
    for _ in range(SIMULATIONS):
        hard = source.exponential(1, size)
        base, tuned = hard * source.lognormal(0, 0.4, size), hard * source.lognormal(0, 0.4, size)
        alarms += permutation_p(means(base), means(tuned), ratio, rng=source, draws=399) <= 0.05
    assert 0.04 <= alarms / SIMULATIONS <= 0.06
