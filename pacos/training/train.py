"""The training loop.

    for each step: take the next batch of rows, pack it, add up the gradients of its packs, clip, step, follow.

The loss of a batch is the mean over its response tokens: every pack is divided by the number of targets of the *whole*
batch, so the split into packs changes nothing. LoRA, QLoRA and full fine-tuning differ in what `masters` holds, not here.

Several processes (`peers`) each take a share of the batch's rows; sums of loss, targets and gradients are over all of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pacos.errors import ResourceError, UserError, is_out_of_memory
from pacos.models.kernels.cross_entropy import linear_cross_entropy
from pacos.models.network import Network
from pacos.models.packs import Pack, build_pack, make_packs
from pacos.prompts import Rendered, lengths_of
from pacos.training.batches import Batches, Group
from pacos.training.checkpoint import Position, rng_state, set_rng_state
from pacos.training.distributed import ALONE, Peers
from pacos.training.optimizer import Masters, set_learning_rate
from pacos.training.sharding import Loss

ADVICE = "  Try a lower train.learning_rate, a longer train.warmup_share, or look at the rows with --show-rows"


class DivergedError(UserError):
    """The loss is no longer a number."""


def before_learning(model: torch.nn.Module) -> str:
    """Why the loss is no number before any step: where the model's own weights are none, or that they are not the reason."""
    wrong = [name.replace(".base.", ".") for name, p in model.named_parameters() if not p.isfinite().all()]
    if wrong:
        return f"model.base: {wrong[0]} holds numbers that are not finite, as do {len(wrong) - 1} others; fetch the base again"
    return "the loss is not finite before the first step, and the model's weights are: its numbers overflow; try model.dtype=fp32"


@dataclass(frozen=True)
class Step:
    """What one optimizer step did. `loss` in nats a response token, `seconds` for the step, tokens as computed on."""

    step: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    targets: int
    seconds: float
    eval_loss: float | None = None


@dataclass(frozen=True)
class Pace:
    """How long to train and when to look: resolved numbers, in optimizer steps."""

    steps: int
    batch_size: int
    pack_tokens: int
    clip_norm: float
    seed: int
    eval_every: int
    save_every: int
    patience: int
    batch_tokens: int = 0


@dataclass(frozen=True)
class Hooks:
    """What the loop tells, and asks. `save` is called after the step that `position` names; `stop` ends the run early."""

    on_step: Callable[[Step], None]
    save: Callable[[Position], None]
    stop: Callable[[], bool]


def masked_cross_entropy(network: Network, pack: Pack) -> Tensor:
    """Summed negative log-likelihood of the pack's targets, in nats. The head runs on the positions that predict one."""
    return linear_cross_entropy(
        pack.hidden(network), network.head.weight, pack.targets.to(network.device), network.softcap
    )


def train(
    network: Network,
    masters: Masters,
    optimizer: torch.optim.Optimizer,
    rows: Sequence[Rendered],
    validation: Sequence[Rendered],
    *,
    pace: Pace,
    schedule: Callable[[int], float],
    hooks: Hooks,
    start: Position = Position(),
    loss: Loss = masked_cross_entropy,
    peers: Peers = ALONE,
) -> Position:
    """Train from `start` to the end of `pace`, or until `hooks.stop()` or patience says so. Returns where it stopped."""
    position, batches = start, batches_of(rows, pace)
    network.model.train()
    while position.step < pace.steps and not position.finished and not hooks.stop():
        began = time.perf_counter()
        packs = packs_of(peers.share(batches.of_step(position.step), batches.lengths), rows, pace)
        rate = schedule(position.step)
        mean_loss, norm = update(network, masters, optimizer, packs, rate, pace.clip_norm, loss, position.step, peers)
        tokens, targets = map(round, peers.sum(*counts(packs)))
        position = replace(position, step=position.step + 1, tokens=position.tokens + tokens)
        took = time.perf_counter() - began
        eval_loss = None
        if validation and is_due(position.step, pace.eval_every, pace.steps):
            eval_loss = evaluate(network, validation, pace.pack_tokens, loss, peers)
            refuse_non_finite(eval_loss, position.step)
            position = judge(position, eval_loss, pace.patience)
        hooks.on_step(Step(position.step, mean_loss, rate, norm, tokens, targets, took, eval_loss))
        if eval_loss is not None or is_due(position.step, pace.save_every, pace.steps):
            hooks.save(position)
    return position


def batches_of(rows: Sequence[Rendered], pace: Pace) -> Batches:
    return Batches(
        lengths_of(rows),
        batch_size=pace.batch_size,
        batch_tokens=pace.batch_tokens,
        pack_tokens=pace.pack_tokens,
        seed=pace.seed,
    )


def packs_of(groups: Sequence[Group], rows: Sequence[Rendered], pace: Pace) -> list[Pack]:
    return [pack for group in groups for pack in make_packs([rows[i] for i in group], pace.pack_tokens)]


def counts(packs: Sequence[Pack]) -> tuple[int, int]:
    """Tokens computed, and targets."""
    return sum(pack.num_tokens for pack in packs), sum(pack.num_targets for pack in packs)


def in_step(packs: Sequence[Pack], peers: Peers) -> list[Pack]:
    """As many packs as the process with the most has, for those who gather weights together: two tokens without a target."""
    if peers.size == 1:
        return list(packs)
    idle = build_pack([Rendered((0, 0), (False, False))])
    return [*packs, *[idle] * (peers.largest(len(packs)) - len(packs))]


def refuse_non_finite(eval_loss: float, step: int) -> None:
    """Raises DivergedError, so that weights which no longer give numbers are neither saved nor kept."""
    if not math.isfinite(eval_loss):
        raise DivergedError(f"step {step}: the loss on the validation rows is {eval_loss}\n{ADVICE}")


def is_due(step: int, every: int, steps: int) -> bool:
    return step == steps or step % every == 0


def update(
    network: Network,
    masters: Masters,
    optimizer: torch.optim.Optimizer,
    packs: Sequence[Pack],
    rate: float,
    clip_norm: float,
    loss: Loss,
    step: int,
    peers: Peers = ALONE,
) -> tuple[float, float]:
    """One optimizer step. Returns the mean loss of the batch and the gradient norm. Raises DivergedError before stepping."""
    set_learning_rate(optimizer, rate)
    mean_loss = accumulate(network, packs, loss, peers)
    norm = masters.clip(clip_norm, peers)
    if not (math.isfinite(mean_loss) and math.isfinite(norm)):
        masters.zero_grad()
        raise DivergedError(
            f"step {step + 1}: the loss is {mean_loss} and the gradient norm {norm}; "
            f"training stopped before they reached the weights.\n{ADVICE}"
        )
    optimizer.step()
    masters.publish()
    masters.zero_grad()
    return mean_loss, norm


def accumulate(
    network: Network, packs: Sequence[Pack], loss: Loss = masked_cross_entropy, peers: Peers = ALONE
) -> float:
    """Add up the gradients of the mean loss over all targets of all packs, of all processes; returns that mean."""
    targets = peers.sum(counts(packs)[1])[0]
    assert targets > 0, "a batch without a target; rows without one are refused before training"
    losses = []
    for pack in in_step(packs, peers):
        summed = loss(network, pack)
        (summed / targets).backward()
        losses.append(summed.detach())
    # read behind the last pack, for each look at a number waits until a GPU is done
    return peers.sum(sum(map(float, losses)))[0] / targets


@torch.no_grad()
def evaluate(
    network: Network,
    rows: Sequence[Rendered],
    pack_tokens: int,
    loss: Loss = masked_cross_entropy,
    peers: Peers = ALONE,
) -> float:
    """Mean loss over the targets of all rows, in nats, with dropout off."""
    network.model.eval()
    groups = peers.share([list(range(len(rows)))], [len(row.ids) for row in rows])
    packs = [pack for group in groups for pack in make_packs([rows[i] for i in group], pack_tokens)]
    total = sum(float(loss(network, pack)) for pack in in_step(packs, peers))
    network.model.train()
    total, targets = peers.sum(total, counts(packs)[1])
    return total / targets


def judge(position: Position, eval_loss: float, patience: int) -> Position:
    """Note a new best, or one more evaluation without; finished where patience is at its end."""
    if position.best_loss is None or eval_loss < position.best_loss:
        return replace(position, best_loss=eval_loss, best_step=position.step, stale=0)
    stale = position.stale + 1
    return replace(position, stale=stale, finished=patience > 0 and stale >= patience)


def rehearse(
    network: Network,
    masters: Masters,
    optimizer: torch.optim.Optimizer,
    rows: Sequence[Rendered],
    validation: Sequence[Rendered],
    pace: Pace,
    loss: Loss = masked_cross_entropy,
    *,
    peers: Peers = ALONE,
) -> None:
    """The longest batch of the run first: forward, backward, a step of size zero, and the longest evaluation.

    Each of several processes tries the longest pack, for any may get it. What does not fit in memory fails here, in the
    first seconds. Weights and random states are as before afterwards.
    """
    before = rng_state()
    packs = packs_of(batches_of(rows, pace).longest(pace.steps), rows, pace)
    try:
        network.model.train()
        update(network, masters, optimizer, packs[:1], 0.0, pace.clip_norm, loss, -1, peers)
        if validation:
            longest = max(validation, key=lambda row: len(row.ids))
            evaluate(network, [longest] * peers.size, pace.pack_tokens, loss, peers)
    except DivergedError:
        raise DivergedError(before_learning(network.model)) from None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(
            f"the longest pack ({packs[0].num_tokens} tokens) does not fit in memory.\n"
            "  Lower train.pack_tokens or train.max_length, set train.gradient_checkpointing, or use method qlora"
        ) from None
    optimizer.state.clear()
    set_rng_state(before)
