"""docs/quantization.md: every figure of the result file, in two tables."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from quantization_page import quantization_page

QUALITY = {"perplexity": 4.7, "difference_low": -0.1, "difference_high": 0.25, "top1_agreement": 0.96}
SPEED = {"read_tokens_per_second": 700.4, "written_tokens_per_second": 115.5, "peak_rss_gb": 0.5}
RESULT = {
    "date": "2026-01-02",
    "machine": {"cores": 2, "cpu": "A CPU"},
    "figures": {
        "by llama.cpp": {"q8_0": {"bytes": 144_828_384, "rows": 32, "positions": 3206, **SPEED, **QUALITY}},
        "by weights alone": {"q8_0": {**QUALITY, "top1_agreement": 0.97, "within_gate": "no"}},
    },
}


def test_each_type_has_a_row_in_both_tables() -> None:
    lines = quantization_page(RESULT).splitlines()
    assert "| q8_0 | 145 MB | 0.50 GB | 700 | 116 | 4.700 | -0.100 to +0.250 | 96.0% |" in lines
    assert "| q8_0 | 4.700 | -0.100 to +0.250 | 97.0% | no |" in lines
    assert "SmolLM2-135M-Instruct, 2026-01-02, on 2 cores of A CPU. Again with `make bench-quantization`;" in lines
    assert any(line.startswith("3,206 positions") for line in lines)
