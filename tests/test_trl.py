"""Twenty steps beside TRL's SFTTrainer: the same rows in the same order, the same adapter to start from, AdamW, clipping.

TRL pads each batch and runs transformers with PEFT; ours packs the rows without padding. Losses and gradient norms must
follow step by step, and the adapters must end in the same place. What is left is the rounding of fp32 sums in another order.
Phi-3 takes part with o_proj alone: PEFT gives its fused qkv_proj one LoRA, where ours has one each for q, k and v.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pacos.models import LoraSpec, Network, attach
from pacos.models.adapters import adapter_tensors
from pacos.models.lora import Adapter
from pacos.prompts import Rendered
from pacos.training.optimizer import Masters, make_optimizer
from pacos.training.train import Hooks, Pace, Step, train
from tests.rows import random_rows
from tests.test_training import peft_copy
from tests.tiny import tiny_model, tiny_tokenizer

STEPS, EPOCHS, BATCH, RATE, DECAY = 20, 4, 4, 1e-2, 0.01
BETAS, EPS, CLIP = (0.9, 0.999), 1e-8, 1.0
ALL = ("q_proj", "k_proj", "v_proj", "o_proj")


def linear(step: int) -> float:
    """The rate of transformers' linear schedule: it would reach zero behind the last step."""
    return RATE * (STEPS - step) / STEPS


def adapted(model: Any, targets: Sequence[str]) -> Adapter:
    """A LoRA of rank 4 whose B is not zero, so that every A has a gradient from the first step on."""
    adapter = attach(model, LoraSpec(4, 8.0, 0.0, tuple(targets)), torch.Generator().manual_seed(3))
    drawn = torch.Generator().manual_seed(4)
    for name, p in adapter.named_parameters():
        if name.endswith("lora_B"):
            p.data.copy_(torch.randn(p.shape, generator=drawn) * 0.05)
    model.requires_grad_(False)
    return adapter


def ours(
    model: Any, adapter: Adapter, rows: Sequence[Rendered], batch: int, rate: Callable[[int], float]
) -> list[Step]:
    masters = Masters(adapter.named_parameters())
    optimizer = make_optimizer(masters, "adamw", learning_rate=RATE, betas=BETAS, eps=EPS, weight_decay=DECAY)
    pace = Pace(STEPS, batch, 64, CLIP, seed=0, eval_every=STEPS, save_every=STEPS, patience=0)
    seen: list[Step] = []
    hooks = Hooks(seen.append, lambda _: None, lambda: False)
    train(Network(model), masters, optimizer, rows, [], pace=pace, schedule=rate, hooks=hooks)
    return seen


def theirs(model: Any, rows: Sequence[Rendered], accumulated: int, schedule: str, folder: Path) -> Any:
    """A finished SFTTrainer. Its rows are ids with labels, so that it neither tokenizes nor truncates."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    table = {
        "input_ids": [list(row.ids) for row in rows],
        "labels": [[i if m else -100 for i, m in zip(row.ids, row.loss_mask, strict=True)] for row in rows],
    }
    settings = SFTConfig(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        max_steps=STEPS,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=accumulated,
        train_sampling_strategy="sequential",
        dataset_kwargs={"skip_prepare_dataset": True},
        gradient_checkpointing=False,
        learning_rate=RATE,
        lr_scheduler_type=schedule,
        optim="adamw_torch",
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        adam_epsilon=EPS,
        weight_decay=DECAY,
        max_grad_norm=CLIP,
        logging_steps=1,
    )
    trainer = SFTTrainer(model, settings, train_dataset=Dataset.from_dict(table), processing_class=tiny_tokenizer())
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    ("family", "targets", "accumulated", "schedule"),
    [
        ("llama", ALL, 1, "constant"),
        ("llama", ALL, 2, "linear"),
        ("mistral", ALL, 1, "linear"),
        ("qwen2", ALL, 2, "constant"),
        ("gemma2", ALL, 1, "constant"),
        ("phi3", ("o_proj",), 2, "linear"),
    ],
)
def test_twenty_steps_follow_trl_on_the_same_rows_in_the_same_order(
    family: str,
    targets: tuple[str, ...],
    accumulated: int,
    schedule: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pacos.training.batches.epoch_order", lambda rows, *_: list(range(rows)))
    base = tiny_model(family)
    model = copy.deepcopy(base)
    adapter = adapted(model, targets)
    before = {name: tensor.clone() for name, tensor in adapter_tensors(adapter).items()}
    rows = random_rows(STEPS // EPOCHS * BATCH * accumulated, seed=7)
    trainer = theirs(peft_copy(base, adapter), rows, accumulated, schedule, tmp_path)
    steps = ours(model, adapter, rows, BATCH * accumulated, linear if schedule == "linear" else lambda _: RATE)
    expected = [line for line in trainer.state.log_history if "loss" in line]
    assert [s.step for s in steps] == [line["step"] for line in expected] == list(range(1, STEPS + 1))
    assert steps[-1].loss < steps[0].loss - 0.2
    assert [s.loss for s in steps] == pytest.approx([line["loss"] for line in expected], rel=1e-5)
    assert [s.grad_norm for s in steps] == pytest.approx([line["grad_norm"] for line in expected], rel=1e-4)
    assert [s.learning_rate for s in steps] == pytest.approx([line["learning_rate"] for line in expected], rel=1e-12)
    ends_alike(adapter, trainer.model, before)


def ends_alike(adapter: Adapter, model: Any, before: dict[str, torch.Tensor]) -> None:
    """Both adapters moved, and stand within a thousandth of that way of each other."""
    found = {name.replace(".default", ""): p.detach() for name, p in model.named_parameters() if "lora_" in name}
    tensors = adapter_tensors(adapter)
    assert tensors.keys() == found.keys()
    for name, tensor in tensors.items():
        moved = float((tensor - before[name]).norm())
        assert moved > 0.01
        assert float((tensor - found[name]).norm()) < 1e-3 * moved, name
