"""`pacos export`: a run as a merged model, GGUF, Ollama model or weight difference, each with receipts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pacos.cli import export_card, export_diff, export_verify
from pacos.cli.interrupt import unwound
from pacos.cli.session import run_or_model
from pacos.cli.show import out, say, size

app = typer.Typer(help="Merge, quantize, ship: each hand-over measured.", no_args_is_help=True, rich_markup_mode=None)
Source = Annotated[str, typer.Argument(help="a run, a PEFT adapter, a merged folder made here, or a base model")]
Out = Annotated[Path | None, typer.Option("--out", help="folder to make; exports/NAME-KIND where not given")]
Base = Annotated[str, typer.Option("--base", help="where the base model of the run or adapter is, if it has moved")]
AsJson = Annotated[bool, typer.Option("--json", help="print export.json")]
GgufType = Annotated[
    str,
    typer.Option("--type", help="f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0; with llama.cpp also q6_k, q4_k_m, ..."),
]
EXPORTS = Path("exports")

app.command("diff")(export_diff.diff)
app.command("recover")(export_diff.recover)
app.command("card")(export_card.card)
app.command("verify")(export_verify.verify)


@app.callback()
def _unwound(context: typer.Context) -> None:
    context.with_resource(unwound())


@app.command("merge")
def merge(
    source: Source,
    target: Out = None,
    base: Base = "",
    dtype: Annotated[
        str, typer.Option(help="auto, bf16, fp16 or fp32; auto is what the base is stored in, at most 16 bits")
    ] = "auto",
    onto: Annotated[
        str, typer.Option(help="of a base trained in NF4: the original weights, or the dequantized ones")
    ] = "original",
    as_json: AsJson = False,
) -> None:
    """Adapter and base as one model in safetensors, proved equal to what was trained."""
    from pacos.export.merge import merge as write
    from pacos.export.origin import open_origin

    origin = open_origin(run_or_model(source), base)
    folder = target or EXPORTS / f"{origin.name}-merged"
    tree = write(origin, folder, dtype=dtype, onto=onto, say=say)
    report(tree, folder, as_json)


@app.command("gguf")
def gguf(
    source: Source,
    type: GgufType = "q8_0",
    target: Out = None,
    base: Base = "",
    lora: Annotated[bool, typer.Option("--lora", help="write the adapter alone too, as a GGUF LoRA")] = False,
    as_json: AsJson = False,
) -> None:
    """One file for llama.cpp, Ollama and LM Studio: quantized, read back, compared, and served where llama.cpp is."""
    tree, folder = write_gguf(source, type, target, base, lora)
    report(tree, folder, as_json)


@app.command("ollama")
def ollama(
    source: Source, type: GgufType = "q8_0", target: Out = None, base: Base = "", as_json: AsJson = False
) -> None:
    """The GGUF with a Modelfile whose TEMPLATE renders the trained text, and the command that makes the model."""
    tree, folder = write_gguf(source, type, target, base, False)
    report(tree, folder, as_json)
    if not as_json:
        out().print(f"next: ollama create {tree['name']} -f {folder / 'Modelfile'}", markup=False)


def write_gguf(source: str, type: str, target: Path | None, base: str, lora: bool) -> tuple[dict[str, Any], Path]:
    from pacos.export.gguf_export import check_type, export_gguf
    from pacos.export.origin import open_origin

    type = type.lower()
    check_type(type)  # before a source is looked for, which may take long
    origin = open_origin(run_or_model(source), base)
    folder = target or EXPORTS / f"{origin.name}-{type}"
    return export_gguf(origin, folder, type=type, say=say, lora=lora), folder


def report(tree: dict[str, Any], folder: Path, as_json: bool) -> None:
    """The chain of receipts, and what was written."""
    from pacos.export.receipts import line

    if as_json:
        print(json.dumps(tree))
        return
    for receipt in tree["receipts"]:
        out().print(line(receipt), markup=False)
    total = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    out().print(f"written to {folder} ({size(total)})", markup=False)
