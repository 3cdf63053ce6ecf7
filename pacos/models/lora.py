"""LoRA: y = W x + (alpha / r) B A x, with W frozen and B zero at the start (Hu et al. 2021, arXiv:2106.09685).

Targets are named as in Llama: q_proj, k_proj, ... Where a family fuses several into one matrix (Phi-3's qkv_proj and
gate_up_proj), each requested one gets its own A and B on its own rows of the fused output:

    qkv_proj(x) = W x + s [ Bq Aq x ; Bk Ak x ; Bv Av x ]  =  W x + s diag(Bq, Bk, Bv) [Aq ; Ak ; Av] x

The right-hand form is one ordinary LoRA of rank 3r, which is how it is saved for PEFT. A target that some layer does not
have is an error: an adapter that trains a part of what was asked for is the bug this file exists to prevent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from pacos.errors import UsageError, did_you_mean

FUSED = {
    "q_proj": ("qkv_proj", 0),
    "k_proj": ("qkv_proj", 1),
    "v_proj": ("qkv_proj", 2),
    "gate_proj": ("gate_up_proj", 0),
    "up_proj": ("gate_up_proj", 1),
}
"""Target -> the fused matrix that holds it in some families, and its place in there."""


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
        y = self.base(x)
        if not self.enabled:
            return y
        inner = nn.functional.dropout(x, self.dropout, self.training) if self.dropout else x
        if len(self.parts) == 1 and self.parts[0].stop - self.parts[0].start == self.base.out_features:
            return y + self._low(inner, 0)
        return y + torch.cat(list(self._rows(inner)), dim=-1)

    def _low(self, x: Tensor, i: int) -> Tensor:
        low = nn.functional.linear(x, self.a[i].to(x.dtype)) * self.scale
        return nn.functional.linear(low, self.b[i].to(x.dtype))

    def _rows(self, x: Tensor) -> Iterator[Tensor]:
        """The update in pieces that cover the whole output, zeros where no part is adapted."""
        at = 0
        for i, part in enumerate(self.parts):
            if part.start > at:
                yield x.new_zeros(*x.shape[:-1], part.start - at)
            yield self._low(x, i)
            at = part.stop
        if at < self.base.out_features:
            yield x.new_zeros(*x.shape[:-1], self.base.out_features - at)

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
    module = LoraLinear(getattr(parent, leaf), parts, rank, scale, dropout)
    module.train(parent.training)
    setattr(parent, leaf, module)
    return module


def unwrap(model: nn.Module, adapter: Adapter) -> None:
    """Undo `attach`: the model is the base again."""
    for name, module in adapter.modules.items():
        parent_name, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent_name), leaf, module.base)


def resolve(model: nn.Module, targets: Sequence[str]) -> dict[str, list[Part]]:
    """Matrix name -> the parts of it to adapt. Each target must be in every decoder layer. Raises UsageError."""
    layers = linears_by_layer(model)
    found: dict[str, list[Part]] = {}
    missing = []
    for target in dict.fromkeys(targets):
        without = [layer for layer, linears in layers.items() if not _add(model, target, linears, found)]
        if without:
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


def linears_by_layer(model: nn.Module) -> dict[str, dict[str, str]]:
    """Layer prefix -> {leaf name: full name} of its linear maps."""
    layers: dict[str, dict[str, str]] = {}
    for name, module in model.named_modules():
        head, dot, tail = name.partition(".layers.")
        if dot and isinstance(module, nn.Linear):
            number = tail.partition(".")[0]
            layers.setdefault(f"{head}.layers.{number}", {})[name.rpartition(".")[2]] = name
    return layers


def _add(model: nn.Module, target: str, linears: dict[str, str], found: dict[str, list[Part]]) -> bool:
    """Note the rows of `target` in one layer; false where the layer has none."""
    if target in linears:
        module = model.get_submodule(linears[target])
        assert isinstance(module, nn.Linear)
        found.setdefault(linears[target], []).append(Part(target, 0, module.out_features))
        return True
    matrix, place = FUSED.get(target, ("", 0))
    if matrix not in linears:
        return False
    edges = fused_edges(model, matrix)
    found.setdefault(linears[matrix], []).append(Part(target, edges[place], edges[place + 1]))
    return True


def fused_edges(model: Any, matrix: str) -> tuple[int, ...]:
    """Where the parts of a fused matrix begin and end: q | k | v, or gate | up."""
    config = model.config
    if matrix == "gate_up_proj":
        return (0, config.intermediate_size, 2 * config.intermediate_size)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    q, kv = config.num_attention_heads * size, config.num_key_value_heads * size
    return (0, q, q + kv, q + 2 * kv)


def _absent(target: str, without: Sequence[str], layers: dict[str, dict[str, str]]) -> str:
    real = sorted({leaf for linears in layers.values() for leaf in linears})
    known = real + [t for t, (matrix, _) in FUSED.items() if matrix in real]
    where = "no layer" if len(without) == len(layers) else f"{len(layers) - len(without)} of {len(layers)} layers"
    return f"lora.targets: {where} has '{target}'{did_you_mean(target, known)}\n  this model has: {', '.join(known)}"
