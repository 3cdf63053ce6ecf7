"""What a run needs of memory, from the model's configuration alone.

weights      parameters * (2 or 4 bytes; 0.56 for NF4 layers with their scales)
trained      fp32 masters beyond the weights themselves, and their gradients, 4 bytes each
optimizer    two fp32 moments (8 bytes), or two 8-bit ones (2 bytes)
activations  what the backward pass keeps of the largest pack
logits       one piece of the cross entropy, and the gradient of the hidden states
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from pacos.models.loss import CHUNK
from pacos.recipes import Recipe

NF4_BYTES = 0.56


@dataclass(frozen=True)
class Memory:
    """Bytes."""

    weights: int
    trained: int
    optimizer: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))


def estimate_memory(recipe: Recipe, longest_row: int) -> Memory:
    """The parts of the peak. `longest_row` in tokens: a row longer than a pack is a pack of its own."""
    from pacos.models.load import load_shape

    model, width = load_shape(recipe.model.base, recipe.model.revision, recipe.model.dtype)
    total = sum(p.numel() for p in model.parameters())
    layers = sum(p.numel() for name, p in model.named_parameters() if ".layers." in name and p.ndim == 2)
    trained = total if recipe.method == "full" else adapter_parameters(model, recipe)
    pack = max(recipe.train.pack_tokens, longest_row)
    return Memory(
        weights=round((total - layers) * width + layers * (NF4_BYTES if recipe.method == "qlora" else width)),
        trained=trained * (4 if recipe.method == "full" and width == 4 else 8),
        optimizer=trained * (8 if recipe.train.optimizer == "adamw" else 2),
        activations=activation_bytes(model.config, pack, width, recipe.train.gradient_checkpointing),
        logits=CHUNK * model.config.vocab_size * 8 + pack * model.config.hidden_size * width * 2,
    )


def adapter_parameters(model: Any, recipe: Recipe) -> int:
    """Parameters of the adapters that the recipe attaches."""
    from pacos.models.lora import resolve

    found = resolve(model, recipe.lora.targets)
    sizes = (
        (model.get_submodule(name).in_features, part.stop - part.start)
        for name, parts in found.items()
        for part in parts
    )
    return sum(recipe.lora.rank * (inputs + outputs) for inputs, outputs in sizes)


def activation_bytes(config: Any, tokens: int, width: int, checkpointing: bool) -> int:
    """What the layers keep for the backward pass: about 8 vectors of the hidden size, q, k, v twice, 4 of the MLP."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = (config.num_attention_heads + 2 * config.num_key_value_heads) * head
    layer = (8 * config.hidden_size + 3 * heads + 4 * config.intermediate_size) * tokens * width
    kept = config.num_hidden_layers * config.hidden_size * tokens * width
    return kept + layer if checkpointing else config.num_hidden_layers * layer
