"""docs/performance.md is made from the result files: every figure, ratio and aim, and it is known when it is stale."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import make_performance  # noqa: E402
from line_plot import Panel, Series, line_plot  # noqa: E402

MACHINE = {
    "cpu": "Tiny CPU",
    "cores": 2,
    "threads": 2,
    "native_bf16": False,
    "gpu": None,
    "python": "3.11.7",
    "torch": "2.13.0",
    "transformers": "5.23.0",
}


def result(folder: Path, name: str, figures: dict[str, Any], ratios: dict[str, float]) -> None:
    place = folder / "benchmarks" / "results"
    place.mkdir(parents=True, exist_ok=True)
    tree = {"date": "2026-01-02", "machine": MACHINE, "figures": figures, "ratios": ratios}
    (place / f"{name}.json").write_text(json.dumps(tree), encoding="utf-8")


def made(folder: Path) -> str:
    assert make_performance.main(False, folder) == 0
    return (folder / "docs" / "performance.md").read_text(encoding="utf-8")


def test_a_section_holds_machine_contenders_ratios_and_aims(tmp_path: Path) -> None:
    ours = {"examples_per_second": 12.345, "fraction_of_peak": 0.7251, "peak_rss_gb": 1.7, "losses": [1.96912, 1.5]}
    figures = {"rows": 48, "pacos": ours, "trl, as it comes": {"failed": "not done after 5 s"}}
    result(tmp_path, "train", figures, {"trl, fastest valid": 9.87})
    text = made(tmp_path)
    assert text.startswith("# Performance\n\nMade by `make docs`")
    assert text[text.index("`make bench-train`") :] == (
        "`make bench-train`, 2026-01-02, on Tiny CPU, 2 cores, 2 threads, native bf16: no; torch 2.13.0, "
        "transformers 5.23.0, Python 3.11.7.\n\n"
        "rows: 48.\n\n"
        "|  | examples per second | fraction of peak | peak RSS GB | losses |\n"
        "|---|---|---|---|---|\n"
        "| pacos | 12.3 | 72.5% | 1.7 | 1.969, 1.5 |\n"
        "| trl, as it comes: failed, not done after 5 s |  |  |  |  |\n\n"
        "| ratio | times |\n|---|---|\n| trl, fastest valid | 9.87 |\n\n"
        "| aim |  | measured |  |\n|---|---|---|---|\n"
        "| times TRL's fastest valid setting | at least 10 | 9.87 | not met |\n"
        "| times TRL as it comes | at least 15 | not measured |  |\n"
        "| of the matrix-product peak | at least 72.0% | 72.5% | met |\n"
        "| GB peak memory | at most 1.6 | 1.7 | not met |\n"
    )


def test_a_benchmark_that_the_page_does_not_know_gets_a_section_too(tmp_path: Path) -> None:
    figures = {"aims": ["one: met"], "speed": {"a": {"tokens_per_second": 12345.6}}, "pacos": {"gb": 2}}
    result(tmp_path, "novelty", figures, {})
    result(tmp_path, "train", {}, {})
    text = made(tmp_path)
    assert text.index("## LoRA on a CPU") < text.index("## novelty")
    assert "`make bench-novelty`" in text
    assert "**speed**\n\n|  | tokens per second |\n|---|---|\n| a | 12,346 |\n" in text
    assert "|  | GB |\n|---|---|\n| pacos | 2 |\n" in text
    assert "\n- one: met\n" in text


def lengths(folder: Path) -> None:
    line = {"a": 0.0, "b": 0.5, "r_squared": 1.0}
    by_length = {"tokens_per_row": [64, 128], "milliseconds_per_token": [1.0, 1.5], "at_one_rate": [1.0, 1.1], **line}
    by_count = {"rows": [2, 4], "seconds": [1.0, 2.0], **line}
    result(folder, "lengths", {"by length": by_length, "by number of rows": by_count}, {})


def test_lengths_are_a_table_and_a_plot(tmp_path: Path) -> None:
    lengths(tmp_path)
    text = made(tmp_path)
    assert "**by length**: a 0; b 0.5; r squared 1\n" in text
    assert "| tokens per row | milliseconds per token | at one rate |\n|---|---|---|\n| 64 | 1 | 1 |\n" in text
    assert "](lengths.svg)" in text
    svg = (tmp_path / "docs" / "lengths.svg").read_text(encoding="utf-8")
    assert svg.count("<circle") == 4
    assert svg.count("<polyline") == 2


def test_a_plot_places_points_from_zero() -> None:
    svg = line_plot(
        [Panel("a < b", "x", [Series("dots", [(5, 10), (10, 5)], True), Series("flat", [(0, 0), (10, 0)], False)])]
    )
    assert "a &lt; b" in svg
    assert re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg) == [("226.0", "74.2"), ("400.0", "165.1")]
    assert 'points="52.0,256.0 400.0,256.0"' in svg


def test_a_stale_page_and_a_stale_plot_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lengths(tmp_path)
    made(tmp_path)
    assert make_performance.main(True, tmp_path) == 0
    result(tmp_path, "train", {}, {"trl": 2.0})
    assert make_performance.main(True, tmp_path) == 1
    (tmp_path / "docs" / "lengths.svg").unlink()
    assert make_performance.main(True, tmp_path) == 1
    assert capsys.readouterr().err == (
        "stale: docs/performance.md; run: make docs\nstale: docs/performance.md, docs/lengths.svg; run: make docs\n"
    )


def test_the_page_that_comes_along_fits_the_results_that_come_along() -> None:
    assert make_performance.main(True) == 0
