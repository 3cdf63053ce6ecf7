"""`pacos eval --suite` and `--add-regression`, on a tiny trained run: files, ledger, gates and errors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pacos.evaluation.ledger import open_ledger
from tests.conftest import Cli


@pytest.fixture
def trained(cli: Cli, tiny_run: list[str], tmp_path: Path) -> Path:
    assert cli(*tiny_run)[0] == 0
    return tmp_path / "runs" / "quickstart"


def test_every_suite_runs_is_written_and_kept_and_two_are_compared_later(
    cli: Cli, trained: Path, tmp_path: Path
) -> None:
    gates = tmp_path / "gates.yaml"
    gates.write_text("gates:\n- metric: false_refusal_rate\n  at_most: 0.6\n")
    code, out, err = cli("eval", trained, "--suite", "redteam", "--limit", 40, "--gate", gates, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["suite"], found["num_rows"]) == ("redteam", 40)
    assert {m["name"] for m in found["metrics"]} >= {"refusal_rate", "false_refusal_rate"}
    assert found["gates"][0]["outcome"] == "holds"
    page = (trained / "eval-redteam" / "report.html").read_text()
    assert "Harmless look-alikes refused" in page
    assert "By kind" in page
    assert json.loads((trained / "eval-redteam" / "eval.json").read_text()) == found
    with open_ledger(tmp_path, to_read=True) as ledger:
        (entry,) = ledger.entries()
        assert (entry.kind, entry.num_prompts, sorted(entry.sides)) == ("suite:redteam", 40, ["base", "tuned"])
        case = ledger.prompts(entry.id)[0].groups["case"]
    code, out, err = cli("eval", trained, "--suite", "redteam", "--limit", 40)
    assert code == 0, err
    code, out, err = cli("eval", "diff", 1, 2, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["num_rows"] == 40
    assert {m["verdict"] for m in told["metrics"]} == {"no difference shown"}
    code, out, err = cli("eval", "--add-regression", f"1:{case}", "--must", "contains=red")
    assert code == 0, err
    assert f"saved '{case}'" in out
    code, out, err = cli("eval", trained, "--suite", "regression")
    assert code == 0, err
    assert "Passed" in out


def test_latency_and_memorization_are_measured(cli: Cli, trained: Path) -> None:
    code, out, err = cli("eval", trained, "--suite", "latency", "--limit", 4, "--max-new-tokens", 5, "--json")
    assert code == 0, err
    metrics = {m["name"]: m for m in json.loads(out)["metrics"]}
    assert 0 < metrics["first_token_p50"]["tuned"] <= metrics["first_token_p99"]["tuned"]
    assert 0 < metrics["per_token_p50"]["base"] <= metrics["per_token_p99"]["base"]
    assert "How the times are spread" in (trained / "eval-latency" / "report.html").read_text()
    told = json.loads(cli("eval", "diff", "1:base", 1, "--json")[1])["metrics"]
    assert {m["name"]: (m["base"], m["tuned"]) for m in told} == {
        name: (m["base"], m["tuned"]) for name, m in metrics.items()
    }
    code, _, err = cli("eval", trained, "--suite", "memorization")
    assert (code, "no row has an answer of 16 tokens or more" in err) == (3, True)
    code, out, err = cli("eval", trained, "--suite", "memorization", "--min-answer", 2, "--json")
    assert code == 0, err
    facts = json.loads(out)["facts"]
    name = "training rows skipped, for their answer has fewer than 2 tokens or was cut"
    assert re.fullmatch(r"\d+ of \d+", facts[name])
    assert f"{name}: {facts[name]}" in (trained / "eval-memorization" / "report.html").read_text()
    assert cli("eval", trained, "--suite", "latency", "--min-answer", 2)[0] == 2
    assert cli("eval", trained, "--min-answer", 2)[0] == 2


def test_what_cannot_be_is_said_before_a_model_is_loaded(cli: Cli, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("prompts: [{id: a, prompt: b, must: [{judge: Is it polite}]}]")
    (tmp_path / "gates.yaml").write_text("gates: [{metric: passed_share, at_least: 0.5}]")
    for arguments, words in (
        (["--suite", "red-team"], "no such suite or file; did you mean 'redteam'?"),
        (["--suite", "regression"], "regressions.yaml: no regression prompts yet"),
        (["--suite", "mine.yaml"], "mine.yaml: 1 prompt with a question for a judge (a, ...); give one with --judge"),
        (["--suite", "redteam", "--data", "x"], "--data has no effect with --suite; leave it out"),
        (["--suite", "redteam", "--judge", "x"], "--judge has no effect with --suite redteam"),
        (
            ["--suite", "redteam", "--gate", "gates.yaml"],
            "'passed_share' is not measured here; accepted: refusal_rate,",
        ),
        (["--gate", "gates.yaml"], "'passed_share' is not measured here; accepted: exact_match,"),
        (["--must", "contains=a"], "--must has no effect without --add-regression"),
        (["--add-regression", "Hi", "--seed", "1"], "--seed has no effect with --add-regression"),
        (["--add-regression", "Hi"], "what must its answer be? give --must or --must-not"),
    ):
        code, out, err = cli("eval", *arguments)
        assert (code, out) == (2, ""), (arguments, err)
        assert words in err, err
        assert "loading" not in err


def test_a_row_of_an_evaluation_becomes_a_regression_prompt(cli: Cli, trained: Path, tmp_path: Path) -> None:
    assert cli("eval", trained, "--limit", 3)[0] == 0
    code, out, err = cli("eval", "--add-regression", "1:2")
    assert code == 0, err
    with open_ledger(tmp_path, to_read=True) as ledger:
        prompt = ledger.prompts(1)[1]
    assert f"saved '{prompt.id}' in regressions.yaml: exact '{prompt.reference}'" in out
    code, _, err = cli("eval", "--add-regression", f"1:{prompt.id[:8]}")
    assert (code, f"'{prompt.id}' is there already" in err) == (2, True)
    code, _, err = cli("eval", "--add-regression", "Say hi", "--must", "maxlength=4")
    assert (code, err) == (2, "pacos: must.1.maxlength: unknown key 'maxlength'; did you mean 'max_length'?\n")
    code, _, err = cli("eval", "--add-regression", "1:nothing")
    assert (code, "'nothing' is no row of evaluation 1; rows are 1 to 3" in err) == (2, True)
    code, out, err = cli("eval", trained, "--suite", "regression", "--json")
    assert code == 0, err
    (row,) = json.loads(out)["rows"]
    assert (row["case"]["prompt"], row["case"]["input"]) == (prompt.instruction, prompt.input)
