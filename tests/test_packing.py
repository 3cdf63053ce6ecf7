"""Packing: every row once, no padding, the shared beginning once, the first token of a row no target."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pacos.models.packs import build_pack, make_packs, share
from pacos.prompts import Rendered
from tests.rows import random_rows


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=30), min_size=1, max_size=12))
def test_every_row_can_be_read_from_the_trie_and_keeps_a_token_of_its_own(rows: list[list[int]]) -> None:
    trie = share(rows)
    for i, row in enumerate(rows):
        assert [trie.ids[at] for at in trie.places(i)] == row
    assert len(set(trie.ends.values())) == len(rows)
    assert not set(trie.ends.values()) & set(trie.parents)
    assert all(parent < i for i, parent in enumerate(trie.parents))
    assert len(trie.ids) == sum(trie.lengths) <= sum(map(len, rows))


def test_what_some_rows_begin_with_is_shared_by_those_and_what_all_begin_with_by_all() -> None:
    preamble, question = [1, 2, 3, 4, 5], [6, 7, 8, 9]
    rows = [[*preamble, *question, 10], [*preamble, 20, 21], [*preamble, *question, 11, 12], [30, 31, 32, 33, 34]]
    trie = share(rows)
    assert trie.ids == [*preamble, *question, 10, 11, 12, 20, 21, 30, 31, 32, 33, 34]
    assert trie.lengths == [5, 4, 1, 2, 2, 5]
    assert trie.parents == [-1, 0, 1, 1, 0, -1]
    assert [trie.segments(i) for i in range(4)] == [[0, 1, 2], [0, 4], [0, 1, 3], [5]]


def test_fewer_than_four_common_tokens_are_not_shared() -> None:
    assert share([[1, 2, 3, 4], [1, 2, 3, 5]]).lengths == [4, 4]
    assert share([[1, 2, 3, 4, 5], [1, 2, 3, 4, 6]]).lengths == [4, 1, 1]


def test_a_pack_holds_the_shared_prefix_once_and_the_targets_of_each_row() -> None:
    a = Rendered((7, 8, 9, 10, 11, 20, 2), (False,) * 5 + (True, True))
    b = Rendered((7, 8, 9, 10, 12, 13, 30, 31, 2), (False,) * 6 + (True, True, True))
    pack = build_pack([a, b])
    assert pack.layout.lengths == [4, 3, 5]
    assert pack.layout.parents == [-1, 0, 0]
    assert pack.ids.tolist() == [7, 8, 9, 10, 11, 20, 2, 12, 13, 30, 31, 2]
    assert pack.layout.positions().tolist() == [0, 1, 2, 3, 4, 5, 6, 4, 5, 6, 7, 8]
    assert pack.sources.tolist() == [4, 5, 8, 9, 10]
    assert pack.targets.tolist() == [20, 2, 30, 31, 2]


def test_rows_that_share_targets_count_them_once_each() -> None:
    row = Rendered((3, 4, 5, 6, 7, 8, 2), (False,) * 5 + (True, True))
    pack = build_pack([row, row])
    assert pack.layout.lengths == [6, 1, 1]
    assert pack.ids.tolist() == [3, 4, 5, 6, 7, 8, 2, 2]
    assert pack.sources.tolist() == [4, 5, 4, 5]
    assert pack.targets.tolist() == [8, 2, 8, 2]
    assert pack.counts == (2, 2)


def test_the_first_token_of_a_row_is_no_target() -> None:
    row = Rendered((5, 6, 2), (True, True, True))
    other = Rendered((9, 8, 2), (True, True, True))
    assert build_pack([row, other]).targets.tolist() == [6, 2, 8, 2]


def test_packs_hold_as_many_targets_as_the_rows() -> None:
    rows = random_rows(17)
    packs = make_packs(rows, 100)
    assert len(packs) > 3
    assert sum(p.num_targets for p in packs) == sum(sum(r.loss_mask[1:]) for r in rows)


def test_rows_that_continue_each_other_nest_as_deep_as_they_go() -> None:
    """Deeper than Python calls functions."""
    rows = [tuple(range(4 * length)) for length in range(1, 1201)]
    trie = share(rows)
    assert len(trie.segments(1199)) == 1199
    assert trie.places(1199)[-1] == len(trie.ids) - 1
    assert len(trie.ids) == 4 * 1200 + 1199 + 3  # the first four tokens are too few to be shared with the shortest row


def test_a_pack_of_very_many_rows_is_made_in_time_that_grows_with_their_tokens() -> None:
    """Counted in the lengths that are read, not in seconds."""

    class Counted(list[int]):
        reads = 0

        def __getitem__(self, at: Any) -> Any:
            Counted.reads += len(range(len(self))[at]) if isinstance(at, slice) else 1
            return super().__getitem__(at)

    trie = share([(i, 1, 2) for i in range(3000)])
    trie.lengths = Counted(trie.lengths)
    assert [trie.places(i)[0] for i in range(3000)] == list(range(0, 9000, 3))
    assert Counted.reads == 3000
