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


def test_every_evaluation_is_kept_and_any_two_are_compared_without_a_model(
    cli: Cli, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("eval", "list")[0] == 2
    for limit in (10, 6):
        assert cli("eval", trained, "--limit", limit, "--json")[0] == 0
    monkeypatch.setattr("pacos.cli.eval.open_run", lambda name: pytest.fail("a model was loaded"))
    code, out, err = cli("eval", "list")
    assert (code, [line.split()[0] for line in out.splitlines()[::2]]) == (0, ["2", "1"]), err
    assert out.splitlines()[0].endswith("quickstart, 6 rows of the run's test rows")
    assert [entry["num_prompts"] for entry in json.loads(cli("eval", "list", "--json")[1])] == [6, 9]
    code, out, _ = cli("eval", "diff", 1, 2, "--json", "--out", tmp_path / "diff")
    found = json.loads(out)
    assert (code, found["num_rows"]) == (0, 6)
    exact = next(m for m in found["metrics"] if m["name"] == "perplexity")
    assert (exact["difference"], exact["verdict"]) == (0.0, "no difference shown")
    assert (tmp_path / "diff" / "report.html").is_file()
    assert "Perplexity" in cli("eval", "diff", 2, 1)[1]
    own = json.loads(cli("eval", "diff", "1:base", 1, "--json")[1])
    first = json.loads((trained / "eval" / "earlier" / "1" / "eval.json").read_text())
    assert [m["difference"] for m in own["metrics"]] == [m["difference"] for m in first["metrics"]]
    assert cli("eval", "diff", "1:base", "2:base", "--json")[0] == 0
    code, _, err = cli("eval", "diff", "one", 2)
    assert (code, err) == (2, "pacos: 'one' is no evaluation; give its number, or a side of it, as in 12 or 12:base\n")
    assert cli("eval", "diff", 1, 7)[2] == "pacos: no evaluation 7; the newest are 2, 1: see pacos eval list\n"


def test_show_tells_which_models_answered_what(cli: Cli, trained: Path) -> None:
    evaluation = json.loads(cli("eval", trained, "--limit", 4, "--seed", 3, "--json")[1])
    code, out, _ = cli("eval", "show", 1, "--answers", "--json")
    shown = json.loads(out)
    assert code == 0
    assert [r["base"]["text"] for r in shown["rows"]] == [r["base"]["text"] for r in evaluation["rows"]]
    assert all(r["tuned"]["prompt_ids"] for r in shown["rows"])
    assert all(len(r["tuned"]["ids"]) == r["tuned"]["tokens"] for r in shown["rows"])
    record = json.loads((trained / "pacos.json").read_text())
    sides = shown["sides"]
    assert {side["weights_sha256"] for side in sides.values()} == {record["base"]["weights_sha256"]}
    assert (sides["base"]["adapter_sha256"], len(sides["tuned"]["adapter_sha256"])) == ("", 64)
    assert (shown["seed"], shown["sampling"]["temperature"]) == (3, 0.0)
    assert (shown["split_sha256"], len(shown["dataset_sha256"])) == (record["data"]["split_sha256"], 64)
    assert shown["versions"]["torch"]
    text = cli("eval", "show", 1, "--answers")[1]
    assert evaluation["verdict"] in text
    assert evaluation["rows"][0]["instruction"] in text


def test_a_gate_ends_with_5_where_it_does_not_hold_and_6_where_it_cannot_be_told(
    cli: Cli, trained: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate.yaml"
    for text, code, words in (
        ("{metric: perplexity, better_than_base_by: 0, drop: 1}", 0, "holds"),
        ("{metric: perplexity, at_most: 1.5}", 5, "the gate does not hold"),
        ("{metric: exact_match, no_worse_than_base_by: 0.01}", 6, "the gate cannot be told with 9 prompts"),
        ("{metric: perplexity, atmost: 3}", 2, "unknown key 'atmost'; did you mean 'at_most'?"),
    ):
        gate.write_text(f"gates:\n  - {text}\n")
        found, out, err = cli("eval", trained, "--gate", gate)
        assert found == code, err
        assert words in out + err
    assert len(json.loads(cli("eval", "list", "--json")[1])) == 3
    gates = json.loads((trained / "eval" / "eval.json").read_text())["gates"]
    assert [g["outcome"] for g in gates] == ["cannot tell"]
    assert "cannot tell" in (trained / "eval" / "report.html").read_text()
    assert "cannot tell" in (trained / "eval" / "report.md").read_text()


def test_the_workspace_may_be_elsewhere_and_is_looked_at_first(cli: Cli, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert cli("eval", trained, "--limit", 3, "--workspace", tmp_path / "other")[0] == 0
    assert (tmp_path / "other" / "pacos.db").is_file()
    assert not (tmp_path / "pacos.db").exists()
    (tmp_path / "other" / "pacos.db").write_bytes(b"not a database at all" * 99)
    code, _, err = cli("eval", trained, "--limit", 3, "--workspace", tmp_path / "other")
    assert (code, "is not a whole pacos database" in err, "loading" in err) == (3, True, False)


def test_rows_of_one_value_are_related_where_the_column_says_so(cli: Cli, trained: Path, tmp_path: Path) -> None:
    rows = [{"instruction": f"Name animal {i}", "output": "chat", "source_page": f"p{i % 3}"} for i in range(9)]
    (tmp_path / "mine.json").write_text(json.dumps(rows))
    code, out, err = cli("eval", trained, "--data", tmp_path / "mine.json", "--cluster", "source_page", "--json")
    assert code == 0, err
    assert json.loads(out)["num_clusters"] == 3
    code, _, err = cli("eval", trained, "--data", tmp_path / "mine.json", "--cluster", "page")
    assert (code, "no row has a column 'page' to tell related rows by; they have: source_page" in err) == (2, True)


def test_a_finished_comparison_of_the_same_models_stands_in_the_report(
    cli: Cli, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io
    import sys

    assert cli("eval", trained, "--limit", 8)[0] == 0
    assert "Win rates" not in (trained / "eval" / "report.html").read_text()
    monkeypatch.setattr(sys, "stdin", io.StringIO("r\n" * 20 + "l\n" * 20))
    assert cli("compare", "1:base", 1, "--rater", "ann", "--repeats", 0)[0] == 0
    code, out, err = cli("eval", trained, "--limit", 8, "--json")
    assert code == 0, err
    (told,) = json.loads(out)["comparisons"]
    assert (told["comparison"], told["raters"], len(told["pairs"])) == (1, ["ann"], 1)
    assert told["pairs"][0]["num_items"] == told["num_prompts"] >= 2
    page, text = ((trained / "eval" / name).read_text() for name in ("report.html", "report.md"))
    for words in ("Win rates", "Comparison 1 of", "length-controlled", "chose the left side in"):
        assert words in page
    assert f"- comparison 1: {told['verdict'][0]}" in text
    assert "length-controlled" in text
    assert "comparison 1: " in cli("eval", "diff", "1:base", 1)[1]
    monkeypatch.setattr(sys, "stdin", io.StringIO("r\n"))
    assert cli("compare", "vote", 1, "--rater", "bob")[0] == 0
    assert json.loads(cli("eval", "diff", "1:base", 1, "--json")[1])["comparisons"] == []  # bob's names stay hidden
