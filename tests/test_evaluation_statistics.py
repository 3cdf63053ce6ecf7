"""Intervals: they agree with scipy, cover what they promise, and claim nothing from too little."""

import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pacos.evaluation.metrics import bleu, bleu_counts, perplexity, ratio
from pacos.evaluation.results import plain
from pacos.evaluation.statistics import (
    UNTOLD,
    Interval,
    bca_interval,
    compare,
    expanded_level,
    resample_sums,
    resampled_interval,
    verdict,
)
from pacos.evaluation.statistics.intervals import t_intervals
from pacos.evaluation.wording import format_interval


def rng(seed=0):
    return np.random.default_rng(seed)


def means(values):
    """Counts of a mean: the value, and one row."""
    return np.column_stack([values, np.ones(len(values))])


def test_interval_of_a_paired_mean_is_scipys():
    base, tuned = rng(1).exponential(size=120), rng(2).exponential(1.4, size=120)
    ours = compare(means(base), means(tuned), ratio, rng=rng(), resamples=20_000)
    theirs = stats.bootstrap(
        (tuned - base,),
        np.mean,
        n_resamples=20_000,
        method="BCa",
        rng=rng(5),
        confidence_level=expanded_level(0.95, 120),
    ).confidence_interval
    assert ours.difference == pytest.approx((tuned - base).mean(), abs=1e-12)
    assert ours.interval == pytest.approx((theirs.low, theirs.high), abs=0.01)
    assert theirs.high - theirs.low > 0.4


def test_interval_of_perplexity_is_scipys():
    nll, tokens = rng(3).exponential(20, size=120), rng(4).integers(1, 40, 120).astype(float)
    counts = np.column_stack([nll, tokens])
    ours = compare(counts, counts, perplexity, rng=rng(), resamples=20_000).base_interval
    theirs = stats.bootstrap(
        (nll, tokens), lambda a, b, axis=-1: np.exp(a.sum(axis) / b.sum(axis)), paired=True, n_resamples=20_000,
        method="BCa", rng=rng(6), vectorized=True, confidence_level=expanded_level(0.95, 120),
    ).confidence_interval  # fmt: skip
    assert ours == pytest.approx((theirs.low, theirs.high), rel=0.02)


def test_the_same_draws_give_scipys_bca_to_the_last_digit():
    values = rng(7).exponential(size=40)
    drawn = rng(8).integers(0, 40, (2000, 40))
    resampled, left_out = values[drawn].mean(axis=1), (values.sum() - values) / 39
    share = (resampled < values.mean()).mean() / 2 + (resampled <= values.mean()).mean() / 2
    z0, pull = stats.norm.ppf(share), left_out.mean() - left_out
    a = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5)
    z = stats.norm.ppf([0.025, 0.975])
    shares = stats.norm.cdf(z0 + (z0 + z) / (1 - a * (z0 + z)))
    assert bca_interval(values.mean(), resampled, left_out) == pytest.approx(
        tuple(np.quantile(resampled, shares)), abs=1e-12
    )


def test_intervals_cover_the_true_difference_nineteen_times_in_twenty():
    covered, source = 0, rng(11)
    for _ in range(400):
        hard = source.exponential(size=40)  # shared by both models: pairing removes it
        base, tuned = hard + source.normal(0, 0.3, 40), hard + 0.2 + source.normal(0, 0.3, 40)
        low, high = compare(means(base), means(tuned), ratio, rng=source, resamples=400).interval
        covered += low <= 0.2 <= high
    assert covered == 384  # 96.0 %


def test_pairing_makes_the_interval_of_the_difference_narrower_than_either_sides():
    hard = rng(1).exponential(size=100)
    result = compare(means(hard), means(hard + rng(2).normal(0.1, 0.05, 100)), ratio, rng=rng())
    width = result.interval.high - result.interval.low
    assert width < 0.1 * (result.base_interval.high - result.base_interval.low)


def test_rows_that_are_all_equal_give_no_width_and_no_warning():
    tables = {ratio: [[0.1, 1]] * 30, perplexity: [[2.1, 3]] * 30, bleu: [bleu_counts("a b c d e", "a b c d e")] * 30}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value, rows in tables.items():
            result = compare(np.array(rows), np.array(rows), value, rng=rng(), resamples=200)
            assert result.base_interval == Interval(result.base, result.base)
            assert result.interval == Interval(0.0, 0.0)
            assert verdict(result, "higher") == "no difference shown"


def test_a_difference_on_every_row_alike_has_no_width_and_is_shown():
    result = compare(means(np.zeros(30)), means(np.ones(30)), ratio, rng=rng(), resamples=200)
    assert result.interval == Interval(1.0, 1.0)
    assert verdict(result, "higher") == "better"
    assert verdict(result, "lower") == "worse"
    assert verdict(result, "neither") == "changed"


def test_five_rows_that_differ_are_too_few_and_six_are_not():
    for count, expected in ((5, "too few rows"), (6, "better")):
        result = compare(means(np.zeros(count)), means(np.ones(count)), ratio, rng=rng(), resamples=200)
        assert result.rows_that_differ == count
        assert verdict(result, "higher") == expected


def test_a_lower_figure_is_better_only_where_lower_is_better():
    values = rng(1).normal(1, 0.1, 50)
    result = compare(means(values), means(values - 0.5 + rng(2).normal(0, 0.05, 50)), ratio, rng=rng())
    assert result.interval.high < 0
    assert [verdict(result, way) for way in ("lower", "higher")] == ["better", "worse"]


def test_noise_shows_no_difference():
    result = compare(means(rng(1).normal(size=200)), means(rng(2).normal(size=200)), ratio, rng=rng())
    assert result.interval.low < 0 < result.interval.high
    assert verdict(result, "higher") == "no difference shown"


def test_of_one_row_no_interval_can_be_told():
    result = compare(means([0.0]), means([8.0]), ratio, rng=rng(), resamples=100)
    assert (result.difference, verdict(result, "higher")) == (8.0, "cannot tell")
    assert verdict(result, "neither") == "cannot tell"
    assert [result.base_interval, result.tuned_interval, result.interval] == [UNTOLD] * 3
    assert format_interval(UNTOLD, "tokens", signed=True) == "not told"
    assert json.loads(json.dumps(plain(result)))["interval"] == [None, None]


def test_with_few_rows_the_interval_reaches_as_far_as_t_and_as_halls_t():
    values = rng(9).lognormal(0, 0.75, 40)
    resampled = values[rng(8).integers(0, 40, (4000, 40))].mean(axis=1)
    left_out = (values.sum() - values) / 39
    plain_t, halls = t_intervals(values.mean(), left_out, 0.95)
    assert plain_t == pytest.approx(stats.t.interval(0.95, 39, values.mean(), stats.sem(values)), abs=1e-9)
    n, skew, t = 40, stats.skew(values, bias=False), (values.mean() - np.array(halls)) / stats.sem(values)
    b, c = skew / (3 * n**0.5), skew / (6 * n**0.5)
    assert t + b * t**2 + b**2 * t**3 / 3 + c == pytest.approx(stats.t.ppf([0.975, 0.025], 39), abs=1e-9)
    bca = bca_interval(values.mean(), resampled, left_out, level=expanded_level(0.95, 40))
    found = resampled_interval(values.mean(), resampled, left_out)
    assert found == (
        min(bca.low, plain_t.low, halls.low),
        min(max(bca.high, plain_t.high, halls.high), resampled.max()),
    )
    assert found.high > bca.high


@pytest.mark.parametrize("size", [20, 80])
def test_skewed_rows_are_covered_as_often_as_is_said(size):
    source, covered = rng(12), 0
    for _ in range(300):
        values = source.exponential(size=size)
        low, high = compare(means(np.zeros(size)), means(values), ratio, rng=source, resamples=300).interval
        covered += low <= 1 <= high
    assert covered == {20: 293, 80: 285}[size]  # 97.7 %, 95.0 %


def test_few_rows_whose_interval_reaches_zero_show_no_difference():
    result = compare(means([0.0] * 4), means([1.0, -1.0, 2.0, -2.0]), ratio, rng=rng(), resamples=200)
    assert result.interval.low < 0 < result.interval.high
    assert verdict(result, "higher") == "no difference shown"


def test_rows_that_add_nothing_to_either_side_give_finite_figures():
    base, tuned = np.zeros((8, 2)), np.zeros((8, 2))
    tuned[0] = (0.6, 3)
    result = compare(base, tuned, ratio, rng=rng(), resamples=200)
    assert (result.base, result.tuned, result.rows_that_differ) == (0.0, pytest.approx(0.2), 1)
    assert np.isfinite([*result.base_interval, *result.tuned_interval, *result.interval]).all()


def test_a_seed_gives_the_same_interval_and_another_seed_another():
    base, tuned = means(rng(1).normal(size=120)), means(rng(2).normal(size=120))
    first, again, other = (compare(base, tuned, ratio, rng=rng(seed), resamples=500) for seed in (3, 3, 4))
    assert first == again
    assert first.interval != other.interval


def test_resampling_in_chunks_draws_every_resample_from_all_rows(monkeypatch):
    monkeypatch.setattr("pacos.evaluation.statistics.bootstrap.CHUNK_NUMBERS", 130)
    sums = resample_sums(means(np.arange(40.0)), rng(), 101)
    assert sums.shape == (101, 2)
    assert (sums[:, 1] == 40).all()
    assert len(set(sums[:, 0])) > 60


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-100, 100, allow_subnormal=False), st.floats(-100, 100, allow_subnormal=False)),
        min_size=2,
        max_size=30,
    ),
    st.integers(0, 5),
)
def test_any_rows_give_finite_ordered_intervals_that_mirror_when_sides_swap(pairs, seed):
    base, tuned = (means(np.array(side)) for side in zip(*pairs, strict=True))
    there = compare(base, tuned, ratio, rng=rng(seed), resamples=200)
    back = compare(tuned, base, ratio, rng=rng(seed), resamples=200)
    numbers = [*there.base_interval, *there.tuned_interval, *there.interval, there.base, there.tuned, there.difference]
    assert all(map(math.isfinite, numbers))
    assert there.interval.low <= there.interval.high
    assert back.difference == -there.difference
    assert back.interval == pytest.approx((-there.interval.high, -there.interval.low), abs=1e-6)
    low, high = base[:, 0].min(), base[:, 0].max()
    assert low - 1e-9 <= there.base_interval.low <= there.base_interval.high <= high + 1e-9


def test_one_extreme_row_keeps_the_interval_within_what_was_drawn():
    values = np.zeros(200)
    values[0] = 1e6
    result = compare(means(np.zeros(200)), means(values), ratio, rng=rng(), resamples=2000)
    assert 0.0 <= result.interval.low <= 5000.0 <= result.interval.high
    assert verdict(result, "higher") == "no difference shown"
