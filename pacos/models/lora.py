"""LoRA: y = W x + (alpha / r) B A x, with W frozen and B zero at the start (Hu et al. 2021, arXiv:2106.09685).

Targets are named as in Llama: q_proj, k_proj, ... Where a family fuses several into one matrix (Phi-3's qkv_proj and
gate_up_proj), each requested one gets its own A and B on its own rows of the fused output:

    qkv_proj(x) = W x + s [ Bq Aq x ; Bk Ak x ; Bv Av x ]  =  W x + s diag(Bq, Bk, Bv) [Aq ; Ak ; Av] x

The right-hand form is one ordinary LoRA of rank 3r, which is how it is saved for PEFT. A target that some layer does not
have is an error: an adapter that trains a part of what was asked for is the bug this file exists to prevent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from pacos.errors import UsageError, did_you_mean
from pacos.models.kernels.low_rank import Map, frozen_maps

FUSED = {
    "q_proj": ("qkv_proj", 0),
    "k_proj": ("qkv_proj", 1),
    "v_proj": ("qkv_proj", 2),
    "gate_proj": ("gate_up_proj", 0),
    "up_proj": ("gate_up_proj", 1),
}
"""Target -> the fused matrix that holds it in some families, and its place in there."""
NUMBERED = re.compile(r"(.+?)\.(\d+)\.")
"""The first number in a module's name is that of its layer; those after it count experts and the like."""
MAMBAS = ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")
MAMBA_FUSED = ("out_proj", "conv1d")
ATTENTION_KINDS = ("full_attention", "sliding_attention", "chunked_attention", "attention")
"""Kinds of layer, as configs name them, that have the same projections."""


@dataclass(frozen=True)
class LoraSpec:
    """rank r, alpha, dropout on the adapters' input, and the projections to adapt."""

    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """A target and the rows [start, stop) of its matrix's output that belong to it."""

    target: str
    start: int
    stop: int


class LoraLinear(nn.Module):
    """A frozen linear map (16-bit, 32-bit or NF4) with one adapter for each of its parts, in fp32 masters.

    `a[i]` is (r, in), `b[i]` is (rows of part i, r). Input (..., in) -> output (..., out), in the input's dtype.
    """

    def __init__(self, base: nn.Linear, parts: Sequence[Part], rank: int, scale: float, dropout: float):
        super().__init__()
        self.base = base
        self.parts = tuple(parts)
        self.rank, self.scale, self.dropout = rank, scale, dropout
        self.enabled = True
        where: dict[str, Any] = {"dtype": torch.float32, "device": base.weight.device}
        self.a = nn.ParameterList(torch.zeros(rank, base.in_features, **where) for _ in parts)
        self.b = nn.ParameterList(torch.zeros(p.stop - p.start, rank, **where) for p in parts)

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        return project(x, [self])[0]

    def as_map(self) -> Map:
        """What `frozen_maps` computes with: the frozen matrix, and where the adapters add."""
        return Map(self.base, [(part.start, part.stop) for part in self.parts] if self.enabled else (), self.scale)

    def fused(self) -> tuple[Tensor, Tensor]:
        """The same update as one LoRA: A (n r, in) and block-diagonal B (out, n r), where n is the number of parts."""
        b = self.b[0].new_zeros(self.base.out_features, self.rank * len(self.parts))
        for i, part in enumerate(self.parts):
            b[part.start : part.stop, i * self.rank : (i + 1) * self.rank] = self.b[i].detach()
        return torch.cat([a.detach() for a in self.a]), b

    def delta(self) -> Tensor:
        """The update of the weight, (out, in), in fp32."""
        a, b = self.fused()
        return self.scale * (b @ a)


def project(x: Tensor, modules: Sequence[Any]) -> tuple[Tensor, ...]:
    """x (..., in) through several linear modules, some of them with adapters, as one function. See kernels/low_rank.py."""
    apart = any(drops(m) or not is_frozen(m) for m in modules)
    if apart and (len(modules) > 1 or not isinstance(modules[0], LoraLinear)):
        return tuple(module(x) for module in modules)
    active = [m for m in modules if isinstance(m, LoraLinear) and m.enabled]
    inner = nn.functional.dropout(x, active[0].dropout, True) if active and drops(active[0]) else x
    maps = [m.as_map() if isinstance(m, LoraLinear) else Map(m) for m in modules]
    return frozen_maps(x, inner, maps, [a for m in active for a in m.a], [b for m in active for b in m.b])


def drops(module: nn.Module) -> bool:
    """Whether its adapters have dropout now, each a mask of its own."""
    return isinstance(module, LoraLinear) and module.enabled and module.training and module.dropout > 0


def is_frozen(module: Any) -> bool:
    """A linear map whose own matrix is not trained."""
    base = module.base if isinstance(module, LoraLinear) else module
    return (
        isinstance(base, nn.Linear)
        and not base.weight.requires_grad
        and (base.bias is None or not base.bias.requires_grad)
    )


class Adapter:
    """The LoRA modules of one model, by the name of the matrix that each wraps."""

    def __init__(self, modules: dict[str, LoraLinear], spec: LoraSpec):
        self.modules, self.spec = modules, spec

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, module in self.modules.items():
            for i, part in enumerate(module.parts):
                yield f"{name}.{part.target}.lora_A", module.a[i]
                yield f"{name}.{part.target}.lora_B", module.b[i]

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for _, p in self.named_parameters())

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The base model, for as long as the block lasts."""
        for module in self.modules.values():
            module.enabled = False
        try:
            yield
        finally:
            for module in self.modules.values():
                module.enabled = True


def attach(model: nn.Module, spec: LoraSpec, generator: torch.Generator) -> Adapter:
    """Wrap every targeted matrix of every decoder layer. A is Kaiming-uniform as in PEFT, B zero. Raises UsageError."""
    found = resolve(model, spec.targets)
    modules = {}
    for name, parts in found.items():
        module = wrap(model, name, parts, spec.rank, spec.alpha / spec.rank, spec.dropout)
        for a in module.a:
            bound = 1 / math.sqrt(a.shape[1])
            drawn = torch.empty(a.shape).uniform_(-bound, bound, generator=generator)
            a.data.copy_(drawn)
        modules[name] = module
    return Adapter(modules, spec)


def wrap(model: nn.Module, name: str, parts: Sequence[Part], rank: int, scale: float, dropout: float) -> LoraLinear:
    """Replace the matrix `name` by a LoraLinear around it."""
    parent_name, _, leaf = name.rpartition(".")
    parent = model.get_submodule(parent_name)
    module = LoraLinear(as_linear(getattr(parent, leaf)), parts, rank, scale, dropout)
    module.train(parent.training)
    setattr(parent, leaf, module)
    return module


def is_linear(module: nn.Module) -> bool:
    """nn.Linear, its NF4 kind, and GPT-2's Conv1D: the same map with the weight stored as (in, out)."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def features(module: Any) -> tuple[int, int]:
    """What a linear map takes and gives: (in, out)."""
    return (module.in_features, module.out_features) if isinstance(module, nn.Linear) else (module.nx, module.nf)


def as_linear(module: Any) -> nn.Linear:
    """A Conv1D as an nn.Linear on the same memory, which remembers it as `conv`; an nn.Linear as it is."""
    if isinstance(module, nn.Linear):
        return module
    linear = nn.Linear(*features(module), device="meta")
    linear.weight = nn.Parameter(module.weight.detach().T, requires_grad=False)
    linear.bias = module.bias
    linear.__dict__["conv"] = module  # not as a submodule: its weight is counted once
    return linear


def unwrap(model: nn.Module, adapter: Adapter) -> None:
    """Undo `attach`: the model is the base again."""
    for name, module in adapter.modules.items():
        parent_name, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent_name), leaf, getattr(module.base, "conv", module.base))


def resolve(model: nn.Module, targets: Sequence[str]) -> dict[str, list[Part]]:
    """Matrix name -> the parts of it to adapt. Each target must be in every decoder layer. Raises UsageError.

    Models that mix kinds of layer (attention and Mamba) need it in every layer of those kinds that have it.
    """
    refuse_bypassed(model, targets)
    layers = linears_by_layer(model)
    found: dict[str, list[Part]] = {}
    missing = []
    for target in dict.fromkeys(targets):
        without = [layer for layer, linears in layers.items() if not _add(model, target, linears, found)]
        if not layers or (without and not are_whole_kinds(model, layers, without)):
            missing.append(_absent(target, without, layers))
    if missing:
        raise UsageError("\n".join(missing))
    for name, parts in found.items():
        parts.sort(key=lambda part: part.start)
        if any(a.stop > b.start for a, b in pairwise(parts)):
            raise UsageError(
                f"lora.targets: {', '.join(p.target for p in parts)} name the same rows of {name}; give either"
            )
    return found


def refuse_bypassed(model: Any, targets: Sequence[str]) -> None:
    """Raises UsageError for targets whose matrix a fused kernel of the family reads itself, past any adapter."""
    kind = model.config.model_type
    wrong = [target for target in targets if target.rpartition(".")[2] in MAMBA_FUSED]
    if kind in MAMBAS and wrong:
        raise UsageError(
            f"lora.targets: '{wrong[0]}' of model type '{kind}' cannot be adapted: on a GPU its kernels read the matrix "
            "past any adapter, and PEFT refuses it; leave it out"
        )


def linears_by_layer(model: nn.Module) -> dict[str, dict[str, list[str]]]:
    """Layer prefix -> {leaf name: full names} of its linear maps, whatever the list of layers is called.

    The layers are the numbered modules of the decoder (`model.layers.0`, `transformer.h.0`, `backbone.layers.0`); of
    several such lists the one with the most linear maps.
    """
    lists: dict[str, dict[str, dict[str, list[str]]]] = {}
    start = _decoder_prefix(model)
    for name, module in model.named_modules():
        place = NUMBERED.match(name)
        if place and is_linear(module) and name.startswith(start):
            layers = lists.setdefault(place[1], {})
            layers.setdefault(f"{place[1]}.{place[2]}", {}).setdefault(name.rpartition(".")[2], []).append(name)
    return max(lists.values(), key=lambda layers: sum(map(len, layers.values())), default={})


def _decoder_prefix(model: Any) -> str:
    """What the names of the decoder's modules begin with; models that also see or hear have others beside it."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    name = next((name for name, module in model.named_modules() if module is decoder), "")
    return f"{name}." if name and not is_linear(decoder) else ""


def are_whole_kinds(model: Any, layers: Iterable[str], without: Sequence[str]) -> bool:
    """True where the layers `without` something are all layers of some kinds, by the config's list, and not all layers."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or ()
    by_layer = {layer: kinds[at] for layer in layers if (at := int(layer.rpartition(".")[2])) < len(kinds)}
    kind = {layer: "attention" if name in ATTENTION_KINDS else name for layer, name in by_layer.items()}
    lacking = {kind.get(layer) for layer in without}
    having = {kind.get(layer) for layer in layers if layer not in without}
    return bool(having) and None not in lacking | having and not lacking & having


def _add(model: nn.Module, target: str, linears: dict[str, list[str]], found: dict[str, list[Part]]) -> bool:
    """Note the rows of `target` in one layer; false where the layer has none."""
    names = [name for each in linears.values() for name in each if name.endswith(f".{target}")]
    for name in names:
        found.setdefault(name, []).append(Part(target, 0, features(model.get_submodule(name))[1]))
    matrix, place = FUSED.get(target, ("", 0))
    if names or matrix not in linears:
        return bool(names)
    edges = fused_edges(model, matrix)
    for name in linears[matrix]:
        found.setdefault(name, []).append(Part(target, edges[place], edges[place + 1]))
    return True


def fused_edges(model: Any, matrix: str) -> tuple[int, ...]:
    """Where the parts of a fused matrix begin and end: q | k | v, or gate | up."""
    config = model.config.get_text_config()
    if matrix == "gate_up_proj":
        return (0, config.intermediate_size, 2 * config.intermediate_size)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    q, kv = config.num_attention_heads * size, config.num_key_value_heads * size
    return (0, q, q + kv, q + 2 * kv)


def _absent(target: str, without: Sequence[str], layers: dict[str, dict[str, list[str]]]) -> str:
    real = sorted({leaf for linears in layers.values() for leaf in linears})
    known = real + [t for t, (matrix, _) in FUSED.items() if matrix in real]
    where = "no layer" if len(without) == len(layers) else f"{len(layers) - len(without)} of {len(layers)} layers"
    return f"lora.targets: {where} has '{target}'{did_you_mean(target, known)}\n  this model has: {', '.join(known)}"
