"""NF4: the stored values are bitsandbytes' own, products and gradients are those of the dequantized matrix."""

from __future__ import annotations

import copy
import logging
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import FAMILIES, tiny_model, tiny_tokenizer
from torch import nn
from torch.nn import functional as F

from pacos.models.load import load_model
from pacos.models.quantize import (
    _without_hub_kernels,
    bitsandbytes,
    count_parameters,
    dequantize_weight,
    quantize_linears,
    quantized_linears,
    unpack,
)

WIDEST_GAP = 1 - 0.6961928009986877
"""Between the outermost two of NF4's 16 levels; no value is further from a level than half of it."""
DTYPES = [torch.float32, torch.bfloat16]
DOUBLE = [pytest.param(True, id="double"), pytest.param(False, id="single")]


def linear(dtype: torch.dtype = torch.float32, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(192, 64, bias=bias, dtype=dtype)


def quantized(plain: nn.Linear, double_quant: bool) -> nn.Linear:
    """The same layer in NF4; `plain` keeps its weight."""
    holder = nn.Sequential(nn.Linear(1, 1))
    holder[0] = nn.Linear(plain.in_features, plain.out_features, bias=plain.bias is not None, dtype=plain.weight.dtype)
    holder[0].load_state_dict(plain.state_dict())
    assert quantize_linears(holder, double_quant=double_quant, compute_dtype=plain.weight.dtype) == ["0"]
    return holder[0]  # type: ignore[return-value]


@pytest.mark.parametrize("double_quant", DOUBLE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_are_those_of_bitsandbytes_own_functions(dtype: torch.dtype, double_quant: bool) -> None:
    plain = linear(dtype)
    functional = bitsandbytes().functional
    packed, state = functional.quantize_4bit(
        plain.weight.data, blocksize=64, compress_statistics=double_quant, quant_type="nf4"
    )
    nf4 = quantized(plain, double_quant)
    assert torch.equal(nf4.weight.data, packed)
    assert torch.equal(dequantize_weight(nf4), functional.dequantize_4bit(packed, state))
    assert dequantize_weight(nf4).dtype == dtype


def test_no_weight_is_further_off_than_half_the_widest_gap_between_levels() -> None:
    plain = linear()
    blocks = plain.weight.data.reshape(-1, 64)
    scale = blocks.abs().amax(1, keepdim=True)
    error = (dequantize_weight(quantized(plain, False)).reshape(-1, 64) - blocks).abs() / scale
    assert 0 < error.max() <= WIDEST_GAP / 2 + 1e-6
    assert error.mean() < 0.05


def test_double_quantization_changes_the_scales_alone_and_little() -> None:
    plain = linear()
    single, double = quantized(plain, False), quantized(plain, True)
    assert torch.equal(single.weight.data, double.weight.data)
    difference = (dequantize_weight(single) - dequantize_weight(double)).abs().max()
    assert 0 < difference < 0.02 * plain.weight.abs().max()


@pytest.mark.parametrize("double_quant", DOUBLE)
@pytest.mark.parametrize("bias", [True, False])
def test_the_product_is_that_of_the_dequantized_weight(double_quant: bool, bias: bool) -> None:
    plain = linear(bias=bias)
    nf4 = quantized(plain, double_quant)
    x = torch.randn(3, 5, 192)
    assert torch.allclose(nf4(x), F.linear(x, dequantize_weight(nf4), plain.bias), atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_reach_the_input_through_the_dequantized_weight(dtype: torch.dtype) -> None:
    nf4 = quantized(linear(dtype), True).requires_grad_(False)
    x = torch.randn(3, 5, 192, dtype=dtype, requires_grad=True)
    y = nf4(x)
    seed = torch.randn_like(y)
    y.backward(seed)
    assert x.grad is not None
    assert torch.allclose(x.grad, seed @ dequantize_weight(nf4), atol=1e-5 if dtype == torch.float32 else 2e-2)
    assert nf4.weight.grad is None


@pytest.mark.parametrize("double_quant", DOUBLE)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
def test_product_and_gradient_are_those_of_bitsandbytes_own_layer(
    dtype: torch.dtype, double_quant: bool, bias: bool
) -> None:
    nf4 = quantized(linear(dtype, bias), double_quant).requires_grad_(False)
    plain = copy.deepcopy(nf4)
    del plain.forward
    x = torch.randn(3, 5, 192, dtype=dtype)
    results = []
    for layer in (nf4, plain):
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        y.backward(torch.ones_like(y))
        results.append((y, leaf.grad))
    (ours, our_grad), (theirs, their_grad) = results
    assert torch.allclose(ours, theirs, atol=1e-6 if dtype == torch.float32 else 1e-2)
    assert torch.equal(our_grad, their_grad)


def test_layers_that_unpack_into_the_same_memory_do_not_disturb_each_other() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 64), nn.Tanh(), nn.Linear(64, 192))
    nf4 = copy.deepcopy(plain)
    assert quantize_linears(nf4, double_quant=True, compute_dtype=torch.float32) == ["0", "2", "4"]
    for name in ("0", "2", "4"):
        plain.get_submodule(name).weight.data = dequantize_weight(nf4.get_submodule(name))
    gradients = []
    for network in (plain, nf4.requires_grad_(False)):
        x = torch.linspace(-1, 1, 128).view(2, 64).requires_grad_()
        network(x).square().sum().backward()
        gradients.append(x.grad)
    assert torch.allclose(*gradients, atol=1e-6)


def test_matrices_of_one_thread_are_unpacked_into_the_same_memory() -> None:
    small, large = quantized(linear(), True), quantized(nn.Linear(192, 128), True)
    places = [unpack(m.weight.data, m.weight.quant_state, torch.float32).data_ptr() for m in (large, small, large)]
    assert len(set(places)) == 1
    kept = dequantize_weight(small).clone()
    assert torch.equal(unpack(small.weight.data, small.weight.quant_state, torch.float32), kept)


def test_rows_that_end_within_a_block_are_unpacked_too() -> None:
    """bitsandbytes' kernel counts blocks over the whole matrix, so such rows take its general function."""
    odd = quantized(nn.Linear(96, 6), True)
    weight = dequantize_weight(odd)
    assert torch.equal(unpack(odd.weight.data, odd.weight.quant_state, torch.float32), weight)
    x = torch.randn(2, 96)
    assert torch.allclose(odd(x), F.linear(x, weight, odd.bias), atol=1e-6)


def test_a_copy_of_a_layer_has_weights_of_its_own() -> None:
    nf4 = quantized(linear(), True)
    twin = copy.deepcopy(nf4)
    x = torch.randn(2, 192)
    before = twin(x)
    assert torch.equal(before, nf4(x))
    nf4.weight.data.zero_()
    assert torch.equal(twin(x), before)
    assert not torch.equal(nf4(x), before)


def test_evaluation_does_not_change_how_weights_lie_or_what_trains_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from bitsandbytes.nn import modules

    def repack(*_: object) -> None:
        raise AssertionError("the layout without gradients was taken")

    monkeypatch.setattr(modules, "has_avx512bf16", lambda: True)
    monkeypatch.setattr(modules, "_convert_weight_packed_for_cpu", repack)
    nf4 = quantized(linear(torch.bfloat16), True)
    before = dequantize_weight(nf4)
    with torch.no_grad():
        nf4.eval()(torch.randn(1, 192, dtype=torch.bfloat16))
    assert torch.equal(dequantize_weight(nf4), before)
    x = torch.randn(2, 192, dtype=torch.bfloat16, requires_grad=True)
    nf4(x).sum().backward()
    assert x.grad is not None
    assert x.grad.any()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("double_quant", DOUBLE)
def test_a_model_loaded_in_nf4_equals_one_that_is_loaded_and_then_quantized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, double_quant: bool
) -> None:
    monkeypatch.setenv("PACOS_CACHE", str(tmp_path / "cache"))
    tiny_model(family).save_pretrained(tmp_path / "m")
    tiny_tokenizer().save_pretrained(tmp_path / "m")
    plain = load_model(str(tmp_path / "m"), dtype="fp32", device="cpu")
    nf4 = load_model(str(tmp_path / "m"), dtype="fp32", device="cpu", quantization="nf4", double_quant=double_quant)
    names = quantize_linears(plain.model, double_quant=double_quant, compute_dtype=torch.float32)
    assert list(quantized_linears(nf4.model)) == names
    assert len(names) == (8 if family == "phi3" else 14)
    for name in names:
        ours, theirs = plain.model.get_submodule(name), nf4.model.get_submodule(name)
        assert torch.equal(dequantize_weight(ours), dequantize_weight(theirs))
        assert theirs.support_avx512bf16_for_cpu is False
        assert theirs.compute_dtype == torch.float32
    ids = torch.tensor([[1, 40, 7, 99, 250]])
    assert torch.equal(plain.model(ids).logits, nf4.model(ids).logits)
    assert nf4.identity == plain.identity
    assert not any(p.requires_grad for p in nf4.model.parameters())


def test_the_head_and_the_embedding_stay_as_they_are() -> None:
    model = tiny_model("llama")
    names = quantize_linears(model, double_quant=True, compute_dtype=torch.float32)
    assert type(model.lm_head) is nn.Linear
    assert not any("lm_head" in name for name in names)
    kept = tiny_model("llama")
    quantize_linears(kept, double_quant=True, compute_dtype=torch.float32, skip=("lm_head", "down_proj"))
    assert type(kept.model.layers[0].mlp.down_proj) is nn.Linear


def test_parameters_are_counted_as_the_architecture_has_them() -> None:
    model = tiny_model("qwen2")
    before = count_parameters(model)
    assert before == sum(p.numel() for p in model.parameters())
    quantize_linears(model, double_quant=True, compute_dtype=torch.float32)
    assert count_parameters(model) == before


def test_a_plain_layer_dequantizes_to_itself() -> None:
    plain = linear()
    assert torch.equal(dequantize_weight(plain), plain.weight)


def test_importing_bitsandbytes_asks_the_hub_for_nothing(tmp_path: Path) -> None:
    """On a CPU with AVX512-BF16 its import asks for a kernel. Here it is made to take any CPU for one."""
    (tmp_path / "kernels.py").write_text("def get_kernel(*_, **__):\n    print('asked the hub')\n")
    code = """
import ctypes
plain = ctypes.CDLL.__getattr__
ctypes.CDLL.__getattr__ = lambda lib, name: (lambda: True) if name == "has_avx512bf16_cpu" else plain(lib, name)
from pacos.models.quantize import bitsandbytes
bitsandbytes()
from bitsandbytes.backends.cpu import ops
print(ops.has_avx512bf16(), ops.gemm_4bit_forward_kernel)
import kernels
print(kernels.__name__)
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[1]}"},
        capture_output=True,
        text=True,
    )
    assert (run.stdout, run.stderr) == ("True None\nkernels\n", "")


def test_the_guard_leaves_everything_as_it_was() -> None:
    log = logging.getLogger("bitsandbytes.backends.cpu.ops")
    before = log.level, sys.modules.get("kernels", "absent")
    with _without_hub_kernels(), pytest.raises(ImportError):
        import kernels  # noqa: F401
    assert (log.level, sys.modules.get("kernels", "absent")) == before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_between_blocks_in_use_goes_back_to_the_system() -> None:
    """Ten blocks, then ten smaller ones of which the last is kept: by itself glibc would keep the other nine too."""
    code = """
import sys, torch
from pacos.models.host_memory import give_back_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
def blocks(size):
    return [torch.ones(size << 18) for _ in range(10)]
for x in blocks(12), blocks(12):
    del x
if "give" in sys.argv:
    assert give_back_memory()
before = resident()
last = blocks(9)[-1]
print(resident() - before)
"""
    kept, given = (
        int(
            subprocess.run(
                [sys.executable, "-c", code, word], cwd=Path(__file__).parents[1], capture_output=True, check=True
            ).stdout
        )
        for word in ("keep", "give")
    )
    assert kept > 60e6
    assert given < 20e6
