"""A model with what is trained of it: all weights, or adapters on frozen ones, in fp32 masters."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pacos.models import Adapter, LoadedModel, LoraSpec, Network, attach
from pacos.recipes import Recipe
from pacos.training.optimizer import Masters, make_optimizer


@dataclass
class Trainee:
    """The model with what is trained of it."""

    loaded: LoadedModel
    network: Network
    masters: Masters
    adapter: Adapter | None
    optimizer: torch.optim.Optimizer


def set_up(recipe: Recipe, loaded: LoadedModel) -> Trainee:
    """Attach what the method trains, in fp32 masters, with its optimizer."""
    options = recipe.train
    network = Network(loaded.model)
    adapter = None
    if recipe.method == "full":
        named = list(loaded.model.named_parameters())
    else:
        spec = LoraSpec(recipe.lora.rank, recipe.lora.alpha, recipe.lora.dropout, recipe.lora.targets)
        adapter = attach(loaded.model, spec, torch.Generator().manual_seed(options.seed))
        named = list(adapter.named_parameters())
    if options.gradient_checkpointing:
        loaded.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    masters = Masters(named)
    optimizer = make_optimizer(
        masters,
        options.optimizer,
        learning_rate=options.learning_rate,
        betas=(options.beta1, options.beta2),
        eps=options.eps,
        weight_decay=options.weight_decay,
    )
    return Trainee(loaded, network, masters, adapter, optimizer)
