"""What is trained, in fp32, and AdamW over it.

Weights that compute in 16 bits lose small updates, so each trained one has an fp32 master: the optimizer steps the master,
and the model's copy follows. Adapters are fp32 already and are their own masters. Of a weight that is divided among
processes (sharding.py), the master is the part that lies here; gradients and norms are still those of the whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pacos.errors import UsageError
from pacos.training.distributed import ALONE, Peers


class Masters:
    """fp32 masters of named parameters. Gradients of 16-bit parameters are added up in fp32 as they arrive."""

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]]):
        self.parameters = dict(named)
        self.masters = {name: _master(p) for name, p in self.parameters.items()}
        self.shards = {name for name, p in self.parameters.items() if is_sharded(p)}
        self.copies = {name for name, p in self.parameters.items() if p.dtype != torch.float32}
        for name, p in self.parameters.items():
            p.requires_grad_(True)
            if name in self.copies:
                p.register_post_accumulate_grad_hook(self._collector(self.masters[name]))

    @staticmethod
    def _collector(master: nn.Parameter) -> Any:
        def collect(p: Tensor) -> None:
            assert p.grad is not None
            master.grad = p.grad.float() if master.grad is None else master.grad.add_(p.grad)
            p.grad = None

        return collect

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the masters into the model."""
        for name in self.copies:
            self.parameters[name].copy_(self.masters[name])

    @property
    def shapes(self) -> dict[str, list[int]]:
        """The whole shape of each weight that is divided, by name."""
        return {name: list(self.parameters[name].shape) for name in self.shards}

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take the values of a checkpoint, which must hold exactly these names."""
        assert tensors.keys() == self.masters.keys(), "the checkpoint holds other weights than this run trains"
        for name, tensor in tensors.items():
            self.masters[name].copy_(tensor)
        self.publish()

    def zero_grad(self) -> None:
        for name, master in self.masters.items():
            master.grad = self.parameters[name].grad = None

    def clip(self, max_norm: float, peers: Peers = ALONE) -> float:
        """Scale the gradients so that their joint norm is at most `max_norm` (0: as they are); the norm before.

        Of several processes it is the norm of the sum of their gradients, which each then holds.
        """
        limit = max_norm if max_norm > 0 else float("inf")
        if peers.size == 1:
            return float(nn.utils.clip_grad_norm_(list(self.masters.values()), limit))
        self._join_gradients(peers)
        parts = _square_norm(master for name, master in self.masters.items() if name in self.shards)
        whole = _square_norm(master for name, master in self.masters.items() if name not in self.shards)
        norm = (peers.sum(parts)[0] + whole) ** 0.5
        nn.utils.clip_grads_with_norm_(list(self.masters.values()), limit, torch.tensor(norm))
        return norm

    @torch.no_grad()
    def _join_gradients(self, peers: Peers) -> None:
        """What FSDP has added up already lies beside its weight; the rest is added up here."""
        for name in self.shards:
            gradient = self.parameters[name].grad
            self.masters[name].grad = None if gradient is None else gradient.to_local()  # type: ignore[attr-defined]
        whole = [master for name, master in self.masters.items() if name not in self.shards]
        for master in whole:
            master.grad = torch.zeros_like(master) if master.grad is None else master.grad
        peers.add_up([master.grad for master in whole if master.grad is not None])


def is_sharded(tensor: Any) -> bool:
    """Whether a tensor is one process's part of a divided one (a DTensor)."""
    return hasattr(tensor, "to_local")


@torch.no_grad()
def _master(parameter: nn.Parameter) -> nn.Parameter:
    """Its own where it is fp32 and whole, the part that lies here where it is divided, else an fp32 copy."""
    if is_sharded(parameter):
        return nn.Parameter(parameter.to_local())  # type: ignore[attr-defined]
    return parameter if parameter.dtype == torch.float32 else nn.Parameter(parameter.detach().float())


def _square_norm(masters: Iterable[nn.Parameter]) -> float:
    """The squared joint norm of their gradients."""
    return float(nn.utils.get_total_norm([m.grad for m in masters if m.grad is not None])) ** 2


def make_optimizer(
    masters: Masters, kind: str, *, learning_rate: float, betas: tuple[float, float], eps: float, weight_decay: float
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), weight decay on matrices only."""
    matrices = [p for p in masters.masters.values() if p.ndim >= 2]
    others = [p for p in masters.masters.values() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    settings: dict[str, Any] = {"lr": learning_rate, "betas": betas, "eps": eps}
    if kind == "adamw":
        return torch.optim.AdamW(groups, **settings, fused=True)
    return _eight_bit(kind, groups, settings)


def _eight_bit(kind: str, groups: list[dict[str, Any]], settings: dict[str, Any]) -> torch.optim.Optimizer:
    """bitsandbytes' block-wise 8-bit AdamW (Dettmers et al. 2022, arXiv:2110.02861), paged on request."""
    from pacos.models.quantize import bitsandbytes

    device = groups[0]["params"][0].device
    if device.type != "cuda":
        raise UsageError(
            f"train.optimizer: '{kind}' needs a CUDA device, and this run is on '{device.type}'; use adamw"
        )
    classes = {"adamw_8bit": "AdamW8bit", "paged_adamw_8bit": "PagedAdamW8bit"}
    return getattr(bitsandbytes().optim, classes[kind])(groups, **settings)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def optimizer_tensors(optimizer: torch.optim.Optimizer, masters: Masters) -> tuple[dict[str, Tensor], str]:
    """The optimizer's state as tensors by `name/key`, and what is not a tensor as JSON."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for name, master in masters.masters.items():
        for key, value in optimizer.state.get(master, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{name}/{key}"] = value.detach().cpu().contiguous().clone()
            else:
                plain[f"{name}/{key}"] = value
    return tensors, json.dumps(plain)


def load_optimizer(optimizer: torch.optim.Optimizer, masters: Masters, tensors: dict[str, Tensor], plain: str) -> None:
    """Put back what `optimizer_tensors` took, each tensor on the device of its parameter."""
    optimizer.state.clear()
    for full, value in {**tensors, **json.loads(plain)}.items():
        name, _, key = full.rpartition("/")
        master = masters.masters[name]
        on_cpu = not isinstance(value, Tensor) or (key == "step" and master.device.type == "cpu")
        optimizer.state[master][key] = value if on_cpu else value.to(master.device)
