"""Weights divided among processes: PyTorch's FSDP2 (`fully_shard`) over the decoder's layers, and one group for the rest.

Each process keeps 1/N of every weight's rows, gathers a layer just before it computes with it, and drops it behind:

    full            fp32 masters, gradients and AdamW's moments are 1/N too; layers are gathered in the compute type
    lora, qlora     the frozen weights are 1/N, NF4 ones as they are packed; adapters and their optimizer are whole everywhere

(Zhao et al. 2023, arXiv:2304.11277; the stage 3 of Rajbhandari et al. 2020, arXiv:1910.02054.) Adapters are a thousandth of
the weights: their gradients are added up once a step, and every process then makes the same update.

A gradient is a sum over all targets of a batch, so processes add, where FSDP by itself takes the mean.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pacos.errors import UsageError
from pacos.models import Adapter, Network
from pacos.models.packs import Pack
from pacos.training.optimizer import is_sharded

Loss = Callable[[Network, Pack], Tensor]
"""The summed loss of a pack's targets."""


def shard(network: Network, adapter: Adapter | None, compute_dtype: torch.dtype) -> None:
    """Divide the weights of `network` where they are, but an adapter's. Without one all are trained, and become fp32 masters.

    Until then each process holds the whole model in its compute type; the fp32 masters are made layer by layer.
    """
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    if not hasattr(FSDPModule, "set_force_sum_reduction_for_comms"):
        raise UsageError(f"train.shard: needs torch 2.9 or newer, and this is {torch.__version__}; or set it to false")
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh(network.device.type, (torch.distributed.get_world_size(),))
    mixed = MixedPrecisionPolicy(compute_dtype, torch.float32, cast_forward_inputs=False)
    policy = mixed if adapter is None else MixedPrecisionPolicy(cast_forward_inputs=False)
    ignored = set() if adapter is None else {p for _, p in adapter.named_parameters()}
    for module in (*decoder_layers(network.model), network.model):
        if adapter is None:
            masters_of(module)
        remember_codes(module)
        fully_shard(module, mesh=mesh, mp_policy=policy, ignored_params=ignored)
        module.register_forward_pre_hook(_recall_codes)
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)


def decoder_layers(model: nn.Module) -> list[Any]:
    """The repeated layers: the outermost list of modules, not the experts within a layer."""
    named = model.named_modules()
    lists = [(name.count("."), -len(module), module) for name, module in named if isinstance(module, nn.ModuleList)]
    return list(min(lists, key=lambda found: found[:2])[2]) if lists else []


def masters_of(module: nn.Module) -> None:
    """Trainable fp32 weights in place of 16-bit ones; shared ones stay shared."""
    for parameter in module.parameters():
        if not is_sharded(parameter):
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)


def remember_codes(module: nn.Module) -> None:
    """Keep each NF4 matrix's scales with its layer: a gathered weight comes back as bare bytes."""
    for linear in module.modules():
        state = getattr(getattr(linear, "weight", None), "quant_state", None)
        if state is not None:
            linear.quant_state = state


def _recall_codes(module: nn.Module, _: Any) -> None:
    """Give gathered NF4 weights their scales again, as bitsandbytes does in its own forward."""
    linears: Any = module.modules()
    for linear in linears:
        state = getattr(linear, "quant_state", None)
        if state is not None and not is_sharded(linear.weight) and not hasattr(linear.weight, "quant_state"):
            linear.weight.quant_state = state


def sharded_modules(model: nn.Module) -> Iterator[Any]:
    return (module for module in model.modules() if hasattr(module, "set_requires_gradient_sync"))


def is_divided(model: nn.Module) -> bool:
    return any(True for _ in sharded_modules(model))


def around(network: Network, loss: Loss) -> Loss:
    """`loss` with the weights outside the layers gathered for all of it: the head is used apart from the decoder."""
    from torch.distributed.fsdp import register_fsdp_forward_method

    model = network.model

    def packed_loss(_: Any, pack: Pack) -> Tensor:
        return loss(network, pack)

    model.packed_loss = types.MethodType(packed_loss, model)
    register_fsdp_forward_method(model, "packed_loss")

    def gathered(_: Network, pack: Pack) -> Tensor:
        value: Tensor = model.packed_loss(pack)
        if not torch.is_grad_enabled():
            model.reshard()  # nothing else would, before the next step changes the weights
        return value

    return gathered


def make_whole(model: nn.Module) -> None:
    """Gather every weight in every process, for good: the end of a run, in the memory that loading it took."""
    for module in list(sharded_modules(model)):
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
        _recall_codes(module, None)


def whole_weights(model: nn.Module) -> dict[str, Tensor] | None:
    """Weights by name after `make_whole`, where `state_dict` would divide them again; None for a model never divided."""
    if not is_divided(model):
        return None
    return {name: p.detach() for name, p in model.named_parameters(remove_duplicate=False)}
