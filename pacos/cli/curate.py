"""`pacos curate DATA`: look a dataset over, and put right what can be put right safely; merge, sample and convert sets.

`pacos curate FILE` is `pacos curate check FILE`; a file that is named like a command is given as ./merge.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from pacos.cli.show import note, out, print_table, safe, say
from pacos.errors import UsageError

if TYPE_CHECKING:
    from pacos.data.curation import Curation
    from pacos.data.curation.embedding import Embed

EVERY = 5000
SHOWN = 3


class CheckUnlessNamed(TyperGroup):
    """A group whose first word may be its command `check`'s first argument."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["check", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    help="Look a dataset over, and put right what can be put right safely: `pacos curate DATA`.",
    cls=CheckUnlessNamed,
    rich_markup_mode=None,
    no_args_is_help=True,
)
Data = Annotated[list[str], typer.Argument(help="files, folders, hub datasets, or `starter`")]
Out = Annotated[Path, typer.Option("--out", help="file to write, .json or .jsonl")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="write over files that are there")]
AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON")]


@app.command("check")
def check(
    data: Data,
    fix: Annotated[bool, typer.Option("--fix", help="apply the safe fixes and write the rows to --out")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--out", help="where --fix writes, .json or .jsonl; what it took away goes to OUT.changes.jsonl"),
    ] = None,
    only: Annotated[str, typer.Option("--rules", help="apply these rules alone, divided by commas")] = "",
    without: Annotated[str, typer.Option("--without", help="leave these rules out")] = "",
    drop: Annotated[str, typer.Option("--drop", help="with --fix: drop the rows of these rules too")] = "",
    near: Annotated[float, typer.Option(help="similarity from which prompts are near-copies", min=0.3, max=1.0)] = 0.7,
    rouge: Annotated[
        bool, typer.Option("--rouge-l", help="near by ROUGE-L F above --near too, as Alpaca's filter; slower")
    ] = False,
    against: Annotated[
        list[str] | None, typer.Option("--against", help="an evaluation set that no row may leak from; may be repeated")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="a split.json: its test rows are an evaluation set too")] = "",
    ngram: Annotated[
        int | None, typer.Option("--ngram", help="words of a leaking passage; 8 to 13 as GPT-3 where not given", min=3)
    ] = None,
    gold: Annotated[str, typer.Option("--gold", help="the same data cleaned by people: precision and recall")] = "",
    embed: Annotated[
        str, typer.Option("--embed", help="an embedding model, folder or hub id: the report gets a map")
    ] = "",
    report: Annotated[Path | None, typer.Option("--report", help="write the report as HTML")] = None,
    findings: Annotated[Path | None, typer.Option("--findings", help="write every finding as JSONL")] = None,
    as_json: AsJson = False,
    overwrite: Overwrite = False,
    workers: Annotated[int | None, typer.Option(help="processes; one a core where not given", min=1)] = None,
) -> None:
    """Find what is wrong with a dataset, in one pass; nothing is changed without --fix, and nothing is ever lost."""
    from pacos.data.curation import Options, choose_rules
    from pacos.data.curation import curate as curate_data
    from pacos.data.curation.mend import changes_of, refuse_existing

    if fix != (output is not None):
        raise UsageError("--fix and --out FILE go together: the mended rows are written to a file of their own")
    if embed and not report:
        raise UsageError("--embed has no effect without --report FILE: the map is part of the page")
    if drop and not fix:
        raise UsageError("--drop has no effect without --fix")
    refuse_same([output, changes_of(output) if output else None, report, findings])
    refuse_existing([path for path in (report, findings) if path], overwrite, data)
    dropped = choose_rules(names(drop)) if drop else ()
    options = Options(
        tuple(dict.fromkeys([*choose_rules(names(only), names(without)), *dropped])),
        near,
        rouge,
        tuple(against or ()),
        split,
        ngram,
        gold,
        output,
        dropped,
        overwrite,
        workers,
        embed,
    )
    curation = curate_data(data, options, embed=embedder(embed), on_progress=Progress())
    write_beside(curation, report, findings)
    if as_json:
        print(json.dumps(curation.to_json()))
        return
    print_curation(curation)
    for path in (report, findings):
        if path:
            out().print(f"written to {path}", markup=False)


@app.command("rules")
def rules(as_json: AsJson = False) -> None:
    """The rules: what each looks for, how serious it is, and what its safe fix does."""
    from pacos.data.curation import RULES

    if as_json:
        table = [
            {"rule": r.name, "severity": r.severity, "about": r.about, "safe_fix": r.mends} for r in RULES.values()
        ]
        print(json.dumps(table))
        return
    for rule in RULES.values():
        fix = f"; --fix {rule.mends}" if rule.mends else ""
        out().print(f"{rule.name:18} {rule.severity:8} {rule.about}{fix}", markup=False)


@app.command("merge")
def merge(data: Data, output: Out, overwrite: Overwrite = False, as_json: AsJson = False) -> None:
    """Put sets one after another; a row whose content is there already is left out."""
    from pacos.data.curation import merge as merge_sets

    written, left_out = merge_sets(data, output, overwrite=overwrite)
    done = {"path": str(output), "rows": written, "left_out": left_out}
    tell(done, f"{written:,} rows written to {output}; {left_out:,} left out, whose content was there", as_json)


@app.command("sample")
def sample(
    data: Data,
    output: Out,
    count: Annotated[int, typer.Option("--rows", help="rows to draw", min=1)],
    by: Annotated[str, typer.Option(help="keep the shares of: verb, source, or a column")] = "",
    seed: Annotated[int, typer.Option(help="another seed, other rows", min=0)] = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Draw rows, the same share of every group; the same rows again for the same seed, whatever their order."""
    from pacos.data.curation import sample as sample_rows

    shares = sample_rows(data, output, count, by=by, seed=seed, overwrite=overwrite)
    groups = f" from {len(shares)} groups by {by}" if by else ""
    done = {"path": str(output), "rows": sum(shares.values()), "groups": shares}
    tell(done, f"{sum(shares.values()):,} rows{groups} written to {output}", as_json)


@app.command("convert")
def convert(
    data: Data,
    output: Annotated[Path, typer.Option("--out", help="file to write: .json, .jsonl, .csv, .tsv or .parquet")],
    layout: Annotated[str, typer.Option(help="alpaca, messages or sharegpt; the data's own where not given")] = "",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write the same rows in another layout or format, read back and compared; what would be lost is an error."""
    from pacos.data.curation import convert as convert_rows

    written = convert_rows(data, output, layout, overwrite=overwrite)
    done = {"path": str(output), "rows": written}
    tell(done, f"{written:,} rows written to {output}; read back, they are the same", as_json)


def refuse_same(written: list[Path | None]) -> None:
    """Raises UsageError where two of the files to write are one: the later would take the place of the earlier."""
    places = [path.resolve() for path in written if path]
    for path in filter(None, written):
        if places.count(path.resolve()) > 1:
            raise UsageError(f"{path}: is to hold two things; give each a file of its own")


class Progress:
    """A line every few thousand rows."""

    def __init__(self) -> None:
        self.told = 0

    def __call__(self, rows: int) -> None:
        if rows - self.told >= EVERY:
            self.told = rows
            say(f"{rows:,} rows")


def embedder(name: str) -> Embed | None:
    """The model for the map, loaded before the data is read: what is wrong with it is said at once."""
    if not name:
        return None
    from pacos.models.embed import load_embedder

    return load_embedder(name)


def names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]


def tell(result: dict[str, Any], line: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))
    else:
        out().print(line, markup=False)


def write_beside(curation: Curation, report: Path | None, findings: Path | None) -> None:
    """The report and the findings, where they were asked for."""
    from pacos.data.curation.mend import dumps, whole_file
    from pacos.data.curation.report import html_report

    if report:
        with whole_file(report) as file:
            file.write(html_report(curation).encode("utf-8", "replace").decode("utf-8"))
    if findings:
        with whole_file(findings) as file:
            for found in curation.survey.findings:
                row = {"place": found.place, "id": found.id, "rule": found.rule, "why": found.why}
                file.write(dumps(row) + "\n")


def print_curation(curation: Curation) -> None:
    """Findings by rule with the first of each, then what --fix did, then the rest in a few lines."""
    from pacos.data.curation.report import agreement_lines, summary_lines

    console, found = out(), curation.survey.findings
    console.print(summary_lines(curation)[0], markup=False)
    for name in sorted((n for n in curation.rules if found.counts[n]), key=lambda n: -found.counts[n]):
        print_rule(name, curation)
    for line in summary_lines(curation)[1:]:
        console.print(safe(line), markup=False)
    if curation.agreement:
        header, rows, notes = agreement_lines(curation.agreement)
        print_table(console, header, rows)
        for line in notes:
            console.print(line, markup=False, style="dim")
    mendable = mendable_rows(curation)
    if mendable and not curation.mended:
        note(f"{mendable:,} {'row has' if mendable == 1 else 'rows have'} a safe fix: --fix --out FILE")


def print_rule(name: str, curation: Curation) -> None:
    from pacos.data.curation import RULES

    rule, found = RULES[name], curation.survey.findings
    style = {"error": "bold red", "warning": "bold yellow"}.get(rule.severity, "bold")
    console = out()
    console.print(f"{name}  {found.counts[name]:,}", markup=False, style=style, end="  ")
    console.print(f"{rule.about}{f' [--fix {rule.mends}]' if rule.mends else ''}", markup=False)
    for one in found.first[name][:SHOWN]:
        console.print(safe(f"    {one.place}  {one.id}  {one.why}"), markup=False, style="dim")


def mendable_rows(curation: Curation) -> int:
    """Rows that --fix would change or drop."""
    from pacos.data.curation import RULES

    whole_set = tuple(n for n in curation.rules if RULES[n].mend and not RULES[n].look)
    return len(curation.survey.findings.numbers(whole_set) | set(curation.survey.mendable))
