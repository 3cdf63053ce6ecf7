"""Packed attention: rows see their prefix and themselves, and nothing else, as transformers computes it row by row."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch

from pacos.models import Network, Packed
from pacos.models.kernels import native
from pacos.models.kernels.attention import attend_spans, reference_attention
from pacos.models.packs import Pack, build_pack, share
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
@pytest.mark.parametrize("kernels", [True, False])
def test_packed_hidden_states_equal_those_of_each_row_alone(family: str, shared: int, kernels: bool) -> None:
    model = tiny_model(family)
    network = Network(copy.deepcopy(model))
    rows = random_rows(5, shared=shared)
    pack, trie = build_pack(rows), share([row.ids for row in rows])
    assert pack.layout.lengths[0] == shared or not shared
    with torch.no_grad(), nullcontext() if kernels else native.plain():
        packed = hidden_of(network, pack)
        for i, row in enumerate(rows):
            expected = reference_hidden(model, row)
            torch.testing.assert_close(packed[trie.places(i)], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_changing_a_neighbour_changes_nothing(family: str) -> None:
    network = Network(tiny_model(family))
    first, second = random_rows(2)
    other = Rendered((*second.ids[:-3], 9, 8, 7), second.loss_mask)
    with torch.no_grad():
        a, b = (hidden_of(network, build_pack([first, x])) for x in (second, other))
    assert not torch.equal(a, b)
    places = share([first.ids, second.ids]).places(0)
    assert places == share([first.ids, other.ids]).places(0)
    assert torch.equal(a[places], b[places])


FOREST = Packed([5, 4, 9, 3, 2, 1, 7], [-1, 0, 0, 1, 1, -1, -1])


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("window", [None, 1, 5, 8])
@pytest.mark.parametrize("block", [2, 256])
def test_attention_over_a_forest_is_the_masked_product_and_so_are_its_gradients(
    window: int | None, softcap: float | None, block: int, kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pacos.models.attention.BLOCK", block)
    layout = Packed(FOREST.lengths, FOREST.parents)
    torch.manual_seed(0)
    query, key, value = (torch.randn(31, heads, 8, requires_grad=True) for heads in (4, 2, 2))
    upstream = torch.randn(31, 4, 8)
    with nullcontext() if kernels else native.plain():
        ours = attend_spans(query, key, value, layout.work(window, 4), 0.3, softcap)
        grads = torch.autograd.grad(ours, (query, key, value), upstream)
    expected = reference_attention(query, key, value, layout.seen(window), 0.3, softcap)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    for grad, plain in zip(grads, torch.autograd.grad(expected, (query, key, value), upstream), strict=True):
        torch.testing.assert_close(grad, plain, rtol=1e-5, atol=1e-5)


def test_buckets_hold_every_query_once_and_keep_to_their_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pacos.models.kernels.attention.ROOM", 4 * 9 * 14)
    buckets = FOREST.work(None, 4).buckets
    runs = [run for bucket in buckets for run in bucket.queries.runs.tolist()]
    queries = sorted(start + i for start, count, *_ in runs for i in range(count))
    assert queries == list(range(31))
    assert len(buckets) > 3
    for bucket in buckets:
        n, t, s = bucket.shape
        assert n == 1 or n * 4 * t * s <= 4 * 9 * 14


def test_a_long_row_computes_no_scores_of_the_future() -> None:
    scores = sum(n * t * s for n, t, s in (bucket.shape for bucket in Packed([2048]).work(None, 1).buckets))
    needed = 256 * sum(range(256, 2049, 256))
    assert needed <= scores <= needed * 1.06 < 2048 * 2048 * 0.6


def test_positions_go_on_behind_what_a_segment_continues() -> None:
    assert Packed([2, 1, 3, 2], [-1, 0, 1, 0]).positions().tolist() == [0, 1, 2, 3, 4, 5, 2, 3]


@pytest.mark.parametrize("family", ["llama", "phi3", "qwen2", "mistral"])
def test_fused_norms_are_the_family_s_own(family: str) -> None:
    model = tiny_model(family)
    ids = torch.tensor([[5, 9, 33, 7]])
    with torch.no_grad():
        before = model.model(input_ids=ids).last_hidden_state
        from pacos.models.kernels.norms import use_fused_norms

        assert use_fused_norms(model) == 5
        torch.testing.assert_close(model.model(input_ids=ids).last_hidden_state, before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sizes", [(64, 32), (32, 64)])
def test_values_may_be_of_another_size_than_keys(sizes: tuple[int, int], dtype: torch.dtype) -> None:
    size, value_size = sizes
    packed = Packed([6, 3, 5], [-1, 0, 0])
    inputs = [
        torch.randn(14, heads, n).to(dtype).requires_grad_() for heads, n in ((4, size), (2, size), (2, value_size))
    ]
    upstream = torch.randn(14, 4, value_size).to(dtype)
    tensors = [x.transpose(0, 1)[None] for x in inputs]
    ours = packed.attend(0, *tensors, scaling=0.125, window=None, softcap=None)[0]
    theirs = reference_attention(*inputs, packed.seen(), 0.125)
    pairs = zip(torch.autograd.grad(ours, inputs, upstream), torch.autograd.grad(theirs, inputs, upstream), strict=True)
    tolerance = 1e-5 if dtype == torch.float32 else 5e-2
    for one, other in ((ours, theirs), *pairs):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
