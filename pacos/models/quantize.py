"""NF4: four bits a weight, for a frozen base under adapters (QLoRA, Dettmers et al. 2023, arXiv:2305.14314).

A weight matrix is cut into blocks of 64. Each block is divided by its largest magnitude, and every value becomes the
nearest of 16 levels, the quantiles of a normal distribution. Double quantization keeps the scales in 8 bits too:

    bits a weight: 4 + 32/64 = 4.5, doubly quantized 4 + 8/64 + 32/(64 * 256) = 4.127

bitsandbytes does the arithmetic, on CPU and CUDA; the matrices are unpacked for each product, in `compute_dtype`.

On a CPU most of the time that unpacking takes is the system's, giving out fresh memory: 41 ms for 25 M weights, where the
kernel needs 8. So all matrices are unpacked into one piece of memory that is kept, and multiplied from there at once.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import logging
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pacos.errors import UsageError
from pacos.models.host_memory import give_back_memory

BLOCK = 64
SKIP = ("lm_head",)
KERNELS = {
    torch.float32: "cdequantize_blockwise_cpu_nf4_fp32",
    torch.bfloat16: "cdequantize_blockwise_cpu_nf4_bf16",
    torch.float16: "cdequantize_blockwise_cpu_nf4_fp16",
}
"""bitsandbytes' own functions, by what they write."""

_memory = threading.local()
_NOTHING = torch.empty(0, dtype=torch.uint8)


def bitsandbytes() -> Any:
    """The bitsandbytes module, imported without its request to the hub. Call it before peft, which imports it too.

    On CPUs with AVX512-BF16, bitsandbytes 0.50 downloads and runs a kernel from the hub at import, or warns that it
    cannot. pacos does without: the kernel serves a packed layout alone, which no layer takes here (see `steady`).
    """
    if "bitsandbytes" in sys.modules:
        return sys.modules["bitsandbytes"]
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError("bitsandbytes is not installed; 4-bit weights need it: pip install bitsandbytes")
    with _without_hub_kernels():
        return importlib.import_module("bitsandbytes")


@contextmanager
def _without_hub_kernels() -> Iterator[None]:
    """Inside, `import kernels` fails and bitsandbytes says nothing of it."""
    log = logging.getLogger("bitsandbytes.backends.cpu.ops")
    level, kernels = log.level, sys.modules.get("kernels")
    sys.modules["kernels"] = None  # type: ignore[assignment]
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
        del sys.modules["kernels"]
        if kernels is not None:
            sys.modules["kernels"] = kernels


def quantize_linears(
    model: nn.Module, *, double_quant: bool, compute_dtype: torch.dtype, skip: Sequence[str] = SKIP
) -> list[str]:
    """Replace every nn.Linear by an NF4 one where it lies, but for last names in `skip`. Returns their names."""
    wanted = {
        name: module
        for name, module in model.named_modules()
        if type(module) is nn.Linear and name.rpartition(".")[2] not in skip
    }
    for name, linear in wanted.items():
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, _replace(linear, double_quant, compute_dtype))
    return list(wanted)


def _replace(linear: nn.Linear, double_quant: bool, compute_dtype: torch.dtype) -> nn.Module:
    bnb = bitsandbytes()
    with torch.device("meta"):
        new = bnb.nn.Linear4bit(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            compute_dtype=compute_dtype,
            compress_statistics=double_quant,
            quant_type="nf4",
        )
    new.weight = bnb.nn.Params4bit(
        linear.weight.data,
        requires_grad=False,
        blocksize=BLOCK,
        compress_statistics=double_quant,
        quant_type="nf4",
        module=new,
    ).to(linear.weight.device)
    new.bias = linear.bias
    return steady(new.train(linear.training))


def steady(linear: Any) -> Any:
    """Keep a Linear4bit to one layout: its other one, taken in eval mode on AVX512-BF16 CPUs, passes no gradient."""
    give_back_memory()
    linear.support_avx512bf16_for_cpu = False
    linear.forward = types.MethodType(_forward, linear)
    return linear


def _forward(linear: Any, x: Tensor) -> Tensor:
    """Linear4bit's forward; on a CPU through kept memory."""
    state = getattr(linear.weight, "quant_state", None)
    if x.device.type != "cpu" or state is None or torch.compiler.is_compiling():
        return type(linear).forward(linear, x)
    computed = x.to(linear.compute_dtype or x.dtype)
    y = _UnpackedProduct.apply(computed, linear.weight.detach(), state)
    return (y if linear.bias is None else y + linear.bias.to(y.dtype)).to(x.dtype)


class _UnpackedProduct(torch.autograd.Function):
    """x W^T for a packed W, which is unpacked again for the backward pass: only the 4 bits are kept meanwhile."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Tensor, state: Any) -> Tensor:
        ctx.packed, ctx.state = packed, state
        return nn.functional.linear(x, unpack(packed, state, x.dtype))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        by = upstream[0]
        return by @ unpack(ctx.packed, ctx.state, by.dtype), None, None


def unpack(packed: Tensor, state: Any, dtype: torch.dtype) -> Tensor:
    """The weight (out, in) of a matrix on the CPU, in memory that the thread's next call overwrites."""
    rows, columns = state.shape
    if packed.is_meta:  # no values, but the memory that they would take
        whole = columns % state.blocksize == 0
        return _kept(rows * columns, dtype).view(rows, columns) if whole else torch.empty(rows, columns, dtype=dtype)
    kernel = getattr(bitsandbytes().cextension.lib, KERNELS.get(dtype, ""), None)
    if kernel is None or columns % state.blocksize or state.quant_type != "nf4":
        return bitsandbytes().functional.dequantize_4bit(packed, state).to(dtype)
    scales, out = _scales(state), _kept(rows * columns, dtype)
    addresses = (ctypes.c_void_p(x.data_ptr()) for x in (packed, scales, out))
    kernel(*addresses, *(ctypes.c_longlong(n) for n in (state.blocksize, rows, columns)))
    return out.view(rows, columns)


def _scales(state: Any) -> Tensor:
    """The scale of each block in fp32."""
    if not state.nested:
        return state.absmax.float()
    return bitsandbytes().functional.dequantize_blockwise(state.absmax, state.state2) + state.offset


def _kept(size: int, dtype: torch.dtype) -> Tensor:
    """`size` values of this thread's own memory, which grows to the largest matrix it has unpacked."""
    if getattr(_memory, "bytes", _NOTHING).numel() < size * dtype.itemsize:
        _memory.bytes = torch.empty(size * dtype.itemsize, dtype=torch.uint8)
    return _memory.bytes[: size * dtype.itemsize].view(dtype)


@contextmanager
def other_memory() -> Iterator[None]:
    """Inside, this thread unpacks into memory of its own for the block."""
    before = getattr(_memory, "bytes", _NOTHING)
    _memory.bytes = _NOTHING
    try:
        yield
    finally:
        _memory.bytes = before


def quantized_linears(model: nn.Module) -> dict[str, Any]:
    """Name -> each Linear4bit of a model."""
    if "bitsandbytes" not in sys.modules:
        return {}
    kind = bitsandbytes().nn.Linear4bit
    return {name: module for name, module in model.named_modules() if isinstance(module, kind)}


def dequantize_weight(linear: nn.Module) -> Tensor:
    """The weight (out, in) that a linear layer computes with; an NF4 one in the dtype that it was made from."""
    weight: Any = linear.weight
    state = getattr(weight, "quant_state", None)
    return weight.detach() if state is None else bitsandbytes().functional.dequantize_4bit(weight.data, state)


def count_parameters(model: nn.Module) -> int:
    """Weights as the architecture has them: tied ones once, packed ones as many as they stand for."""
    shapes = [getattr(getattr(p, "quant_state", None), "shape", p.shape) for p in model.parameters()]
    return sum(shape.numel() for shape in shapes)
