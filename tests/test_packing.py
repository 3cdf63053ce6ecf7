"""Packing: every row once, no padding, the shared beginning once, the first token of a row no target."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pacos.models.packs import build_pack, first_fit, make_packs
from pacos.prompts import Rendered
from pacos.training.batches import batch_of_step, epoch_order, longest_batch, steps_per_epoch
from tests.rows import random_rows


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 80))
def test_every_row_is_in_exactly_one_pack_and_only_a_long_row_overflows(lengths: list[int], room: int) -> None:
    groups = first_fit(lengths, room)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in group) <= room or len(group) == 1 for group in groups)


@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 5))
def test_an_epoch_covers_each_row_exactly_once(num_rows: int, batch_size: int, seed: int) -> None:
    steps = steps_per_epoch(num_rows, batch_size)
    seen = [i for step in range(steps) for i in batch_of_step(step, num_rows, batch_size, seed)]
    assert sorted(seen) == list(range(num_rows))
    assert batch_of_step(steps, num_rows, batch_size, seed) == epoch_order(num_rows, seed, 1)[:batch_size]


def test_a_pack_holds_the_shared_prefix_once_and_the_targets_of_each_row() -> None:
    a = Rendered((7, 8, 9, 10, 11, 20, 2), (False,) * 5 + (True, True))
    b = Rendered((7, 8, 9, 10, 12, 13, 30, 31, 2), (False,) * 6 + (True, True, True))
    pack = build_pack([a, b])
    assert pack.layout.prefix == 4
    assert pack.ids.tolist() == [7, 8, 9, 10, 11, 20, 2, 12, 13, 30, 31, 2]
    assert pack.layout.positions().tolist() == [0, 1, 2, 3, 4, 5, 6, 4, 5, 6, 7, 8]
    assert pack.sources.tolist() == [4, 5, 8, 9, 10]
    assert pack.targets.tolist() == [20, 2, 30, 31, 2]


def test_rows_that_share_targets_count_them_once_each() -> None:
    row = Rendered((3, 4, 5, 6, 7, 8, 2), (False,) * 5 + (True, True))
    pack = build_pack([row, row])
    assert pack.layout.prefix == 6
    assert pack.ids.tolist() == [3, 4, 5, 6, 7, 8, 2, 2]
    assert pack.sources.tolist() == [4, 5, 4, 5]
    assert pack.targets.tolist() == [8, 2, 8, 2]
    assert pack.counts == (2, 2)


def test_the_first_token_of_a_row_is_no_target() -> None:
    row = Rendered((5, 6, 2), (True, True, True))
    other = Rendered((9, 8, 2), (True, True, True))
    assert build_pack([row, other]).targets.tolist() == [6, 2, 8, 2]


def test_the_longest_batch_is_the_one_with_the_longest_row() -> None:
    lengths = [10] * 20
    lengths[13] = 50
    assert 13 in longest_batch(lengths, 4, 0, 5)


def test_packs_hold_as_many_targets_as_the_rows() -> None:
    rows = random_rows(17)
    packs = make_packs(rows, 100)
    assert len(packs) > 3
    assert sum(p.num_targets for p in packs) == sum(sum(r.loss_mask[1:]) for r in rows)
