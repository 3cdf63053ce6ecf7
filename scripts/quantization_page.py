"""docs/quantization.md: what each GGUF type costs on SmolLM2, from benchmarks/results/quantization.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Tree = Mapping[str, Any]
SERVED, ALONE = "by llama.cpp", "by weights alone"
HEAD = ("type", "size", "memory", "read", "written", "perplexity", "difference, 95 %", "top-1")
HEAD_ALONE = ("type", "perplexity", "difference, 95 %", "top-1", "within the gates of `pacos export gguf`")


def quantization_page(result: Tree) -> str:
    machine, figures = result["machine"], result["figures"]
    served, alone = figures[SERVED], figures[ALONE]
    first = next(iter(served.values()))
    lines = [
        "# What each quantization costs",
        "",
        f"SmolLM2-135M-Instruct, {result['date']}, on {machine['cores']} cores of {machine['cpu']}. Again with "
        "`make bench-quantization`;",
        "this page is made from its result file by `make docs`.",
        "",
        "## Served by llama.cpp",
        "",
        *_table(HEAD, [_served_row(kind, tree) for kind, tree in served.items()]),
        "",
        "Memory is the peak of the process, Python and 512 tokens of context included. Read and written: tokens a second, of a",
        "prompt of 256 and of 64 behind it, the best of three.",
        "",
        "## The weights alone",
        "",
        *_table(HEAD_ALONE, [_alone_row(kind, tree) for kind, tree in alone.items()]),
        "",
        "The same files in transformers, in fp32, as `pacos export gguf` measures them. llama.cpp rounds activations to 8 bits",
        "too where it multiplies quantized matrices; what is between the two tables is that.",
        "",
        "## How to read it",
        "",
        f"Perplexity is of the answers of {first['rows']} rows of the starter set in the chat format, which the model was not",
        "trained on; the interval is of its difference to F32, from a paired bootstrap over the rows. Top-1 is the share of",
        f"{first['positions']:,} positions, those of the prompts included, with the same likeliest token as F32.",
        "",
        "SmolLM2-135M is the smallest base, and loses most: many of its tokens are nearly tied, and its width, 576, does not",
        "divide into the K-quants' blocks of 256, so llama.cpp keeps those matrices in other types, and K-quants shrink it",
        "less. Below 8 bits pacos keeps the embedding and the head, a fifth of this model, in Q8_0.",
    ]
    return "\n".join(lines) + "\n"


def _table(heads: tuple[str, ...], rows: list[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _served_row(kind: str, tree: Tree) -> list[str]:
    speeds = [f"{tree[key]:.0f}" for key in ("read_tokens_per_second", "written_tokens_per_second")]
    return [kind, f"{tree['bytes'] / 1e6:.0f} MB", f"{tree['peak_rss_gb']:.2f} GB", *speeds, *_quality(tree)]


def _alone_row(kind: str, tree: Tree) -> list[str]:
    return [kind, *_quality(tree), tree["within_gate"]]


def _quality(tree: Tree) -> list[str]:
    low, high = tree["difference_low"], tree["difference_high"]
    return [f"{tree['perplexity']:.3f}", f"{low:+.3f} to {high:+.3f}", f"{tree['top1_agreement']:.1%}"]
