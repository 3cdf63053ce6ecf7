"""Write docs/performance.md, and its plots, from the result files of the benchmarks; --check says if they are stale.

python scripts/make_performance.py            writes
python scripts/make_performance.py --check    exits 1 and names what is stale

Every figure comes from benchmarks/results/NAME.json, which `make bench-NAME` writes. A benchmark that is not named here
gets a section too: its contenders as a table, its ratios, its machine.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from line_plot import Panel, Series, line_plot
from quantization_page import quantization_page

ROOT = Path(__file__).parents[1]
Tree = Mapping[str, Any]
LONGEST_LIST = 4


@dataclass(frozen=True)
class Aim:
    """What a figure should be: at least, or with `most` at most, `value`. `where` leads to it in the result file."""

    says: str
    where: tuple[str, ...]
    value: float
    most: bool = False


@dataclass(frozen=True)
class Section:
    """A benchmark's heading, what it does, and its aims."""

    title: str
    text: str
    aims: tuple[Aim, ...] = ()
    command: str = ""


SECTIONS = {
    "train": Section(
        "LoRA on a CPU",
        "SmolLM2-135M, LoRA r16 on q, k, v, o, batches of 16 rows: the same rows, weights and adapters in each.",
        (
            Aim("times TRL's fastest valid setting", ("ratios", "trl, fastest valid"), 10),
            Aim("times TRL as it comes", ("ratios", "trl, as it comes"), 15),
            Aim("of the matrix-product peak", ("figures", "pacos", "fraction_of_peak"), 0.72),
            Aim("GB peak memory", ("figures", "pacos", "peak_rss_gb"), 1.6, most=True),
        ),
    ),
    "qlora": Section(
        "QLoRA at Phi-3-mini's geometry on a CPU",
        "3.8 G random weights, layers in NF4 with double quantization, one step on Alpaca rows of about 1,024 tokens. "
        "The necessary work is 4 FLOP a frozen weight and token; what is computed twice counts once. "
        "What was tried is measured on two layers of the same shape.",
        (
            Aim("of the matrix-product peak", ("figures", "pacos", "fraction_of_peak"), 0.4),
            Aim("GB peak memory", ("figures", "pacos", "peak_rss_gb_building_included"), 8, most=True),
        ),
    ),
    "full": Section(
        "Full fine-tuning on a CPU",
        "All weights of SmolLM2-135M in fp32 masters, batches of 16 rows. The aim was set for machines that multiply "
        "bf16 natively; where `native bf16` is no, both compute in fp32, and what is left to win is padding and overhead.",
        (Aim("times TRL's fastest valid setting", ("ratios", "trl, fastest valid"), 5),),
    ),
    "lengths": Section(
        "Cost by length and number of rows",
        "LoRA at SmolLM2-135M's shapes, ten layers, rows without a common beginning. A step should cost in proportion to its "
        "rows; per token, longer rows should cost what attention's products add, and no more.\n\n"
        "![milliseconds a token by row length, and seconds a step by number of rows](lengths.svg)",
    ),
    "memory": Section(
        "Planned and measured peak memory",
        "What `pacos plan` says of SmolLM2-135M beside the highest resident memory of a process that loads it and makes three "
        "steps, each in a process of its own. What the libraries and malloc hold was set to these peaks (docs/plan.md).",
        (Aim("off at most", ("figures", "fraction_off_at_most"), 0.1, most=True),),
    ),
    "packing": Section("Tokenizing and packing", "All of Alpaca into packs of 2,048 tokens."),
    "quantization": Section(
        "What each quantization costs",
        "GGUF files of SmolLM2-135M-Instruct; how to read the figures is in [quantization.md](quantization.md).",
    ),
    "merge": Section(
        "Memory of a merge",
        "`pacos export merge` at Llama-2-7B's widths, from its start to its receipt, where the model does not fit into memory: "
        "random weights, LoRA r16 on every projection, measured a layer at a time before and after.",
    ),
    "gpu": Section(
        "On a GPU", "Checks against the CPU, and speed at true shapes with random weights.", (), "make gpu-check"
    ),
}


def read_results(folder: Path) -> dict[str, Tree]:
    """Name -> result, the known ones first."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    return {
        name: found[name] for name in [*(n for n in SECTIONS if n in found), *(n for n in found if n not in SECTIONS)]
    }


def page(results: Mapping[str, Tree]) -> str:
    head = [
        "# Performance",
        "",
        "Made by `make docs` from the files that the benchmarks write. Ratios are between contenders of one run on one machine;",
        "absolute figures of a shared machine are noisy.",
    ]
    return "\n".join([*head, *(line for name, tree in results.items() for line in section(name, tree))]) + "\n"


def section(name: str, tree: Tree) -> Iterator[str]:
    about = SECTIONS.get(name, Section(name, ""))
    yield from ("", f"## {about.title}", "")
    if about.text:
        yield from (about.text, "")
    yield f"`{about.command or f'make bench-{name}'}`, {tree['date']}, on {machine_line(tree['machine'])}."
    facts = {key: value for key, value in tree["figures"].items() if is_plain(value)}
    if facts:
        yield from ("", "; ".join(f"{label(key)}: {shown(key, value)}" for key, value in facts.items()) + ".")
    yield from figure_tables(tree["figures"])
    if tree["ratios"]:
        yield from table(["ratio", "times"], [[key, shown(key, value)] for key, value in tree["ratios"].items()])
    if about.aims:
        yield from table(["aim", "", "measured", ""], [aim_row(aim, tree) for aim in about.aims])


def machine_line(machine: Tree) -> str:
    gpu = f", {machine['gpu']}" if machine.get("gpu") else ""
    bf16 = "yes" if machine["native_bf16"] else "no"
    return (
        f"{machine['cpu']}{gpu}, {machine['cores']} cores, {machine['threads']} threads, native bf16: {bf16}; "
        f"torch {machine['torch']}, transformers {machine['transformers']}, Python {machine['python']}"
    )


def figure_tables(figures: Tree) -> Iterator[str]:
    """One table of the contenders, then one of each group of contenders, of each set of series, and each list of lines."""
    nested = {key: value for key, value in figures.items() if isinstance(value, Mapping)}
    groups = {k: v for k, v in nested.items() if any(isinstance(each, Mapping) for each in v.values())}
    series = {k: v for k, v in nested.items() if k not in groups and len(columns_of(v)) > 1}
    yield from contenders({k: v for k, v in nested.items() if k not in groups and k not in series})
    for key, tree in groups.items():
        yield from ("", f"**{label(key)}**")
        yield from contenders({k: v for k, v in tree.items() if isinstance(v, Mapping)})
    for key, tree in series.items():
        columns = columns_of(tree)
        yield from (
            "",
            f"**{label(key)}**: " + "; ".join(f"{label(k)} {shown(k, v)}" for k, v in tree.items() if is_plain(v)),
        )
        rows = [[shown(k, v) for k, v in zip(columns, row, strict=True)] for row in zip(*columns.values(), strict=True)]
        yield from table([label(k) for k in columns], rows)
    for lines in (value for value in figures.values() if is_lines(value)):
        yield from ("", *(f"- {line}" for line in lines))


def columns_of(tree: Tree) -> dict[str, Sequence[float]]:
    """The lists of numbers of a tree, if they are all equally long."""
    lists = {key: value for key, value in tree.items() if isinstance(value, list)}
    return lists if len({len(value) for value in lists.values()}) == 1 else {}


def contenders(trees: Mapping[str, Tree]) -> Iterator[str]:
    """A row each, a column for each figure that any of them has; why one has none stands beside its name."""
    if not trees:
        return
    keys = list(dict.fromkeys(key for tree in trees.values() for key, value in tree.items() if key_shown(key, value)))
    rows = []
    for name, tree in trees.items():
        why = next((f": {word}, {tree[word]}" for word in ("failed", "skipped") if word in tree), "")
        rows.append([name + why, *(shown(key, tree[key]) if key in tree else "" for key in keys)])
    yield from table(["", *(label(key) for key in keys)], rows)


def key_shown(key: str, value: Any) -> bool:
    short = isinstance(value, list) and len(value) <= LONGEST_LIST
    return key not in ("failed", "skipped") and (is_plain(value) or short)


def is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float))


def is_lines(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield from ("", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads))
    yield from (f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows)


def aim_row(aim: Aim, tree: Any) -> list[str]:
    """What is aimed at, what came of it, and whether that is enough."""
    bound = f"at {'most' if aim.most else 'least'} {shown(aim.where[-1], aim.value)}"
    for key in aim.where:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    if not isinstance(tree, (int, float)):
        return [aim.says, bound, "not measured", ""]
    met = tree <= aim.value if aim.most else tree >= aim.value
    return [aim.says, bound, shown(aim.where[-1], tree), "met" if met else "not met"]


def label(key: str) -> str:
    """A key in words: seconds_per_step is `seconds per step`, peak_rss_gb `peak RSS GB`."""
    return " ".join(word.upper() if word in ("gb", "mb", "rss") else word for word in key.split("_"))


def shown(key: str, value: Any) -> str:
    """Three significant digits; shares in percent."""
    if isinstance(value, list):
        return ", ".join(shown(key, each) for each in value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if key.startswith(("fraction", "fill")):
        return f"{value:.1%}"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if key == "losses" else f"{value:.3g}"


def lengths_plot(figures: Tree) -> str:
    """Cost by length beside what attention must add, and by number of rows beside its line."""
    lengths, rows = figures["by length"], figures["by number of rows"]
    x, counts = lengths["tokens_per_row"], rows["rows"]
    fit = [(count, rows["a"] + rows["b"] * count) for count in (0, counts[-1])]
    return line_plot(
        [
            Panel(
                "milliseconds a token",
                "tokens of a row",
                [
                    Series("measured", list(zip(x, lengths["milliseconds_per_token"], strict=True)), True),
                    Series("at one rate of necessary work", list(zip(x, lengths["at_one_rate"], strict=True)), False),
                ],
            ),
            Panel(
                "seconds a step",
                "rows of the step",
                [
                    Series("measured", list(zip(counts, rows["seconds"], strict=True)), True),
                    Series(f"line, r² = {rows['r_squared']:.4f}", fit, False),
                ],
            ),
        ]
    )


def documents(root: Path) -> dict[Path, str]:
    """Each file that is made, and what it should hold."""
    results = read_results(root / "benchmarks" / "results")
    made = {root / "docs" / "performance.md": page(results)}
    figures = results.get("lengths", {}).get("figures", {})
    if all(figures.get(key, {}).get("a") is not None for key in ("by length", "by number of rows")):
        made[root / "docs" / "lengths.svg"] = lengths_plot(figures)
    if "quantization" in results:
        made[root / "docs" / "quantization.md"] = quantization_page(results["quantization"])
    return made


def main(check: bool, root: Path = ROOT) -> int:
    stale = []
    for path, text in documents(root).items():
        if check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            stale.append(str(path.relative_to(root)))
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale:
        print(f"stale: {', '.join(stale)}; run: make docs", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
