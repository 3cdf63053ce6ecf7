"""The chunked cross entropy equals the plain one: value, gradients, soft cap."""

from __future__ import annotations

import pytest
import torch

from pacos.models.kernels import cross_entropy as losses


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("chunk", [1, 7, 512])
def test_value_and_gradients_equal_the_plain_formula(
    softcap: float | None, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "CHUNK", chunk)
    torch.manual_seed(0)
    hidden, weight = torch.randn(20, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True)
    targets = torch.randint(50, (20,))
    plain = losses.reference_cross_entropy(hidden, weight, targets, softcap)
    expected = torch.autograd.grad(plain, (hidden, weight))
    ours = losses.linear_cross_entropy(hidden, weight, targets, softcap)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(
        torch.autograd.grad(ours / 3, (hidden, weight)), tuple(g / 3 for g in expected), rtol=1e-4, atol=1e-6
    )


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, weight = torch.randn(4, 8, requires_grad=True), torch.randn(50, 8)
    losses.linear_cross_entropy(hidden, weight, torch.tensor([1, 2, 3, 4])).backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_token_nll_adds_up_to_the_loss() -> None:
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(20, 8), torch.randn(50, 8), torch.randint(50, (20,))
    nll = losses.token_nll(hidden, weight, targets, 2.0)
    assert nll.shape == (20,)
    torch.testing.assert_close(nll.sum(), losses.reference_cross_entropy(hidden, weight, targets, 2.0))
    assert losses.token_nll(hidden[:0], weight, targets[:0]).shape == (0,)
