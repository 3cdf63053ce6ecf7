"""`pacos eval` and the other verbs that need nothing but a run's folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import Cli


@pytest.fixture
def trained(cli: Cli, tiny_run: list[str], tmp_path: Path) -> Path:
    assert cli(*tiny_run)[0] == 0
    return tmp_path / "runs" / "quickstart"


def test_eval_prints_the_comparison_and_writes_the_report(cli: Cli, trained: Path) -> None:
    code, out, err = cli("eval", trained)
    assert code == 0, err
    for word in ("perplexity", "ROUGE-L", "BLEU", "Exact match", "better", "95 % interval", "nrefs:1|case:mixed"):
        assert word in out
    report = (trained / "eval" / "report.html").read_text()
    assert "<svg" in report
    assert "http://" not in report.replace("http://www.w3.org", "")
    evaluation = json.loads((trained / "eval" / "eval.json").read_text())
    assert evaluation["num_rows"] == len((trained / "test.jsonl").read_text().splitlines())


def test_training_lowers_the_perplexity_of_held_out_rows(cli: Cli, trained: Path) -> None:
    _, out, _ = cli("eval", trained, "--json")
    perplexity = next(m for m in json.loads(out)["metrics"] if m["name"] == "perplexity")
    assert perplexity["tuned"] < perplexity["base"]
    assert perplexity["verdict"] == "better"


def test_the_same_seed_gives_the_same_evaluation_but_for_the_clock(cli: Cli, trained: Path) -> None:
    first, second = (json.loads(cli("eval", trained, "--json", "--seed", 42, "--limit", 5)[1]) for _ in range(2))
    timeless = [[m for m in e["metrics"] if m["name"] != "seconds_per_token"] for e in (first, second)]
    assert timeless[0] == timeless[1]
    assert first["num_rows"] == 5


def test_an_earlier_evaluation_is_kept(cli: Cli, trained: Path) -> None:
    cli("eval", trained)
    before = (trained / "eval" / "eval.json").read_text()
    cli("eval", trained, "--limit", 4)
    assert (trained / "eval" / "earlier" / "1" / "eval.json").read_text() == before
    assert cli("eval", trained, "--out", trained / "eval")[0] == 0


def test_an_adapter_that_does_not_exist_is_one_clear_line(cli: Cli, trained: Path) -> None:
    code, out, err = cli("eval", "--adapter_path", "runs/nothing")
    assert (code, out) == (2, "")
    assert err == "pacos: runs/nothing: no such run; runs there: quickstart\n"
    assert cli("chat", "--adapter-path", "runs/nothing")[0] == 2
    code, _, err = cli("eval", trained.parent)
    assert (code, err) == (2, f"pacos: {trained.parent}: not a run of pacos (pacos.json is missing)\n")


def test_rows_that_were_trained_on_are_refused_exact_or_near(
    cli: Cli, trained: Path, tiny_data: Path, tmp_path: Path
) -> None:
    code, _, err = cli("eval", trained, "--data", tiny_data)
    assert code == 3
    assert "rows were trained on, exactly or nearly; a score on them means nothing" in err
    held = [json.loads(line) for line in (trained / "test.jsonl").read_text().splitlines()]
    ids = set(json.loads((trained / "split.json").read_text())["train"])
    row = next(
        r
        for r in map(json.loads, tiny_data.read_text().splitlines())
        if r["instruction"] not in {h["instruction"] for h in held}
    )
    near = tmp_path / "near.jsonl"
    near.write_text(
        json.dumps({**row, "instruction": row["instruction"].upper() + "!!"}) + "\n" + json.dumps(held[0]) + "\n"
    )
    code, _, err = cli("eval", trained, "--data", near)
    assert code == 3
    assert "1 of 2 rows were trained on" in err
    assert any(i in err for i in ids)


def test_other_unseen_rows_are_evaluated(cli: Cli, trained: Path, tmp_path: Path) -> None:
    rows = [{"instruction": f"Name animal number {i}, please, in French", "output": "chat"} for i in range(3)]
    (tmp_path / "mine.json").write_text(json.dumps(rows))
    code, out, err = cli("eval", trained, "--data", tmp_path / "mine.json", "--json")
    assert code == 0, err
    assert [r["reference"] for r in json.loads(out)["rows"]] == ["chat"] * 3


def test_the_newest_run_is_taken_where_none_is_named(cli: Cli, trained: Path) -> None:
    assert cli("eval", "--limit", 2, "--json")[0] == 0


def test_two_different_runs_are_asked_wrongly(cli: Cli, trained: Path) -> None:
    code, _, err = cli("eval", "a", "--adapter-path", "b")
    assert (code, "two runs given" in err) == (2, True)


def test_another_base_than_the_trained_one_is_refused(
    cli: Cli, tiny_run: list[str], tiny_base: Path, tmp_path: Path
) -> None:
    from tests.conftest import save_tiny

    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    arguments = [f"--set=model.base={base}" if a.startswith("--set=model.base") else a for a in tiny_run]
    assert cli(*arguments)[0] == 0
    shutil.rmtree(base)
    save_tiny(base, seed=9)
    code, _, err = cli("eval", "quickstart")
    assert code == 5
    assert "these are not the weights that the run was trained on" in err


def test_an_unfinished_run_says_how_to_continue(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "runs" / "mine.partial").mkdir(parents=True)
    code, _, err = cli("eval", "runs/mine")
    assert code == 2
    assert "the run is not finished; continue it with: pacos train ... --resume" in err


def test_quickstart_runs_the_whole_loop(cli: Cli, tiny_run: list[str], tmp_path: Path) -> None:
    code, out, err = cli("quickstart", *tiny_run[2:])
    assert code == 0, err
    for line in (
        "saved = live",
        "perplexity",
        "base:",
        "tuned:",
        "wanted:",
        "talk to it:        pacos chat runs/quickstart",
    ):
        assert line in out
    assert (tmp_path / "runs" / "quickstart" / "eval" / "report.html").is_file()
    code, again, err = cli("quickstart", *tiny_run[2:])
    assert code == 0
    assert "runs/quickstart is trained already" in err
    assert "training" not in err
    assert "perplexity" in again
    code, _, err = cli("quickstart", *tiny_run[2:], "--set=lora.rank=2")
    assert code == 2
    assert "runs/quickstart: exists, and was trained with other options; give another place with --out" in err
