"""The training step against transformers and PEFT, and against itself in every way that must not matter."""

from __future__ import annotations

import copy
from typing import Any

import peft
import pytest
import torch

from pacos.models import LoraSpec, Network, attach
from pacos.models.lora import Adapter
from pacos.models.packs import make_packs
from pacos.prompts import Rendered
from pacos.training.checkpoint import Position
from pacos.training.optimizer import Masters, make_optimizer
from pacos.training.schedule import learning_rate
from pacos.training.train import DivergedError, Hooks, Pace, accumulate, evaluate, judge, rehearse, train
from tests.rows import random_rows
from tests.tiny import FAMILIES, tiny_model

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")


def set_up(model: Any, dropout: float = 0.0) -> tuple[Network, Masters, Adapter]:
    network = Network(model)
    adapter = attach(model, LoraSpec(4, 8.0, dropout, TARGETS), torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    for name, p in adapter.named_parameters():
        if name.endswith("lora_B"):
            p.data.normal_(std=0.05)
    model.requires_grad_(False)
    return network, Masters(adapter.named_parameters()), adapter


def gradients(masters: Masters) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in masters.masters.items() if p.grad is not None}


def adamw(masters: Masters, rate: float = 1e-2) -> torch.optim.Optimizer:
    return make_optimizer(masters, "adamw", learning_rate=rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)


def padded(rows: list[Rendered]) -> dict[str, torch.Tensor]:
    """The rows as a padded batch with labels, the way transformers takes them."""
    longest = max(len(row.ids) for row in rows)
    fill = [(row, longest - len(row.ids)) for row in rows]
    return {
        "input_ids": torch.tensor([[*row.ids, *[0] * n] for row, n in fill]),
        "attention_mask": torch.tensor([[*[1] * len(row.ids), *[0] * n] for row, n in fill]),
        "labels": torch.tensor(
            [[*(i if m else -100 for i, m in zip(row.ids, row.loss_mask, strict=True)), *[-100] * n] for row, n in fill]
        ),
    }


def peft_copy(model: Any, adapter: Adapter) -> Any:
    """The same base and adapter in PEFT's own modules; fused parts as one LoRA."""
    from pacos.models.adapters import adapter_tensors, peft_config

    config = peft_config(adapter, "tiny", "")
    kept = ("r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "task_type")
    theirs = peft.get_peft_model(model, peft.LoraConfig(**{key: config[key] for key in kept}))
    tensors = adapter_tensors(adapter)
    for name, p in theirs.named_parameters():
        plain = name.replace(".default", "")
        if plain in tensors:
            p.data.copy_(tensors[plain])
    return theirs


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_adapter_gradients_equal_transformers_with_peft(family: str) -> None:
    base = tiny_model(family)
    network, masters, adapter = set_up(copy.deepcopy(base))
    theirs = peft_copy(base, adapter)
    rows = random_rows(6)
    loss = theirs(**padded(rows)).loss
    loss.backward()
    ours = accumulate(network, make_packs(rows, 80))
    assert ours == pytest.approx(float(loss.detach()), rel=1e-5)
    found = dict(theirs.named_parameters())
    for name, module in adapter.modules.items():
        expected_a = found[f"base_model.model.{name}.lora_A.default.weight"].grad
        expected_b = found[f"base_model.model.{name}.lora_B.default.weight"].grad
        r = module.rank
        for i, part in enumerate(module.parts):
            block = slice(i * r, (i + 1) * r)
            close(module.a[i].grad, expected_a[block])
            close(module.b[i].grad, expected_b[part.start : part.stop, block])
    assert len(masters.masters) == 2 * sum(len(m.parts) for m in adapter.modules.values())


def close(ours: torch.Tensor | None, expected: torch.Tensor) -> None:
    """Equal to 1e-5 of the largest entry."""
    assert ours is not None
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("pack_tokens", [16, 50, 1000])
def test_gradients_are_equal_for_every_way_to_split_a_batch(pack_tokens: int) -> None:
    rows = random_rows(9)
    network, masters, _ = set_up(tiny_model("llama"))
    whole = accumulate(network, make_packs(rows, 10_000))
    expected = gradients(masters)
    masters.zero_grad()
    assert accumulate(network, make_packs(rows, pack_tokens)) == pytest.approx(whole, rel=1e-6)
    for name, gradient in gradients(masters).items():
        close(gradient, expected[name])


@pytest.mark.parametrize("family", ["phi3", "gemma2"])
def test_a_shared_prefix_changes_no_gradient(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_rows(6, shared=9)
    network, masters, _ = set_up(tiny_model(family))
    shared = make_packs(rows, 10_000)
    assert shared[0].layout.lengths[0] == 9
    assert set(shared[0].layout.parents) == {-1, 0}
    loss = accumulate(network, shared)
    expected = gradients(masters)
    masters.zero_grad()
    monkeypatch.setattr("pacos.models.packs.SHORTEST_PREFIX", 10_000)
    apart = make_packs(rows, 10_000)
    assert set(apart[0].layout.parents) == {-1}
    assert accumulate(network, apart) == pytest.approx(loss, rel=1e-6)
    for name, gradient in gradients(masters).items():
        close(gradient, expected[name])


def test_gradient_checkpointing_changes_no_gradient() -> None:
    rows = random_rows(4)
    network, masters, _ = set_up(tiny_model("llama"))
    network.model.train()
    accumulate(network, make_packs(rows, 1000))
    expected = gradients(masters)
    masters.zero_grad()
    network.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    accumulate(network, make_packs(rows, 1000))
    for name, gradient in gradients(masters).items():
        close(gradient, expected[name])


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_full_fine_tuning_gradients_equal_transformers(family: str) -> None:
    base = tiny_model(family)
    rows = random_rows(5)
    base(**padded(rows)).loss.backward()
    model = copy.deepcopy(base)
    model.zero_grad()
    network, masters = Network(model), Masters(model.named_parameters())
    accumulate(network, make_packs(rows, 60))
    expected = {name: p.grad for name, p in base.named_parameters()}
    assert masters.masters.keys() == expected.keys()
    for name, gradient in gradients(masters).items():
        close(gradient, expected[name])


def test_sixteen_bit_weights_are_trained_in_fp32_masters() -> None:
    model = tiny_model("llama").to(torch.bfloat16)
    network, masters = Network(model), Masters(model.named_parameters())
    before = {name: m.detach().clone() for name, m in masters.masters.items()}
    accumulate(network, make_packs(random_rows(4), 60))
    assert all(
        m.dtype == torch.float32 and m.grad is not None and m.grad.dtype == torch.float32
        for m in masters.masters.values()
    )
    assert all(p.grad is None for p in model.parameters())
    torch.optim.SGD(masters.masters.values(), lr=1e-5).step()
    masters.publish()
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(masters.masters[name], before[name])
    assert torch.equal(model.get_parameter(name), masters.masters[name].bfloat16())


def pace(steps: int, **changes: Any) -> Pace:
    values = {
        "steps": steps,
        "batch_size": 4,
        "pack_tokens": 80,
        "clip_norm": 1.0,
        "seed": 0,
        "eval_every": 5,
        "save_every": 5,
        "patience": 0,
    }
    return Pace(**(values | changes))


def run(
    rows: list[Rendered], held: list[Rendered], steps: int, **changes: Any
) -> tuple[list[Any], list[Position], Position, Masters]:
    network, masters, _ = set_up(tiny_model("llama"))
    seen: list[Any] = []
    saved: list[Position] = []
    hooks = Hooks(seen.append, saved.append, changes.pop("stop", lambda: False))
    end = train(
        network, masters, adamw(masters), rows, held, pace=pace(steps, **changes), schedule=lambda _: 1e-2, hooks=hooks
    )
    return seen, saved, end, masters


def test_the_loss_goes_down_and_every_step_is_told() -> None:
    seen, saved, end, _ = run(random_rows(12), random_rows(3, seed=5), 30)
    assert [s.step for s in seen] == list(range(1, 31))
    assert seen[-1].loss < seen[0].loss - 0.5
    assert [p.step for p in saved] == [5, 10, 15, 20, 25, 30]
    assert [s.step for s in seen if s.eval_loss is not None] == [5, 10, 15, 20, 25, 30]
    assert end.step == 30
    assert end.tokens == sum(s.tokens for s in seen)


def test_training_stops_when_patience_is_at_its_end() -> None:
    rows = random_rows(4)
    _, saved, end, _ = run(rows, random_rows(4, seed=9), 400, eval_every=1, patience=2)
    assert end.finished
    assert end.step < 400
    assert end.step == end.best_step + 2
    assert saved[-1] == end


def test_asked_to_stop_it_ends_after_the_step() -> None:
    answers = iter([False, False, True])
    _, _, end, _ = run(random_rows(12), [], 30, stop=lambda: next(answers))
    assert end.step == 2


def test_a_loss_that_is_no_number_stops_before_it_reaches_the_weights() -> None:
    network, masters, adapter = set_up(tiny_model("llama"))
    first = next(iter(adapter.modules.values()))
    first.base.weight.data[0, 0] = float("inf")
    before = {name: m.detach().clone() for name, m in masters.masters.items()}
    hooks = Hooks(lambda _: None, lambda _: None, lambda: False)
    with pytest.raises(DivergedError, match="step 1: the loss is nan"):
        train(network, masters, adamw(masters), random_rows(4), [], pace=pace(3), schedule=lambda _: 1e-2, hooks=hooks)
    assert all(torch.equal(m, before[name]) for name, m in masters.masters.items())


def test_a_base_whose_weights_are_no_numbers_is_named_before_training() -> None:
    network, masters, adapter = set_up(tiny_model("llama"))
    first = next(iter(adapter.modules.values()))
    first.base.weight.data[0, 0] = float("nan")
    with pytest.raises(DivergedError) as error:
        rehearse(network, masters, adamw(masters), random_rows(4), [], pace(3))
    assert str(error.value) == (
        "model.base: model.layers.0.self_attn.q_proj.weight holds numbers that are not finite, as do 0 others; "
        "fetch the base again"
    )
    first.base.weight.data.fill_(3e38)
    with pytest.raises(DivergedError, match="its numbers overflow"):
        rehearse(network, masters, adamw(masters), random_rows(4), [], pace(3))


def test_the_rehearsal_leaves_weights_state_and_random_numbers_as_they_were() -> None:
    network, masters, _ = set_up(tiny_model("llama"), dropout=0.3)
    optimizer = adamw(masters)
    before = {name: m.detach().clone() for name, m in masters.masters.items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    rehearse(network, masters, optimizer, random_rows(8), random_rows(2), pace(4))
    assert torch.equal(torch.rand(3), expected)
    assert not optimizer.state
    assert all(torch.equal(m, before[name]) for name, m in masters.masters.items())
    assert all(m.grad is None for m in masters.masters.values())


@pytest.mark.parametrize("pack_tokens", [20, 60, 1000])
def test_the_evaluation_loss_is_a_mean_over_tokens_whatever_the_packs(pack_tokens: int) -> None:
    rows = random_rows(7)
    network, _, _ = set_up(tiny_model("llama"))
    with torch.no_grad():
        expected = float(tiny_loss(network, rows))
    assert evaluate(network, rows, pack_tokens) == pytest.approx(expected, rel=1e-6)


def tiny_loss(network: Network, rows: list[Rendered]) -> torch.Tensor:
    """The mean over all targets by the plain formula, row after row."""
    summed, count = torch.zeros(()), 0
    for row in rows:
        (pack,) = make_packs([row], 10_000)
        logits = network.logits(pack.hidden(network))
        summed += torch.nn.functional.cross_entropy(logits, pack.targets, reduction="sum")
        count += pack.num_targets
    return summed / count


def test_judging_counts_evaluations_without_a_better_loss() -> None:
    position = judge(Position(step=5), 2.0, patience=2)
    assert (position.best_loss, position.best_step, position.stale) == (2.0, 5, 0)
    position = judge(Position(step=6, best_loss=2.0, best_step=5), 2.5, patience=2)
    assert (position.stale, position.finished) == (1, False)
    assert judge(Position(step=7, best_loss=2.0, best_step=5, stale=1), 2.0, patience=2).finished


def test_the_schedule_warms_up_and_ends_at_its_floor() -> None:
    rates = [learning_rate(s, steps=10, peak=1.0, warmup=2, kind="cosine", floor=0.1) for s in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[-1] == pytest.approx(0.1)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    linear = [learning_rate(s, steps=5, peak=2.0, warmup=0, kind="linear", floor=0.0) for s in range(5)]
    assert linear == [2.0, 1.5, 1.0, 0.5, 0.0]
    assert learning_rate(4, steps=5, peak=2.0, warmup=0, kind="constant", floor=0.0) == 2.0
