"""Frozen weights are moved to large pages once, and are then what they were."""

from __future__ import annotations

import copy

import pytest
import torch

from pacos.inference import Engine, Sampling
from pacos.models import LoraSpec, Network, attach
from pacos.models.kernels import pages
from pacos.models.kernels.pages import LARGE_PAGE, into_large_pages
from pacos.models.packs import make_packs
from pacos.training.train import masked_cross_entropy
from tests.rows import random_rows
from tests.tiny import tiny_model

MEGA = 1 << 20


@pytest.fixture(autouse=True)
def _a_system_with_large_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(pages.mmap, "MADV_HUGEPAGE"):
        pytest.skip("this system has no large pages")
    monkeypatch.setattr(pages, "offered", lambda: True)
    monkeypatch.setattr(pages, "free_memory", lambda: 1 << 40)


def weights(*shapes: tuple[int, ...]) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator), requires_grad=False) for shape in shapes]


def test_weights_keep_their_values_and_lie_side_by_side_from_a_large_page_on() -> None:
    found = weights((300, 1000), (7,), (300, 900))
    before = [x.detach().clone() for x in found]
    with torch.inference_mode():
        into_large_pages(found)
    assert all(torch.equal(x, y) for x, y in zip(found, before, strict=True))
    starts = [x.data_ptr() for x in found]
    assert starts[0] % LARGE_PAGE == 0
    assert starts[1] == starts[0] + 1_200_000
    assert starts[2] == starts[1] + 64
    assert not any(x.is_inference() for x in found)


def test_they_are_moved_once_and_what_is_tied_stays_tied() -> None:
    (weight,) = weights((600, 1000))
    tied = torch.nn.Parameter(weight.data, requires_grad=False)
    into_large_pages([weight, tied, weight])
    assert weight.data_ptr() == tied.data_ptr()
    place = weight.data_ptr()
    into_large_pages([weight, tied])
    assert (weight.data_ptr(), tied.data_ptr()) == (place, place)


def test_what_is_trained_is_small_or_has_no_room_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    (weight,) = weights((600, 1000))
    place = weight.data_ptr()
    for names in ({"offered": lambda: False}, {"free_memory": lambda: 4 * MEGA}):
        with monkeypatch.context() as patch:
            for name, value in names.items():
                patch.setattr(pages, name, value)
            into_large_pages([weight])
        assert weight.data_ptr() == place
    weight.requires_grad_(True)
    into_large_pages([weight])
    (small,) = weights((10, 10))
    into_large_pages([small])
    assert weight.data_ptr() == place


def test_answers_and_gradients_are_those_of_before() -> None:
    size = {"hidden_size": 192, "intermediate_size": 512, "head_dim": 48}
    model = tiny_model("llama", **size).requires_grad_(False)
    plain = copy.deepcopy(model)
    ids = torch.tensor([[5, 6, 7]])
    expected = plain.generate(ids, max_new_tokens=20, do_sample=False, eos_token_id=None)[0, 3:].tolist()
    place = model.lm_head.weight.data_ptr()
    moved = Network(model)
    assert [*Engine(moved, ()).generate(ids.tolist(), Sampling(max_new_tokens=20))[0].ids] == expected
    assert model.lm_head.weight.data_ptr() != place
    gradients = []
    for network in (moved, Network(plain)):
        spec = LoraSpec(2, 8.0, 0.0, ("q_proj", "down_proj"))
        adapter = attach(network.model, spec, torch.Generator().manual_seed(0))
        masked_cross_entropy(network, make_packs(random_rows(3))[0]).backward()
        gradients.append([x.grad for _, x in adapter.named_parameters()])
    assert len(gradients[0]) == 8
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
