"""What runs on a GPU, as far as a machine without one can show it: each way of attention equals the plain formula, gradients
included; each is chosen only where it fits; and no step of training or writing mixes devices."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.backends.debugging import aot_eager
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pacos.errors import UsageError
from pacos.inference.cache import Decode, KVCache, Prefill
from pacos.models import LoraSpec, Network, Packed, attach
from pacos.models.kernels import cuda, cuda_layers
from pacos.models.packs import build_pack
from pacos.training.optimizer import Masters
from pacos.training.train import masked_cross_entropy
from tests.rows import random_rows
from tests.tiny import FAMILIES, tiny_model


@dataclass
class Forest:
    lengths: list[int]
    parents: list[int]
    kept: dict[Any, Any] = field(default_factory=dict)


ROWS = Forest([5, 9, 1, 4], [-1, -1, -1, -1])
TREE = Forest([4, 3, 2, 6, 1, 5, 3], [-1, 0, 1, 1, 0, -1, 5])
"""Two trees, the first three deep, and its branches not next to each other."""


def fresh(forest: Forest) -> Forest:
    return Forest(forest.lengths, forest.parents)


def drawn(tokens: int, heads: int = 4, kv: int = 2, size: int = 16) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, n, tokens, size, generator=generator, requires_grad=True) for n in (heads, kv, kv)]


def alone(forest: Forest, tensors: list[Tensor], scaling: float, window: int | None, softcap: float | None) -> Tensor:
    """Each segment with what it continues, as a sequence of its own under a causal mask: (T, H, D)."""
    starts = [sum(forest.lengths[:i]) for i in range(len(forest.lengths))]
    outputs = []
    for i in range(len(forest.lengths)):
        line, at = [], i
        while at >= 0:
            line, at = [*range(starts[at], starts[at] + forest.lengths[at]), *line], forest.parents[at]
        q, k, v = (x[0, :, line] for x in tensors)
        k, v = (x.repeat_interleave(q.shape[0] // x.shape[0], dim=0) for x in (k, v))
        scores = q @ k.transpose(1, 2) * scaling
        scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
        place = torch.arange(len(line))
        seen = place[None, :] <= place[:, None]
        seen = seen if window is None else seen & (place[None, :] > place[:, None] - window)
        rows = torch.softmax(scores.masked_fill(~seen, -torch.inf), dim=-1) @ v
        outputs.append(rows[:, -forest.lengths[i] :].transpose(0, 1))
    return torch.cat(outputs)


def gradients(output: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    return list(torch.autograd.grad((output * weights).sum(), tensors))


@pytest.fixture
def flex_with_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch refuses gradients of FlexAttention on a CPU, although its uncompiled form has them."""
    from torch.nn.attention import flex_attention

    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)


@pytest.mark.usefixtures("flex_with_gradients")
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize(
    ("way", "softcap"), [("plain", None), ("plain", 2.0), ("sdpa", None), ("flex", None), ("flex", 2.0)]
)
@pytest.mark.parametrize("forest", [ROWS, TREE], ids=["rows", "tree"])
def test_each_way_gives_every_row_what_it_gets_alone(
    way: str, forest: Forest, window: int | None, softcap: float | None
) -> None:
    tensors = drawn(sum(forest.lengths))
    wanted = alone(forest, tensors, 0.3, window, softcap)
    got = cuda.WAYS[way](fresh(forest), *tensors, 0.3, window, softcap)[0]
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(gradients(got, tensors), gradients(wanted, tensors), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def documented_varlen(
    q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int, **options: Any
) -> Tensor:
    """torch.nn.attention.varlen.varlen_attn by its documentation: sequences end to end, (tokens left, tokens right) seen."""
    from torch.nn.attention.varlen import varlen_attn

    inspect.signature(varlen_attn).bind(q, k, v, cu_q, cu_k, max_q, max_k, **options)
    assert cu_q.dtype == cu_k.dtype == torch.int32
    assert int(cu_q.diff().max()) == max_q == max_k
    left, right = options["window_size"]
    assert right == 0
    assert options.get("enable_gqa", False) == (q.shape[1] != k.shape[1])
    forest = Forest(cu_q.diff().tolist(), [-1] * (len(cu_q) - 1))
    rows = [x.transpose(0, 1)[None] for x in (q, k, v)]
    return alone(forest, rows, options["scale"], None if left < 0 else left + 1, None)


@pytest.mark.parametrize("kv", [2, 4])
@pytest.mark.parametrize("window", [None, 3])
def test_the_varlen_kernel_is_asked_for_each_row_under_its_window(
    window: int | None, kv: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    varlen = pytest.importorskip("torch.nn.attention.varlen")
    tensors = drawn(sum(ROWS.lengths), kv=kv)
    wanted = alone(ROWS, tensors, 0.3, window, None)
    monkeypatch.setattr(varlen, "varlen_attn", documented_varlen)
    torch.testing.assert_close(cuda.varlen(fresh(ROWS), *tensors, 0.3, window, None)[0], wanted)


@pytest.mark.parametrize("window", [None, 1, 4])
@pytest.mark.parametrize("forest", [ROWS, TREE], ids=["rows", "tree"])
def test_the_mask_is_the_layout_s_definition(forest: Forest, window: int | None) -> None:
    layout = Packed(forest.lengths, forest.parents)
    assert torch.equal(cuda.dense_mask(layout, window, torch.device("cpu")), layout.seen(window))


def test_a_segment_and_all_that_continues_it_have_consecutive_numbers() -> None:
    assert cuda.walk([-1, 0, 1, 1, 0, -1, 5]) == ([0, 1, 2, 3, 4, 5, 6], [5, 4, 3, 4, 5, 7, 7])
    assert cuda.walk([-1, -1, 0, 1, 0]) == ([0, 3, 1, 4, 2], [3, 5, 2, 5, 3])


def test_a_window_that_no_row_reaches_is_none_so_masks_are_shared() -> None:
    assert cuda.tight(TREE, 13) is None
    assert cuda.tight(TREE, 12) == 12


def test_heads_of_any_size_are_filled_up_to_a_power_of_two() -> None:
    assert [cuda.to_power_of_two(torch.ones(1, 1, 2, n)).shape[-1] for n in (8, 16, 64, 80, 96, 128, 256)] == [
        16,
        16,
        64,
        128,
        128,
        128,
        256,
    ]


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_heads_of_96_give_what_they_give_unfilled() -> None:
    tensors = [x.detach() for x in drawn(sum(TREE.lengths), size=96)]
    got = cuda.flex(fresh(TREE), *tensors, 0.1, None, None)[0]
    assert got.shape == (sum(TREE.lengths), 4, 96)
    torch.testing.assert_close(got, alone(TREE, tensors, 0.1, None, None), rtol=1e-5, atol=1e-5)


class OnGpu(Tensor):
    """A tensor of the CPU that layouts take for one of a GPU."""

    is_cuda = True


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("size", "value_size"), [(24, 16), (16, 24)])
@pytest.mark.parametrize("way", ["plain", "sdpa", "flex"])
def test_values_of_another_size_than_keys_are_attended_on_a_gpu_too(
    way: str, size: int, value_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    attend, tokens = cuda.attend, sum(TREE.lengths)

    def on_cpu(layout: Packed, *tensors: Tensor, **options: Any) -> Tensor:
        return attend(layout, *(x.as_subclass(Tensor) for x in tensors), **options)

    monkeypatch.setattr(cuda, "choose", lambda *_: way)
    monkeypatch.setattr(cuda, "attend", on_cpu)
    query, key, _ = (x.detach() for x in drawn(tokens, size=size))
    value = drawn(tokens, size=value_size)[2].detach()
    tensors = [x.as_subclass(OnGpu) for x in (query, key, value)]
    got = Packed(TREE.lengths, TREE.parents).attend(0, *tensors, scaling=0.2, window=None, softcap=None)[0]
    wanted = alone(TREE, [query, key, value], 0.2, None, None)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine that has, or has not: a compiler, flash attention, arguments of the var-len kernel."""

    def has(
        *, compiler: bool = True, flash: bool = True, varlen: tuple[str, ...] = ("scale", "window_size", "enable_gqa")
    ) -> None:
        monkeypatch.setattr(cuda, "has_compiler", lambda: compiler)
        monkeypatch.setattr(cuda_layers, "has_compiler", lambda: compiler)
        monkeypatch.setattr(cuda, "has_flash", lambda _: flash)
        monkeypatch.setattr(cuda, "varlen_options", lambda: frozenset(varlen))

    return has


def way(
    forest: Forest, *, dtype: torch.dtype = torch.bfloat16, kv: int = 2, size: int = 96, softcap: float | None = None
) -> str:
    query, key, _ = (x.to(dtype) for x in drawn(sum(forest.lengths), kv=kv, size=size))
    return cuda.choose(forest, query, key, None, softcap)


def test_rows_without_a_shared_beginning_take_the_varlen_kernel_where_it_computes_them(
    machine: Callable[..., None],
) -> None:
    machine()
    assert way(ROWS) == "varlen"
    assert way(TREE) == way(ROWS, softcap=5.0) == way(ROWS, dtype=torch.float32) == way(ROWS, size=100) == "flex"
    machine(varlen=("scale", "window_size"))
    assert (way(ROWS, kv=4), way(ROWS, kv=2)) == ("varlen", "flex")
    machine(varlen=("is_causal",))
    assert way(ROWS, kv=4) == "flex"
    machine(flash=False)
    assert way(ROWS) == "flex"


def test_without_a_compiler_torch_s_kernels_under_a_mask_are_taken(machine: Callable[..., None]) -> None:
    machine(compiler=False, flash=False)
    assert (way(TREE), way(TREE, softcap=5.0)) == ("sdpa", "plain")


def test_what_a_gpu_is_switched_to_is_said(machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, taken = torch.device("cuda"), cuda_layers.use_cuda_kernels
    monkeypatch.setattr(cuda_layers, "_way", "")
    machine()
    monkeypatch.setattr(cuda_layers, "has_liger", lambda: True)
    assert taken(gpu, "auto") == taken(gpu, "on") == ["rotary positions, gated products and losses are compiled"]
    assert taken(gpu, "off") == ["gated products are liger-kernel's"]
    monkeypatch.setattr(cuda_layers, "has_liger", lambda: False)
    assert taken(gpu, "off") == taken(torch.device("cpu"), "auto") == []


def test_compiling_that_cannot_be_done_is_refused(machine: Callable[..., None]) -> None:
    machine(compiler=False)
    with pytest.raises(UsageError) as refused:
        cuda_layers.use_cuda_kernels(torch.device("cpu"), "on")
    assert str(refused.value) == (
        "train.compile: 'on' needs a CUDA device and Triton, and this run is on 'cpu'; use auto or off"
    )
    with pytest.raises(UsageError, match="and Triton is not installed; use auto or off"):
        cuda_layers.use_cuda_kernels(torch.device("cuda"), "on")


def plain_forms() -> dict[str, Callable[[int], tuple[Any, ...]]]:
    """Each plain form that is compiled on a GPU, with arguments for so many tokens."""
    from pacos.models.kernels.cross_entropy import reference_rows
    from pacos.models.kernels.gated import reference_gated
    from pacos.models.kernels.norms import reference_rms_norm
    from pacos.models.kernels.rotary import Region, reference_rotate

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(shape[-2])).requires_grad_()

    regions = [Region(0, 0, 4, 8), Region(0, 32, 2, 8)]
    return {
        "norm": lambda t: (reference_rms_norm, some(1, t, 16), torch.ones(16), 1e-5),
        "gated": lambda t: (reference_gated, some(1, t, 32), some(1, t, 32), "silu"),
        "halves": lambda t: (reference_gated, *some(1, t, 64).chunk(2, dim=-1), "gelu"),
        "rotary": lambda t: (reference_rotate, some(1, t, 64), regions, torch.randn(1, t, 8), torch.randn(1, t, 8)),
        "losses": lambda t: (reference_rows, some(t, 50).detach(), torch.arange(t) % 50, None, True),
        "capped losses": lambda t: (reference_rows, some(t, 50).detach(), torch.arange(t) % 50, 3.0, True),
    }


@pytest.mark.parametrize("name", plain_forms())
def test_a_compiled_form_gives_the_same_and_serves_all_lengths(name: str) -> None:
    graphs: list[Any] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        graphs.append(graph)
        return aot_eager(graph, inputs)

    torch.compiler.reset()
    for tokens in (24, 40, 7, 64, 33):
        function, *arguments = plain_forms()[name](tokens)
        copies = [a.clone() if isinstance(a, Tensor) and not a.requires_grad else a for a in arguments]
        compiled = torch.compile(function, fullgraph=True, backend=backend)
        torch.testing.assert_close(compiled(*copies), function(*arguments))
    assert len(graphs) == 2  # the first length, then all


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="needs TRITON_INTERPRET=1")
@pytest.mark.parametrize("width", [48, 64])
def test_liger_s_product_is_the_plain_one(width: int) -> None:
    pytest.importorskip("liger_kernel")
    from pacos.models.kernels.gated import reference_gated

    both = torch.randn(3, 5, 2 * width, generator=torch.Generator().manual_seed(0)).requires_grad_()
    results = []
    for product in (cuda_layers.liger_gated, reference_gated):
        out = product(*both.chunk(2, dim=-1), "silu")
        results.append([out, *torch.autograd.grad(out.square().sum(), [both])])
    torch.testing.assert_close(*results)


class OneDevice(TorchDispatchMode):
    """Refuses operations on tensors of two devices, forward and back, but for what a GPU takes from the CPU: copies, indices
    and single numbers. The device is `meta`, whose tensors hold nothing."""

    MAY = ("aten::_to_copy", "aten::copy_", "aten::index.Tensor", "aten::index_put", "aten::index_put_")

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, Tensor) and x.ndim]
        devices = {x.device.type for x in given}
        name = function._schema.name
        assert len(devices) <= 1 or name in self.MAY, f"{name} on {sorted(devices)}"
        return function(*args, **(kwargs or {}))


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A device that is not the CPU, where layouts attend as on a GPU."""
    monkeypatch.setattr(cuda, "choose", lambda *_: "plain")

    def attend(self: Packed, layer: int, *tensors: Tensor, **options: Any) -> Tensor:
        return cuda.attend(self, *tensors, **options)

    monkeypatch.setattr(Packed, "attend", attend)
    with OneDevice():
        yield torch.device("meta")


def model_on(device: torch.device, family: str) -> Any:
    with device:
        return tiny_model(family)


def test_an_operation_on_two_devices_is_refused(elsewhere: torch.device) -> None:
    with pytest.raises(AssertionError, match=r"aten::embedding on \['cpu', 'meta'\]"):
        torch.nn.functional.embedding(torch.tensor([1, 2]), torch.ones(3, 4, device=elsewhere))


@pytest.mark.parametrize("method", ["full", "lora", "checkpointed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_mixes_no_devices(family: str, method: str, elsewhere: torch.device) -> None:
    model = model_on(elsewhere, family)
    network = Network(model)
    trained = dict(model.named_parameters())
    if method != "full":
        model.requires_grad_(False)
        targets = ("q_proj", "v_proj", "o_proj", "down_proj")
        trained = dict(attach(model, LoraSpec(4, 8.0, 0.1, targets), torch.Generator()).named_parameters())
    if method == "checkpointed":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    masters = Masters(trained.items())
    model.train()
    loss = masked_cross_entropy(network, build_pack(random_rows(5, shared=6)))
    loss.backward()
    assert loss.device == elsewhere
    assert {master.grad.device for master in masters.masters.values() if master.grad is not None} == {elsewhere}
    assert all(master.grad is not None for master in masters.masters.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_reading_and_writing_answers_mixes_no_devices(family: str, elsewhere: torch.device) -> None:
    network = Network(model_on(elsewhere, family))
    cache = KVCache(2, 32, dtype=network.dtype, device=network.device)
    layout = Prefill([1, 2, 3], [-1, 0, 0], cache=cache, slots=[1, 0], ends=[1, 2])
    with torch.inference_mode():
        positions = layout.positions()[None].to(network.device)
        network.hidden(torch.zeros(1, 6, dtype=torch.long, device=network.device), positions, layout)
        cache.reserve(40, 512)
        ids = torch.zeros(2, 1, dtype=torch.long, device=network.device)
        hidden = network.hidden(ids, torch.tensor([[4], [3]], device=network.device), Decode(cache, [4, 3]))
        assert network.logits(hidden).device == elsewhere


@pytest.fixture
def gpu_check(monkeypatch: pytest.MonkeyPatch) -> Any:
    """benchmarks/gpu.py as a module."""
    folder = Path(__file__).parents[1] / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    return importlib.import_module("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_the_check_says_so_and_exits_with_4(
    gpu_check: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["gpu.py"])
    assert gpu_check.main() == 4
    assert capsys.readouterr().err == "gpu-check: no CUDA device here; --cpu-dry shows that the command runs\n"


def test_the_check_of_a_gpu_runs_dry_and_every_contender_has_the_same_losses(
    gpu_check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trl")
    monkeypatch.setattr("sys.argv", ["gpu.py", "--cpu-dry"])
    written: list[Any] = []
    monkeypatch.setattr("common.write_result", lambda *result: written.append(result))
    assert gpu_check.main() == 0
    [(name, figures, ratios)] = written
    assert (name, set(ratios)) == ("gpu", {"phi3-qlora", "llama2-lora", "llama2-full"})
    assert len(figures["checks"]["check attention"]) == 28
    for case in ratios:
        ours, theirs = (figures["speed"][f"{case}, {who}"] for who in ("pacos", "trl, packed, liger, sdpa"))
        assert ours["losses"] == pytest.approx(theirs["losses"], abs=2e-3)
        assert figures["speed"][f"{case}, pacos, not compiled"]["losses"] == ours["losses"]


def test_necessary_work_counts_a_shared_beginning_once_and_losses_on_targets_only(gpu_check: Any) -> None:
    from gpu_speed import necessary_flops

    model = tiny_model("llama")
    attach(model.requires_grad_(False), LoraSpec(4, 8.0, 0.0, ("q_proj",)), torch.Generator())
    pack = build_pack(random_rows(2, shared=6))
    assert list(pack.layout.parents) == [-1, 0, 0]
    first, *own = pack.layout.lengths
    layers = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96)
    adapters = 2 * (4 * 64 + 64 * 4)
    spans = first * first / 2 + sum(n * (first + n / 2) for n in own)
    wanted = pack.num_tokens * (4 * layers + 6 * adapters) + 4 * 320 * 64 * pack.num_targets + 12 * 2 * 64 * spans
    assert necessary_flops(model, pack, "lora") == wanted
