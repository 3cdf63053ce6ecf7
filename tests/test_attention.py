"""Packed attention: rows see their prefix and themselves, and nothing else, as transformers computes it row by row."""

from __future__ import annotations

import copy

import pytest
import torch

from pacos.models import Network, Packed
from pacos.models.packs import Pack, build_pack
from pacos.prompts import Rendered
from tests.rows import random_rows
from tests.tiny import FAMILIES, tiny_model


def hidden_of(network: Network, pack: Pack) -> torch.Tensor:
    """Last hidden states of a whole pack, (T, C)."""
    return network.hidden(pack.ids[None], pack.layout.positions()[None], pack.layout)[0]


def reference_hidden(model: torch.nn.Module, row: Rendered) -> torch.Tensor:
    """Last hidden states of one row by transformers' own eager attention, (T, C)."""
    return model.model(input_ids=torch.tensor([row.ids])).last_hidden_state[0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shared", [0, 6])
def test_packed_hidden_states_equal_those_of_each_row_alone(family: str, shared: int) -> None:
    model = tiny_model(family)
    network = Network(copy.deepcopy(model))
    rows = random_rows(5, shared=shared)
    with torch.no_grad():
        pack = build_pack(rows)
        packed = hidden_of(network, pack)
        assert pack.layout.prefix == shared
        start = shared
        for row in rows:
            own = len(row.ids) - shared
            torch.testing.assert_close(
                packed[start : start + own], reference_hidden(model, row)[shared:], rtol=1e-4, atol=1e-5
            )
            start += own


@pytest.mark.parametrize("family", FAMILIES)
def test_changing_a_neighbour_changes_nothing(family: str) -> None:
    network = Network(tiny_model(family))
    first, second, third = random_rows(3)
    with torch.no_grad():
        a = hidden_of(network, build_pack([first, second]))
        b = hidden_of(network, build_pack([first, third]))
    assert torch.equal(a[: len(first.ids)], b[: len(first.ids)])


@pytest.mark.parametrize("window", [None, 1, 5])
def test_the_block_mask_is_the_row_by_row_result(window: int | None) -> None:
    layout = Packed([4, 9, 3], prefix=5)
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 4, 21, 8), torch.randn(1, 2, 21, 8), torch.randn(1, 2, 21, 8)
    by_rows = layout.attend(0, query, key, value, scaling=0.3, window=window, softcap=None)
    torch.testing.assert_close(layout._attend_masked(query, key, value, 0.3, window), by_rows)


def test_positions_restart_behind_the_prefix() -> None:
    assert Packed([2, 3], prefix=2).positions().tolist() == [0, 1, 2, 3, 2, 3, 4]


@pytest.mark.parametrize("family", ["llama", "phi3", "qwen2", "mistral"])
def test_fused_norms_are_the_family_s_own(family: str) -> None:
    model = tiny_model(family)
    ids = torch.tensor([[5, 9, 33, 7]])
    with torch.no_grad():
        before = model.model(input_ids=ids).last_hidden_state
        from pacos.models.norms import use_fused_norms

        assert use_fused_norms(model) == 5
        torch.testing.assert_close(model.model(input_ids=ids).last_hidden_state, before, rtol=1e-5, atol=1e-6)
