"""Whether a GPU computes what the CPU does: each kernel against its plain form, tiny models of each family with gradients,
4-bit weights, 8-bit optimizers, resuming to the bit, and generation. Part of `make gpu-check`.

A check gives for each of its cases the error found, max |a - b| / max |b|, and the tolerance it must keep within: 1e-4 in
fp32, 0.03 in bf16 (four times its rounding step, for sums that are rounded in another order).
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Found = dict[str, Any]
WITHIN = {"float32": 1e-4, "bfloat16": 0.03}
FAMILIES = ("llama", "phi3", "mistral", "qwen2", "gemma2")
LONG, SHORT, TREE = ([300, 5, 128, 1], [-1] * 4), ([40, 7], [-1] * 2), ([60, 30, 200, 2, 90], [-1, 0, 0, 1, -1])


def place() -> Any:
    import torch

    return torch.device("cpu" if "--cpu-dry" in sys.argv else "cuda")


def dtypes() -> list[Any]:
    import torch

    return [torch.float32] if place().type == "cpu" else [torch.float32, torch.bfloat16]


def case(got: Any, wanted: Any, within: float) -> Found:
    """Largest difference of tensors, over the largest value that is wanted."""
    pairs = [(g.detach().cpu().double(), w.detach().cpu().double()) for g, w in zip(got, wanted, strict=True)]
    errors = [float((g - w).abs().max() / w.abs().max().clamp(min=1e-30)) for g, w in pairs]
    return {"error": max(errors), "within": within}


def attention() -> Found:
    """Every way of kernels/cuda.py against the plain formula in fp32 on the CPU, with gradients."""
    import torch

    from pacos.models.attention import Packed
    from pacos.models.kernels import cuda

    found: Found = {}
    for (lengths, parents), dtype, size, kv, window, softcap in settings():
        torch.manual_seed(0)
        tokens = sum(lengths)
        drawn = [torch.randn(1, heads, tokens, size).to(dtype).float() for heads in (4, kv, kv)]
        wanted = run(cuda.plain, Packed(lengths, parents), drawn, window, softcap)
        moved = [x.to(place(), dtype) for x in drawn]
        for way in ways(moved[0], moved[1], parents, window, softcap):
            got = run(cuda.WAYS[way], Packed(lengths, parents), moved, window, softcap)
            name = f"{way} {str(dtype)[6:]} D={size} K={kv} window={window} cap={softcap} parents={parents}"
            found[name] = case(got, wanted, WITHIN[str(dtype)[6:]])
    return found


def settings() -> Iterator[tuple[Any, ...]]:
    """Packs, dtypes, head sizes (Phi-3 has 96), key heads, windows and caps; each varied from a usual one."""
    for dtype in dtypes():
        for size in (64, 96, 128, 256):
            yield LONG, dtype, size, 4, None, None
            yield TREE, dtype, size, 2, None, None
        for pack in (LONG, SHORT, TREE):
            yield pack, dtype, 64, 2, 17, None
            yield pack, dtype, 64, 2, None, 5.0
            yield pack, dtype, 64, 1, 17, 5.0


def ways(query: Any, key: Any, parents: list[int], window: int | None, softcap: float | None) -> list[str]:
    """Those that take this; FlexAttention has gradients on a GPU alone."""
    from pacos.models.kernels import cuda

    on_gpu = place().type == "cuda"
    takes = {
        "varlen": on_gpu and softcap is None and max(parents) < 0 and cuda.varlen_takes(query, key, window),
        "flex": on_gpu and cuda.has_compiler(),
        "sdpa": softcap is None,
        "plain": True,
    }
    return [way for way, does in takes.items() if does]


def run(
    way: Callable[..., Any], layout: Any, tensors: list[Any], window: int | None, softcap: float | None
) -> list[Any]:
    """The output of one way, and the gradients of a weighted sum of it."""
    import torch

    tensors = [x.detach().clone().requires_grad_() for x in tensors]
    output = way(layout, *tensors, 0.125, window, softcap)
    weights = torch.linspace(-1, 1, output.numel()).view(output.shape).to(output.device, output.dtype)
    return [output, *torch.autograd.grad((output * weights).sum(), tensors)]


def cross_entropy() -> Found:
    import torch

    from pacos.models.kernels.cross_entropy import linear_cross_entropy, reference_cross_entropy

    found: Found = {}
    for dtype in dtypes():
        for softcap in (None, 10.0):
            torch.manual_seed(0)
            hidden, weight = torch.randn(700, 64).to(dtype), torch.randn(1000, 64).mul(0.3).to(dtype)
            targets = torch.randint(0, 1000, (700,))
            pair = []
            for device, function, kind in (
                (place(), linear_cross_entropy, dtype),
                (torch.device("cpu"), reference_cross_entropy, torch.float32),
            ):
                inputs = [x.to(device, kind).requires_grad_() for x in (hidden, weight)]
                loss = function(*inputs, targets.to(device), softcap)
                pair.append([loss, *torch.autograd.grad(loss, inputs)])
            found[f"{str(dtype)[6:]} cap={softcap}"] = case(*pair, WITHIN[str(dtype)[6:]])
    return found


def families() -> Found:
    """Loss and gradients of LoRA on a tiny model of each family, with and without torch.compile, fp32."""
    found: Found = {}
    for family in FAMILIES:
        wanted = step(family, "cpu", "off")
        for compile in ("off", "auto"):
            found[f"{family} compile={compile}"] = case(step(family, place(), compile), wanted, 2e-3)
    return found


def step(family: str, device: Any, compile: str, nf4: bool = False) -> list[Any]:
    """Loss and adapter gradients of two packs of rows, one with a shared beginning."""
    import torch

    from pacos.models import LoadedModel
    from pacos.models.packs import make_packs
    from pacos.models.quantize import quantize_linears
    from pacos.recipes import Recipe
    from pacos.training.train import accumulate
    from pacos.training.trainee import set_up
    from tests.tiny import tiny_model

    model = tiny_model(family).requires_grad_(False)
    if nf4:
        quantize_linears(model, double_quant=True, compute_dtype=torch.float32)
    model = model.to(device)
    recipe = Recipe(
        train={"compile": compile}, lora={"rank": 4, "targets": ["q_proj", "v_proj", "o_proj", "down_proj"]}
    )
    trainee = set_up(recipe, LoadedModel(model, None, None, torch.float32, torch.device(device)))
    torch.manual_seed(0)
    for master in trainee.masters.masters.values():
        master.data.copy_(torch.randn(master.shape) * 0.1)
    loss = accumulate(trainee.network, make_packs(some_rows(), 100))
    return [torch.tensor(loss), *(master.grad for master in trainee.masters.masters.values())]


def some_rows() -> list[Any]:
    from tests.rows import random_rows

    return [*random_rows(6, shared=5), *random_rows(6)]


def nf4() -> Found:
    """Weights packed on the GPU and on the CPU stand for the same values; a QLoRA step agrees."""
    import torch

    from pacos.models.quantize import dequantize_weight, quantize_linears, quantized_linears
    from tests.tiny import tiny_model

    weights = []
    for device in (place(), "cpu"):
        model = tiny_model("llama").to(device)
        quantize_linears(model, double_quant=False, compute_dtype=torch.float32)
        weights.append([dequantize_weight(linear) for linear in quantized_linears(model).values()])
    found = {"weights": case(*weights, 1e-6)}
    wanted = step("llama", "cpu", "off", nf4=True)
    for compile in ("off", "auto"):
        found[f"step, compile={compile}"] = case(step("llama", place(), compile, nf4=True), wanted, 5e-3)
    return found


def optimizers() -> Found:
    """Three steps of each optimizer, against AdamW in fp32 on the CPU: 8-bit moments may differ by a twentieth of the way."""
    import torch

    from pacos.training.optimizer import Masters, make_optimizer

    def after(kind: str, device: Any) -> Any:
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(128, 256).to(device))
        masters = Masters([("w", weight)])
        began = weight.detach().clone()
        settings = {"learning_rate": 1e-2, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}
        optimizer = make_optimizer(masters, kind, **settings)
        for _ in range(3):
            weight.grad = torch.randn(128, 256).to(device)
            optimizer.step()
        return weight - began

    wanted = after("adamw", "cpu")
    kinds = {"adamw": 1e-4} | ({} if place().type == "cpu" else {"adamw_8bit": 0.05, "paged_adamw_8bit": 0.05})
    return {kind: case([after(kind, place())], [wanted], within) for kind, within in kinds.items()}


def resume() -> Found:
    """A run that was stopped and continued ends with the bytes of one that was not, with deterministic kernels."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            whole, parts = (adapter_bytes(Path(folder) / name, stop) for name, stop in (("whole", 0), ("parts", 3)))
    finally:
        torch.use_deterministic_algorithms(False)
    differ = sum(a != b for a, b in zip(whole, parts, strict=True))
    return {"bytes that differ": {"error": float(differ), "within": 0.0}}


def adapter_bytes(folder: Path, stop: int) -> bytes:
    """The adapter file of a run of six steps on a tiny model; stopped behind step `stop` and continued where that is not 0."""
    from pacos.recipes import Recipe
    from tests.tiny import tiny_model, tiny_tokenizer

    tiny_model("llama").save_pretrained(folder / "base")
    tiny_tokenizer().save_pretrained(folder / "base")
    recipe = Recipe(
        model={"base": str(folder / "base"), "device": place().type, "dtype": "fp32"},
        data={"limit": 80},
        prompt={"template": "plain"},
        lora={"rank": 4, "dropout": 0.1},
        train={"max_steps": 6, "batch_size": 8, "eval_every": 2, "pack_tokens": 512},
    )
    if stop:
        go_on(recipe, folder, stop)
    go_on(recipe, folder, 6)
    return (folder / "run" / "adapter_model.safetensors").read_bytes()


def go_on(recipe: Any, folder: Path, last: int) -> None:
    """Begin the run, or continue it, and stop it behind step `last`."""
    from pacos.models import load_model
    from pacos.prompts import Renderer
    from pacos.training import Told, prepare_rows, run_training

    loaded = load_model(recipe.model.base, dtype="fp32", device=recipe.model.device)
    prepared = prepare_rows(recipe, Renderer(loaded.tokenizer, "plain", ""), folder, lambda _: None)
    done: list[int] = []
    told = Told(lambda _: None, lambda step, _: done.append(step.step), lambda: bool(done) and done[-1] >= last)
    run_training(prepared, loaded, folder / "run", resume=(folder / "run.partial").exists(), told=told)


def generation() -> Found:
    """Greedy answers of each family are the CPU's, token for token, in fp32."""
    import torch

    from pacos.inference import Engine, Sampling
    from pacos.models import Network
    from tests.tiny import tiny_model

    prompts = [[5, 9, 33, 7], [5, 9, 33, 8, 21, 4], [40]]
    found: Found = {}
    for family in FAMILIES:
        answers = []
        for device in (place(), "cpu"):
            engine = Engine(Network(tiny_model(family).to(device)), [2], slots=2)
            written = engine.generate(prompts, Sampling(max_new_tokens=12))
            answers.append([torch.tensor([*answer.ids, -1]) for answer in written])
        same = [torch.equal(a, b) for a, b in zip(*answers, strict=True)]
        found[family] = {"error": float(same.count(False)), "within": 0.0}
    return found


CHECKS: dict[str, Callable[[], Found]] = {
    "attention": attention,
    "cross entropy": cross_entropy,
    "families": families,
    "nf4": nf4,
    "optimizers": optimizers,
    "resume": resume,
    "generation": generation,
}
