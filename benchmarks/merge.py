"""Peak memory of the whole verb `pacos export merge` at Llama-2-7B's widths, by number of layers: `make bench-merge`.

Random weights, LoRA r16 on every projection, the base in shards on disk. The free memory that the verb reads is set to 1 GB,
so that it measures before and after a layer at a time, as it does where a model does not fit. The head holds the embeddings
of the tokens, so that tops are far apart, as a trained model's are; the gate of a merge would not pass random ties. Texts are
short (the model reads 64 tokens), since what is measured is memory. The vocabulary is SmolLM2's, half as large again as
Llama's. Each number of layers runs in a process of its own; layer counts given on the command line are measured in place of all.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import ALPHA, RANK, in_own_process, recent_peak_gb, write_result

MODEL = "smollm2-135m-instruct"
WIDTH, INNER, HEADS, LONGEST = 4096, 11008, 32, 64
LAYERS = (4, 8)
FREE_BYTES = 10**9
TIMEOUT_SECONDS = 900
ROWS = (("Name the capital of France.", "Paris."), ("Give three primary colours.", "Red, yellow and blue."))


def shapes(layers: int, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of each tensor."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, WIDTH)}
    for layer in range(layers):
        place = f"model.layers.{layer}"
        found |= {f"{place}.self_attn.{name}_proj.weight": (WIDTH, WIDTH) for name in "qkvo"}
        found |= {f"{place}.mlp.{name}_proj.weight": (INNER, WIDTH) for name in ("gate", "up")}
        found |= {f"{place}.mlp.down_proj.weight": (WIDTH, INNER)}
        found |= {f"{place}.{name}_layernorm.weight": (WIDTH,) for name in ("input", "post_attention")}
    return found | {"model.norm.weight": (WIDTH,), "lm_head.weight": (vocabulary, WIDTH)}


def write_base(folder: Path, layers: int) -> int:
    """A Llama of random weights. Returns its number of weights."""
    import torch
    from transformers import LlamaConfig

    from pacos.export.tensors import Slot, write_shards
    from pacos.models import load_tokenizer

    folder.mkdir()
    tokenizer = load_tokenizer(MODEL)
    tokenizer.save_pretrained(folder)
    sizes = shapes(layers, len(tokenizer))

    def read(name: str) -> Any:
        if len(sizes[name]) == 1:
            return torch.ones(sizes[name], dtype=torch.bfloat16)
        is_end = name in ("model.embed_tokens.weight", "lm_head.weight")  # the same values, at two scales
        generator = torch.Generator().manual_seed(0 if is_end else list(sizes).index(name))
        scale = 1.0 if name == "model.embed_tokens.weight" else 10 / WIDTH if is_end else 0.01
        return torch.empty(sizes[name], dtype=torch.bfloat16).normal_(generator=generator).mul_(scale)

    write_shards(folder, [Slot(name, torch.bfloat16, size) for name, size in sizes.items()], read, 2_000_000_000)
    LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        max_position_embeddings=LONGEST,
        tie_word_embeddings=False,
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
    ).save_pretrained(folder)
    return sum(torch.Size(size).numel() for size in sizes.values())


def write_adapter(folder: Path, base: Path, layers: int) -> None:
    """A random LoRA of PEFT's form on every projection, with the rows that are held out of its training."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name, size in shapes(layers, 1).items():
        if name.endswith("_proj.weight"):
            module = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{module}.lora_A.weight"] = torch.randn(RANK, size[1], generator=generator) * 0.01
            tensors[f"{module}.lora_B.weight"] = torch.randn(size[0], RANK, generator=generator) * 0.01
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA}
    targets = sorted({name.split(".")[-2] for name in shapes(1, 1) if name.endswith("_proj.weight")})
    config |= {"target_modules": targets, "base_model_name_or_path": str(base)}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    rows = [{"instruction": question, "input": "", "output": answer} for question, answer in ROWS]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def one(place: str) -> dict[str, Any]:
    """The verb on the adapter in `place`: exit code, seconds, the peak of this process, and what was written."""
    from pacos.cli.main import main as pacos
    from pacos.models import host_memory

    meminfo = Path(place) / "meminfo"
    meminfo.write_text(f"MemAvailable: {FREE_BYTES // 1024} kB\n", encoding="ascii")
    host_memory.MEMINFO = meminfo
    out = Path(place) / "merged"
    began = time.perf_counter()
    code = pacos(["export", "merge", str(Path(place) / "adapter"), "--out", str(out)])
    seconds, peak = time.perf_counter() - began, recent_peak_gb()
    if code:
        sys.exit(code)
    tree = json.loads((out / "export.json").read_text(encoding="utf-8"))
    receipt = tree["receipts"][-1]
    return {
        "exit_code": code,
        "measured": tree["about"]["measured"],
        "written_gb": sum(path.stat().st_size for path in out.glob("*.safetensors")) / 1e9,
        "peak_rss_gb": peak,
        "seconds": seconds,
        "positions": receipt["num_positions"],
        "top1_agreement": receipt["top1_agreement"],
    }


def measure(layers: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        weights = write_base(place / "base", layers)
        write_adapter(place / "adapter", place / "base", layers)
        found = in_own_process(Path(__file__), folder, TIMEOUT_SECONDS)
    return {"weights_in_fp32_gb": 4 * weights / 1e9, **found}


def main(counts: list[int]) -> None:
    figures = {}
    for layers in counts:
        figures[f"{layers} layers"] = measure(layers)
        print(f"{layers} layers: {json.dumps(figures[f'{layers} layers'])}", flush=True)
    peaks = [found.get("peak_rss_gb") for found in figures.values()]
    whole = len(peaks) == len(LAYERS) and all(peaks)
    write_result("merge", figures, {f"peak of {LAYERS[1]} layers to {LAYERS[0]}": peaks[1] / peaks[0]} if whole else {})


if __name__ == "__main__":
    if "--one" in sys.argv:
        print(json.dumps(one(sys.argv[sys.argv.index("--one") + 1])))
    else:
        main([int(each) for each in sys.argv[1:]] or list(LAYERS))
