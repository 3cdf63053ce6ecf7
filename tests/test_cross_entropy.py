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


@pytest.mark.parametrize("target", [-1, -100, 50, 2**40])
@pytest.mark.parametrize("softcap", [None, 3.0])
def test_a_target_outside_of_the_vocabulary_is_an_error(target: int, softcap: float | None) -> None:
    """As in torch; the compiled kernel read and wrote beside its memory."""
    hidden, weight = torch.randn(4, 8, requires_grad=True), torch.randn(50, 8)
    with pytest.raises((IndexError, RuntimeError), match=r"out of (range|bounds)"):
        losses.linear_cross_entropy(hidden, weight, torch.tensor([0, 49, target, 1]), softcap)


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_targets_are_read_in_any_whole_numbers_and_any_layout(softcap: float | None) -> None:
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(20, 8), torch.randn(50, 8), torch.randint(50, (20,))
    expected = losses.reference_cross_entropy(hidden, weight, targets, softcap)
    for given in (targets.int(), targets.repeat_interleave(2)[::2]):
        torch.testing.assert_close(losses.linear_cross_entropy(hidden, weight, given, softcap), expected)


def test_fewer_targets_than_rows_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"^\(3,\) targets for 4 rows of logits$"):
        losses.linear_cross_entropy(torch.randn(4, 8), torch.randn(50, 8), torch.tensor([1, 2, 3]))
