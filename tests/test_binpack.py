"""Best fit, beside its definition."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacos.models.binpack import best_fit, fill, level


def by_definition(lengths: list[int], size: int) -> list[list[int]]:
    """Each row, longest first, into the open bin that it leaves with the least room."""
    bins: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        rooms = [(size - sum(lengths[j] for j in bin) - lengths[i], b) for b, bin in enumerate(bins)]
        fitting = [place for place in rooms if place[0] >= 0]
        if fitting:
            bins[min(fitting)[1]].append(i)
        else:
            bins.append([i])
    return bins


@given(st.lists(st.integers(1, 60), max_size=60), st.integers(1, 80))
def test_the_bins_are_those_of_the_definition(lengths: list[int], size: int) -> None:
    assert best_fit(lengths, size) == by_definition(lengths, size)


@given(st.lists(st.integers(1, 60), max_size=60), st.integers(1, 80))
def test_every_row_is_in_exactly_one_bin_and_only_a_long_row_overflows(lengths: list[int], size: int) -> None:
    bins = best_fit(lengths, size)
    assert sorted(i for bin in bins for i in bin) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in bin) <= size or len(bin) == 1 for bin in bins)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_the_number_of_bins_does_not_depend_on_the_order_of_the_rows(lengths: list[int], drawn: random.Random) -> None:
    shuffled = drawn.sample(lengths, len(lengths))
    assert len(best_fit(shuffled, 64)) == len(best_fit(lengths, 64))


def test_the_fill_is_the_share_of_the_room_that_rows_take() -> None:
    bins = best_fit([60, 50, 40, 30], 100)
    assert bins == [[0, 2], [1, 3]]
    assert fill([60, 50, 40, 30], bins, 100) == pytest.approx(180 / 200)
    assert fill([250, 50], best_fit([250, 50], 100), 100) == pytest.approx(300 / 350)
    assert fill([], [], 100) == 1.0


def test_rows_as_ragged_as_instructions_fill_the_bins() -> None:
    drawn = random.Random(0)
    lengths = [min(2000, 40 + int(drawn.expovariate(1 / 70))) for _ in range(5000)]
    assert fill(lengths, best_fit(lengths, 2048), 2048) > 0.99


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 80))
def test_evened_bins_hold_the_same_rows_and_none_is_fuller_than_the_fullest(lengths: list[int], size: int) -> None:
    bins = best_fit(lengths, size)
    evened = level(lengths, bins)
    assert sorted(i for bin in evened for i in bin) == list(range(len(lengths)))
    assert len(evened) == len(bins)
    loads, before = ([sum(lengths[i] for i in bin) for bin in each] for each in (evened, bins))
    assert max(loads) <= max(before)


def test_rows_that_leave_a_small_rest_are_shared_out_evenly() -> None:
    lengths = [500] * 4 + [100]
    assert [sum(lengths[i] for i in bin) for bin in best_fit(lengths, 2000)] == [2000, 100]
    assert [sum(lengths[i] for i in bin) for bin in level(lengths, best_fit(lengths, 2000))] == [1100, 1000]
