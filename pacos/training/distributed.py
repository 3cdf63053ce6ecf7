"""The processes that train together: who they are, and the few things that they say to each other.

Under torchrun each process reads its place from the environment and meets the others. Alone, `ALONE` answers the same calls
without torch.distributed. Every process knows every row, so a batch is dealt out without a word:

    batch -> share of rank 0 | share of rank 1 | ...        whole packs, or rows, the longest first to whoever holds least

What the processes do tell each other is a handful of numbers a step, over gloo on the CPU, and the gradients.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from pacos.errors import UsageError
from pacos.training.batches import Group

PATIENCE = timedelta(hours=2)
"""How long a process waits for one that says nothing; one that is gone is noticed at once."""
BUCKET = 1 << 24
"""Numbers added up in one message: 64 MiB."""
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exit", "likely closed")
"""What gloo, NCCL and the store say of one that is gone."""


@dataclass(frozen=True)
class Peers:
    """This process among `size`; `local` is its number on its machine. Every method but `share` is called by all together."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Each value added up over all processes."""
        return self._reduced(values, "SUM")

    def largest(self, value: int) -> int:
        return int(self._reduced([value], "MAX")[0])

    def _reduced(self, values: Sequence[float], how: str) -> list[float]:
        if self.size == 1:
            return list(values)
        found = torch.tensor(values, dtype=torch.float64)
        dist().all_reduce(found, op=getattr(dist().ReduceOp, how))
        return found.tolist()

    def meet(self) -> None:
        """Go on when all are here."""
        self.largest(0)

    def from_first(self, text: str) -> str:
        """What the first process says."""
        if self.size == 1:
            return text
        data = torch.tensor(list(text.encode()), dtype=torch.uint8)
        data = data if self.first else torch.empty(0, dtype=torch.uint8)
        length = self.largest(len(data))
        data = data if self.first else torch.empty(length, dtype=torch.uint8)
        dist().broadcast(data, src=0)
        return bytes(data.tolist()).decode()

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, the same bits in each."""
        if self.size == 1:
            return
        for bucket in buckets(tensors):
            flat = torch.cat([t.flatten() for t in bucket])
            dist().all_reduce(flat)
            for tensor, summed in zip(bucket, flat.split([t.numel() for t in bucket]), strict=True):
                tensor.copy_(summed.view_as(tensor))

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first process, then one of each other machine, then the rest: what is fetched or made is there for those behind."""
        turn = 0 if self.first else 1 if self.local == 0 else 2
        for _ in range(turn):
            self.meet()
        yield
        for _ in range(turn, 3):
            self.meet()

    def share(self, groups: Sequence[Group], lengths: Sequence[int]) -> list[Group]:
        """This process's part of a batch: whole groups where there are enough of them, else rows as one group."""
        if self.size == 1:
            return list(groups)
        whole = len(groups) >= self.size
        items = list(groups) if whole else [[i] for group in groups for i in group]
        mine = [items[at] for at in deal([sum(lengths[i] for i in item) for item in items], self.size)[self.rank]]
        return mine if whole or not mine else [[i for item in mine for i in item]]


ALONE = Peers()


def deal(weights: Sequence[int], hands: int) -> list[list[int]]:
    """Places of `weights` dealt out to `hands`: the heaviest first, each to the hand that holds least so far."""
    held = [0] * hands
    dealt: list[list[int]] = [[] for _ in range(hands)]
    for at in sorted(range(len(weights)), key=lambda at: (-weights[at], at)):
        hand = held.index(min(held))
        dealt[hand].append(at)
        held[hand] += weights[at]
    return dealt


def buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in order, in lists of about BUCKET numbers."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        bucket.append(tensor)
        if sum(t.numel() for t in bucket) >= BUCKET:
            yield bucket
            bucket = []
    if bucket:
        yield bucket


def dist() -> Any:
    """torch.distributed, which one process alone never loads."""
    import torch.distributed

    return torch.distributed


def started_together() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def restarted() -> bool:
    """Whether torchrun started this process again after another one had died: the run then goes on where it was saved."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def join(device: str) -> Peers:
    """Meet the other processes of this run. `device` as in model.device: CPUs talk over gloo, CUDA devices over NCCL."""
    if not started_together():
        return ALONE
    peers = Peers(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    place = device_of(device, peers)
    if place.startswith("cuda"):
        torch.cuda.set_device(place)
    if not dist().is_initialized():
        backend = "cpu:gloo,cuda:nccl" if place.startswith("cuda") else "gloo"
        dist().init_process_group(backend, store=_store(), rank=peers.rank, world_size=peers.size, timeout=PATIENCE)
        atexit.register(leave)
    return peers


def _store() -> Any:
    """Where the processes find each other. torchrun's outlives a restart, so each start has its own part: else one that
    starts early meets the address of one that is dead."""
    store, _, _ = next(dist().rendezvous("env://"))
    return dist().PrefixStore(f"start-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def leave() -> None:
    if dist().is_initialized():
        dist().destroy_process_group()


def device_of(device: str, peers: Peers) -> str:
    """The device of this process: the CUDA device of its number on its machine. Raises UsageError for one named device."""
    if peers.size == 1 or device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return device
    if device not in ("auto", "cuda"):
        raise UsageError(
            f"model.device: '{device}' names one device, and {peers.size} processes train; take auto or cuda"
        )
    count = torch.cuda.device_count()
    if peers.local >= count:
        found = f"{count} CUDA device{'s'[: count != 1]}"
        raise UsageError(
            f"process {peers.rank} is number {peers.local} on its machine, which has {found}; start as many as there are devices"
        )
    return f"cuda:{peers.local}"


def first_to_say(message: str) -> bool:
    """Whether no other process has said this: what all of them find is said once. True where they cannot be asked."""
    if not (dist().is_available() and dist().is_initialized()):
        return int(os.environ.get("LOCAL_RANK", "0")) == 0
    try:
        store = dist().distributed_c10d._get_default_store()
        mine = os.environ["RANK"]
        return store.compare_set(f"pacos/said/{message}", "", mine).decode() == mine
    except RuntimeError:
        return True


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error says that another process is gone, and nothing about this one."""
    return isinstance(error, RuntimeError) and any(word in str(error) for word in LOST)
