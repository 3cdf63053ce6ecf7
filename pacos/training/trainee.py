"""A model with what is trained of it: all weights, or adapters on frozen ones, in fp32 masters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pacos.errors import UsageError
from pacos.models import Adapter, LoadedModel, LoraSpec, Network, attach
from pacos.models.host_memory import give_back_memory
from pacos.models.kernels.cuda_layers import use_cuda_kernels
from pacos.recipes import Recipe
from pacos.training.distributed import ALONE, Peers
from pacos.training.optimizer import Masters, make_optimizer
from pacos.training.sharding import Loss, around, is_divided, shard


@dataclass
class Trainee:
    """The model with what is trained of it."""

    loaded: LoadedModel
    network: Network
    masters: Masters
    adapter: Adapter | None
    optimizer: torch.optim.Optimizer
    peers: Peers = ALONE
    kernels: Sequence[str] = ()
    """What its layers were switched to for this device, a line each."""

    def around(self, loss: Loss) -> Loss:
        """`loss` as this model computes it: with its divided weights gathered, where they are divided."""
        return around(self.network, loss) if is_divided(self.network.model) else loss


def why_whole(recipe: Recipe, network: Network) -> str:
    """Why several processes keep all weights each; empty where they divide them."""
    if not recipe.train.shard:
        return "train.shard is false"
    alone = not network.ways.packs or network.attention_dropout > 0
    return "its rows are computed alone, each process in its own number of passes" if alone else ""


def set_up(recipe: Recipe, loaded: LoadedModel, peers: Peers = ALONE) -> Trainee:
    """Attach what the method trains, in fp32 masters, with its optimizer. Several processes divide the weights first."""
    options = recipe.train
    network = Network(loaded.model)
    adapter = None
    if recipe.method != "full":
        spec = LoraSpec(recipe.lora.rank, recipe.lora.alpha, recipe.lora.dropout, recipe.lora.targets)
        adapter = attach(loaded.model, spec, torch.Generator().manual_seed(options.seed))
    if options.gradient_checkpointing:
        if not loaded.model.supports_gradient_checkpointing:
            kind = loaded.model.config.model_type
            raise UsageError(f"train.gradient_checkpointing: model type '{kind}' does not offer it; set it to false")
        loaded.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if loaded.device.type == "cpu":
            give_back_memory()
    kernels = use_cuda_kernels(loaded.device, options.compile)
    if peers.size > 1 and not why_whole(recipe, network):
        shard(network, adapter, loaded.compute_dtype)
    masters = Masters(loaded.model.named_parameters() if adapter is None else adapter.named_parameters())
    optimizer = make_optimizer(
        masters,
        options.optimizer,
        learning_rate=options.learning_rate,
        betas=(options.beta1, options.beta2),
        eps=options.eps,
        weight_decay=options.weight_decay,
    )
    return Trainee(loaded, network, masters, adapter, optimizer, peers, kernels)
