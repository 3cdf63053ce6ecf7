"""Models that are shapes alone: on torch's meta device, in plain weights or NF4, without a file of theirs being read."""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pacos.models import quantize
from pacos.models.kernels import native
from pacos.models.quantize import BLOCK, bitsandbytes, quantize_linears, quantized_linears
from pacos.models.quiet import quiet

META = torch.device("meta")
BLOCK_OF_SCALES = 256
"""NF4 scales that share a scale of their own where they are quantized too."""


def shape_of(config: Any, dtype: torch.dtype, *, nf4: bool = False, double_quant: bool = True) -> Any:
    """The model of a transformers config, frozen; with `nf4` the matrices of its layers are packed."""
    from transformers import AutoModelForCausalLM

    with quiet(), META:
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval().requires_grad_(False)
        if nf4:
            pack(model, double_quant, dtype)
    return model


def pack(model: nn.Module, double_quant: bool, dtype: torch.dtype) -> None:
    """Linear4bit in place of the matrices, as `quantize_linears` does it, with packed weights and scales."""
    whole = {name: module.weight.shape for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    quantize_linears(model, double_quant=double_quant, compute_dtype=dtype)
    for name, linear in quantized_linears(model).items():
        linear.weight = bitsandbytes().nn.Params4bit(
            torch.empty((whole[name].numel() + 1) // 2, 1, dtype=torch.uint8),
            requires_grad=False,
            quant_state=quant_state(whole[name], double_quant, dtype),
            bnb_quantized=True,
            quant_type="nf4",
            module=linear,
        )
        linear.forward = types.MethodType(forward_on_cpu, linear)


def quant_state(shape: torch.Size, double_quant: bool, dtype: torch.dtype) -> Any:
    """The scales of a matrix: one in fp32 a block, or a byte a block and one in fp32 for every 256 of them."""
    kind = bitsandbytes().functional.QuantState
    blocks = -(-shape.numel() // BLOCK)
    rest = {"shape": shape, "code": torch.empty(16), "blocksize": BLOCK, "quant_type": "nf4", "dtype": dtype}
    if not double_quant:
        return kind(torch.empty(blocks), **rest)
    outer = torch.empty(-(-blocks // BLOCK_OF_SCALES))
    scales = kind(outer, code=torch.empty(256), blocksize=BLOCK_OF_SCALES, dtype=torch.float32)
    return kind(torch.empty(blocks, dtype=torch.uint8), offset=torch.empty(()), state2=scales, **rest)


def tensors_of(model: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers, and the scales of packed ones."""
    yield from model.parameters()
    yield from model.buffers()
    for linear in quantized_linears(model).values():
        state = linear.weight.quant_state
        yield state.absmax
        if state.nested:
            yield state.state2.absmax


def num_bytes(model: nn.Module) -> int:
    """Memory of all of them, shared ones once."""
    held = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors_of(model)}
    return sum(held.values())


@contextmanager
def kernels_by_shape() -> Iterator[None]:
    """The compiled kernels take shapes too, and 4-bit matrices are unpacked into memory of this block alone."""
    with native.by_shape(), quantize.other_memory():
        yield


def grouped_product(a: Tensor, b: Tensor, ends: Tensor) -> Tensor:
    """What torch's product of groups of rows with a matrix each gives: its own rule of shapes takes 16 bits alone.

    a (T, K), b (E, K, N) -> (T, N); and the gradient of b: a (K, T), b (T, N) -> (E, K, N).
    """
    shape = (a.shape[0], b.shape[-1]) if b.ndim == 3 else (len(ends), a.shape[0], b.shape[1])
    return a.new_empty(shape)


def forward_on_cpu(linear: Any, x: Tensor) -> Tensor:
    """What a packed matrix does with tensors that are on the CPU."""
    y = quantize._UnpackedProduct.apply(x, linear.weight.detach(), linear.weight.quant_state)
    return y if linear.bias is None else y + linear.bias
