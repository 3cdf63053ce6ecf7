"""`pacos compare` from the command line: people through a pseudo-terminal, judges behind an endpoint, real tiny models."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli, save_tiny
from tests.teacher_server import serve_teacher

USER_ORIENTED = Path(__file__).parents[2] / "shared" / "data" / "self_instruct" / "user_oriented_instructions.jsonl"


def write_answers(folder: Path, name: str, number: int = 18, skip: int = -1) -> Path:
    """A file of answers as AlpacaEval has them, in the order of the name's letters."""
    rows = [
        {"instruction": f"Do thing {i}.", "output": f"{name} does {i}. " * (1 + len(name)), "generator": name}
        for i in range(number)
        if i != skip
    ]
    path = folder / f"{name}.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


class Terminal:
    """A `pacos` at a pseudo-terminal."""

    def __init__(self, folder: Path, *arguments: object):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pacos", *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env={**os.environ, "COLUMNS": "120", "PYTHONPATH": str(Path(__file__).parents[1])},
            start_new_session=True,
        )
        os.close(slave)
        self.seen = ""

    def until(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        """What was written, up to and with the first match; it is not looked at again."""
        until = time.monotonic() + seconds
        while not (match := re.search(pattern, self.seen)):
            assert time.monotonic() < until, self.seen
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.master, 65536).decode("utf-8", "replace")
                except OSError:
                    raise AssertionError(f"it ended before {pattern}:\n{self.seen}") from None
        self.seen = self.seen[match.end() :]
        return match

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self.master)

    def end(self) -> int:
        code = self.process.wait(timeout=60)
        os.close(self.master)
        return code


def test_a_session_of_20_votes_killed_at_the_eleventh_goes_on_with_nothing_lost(cli: Cli, tmp_path: Path) -> None:
    write_answers(tmp_path, "a")
    write_answers(tmp_path, "bb")
    command = ("compare", "a.json", "bb.json", "--rater", "ann")
    keys = ["l", "\x1b[C", "t", "b", "s", "r", "\x1b[D", "1", "2", "=", "l"]
    terminal = Terminal(tmp_path, *command)
    terminal.until(r"18 prompts show, with 80 % chance, a win rate of 83.0 % or more, or 17.0 % or less")
    for number, key in enumerate(keys, 1):
        terminal.until(rf"question {number} of 20")
        terminal.until("q quit")
        terminal.press(key)
    terminal.until(r"question 12 of 20")
    terminal.kill()
    chosen = ["left", "right", "tie", "both bad", "skip", "right", "left", "left", "right", "tie", "left"]
    (entry,) = json.loads(cli("compare", "list", "--json")[1])
    assert entry["votes"] == {"ann": 11}
    assert stored_choices(tmp_path) == chosen

    terminal = Terminal(tmp_path, *command)
    terminal.until("comparison 1 goes on")
    terminal.until("question 12 of 20")
    terminal.press("z")
    terminal.until("q quit")
    terminal.press("c")
    terminal.until("comment: ")
    terminal.press("odd one\n")
    terminal.until("now the vote")
    terminal.press("l")
    terminal.until("question 13 of 20")
    terminal.press("u")
    terminal.until("question 12 of 20")
    for number in range(12, 21):
        terminal.press("r")
        if number < 20:
            terminal.until(rf"question {number + 1} of 20")
    terminal.until(r"bb against a: wins .* of 1[78] prompts")
    terminal.until("ann said the same again in")
    assert terminal.end() == 0
    assert stored_choices(tmp_path) == [*chosen, *["right"] * 9]


def stored_choices(folder: Path) -> list[str]:
    from pacos.evaluation.pairwise import open_comparisons

    with open_comparisons(folder) as store:
        return [vote.choice for vote in store.votes(1)]


def test_ctrl_c_ends_with_what_was_voted_kept_and_the_terminal_as_it_was(tmp_path: Path) -> None:
    import termios

    write_answers(tmp_path, "a", 6)
    write_answers(tmp_path, "bb", 6)
    terminal = Terminal(tmp_path, "compare", "a.json", "bb.json", "--rater", "ann")
    before = termios.tcgetattr(terminal.master)
    terminal.until("q quit")
    terminal.press("l")
    terminal.until("question 2 of")
    terminal.until("q quit")
    assert termios.tcgetattr(terminal.master)[3] != before[3]
    terminal.process.send_signal(signal.SIGINT)
    terminal.until("1 of 7 answered, and kept")
    terminal.process.wait(timeout=60)
    assert termios.tcgetattr(terminal.master) == before
    assert terminal.end() == 130
    assert stored_choices(tmp_path) == ["left"]


def test_names_are_hidden_until_the_end(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    rows = [{"instruction": f"Do {i}.", "output": f"answer {i}"} for i in range(6)]
    for name in ("secretone", "secrettwo"):
        changed = [{**row, "output": row["output"] + name[-3:], "generator": name} for row in rows]
        (tmp_path / f"{name[-3:]}.json").write_text(json.dumps(changed))
    monkeypatch.setattr(sys, "stdin", io.StringIO("l\nc because\nr\nq\n"))
    code, out, err = cli("compare", "one.json", "two.json", "--rater", "ann")
    assert (code, out) == (0, "")
    assert "secret" not in err
    assert "2 of 7 answered, and kept; go on with: pacos compare vote 1" in err
    code, out, err = cli("compare", "result", 1)
    assert (code, out) == (6, "")
    assert err == (
        "pacos: comparison 1: ann has answered 2 of 7; go on with: pacos compare vote 1, "
        "or see names and figures now: --unblind\n"
    )
    assert "secrettwo against secretone" in cli("compare", "result", 1, "--unblind")[1]
    monkeypatch.setattr(sys, "stdin", io.StringIO("t\n" * 9))
    code, out, err = cli("compare", "vote", 1, "--rater", "ann", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["contestants"] == ["secretone", "secrettwo"]
    assert (told["pairs"][0]["reference"], told["pairs"][0]["ties"]) == ("secretone", 4)
    assert told["sides"]["ann"]["left"] == 1


def test_a_judge_is_asked_in_both_orders_its_cost_counted_and_its_bias_seen(cli: Cli, tmp_path: Path) -> None:
    write_answers(tmp_path, "a", 6)
    write_answers(tmp_path, "bb", 6)
    with serve_teacher() as server:
        server.answer = "The first.\n[[A]]"
        judge = f"grammar-1@{server.url},price_in=1,price_out=2"
        code, out, err = cli("compare", "a.json", "bb.json", "--judge", judge, "--json")
        assert code == 0, err
        told = json.loads(out)
        assert len(server.bodies) == 12
        assert {body["temperature"] for body in server.bodies} == {0.0}
        cost = (server.prompt_tokens + 2 * server.completion_tokens) / 1e6
        (spent,) = told["spending"].values()
        assert (spent["requests"], spent["tokens"]) == (12, server.billed_tokens)
        assert spent["dollars"] == pytest.approx(cost)
        assert told["pairs"][0]["ties"] == 6
        assert told["consistency"][0] | {"interval": 0, "rater": 0} == {
            "rater": 0, "kind": "both orders", "num_items": 6, "same": 0, "interval": 0,
        }  # fmt: skip
        code, out, err = cli("compare", "a.json", "bb.json", "--judge", judge)
        assert len(server.bodies) == 12
        assert "$" in out
        server.answer = "Both are fine."
        code, out, err = cli("compare", "a.json", "bb.json", "--seed", 1, "--judge", judge)
        assert code == 6
        assert "no vote says anything yet; 12 verdicts could not be read" in err


def test_a_judge_stops_at_its_budget_and_goes_on_with_more(cli: Cli, tmp_path: Path) -> None:
    write_answers(tmp_path, "a", 40)
    write_answers(tmp_path, "bb", 40)
    with serve_teacher(["500", *["ok"] * 99]) as server:
        server.answer = "[[B]]"
        command = ("compare", "a.json", "bb.json", "--judge", f"m@{server.url},in_flight=2")
        code, out, err = cli(*command, "--budget-requests", 30)
        assert (code, out) == (6, "")
        assert "the budget has no room for another request" in err
        assert len(server.bodies) == 30
        (votes,) = json.loads(cli("compare", "list", "--json")[1])[0]["votes"].values()
        assert votes in (28, 29)  # one request failed; of the last answers one may stand behind it
        code, out, err = cli(*command, "--json")
        assert code == 0, err
        assert json.loads(out)["num_votes"] == 80


def test_a_request_that_the_judge_refuses_is_unparsable_and_holds_up_no_other(cli: Cli, tmp_path: Path) -> None:
    write_answers(tmp_path, "a", 8)
    write_answers(tmp_path, "bb", 8)
    with serve_teacher(["400 too long\n[[A]]", *["ok"] * 15]) as server:
        server.answer = "[[B]]"
        code, out, err = cli("compare", "a.json", "bb.json", "--judge", f"m@{server.url}", "--json")
        assert code == 0, err
        told = json.loads(out)
        assert (told["num_votes"], told["unparsable"], told["pairs"][0]["num_items"]) == (16, 1, 7)
        assert "refused 1 requests, which count as unparsable: HTTP 400: too long" in err
    with serve_teacher(["400 no such parameter"]) as server:
        command = ("compare", "a.json", "bb.json", "--seed", 1, "--judge", f"m@{server.url}")
        code, _, err = cli(*command)
        assert (code, "HTTP 400: no such parameter" in err) == (1, True)
        assert json.loads(cli("compare", "list", "--json")[1])[0]["votes"] == {}


def test_answers_that_are_all_the_same_leave_nothing_to_ask(cli: Cli, tmp_path: Path) -> None:
    rows = write_answers(tmp_path, "a", 4).read_text()
    (tmp_path / "bb.json").write_text(rows.replace('"generator": "a"', '"generator": "bb"'))
    code, _, err = cli("compare", "a.json", "bb.json", "--rater", "ann")
    assert code == 6
    assert "all answers are the same, prompt by prompt; there is nothing to ask" in err


def test_a_judge_that_cannot_be_asked_is_one_clear_line(cli: Cli, tmp_path: Path) -> None:
    write_answers(tmp_path, "a", 4)
    write_answers(tmp_path, "bb", 4)
    with serve_teacher(["401"]) as server:
        code, _, err = cli("compare", "a.json", "bb.json", "--judge", f"m@{server.url}")
        assert code == 1
        assert f"pacos: m@{server.url}: " in err
        assert "Traceback" not in err
    code, _, err = cli("compare", "a.json", "bb.json", "--judge", "m@nowhere")
    assert (code, "--judge m@nowhere: 'nowhere' is not the address of an API" in err) == (2, True)


def test_models_and_runs_answer_and_a_local_model_judges(
    cli: Cli, tiny_run: list[str], tiny_base: Path, tmp_path: Path
) -> None:
    assert cli(*tiny_run)[0] == 0
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"instruction": f"Invent {i} words for snow."}) + "\n" for i in range(4)))
    short = ("--prompts", prompts, "--template", "alpaca", "--max-new-tokens", 5)
    code, out, err = cli("compare", tiny_base, "quickstart", *short, "--prepare", "--json")
    assert code == 0, err
    assert json.loads(out) == {"comparison": 1}
    kinds = [(e["kind"], e["num_prompts"]) for e in json.loads(cli("eval", "list", "--json")[1])]
    assert kinds == [("compare", 4)]
    judge = save_tiny(tmp_path / "judge", max_position_embeddings=8192)
    code, out, err = cli("compare", "vote", 1, "--judge-local", judge, "--judge-tokens", 4)
    assert code == 6, err
    assert "8 verdicts could not be read" in err
    code, _, err = cli("compare", tiny_base, "quickstart", *short, "--prepare")
    assert "comparison 1 goes on" in err


def test_prompts_that_a_run_was_trained_on_are_refused(
    cli: Cli, tiny_run: list[str], tiny_base: Path, tiny_data: Path
) -> None:
    assert cli(*tiny_run)[0] == 0
    code, _, err = cli("compare", "quickstart", tiny_base, "--prompts", tiny_data, "--template", "alpaca")
    assert code == 3
    assert re.search(r"quickstart: was trained on \d+ of the 64 prompts, exactly or nearly", err)


def test_an_evaluation_of_the_ledger_is_compared_without_running_again(
    cli: Cli, tiny_run: list[str], tmp_path: Path
) -> None:
    assert cli(*tiny_run)[0] == 0
    assert cli("eval", "quickstart")[0] == 0
    code, _, err = cli("compare", "1:base", "1", "--prepare", "--json")
    assert code == 0, err
    (entry,) = json.loads(cli("compare", "list", "--json")[1])
    assert entry["contestants"][1] == "quickstart"
    code, _, err = cli("compare", "1:judge", "1")
    assert (code, err) == (2, "pacos: evaluation 1 has no side 'judge'; it has: base, tuned\n")


def test_three_files_are_rated_and_prompts_that_one_lacks_are_left_out(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    files = [
        write_answers(tmp_path, "a", 8),
        write_answers(tmp_path, "bb", 8, skip=3),
        write_answers(tmp_path, "ccc", 8),
    ]
    monkeypatch.setattr(sys, "stdin", io.StringIO("r\n" * 40))
    code, out, err = cli("compare", *files, "--rater", "ann", "--repeats", 0)
    assert code == 0, err
    assert "1 of 8 prompts are left out, as not all have an answer: bb lacks 1" in err
    assert re.search(r"contestant +rating +95 % interval", out)
    assert len([line for line in out.splitlines() if re.match(r"(a|bb|ccc) +\d+ +\d+ to \d+", line)]) == 3
    code, _, err = cli("compare", "write", 1, "--out", tmp_path / "annotations.json")
    assert (code, err) == (
        2,
        "pacos: comparison 1 has 3 contestants (a, bb, ccc), and a file of annotations holds one pair; give one, as in "
        "--pair 'a' 'bb', and a file to each\n",
    )
    told = json.loads(cli("compare", "result", 1, "--json")[1])
    for first, second in (("a", "bb"), ("ccc", "a"), ("bb", "ccc")):
        path = tmp_path / f"{first}-{second}.json"
        assert cli("compare", "write", 1, "--pair", first, second, "--out", path)[0] == 0
        read = json.loads(cli("compare", "read", path, "--json")[1])
        earlier, later = sorted((first, second))
        (before,) = [p for p in told["pairs"] if (p["reference"], p["challenger"]) == (earlier, later)]
        (after,) = read["pairs"]
        assert [after[k] for k in ("reference", "challenger", "wins", "losses", "ties", "num_items", "win_rate")] == [
            before[k] for k in ("reference", "challenger", "wins", "losses", "ties", "num_items", "win_rate")
        ]
    assert cli("compare", "write", 1, "--pair", "a", "bb", "--out", tmp_path / "a-bb.json")[0] == 2
    code, _, err = cli("compare", "write", 1, "--pair", "a", "a", "--out", tmp_path / "x.json")
    assert (code, "'a' is given twice; give two contestants of a, bb, ccc" in err) == (2, True)
    code, _, err = cli("compare", "write", 1, "--pair", "a", "z", "--out", tmp_path / "x.json")
    assert (code, "no contestant 'z'; it has: a, bb, ccc" in err) == (2, True)
    page = tmp_path / "page.html"
    assert cli("compare", "result", 1, "--out", page)[0] == 0
    assert page.read_text().count('<div class="winrate">') == 3
    assert "<h3>Ratings</h3>" in page.read_text()
    assert cli("compare", "result", 1, "--out", page)[0] == 2
    assert cli("compare", "write", 1, "--answers", "bb", "--out", tmp_path / "back.json")[0] == 0
    before = {row["instruction"]: row for row in json.loads(files[1].read_text())}
    assert {row["instruction"]: row for row in json.loads((tmp_path / "back.json").read_text())} == before
    code, _, err = cli("compare", "write", 1, "--answers", "dd", "--out", tmp_path / "dd.json")
    assert (code, err) == (2, "pacos: comparison 1 has no contestant 'dd'; it has: a, bb, ccc\n")
    rows = [row for path in tmp_path.glob("*-*.json") for row in json.loads(path.read_text())]
    (tmp_path / "all.json").write_text(json.dumps(rows))
    code, _, err = cli("compare", "read", tmp_path / "all.json")
    assert (code, "holds several pairs of generators" in err) == (3, True)


@pytest.mark.skipif(not USER_ORIENTED.is_file(), reason="needs ../shared/data/self_instruct")
def test_alpacas_252_instructions_are_prompts(cli: Cli, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in USER_ORIENTED.read_text(encoding="utf-8").splitlines()]
    for name in ("a", "bb"):
        rows = [
            {"instruction": row["instruction"], "input": row["instances"][0]["input"], "output": f"{name} {i}"}
            for i, row in enumerate(lines)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = cli("compare", "a.jsonl", "bb.jsonl", "--prompts", USER_ORIENTED, "--prepare")
    assert code == 0, err
    assert "252 prompts, 2 contestants" in err
    assert json.loads(cli("compare", "list", "--json")[1])[0]["questions"] == 277


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["a.json"], 2, "a comparison needs two contestants or more"),
        (["a.json", "a.json"], 2, "a.json: is given twice; compare it with another"),
        (["a.json", "gone.json"], 2, "gone.json: no such file of answers"),
        (["a.json", "other.json"], 3, "no prompt of 4 is answered by all: other lacks 4"),
        (["a.json", "7"], 2, "no evaluation 7; there are none yet"),
        (["a.json", "bb.json", "--rater", "judge:me"], 2, "begins the names of judges"),
        (["a.json", "bb.json", "--rater", "me", "--judge", "x"], 2, "--rater names a person"),
        (["a.json", "bb.json", "--judge", "x", "--judge-local", "y"], 2, "give one of them"),
        (["a.json", "bb.json", "--budget-requests", "4"], 2, "have no effect without a judge"),
        (["a.json", "bb.json", "--cluster", "topic"], 2, "no row has a column 'topic'"),
        (["vote", "5"], 2, "no comparisons yet"),
        (["result", "5"], 2, "no comparisons yet"),
    ],
)
def test_what_was_asked_wrongly_is_said_in_a_line(
    cli: Cli, tmp_path: Path, arguments: list[Any], code: int, said: str
) -> None:
    for name in ("a", "bb"):
        write_answers(tmp_path, name, 4)
    (tmp_path / "other.json").write_text(json.dumps([{"instruction": "Else?", "output": "yes"}]))
    found, out, err = cli("compare", *arguments)
    assert (found, out) == (code, "")
    assert said in err
    assert "Traceback" not in err
