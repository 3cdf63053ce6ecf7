"""`pacos generate` from the command line: what it writes, prints and ends with; and the way from seeds to a trained model."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pacos.cli.main import app
from pacos.data import load_examples
from pacos.self_instruct.options import Options
from tests.conftest import Cli
from tests.teacher_server import TeacherServer, serve_teacher

MODELS = Path(__file__).parents[2] / "shared" / "data" / "models"


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> Iterator[TeacherServer]:
    with serve_teacher() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-own")
        yield server


def rows_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_it_writes_exactly_the_rows_asked_for_and_says_what_it_took(
    cli: Cli, teacher: TeacherServer, tmp_path: Path
) -> None:
    code, out, err = cli(
        "generate", "--teacher", "grammar", "--count", 25, "--tasks", 5, "--price-in", 1, "--price-out", 4
    )
    assert code == 0, err
    rows = rows_in(tmp_path / "generated.jsonl")
    assert len(rows) == 25
    assert set(rows[0]) == {"instruction", "input", "output", "id", "lineage", "request", "teacher", "made", "dollars"}
    assert len(rows[0]["lineage"]) == 3
    assert out.startswith("accepted ")
    assert "25 rows in generated.jsonl; the log: generated.jsonl.log.jsonl\n" in out
    assert "accepted " in err
    assert teacher.headers[0]["Authorization"] == "Bearer sk-own"
    assert "sk-own" not in (tmp_path / "generated.jsonl.log.jsonl").read_text()
    loaded = load_examples(tmp_path / "generated.jsonl").examples
    assert [example.id for example in loaded] == [row["id"] for row in rows]
    assert loaded[0].lineage == tuple(rows[0]["lineage"])


def test_the_same_command_again_asks_nothing_and_a_larger_count_goes_on(
    cli: Cli, teacher: TeacherServer, tmp_path: Path
) -> None:
    ask = ["generate", "--teacher", "grammar", "--tasks", 5, "--count"]
    assert cli(*ask, 10)[0] == 0
    first, asked = (tmp_path / "generated.jsonl").read_text(), len(teacher.bodies)
    code, _, err = cli(*ask, 10)
    assert code == 0
    assert "going on with" in err
    assert (len(teacher.bodies), (tmp_path / "generated.jsonl").read_text()) == (asked, first)
    assert cli(*ask, 30)[0] == 0
    again = (tmp_path / "generated.jsonl").read_text()
    assert again.startswith(first)
    assert len(again.splitlines()) == 30


def test_json_has_the_figures(cli: Cli, teacher: TeacherServer) -> None:
    code, out, _ = cli("generate", "--teacher", "grammar", "--count", 12, "--tasks", 6, "--json", "--out", "a.json")
    facts = json.loads(out)
    assert code == 0
    assert facts["ending"] == "enough"
    assert (facts["out"], facts["rows"]) == ("a.json", 12)
    assert facts["tokens"] == teacher.billed_tokens
    assert facts["accepted"] / (facts["accepted"] + sum(facts["rejected"].values())) == pytest.approx(
        facts["yield"], abs=1e-4
    )


def test_a_budget_that_is_used_up_ends_with_5_and_keeps_what_there_is(
    cli: Cli, teacher: TeacherServer, tmp_path: Path
) -> None:
    code, _, err = cli("generate", "--teacher", "grammar", "--count", 500, "--tasks", 4, "--budget-requests", 3)
    assert code == 5
    assert "the budget is used up, at " in err
    assert len(teacher.bodies) == 3
    assert 0 < len(rows_in(tmp_path / "generated.jsonl")) <= 12


def test_a_teacher_that_is_not_there_is_one_clear_line(cli: Cli) -> None:
    code, out, err = cli("generate", "--teacher", "m@http://127.0.0.1:9/v1", "--retries", 0, "--in-flight", 1)
    assert code == 1
    assert "requests 0 done, 0 under way, 1 attempts failed; spent 0 tokens, $0.00; " in out
    assert "m@http://127.0.0.1:9/v1 is asked no more: cannot connect" in err
    assert "no teacher answers any more, at 0 of 100 rows; the same command goes on from there" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "no teacher: give --teacher MODEL"),
        (["--teacher", "m@localhost:8000"], "'localhost:8000' is not the address of an API"),
        (["--teacher", "m@http://h/v1,price=3"], "unknown 'price'; did you mean 'price_"),
        (["--teacher", "m@http://h/v1,key=NOT_THERE"], "the environment has no NOT_THERE; export it"),
        (["--teacher", "m@http://h/v1,in_flight=0"], "in_flight=0 is not accepted"),
        (["--teacher", "m", "--teacher", "m"], "a teacher is given twice"),
        (["--tasks", "0"], "--tasks 0: not accepted: input should be greater than or equal to 1"),
        (["--similar", "1.5"], "--similar 1.5: not accepted"),
        (["--without", "medai"], "--without medai: no such rule; did you mean 'media'?"),
        (["--way", "harder"], "--way has no effect without --evolve"),
        (["--evolve", "starter", "--domain", "law"], "--domain has no effect beside --evolve"),
        (["--preview", "3", "--dry-run"], "--dry-run and --preview: give one of them"),
        (["--teacher", "m", "--budget-dollars", "1"], "--teacher m: --budget-dollars needs its prices"),
        (["--batch-requests", "3"], "--batch-requests has no effect without --batch-out"),
        (["--teacher", "m@http://u:pw@h/v1"], "--teacher m@http://***@h/v1: the address holds a name or password"),
        (["--teacher", "m@http://h/v1,api=chats"], "api is chat or completions, not 'chats'"),
        (["--temperature", "inf"], "--temperature inf: not accepted: input should be a finite number"),
        (["--domain", "\udcff"], "--domain: has a lone surrogate"),
        (["--template", "plain"], "--template has no effect without --local"),
        (["--evolve", "starter", "--prompt", "p.txt"], "p.txt: is the text of one way"),
        (["--prompt", "none.txt"], "none.txt: cannot be read"),
        (["--out", "a.csv"], "--out a.csv: datasets are written as .json or .jsonl"),
        (["--seeds", "nothing.jsonl"], "nothing.jsonl: no such file"),
        (["--answer", "nothing.txt"], "nothing.txt: cannot be read"),
        (["--batch-out", "b.jsonl"], "--batch-out needs one --teacher"),
        (["--batch-in", "nothing.jsonl"], "nothing.jsonl: cannot be read"),
        (["--local", "no-such-model"], "no-such-model"),
    ],
)
def test_what_is_asked_wrongly_is_told_with_2_and_leaves_nothing_behind(
    arguments: list[str], told: str, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    code, out, err = cli("generate", *arguments)
    assert (code, out) == (2, "")
    assert told in err
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_overwritten(cli: Cli, teacher: TeacherServer, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text("mine")
    code, _, err = cli("generate", "--out", "mine.jsonl", "--teacher", "grammar")
    assert (code, "it has no log" in err) == (2, True)
    assert (tmp_path / "mine.jsonl").read_text() == "mine"
    assert cli("generate", "--teacher", "grammar", "--count", 4)[0] == 0
    code, _, err = cli("generate", "--teacher", "grammar", "--no-resume")
    assert (code, "leave --no-resume away" in err) == (2, True)
    code, _, err = cli("generate", "--teacher", "grammar", "--similar", 0.9)
    assert (code, "similar was 0.7, is 0.9" in err) == (2, True)


def test_a_key_goes_to_its_own_server_alone(cli: Cli, teacher: TeacherServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", "sk-other")
    with serve_teacher() as other, serve_teacher() as third:
        specs = ["grammar", f"@{other.url}", f"m@{third.url},key=OTHER_KEY"]
        assert cli("generate", "--check-teacher", *(a for spec in specs for a in ("--teacher", spec)))[0] == 0
    assert teacher.headers[0]["Authorization"] == "Bearer sk-own"
    assert "Authorization" not in other.headers[0]
    assert third.headers[0]["Authorization"] == "Bearer sk-other"
    assert other.bodies[0]["model"] == "grammar-1"


def test_check_teacher_tells_the_speed_and_ends_with_5_where_one_does_not_answer(
    cli: Cli, teacher: TeacherServer
) -> None:
    code, out, _ = cli("generate", "--check-teacher", "--teacher", "grammar")
    assert code == 0
    assert out.startswith(f"grammar@{teacher.url}: answers in 0 s, ")
    assert out.endswith("tokens/s: Yes.\n")
    code, out, err = cli("generate", "--check-teacher", "--teacher", "m@http://127.0.0.1:9/v1", "--json")
    assert code == 5
    assert json.loads(out)[0]["why"].startswith("cannot connect")
    assert "1 of 1 teachers do not answer" in err


def test_a_dry_run_shows_the_request_and_sends_nothing(cli: Cli, teacher: TeacherServer, tmp_path: Path) -> None:
    code, out, _ = cli("generate", "--dry-run", "--count", 50, "--price-in", 1, "--price-out", 2, "--max-tokens", 1000)
    assert code == 0
    assert "Write 20 new tasks" in out
    assert "3 requests if every task is accepted, at most " in out
    assert teacher.bodies == []
    assert list(tmp_path.glob("generated*")) == []


def test_a_preview_shows_what_becomes_of_tasks_and_keeps_nothing(
    cli: Cli, teacher: TeacherServer, tmp_path: Path
) -> None:
    code, out, err = cli("generate", "--preview", 4, "--teacher", "grammar")
    assert code == 0, err
    assert out.count("Instruction: ") == 4
    assert "accepted" in out
    assert list(tmp_path.glob("generated*")) == []
    assert "Write 4 new tasks" in teacher.bodies[0]["messages"][0]["content"]
    verdicts = json.loads(cli("generate", "--preview", 4, "--teacher", "grammar", "--json")[1])
    assert {"verdict", "instruction", "input", "output"} <= set(verdicts[0])


def test_a_preview_ends_with_its_tasks_and_shows_what_a_teacher_wrote_instead(cli: Cli, teacher: TeacherServer) -> None:
    teacher.answer = "1. Instruction: Sing\n1. Output: La.\n" * 4
    code, out, _ = cli("generate", "--preview", 4, "--teacher", "grammar")
    assert (code, out.count("Instruction: "), len(teacher.bodies)) == (0, 4, 1)
    teacher.answer = "I would \x1b[2Jrather not."
    code, out, err = cli("generate", "--preview", 4, "--teacher", "grammar", "--in-flight", 1)
    assert (code, out, len(teacher.bodies)) == (1, "", 4)
    assert "no task in the answer: I would [2Jrather not." in err
    assert "3 answers in a row brought no row, at 0 of 4 rows" in err
    code, _, err = cli("generate", "--preview", 4, "--teacher", "m@http://127.0.0.1:9/v1", "--retries", 0)
    assert (code, "no teacher answers any more" in err) == (1, True)


@pytest.mark.parametrize("key", ["sk-\u20ac", "sk-a\nb"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_told(
    key: str, cli: Cli, teacher: TeacherServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    code, out, err = cli("generate", "--teacher", "grammar", "--count", 2)
    assert (code, out) == (2, "")
    assert err == "pacos: the key in OPENAI_API_KEY holds a character that no key has; export it again\n"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-own\n")
    assert cli("generate", "--teacher", "grammar", "--check-teacher")[0] == 0
    assert teacher.headers[0]["Authorization"] == "Bearer sk-own"


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_dataset_that_was_changed_by_hand_is_not_written_over(
    name: str, cli: Cli, teacher: TeacherServer, tmp_path: Path
) -> None:
    ask = ["generate", "--teacher", "grammar", "--tasks", 5, "--out", name, "--count"]
    assert [cli(*ask, count)[0] for count in (6, 9, 3)] == [0, 0, 0]
    path = tmp_path / name
    mine = path.read_text().replace("Instruction", "instruction").replace("the ", "a ")
    path.write_text(mine)
    code, _, err = cli(*ask, 20)
    assert (code, path.read_text()) == (2, mine)
    assert f"{name}: was changed since it was written from its log" in err
    path.unlink()
    assert cli(*ask, 20)[0] == 0
    assert len(load_examples(path).examples) == 20


def test_three_faulty_teachers_leave_exactly_the_rows_asked_for_and_the_budget_kept(cli: Cli, tmp_path: Path) -> None:
    """Time-outs, 429 with and without Retry-After, 500, bad JSON, cut off, dripping, slow, no counts: one file in the end."""
    faults = [
        ["slow", "ok", "429 0.05", "ok", "ok", "no usage"],
        ["500", "ok", "cut", "ok", "429 date", "ok", "slower"],
        ["bad json", "ok", "drip", "ok", "503 busy", "429", "ok"],
    ]
    with serve_teacher(faults[0]) as a, serve_teacher(faults[1], seed=1) as b, serve_teacher(faults[2], seed=2) as c:
        servers = (a, b, c)
        specs = [part for server in servers for part in ("--teacher", f"g@{server.url},in_flight=2")]
        prices = ["--price-in", 1, "--price-out", 4, "--timeout", 0.5, "--max-tokens", 400, "--tasks", 5]
        limits = ["--budget-requests", 70, "--budget-tokens", 150_000, "--budget-dollars", 0.3]
        code, out, err = cli("generate", *specs, *prices, *limits, "--count", 40, "--json")
    facts = json.loads(out)
    assert (code, facts["ending"], facts["rows"]) == (0, "enough", 40), err
    rows = rows_in(tmp_path / "generated.jsonl")
    assert len(rows) == len({row["id"] for row in rows}) == 40
    assert len({row["teacher"] for row in rows}) >= 2
    assert sum(len(server.bodies) for server in servers) <= 70
    assert sum(server.billed_tokens for server in servers) <= facts["tokens"] <= 150_000
    billed = sum(server.prompt_tokens + 4 * server.completion_tokens for server in servers) / 1e6
    assert billed <= facts["dollars"] <= 0.3
    assert facts["failed_attempts"] >= 4


def test_every_instance_of_a_seed_task_is_answered(cli: Cli, teacher: TeacherServer, tmp_path: Path) -> None:
    task = {"id": "s1", "instruction": "Add them.", "instances": [{"input": "1 2", "output": "3"}, {"input": "4 5"}]}
    (tmp_path / "seeds.jsonl").write_text(json.dumps(task) + "\n")
    assert cli("generate", "--answer", "seeds.jsonl", "--teacher", "grammar")[0] == 0
    rows = rows_in(tmp_path / "generated.jsonl")
    assert sorted((row["instruction"], row["input"], row["output"], row["lineage"][0]) for row in rows) == [
        ("Add them.", "1 2", "Yes.", "s1"),
        ("Add them.", "4 5", "Yes.", "s1"),
    ]


def test_a_base_model_is_asked_for_a_completion_also_by_batch(cli: Cli, teacher: TeacherServer, tmp_path: Path) -> None:
    ask = ["generate", "--teacher", f"base@1@{teacher.url},api=completions", "--tasks", 5, "--count", 5]
    assert cli(*ask)[0] == 0
    assert (teacher.paths[0], teacher.bodies[0]["model"]) == ("/v1/completions", "base@1")
    assert cli(*ask, "--out", "b.jsonl", "--batch-out", "batch.jsonl")[0] == 0
    line = rows_in(tmp_path / "batch.jsonl")[0]
    assert (line["url"], set(line["body"])) == ("/v1/completions", set(teacher.bodies[0]))


def test_requests_read_as_results_are_refused_and_strange_results_are_failures(
    cli: Cli, teacher: TeacherServer, tmp_path: Path
) -> None:
    ask = ["generate", "--teacher", "grammar", "--tasks", 5, "--count", 20]
    assert cli(*ask, "--batch-out", "batch.jsonl")[0] == 0
    code, _, err = cli(*ask, "--batch-in", "batch.jsonl")
    assert (code, "a request; give the file that the server wrote" in err) == (3, True)
    strange: list[Any] = [{"status_code": "busy", "body": 3}, {"status_code": None}, "no", {"body": {"choices": 1}}]
    names = [line["custom_id"] for line in rows_in(tmp_path / "batch.jsonl")]
    lines = [{"custom_id": name, "response": response} for name, response in zip(names, strange, strict=True)]
    (tmp_path / "back.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, _, err = cli(*ask, "--batch-in", "back.jsonl")
    assert (code, "4 failed" in err) == (1, True)
    assert "0 of 20 rows are there, 20 missing; ask for the rest" in err
    assert cli(*ask)[0] == 0
    assert len(rows_in(tmp_path / "generated.jsonl")) == 20


def test_one_at_a_time_by_domain_with_a_text_of_ones_own(cli: Cli, teacher: TeacherServer, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("Mine. {{domain}}\n{{examples}}### Go on with task {{first}}")
    ask = ["generate", "--teacher", "grammar", "--tasks", 1, "--count", 4, "--domain", "law", "--domain", "cooking"]
    code, _, err = cli(*ask, "--prompt", "p.txt")
    assert code == 0, err
    assert {row["domain"] for row in rows_in(tmp_path / "generated.jsonl")} == {"law", "cooking"}
    assert all(body["messages"][0]["content"].startswith("Mine. \nAbove all") for body in teacher.bodies)


def test_rows_are_evolved_and_instructions_answered(cli: Cli, teacher: TeacherServer, tmp_path: Path) -> None:
    rows = [{"instruction": f"Explain {word} to a child.", "output": "x"} for word in ("tides", "debt", "yeast")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = cli("generate", "--evolve", "rows.jsonl", "--teacher", "grammar", "--out", "evolved.jsonl")
    assert code == 0, err
    evolved = rows_in(tmp_path / "evolved.jsonl")
    assert {row["way"] for row in evolved} == {"harder", "deeper", "rephrased"}
    assert {row["lineage"][0] for row in evolved} == {row["parent"] for row in evolved}
    (tmp_path / "ask.txt").write_text("Is water wet?\nIs ice cold?\n")
    assert cli("generate", "--answer", "ask.txt", "--teacher", "grammar", "--out", "answered.jsonl")[0] == 0
    answered = rows_in(tmp_path / "answered.jsonl")
    assert sorted((row["instruction"], row["output"]) for row in answered) == [
        ("Is ice cold?", "Yes."),
        ("Is water wet?", "Yes."),
    ]


def test_an_evolved_row_is_one_whatever_the_teacher_adds(cli: Cli, teacher: TeacherServer, tmp_path: Path) -> None:
    from pacos.self_instruct.books import one_alone
    from pacos.self_instruct.parse import parse_tasks

    text = "".join(
        f"{n}. Instruction: Do {n} things now.\n{n}. Output: {'' if n == 2 else 'x'}\n" for n in (2, 3, 4, 5)
    )
    assert [task.problem for task in one_alone(parse_tasks(text))] == ["no output", "", "surplus", "surplus"]


def test_batch_files_go_out_and_come_back_in_any_order_once(cli: Cli, teacher: TeacherServer, tmp_path: Path) -> None:
    ask = ["generate", "--teacher", "grammar,price_in=1,price_out=2", "--tasks", 5, "--count", 20]
    code, out, err = cli(*ask, "--batch-out", "batch.jsonl", "--budget-requests", 4)
    assert code == 0, err
    lines = rows_in(tmp_path / "batch.jsonl")
    assert [set(line) for line in lines] == [{"custom_id", "method", "url", "body"}] * 4
    assert out.startswith(
        "4 requests in batch.jsonl; read what comes back with: pacos generate --out generated.jsonl --batch-in"
    )
    assert cli(*ask, "--batch-out", "more.jsonl", "--budget-requests", 4)[0] == 5
    results = [
        {
            "custom_id": line["custom_id"],
            "response": {"status_code": 200, "body": teacher.write(line["body"])},
            "error": None,
        }
        for line in reversed(lines)
    ]
    results[1] |= {"response": None, "error": {"code": "batch_expired"}}
    (tmp_path / "back.jsonl").write_text("".join(json.dumps(line) + "\n" for line in results))
    (tmp_path / "first.jsonl").write_text(json.dumps(results[0]) + "\n")
    code, _, err = cli(*ask, "--batch-in", "first.jsonl")
    assert code == 1
    assert "missing; 3 of the requests in batch files have no result yet; ask for the rest with --batch-out" in err
    code, _, err = cli(*ask, "--batch-in", "back.jsonl", "--batch-in", "back.jsonl")
    assert code == 1
    assert "2 answered, 5 before, 1 failed" in err
    rows = rows_in(tmp_path / "generated.jsonl")
    assert 0 < len(rows) <= 15
    assert {row["teacher"] for row in rows} == {"grammar (batch)"}
    code, out, _ = cli(*ask, "--json")
    assert json.loads(out)["rows"] == 20
    asked = {body["messages"][0]["content"] for body in teacher.bodies}
    expired = next(line for line in lines if line["custom_id"] == results[1]["custom_id"])
    assert expired["body"]["messages"][0]["content"] in asked
    assert not asked & {line["body"]["messages"][0]["content"] for line in lines if line is not expired}


def test_results_of_another_run_are_refused_by_line(cli: Cli, teacher: TeacherServer, tmp_path: Path) -> None:
    assert cli("generate", "--teacher", "grammar", "--batch-out", "b.jsonl")[0] == 0
    (tmp_path / "back.jsonl").write_text('{"custom_id": "beef-1", "response": {}}\n')
    code, _, err = cli("generate", "--teacher", "grammar", "--batch-in", "back.jsonl")
    assert code == 3
    assert "back.jsonl:1: not a result of this run's batch (ValueError: custom_id 'beef-1' is of another run" in err


def test_ctrl_c_keeps_what_is_under_way_and_ends_with_130(cli: Cli, tmp_path: Path) -> None:
    import signal

    with serve_teacher(["slower"]) as server:
        timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        code, out, err = cli("generate", "--teacher", f"m@{server.url}", "--count", 5000, "--tasks", 2)
        timer.cancel()
    assert code == 130, err
    lines = [json.loads(line) for line in (tmp_path / "generated.jsonl.log.jsonl").read_text().splitlines()]
    kinds = [line["kind"] for line in lines]
    assert kinds.count("sent") == kinds.count("request") == len(server.bodies) > 0
    assert f"{len(rows_in(tmp_path / 'generated.jsonl')):,} rows in generated.jsonl" in out


def test_every_option_is_a_flag_with_help_and_is_read() -> None:
    import typer.main

    command = typer.main.get_command(app).commands["generate"]  # type: ignore[attr-defined]
    flags = {parameter.name: parameter.help for parameter in command.params if parameter.name != "help"}
    assert flags == {name: field.description for name, field in Options.model_fields.items()}
    sources = [Path(__file__).parents[1] / "pacos" / room for room in ("cli", "self_instruct")]
    code = "".join(path.read_text() for room in sources for path in room.rglob("*.py"))
    assert [name for name in Options.model_fields if f"options.{name}" not in code and f"self.{name}" not in code] == []


def test_a_local_model_writes_and_what_it_wrote_is_in_the_log(cli: Cli, tiny_base: Path, tmp_path: Path) -> None:
    (tmp_path / "ask.txt").write_text("Name a colour.\nName a fruit.\nName a town.\n")
    ask = ["generate", "--local", tiny_base, "--max-tokens", 8, "--out", "a.jsonl"]
    code, out, err = cli(*ask, "--answer", "ask.txt", "--json")
    facts = json.loads(out)
    assert (code, facts["ending"]) == (0, "all"), err
    log = [json.loads(line) for line in (tmp_path / "a.jsonl.log.jsonl").read_text().splitlines()]
    answers = [line for line in log if line["kind"] == "request"]
    assert len(answers) == 3
    assert all(1 <= line["completion_tokens"] <= 8 and line["dollars"] == 0 for line in answers)
    assert facts["accepted"] + sum(facts["rejected"].values()) == 3


def test_a_model_that_writes_no_tasks_ends_it_with_1_and_a_line(cli: Cli, tmp_path: Path) -> None:
    base = MODELS / "stories260K"
    if not base.exists():
        pytest.skip("../shared/data/models/stories260K is not here")
    (tmp_path / "p.txt").write_text("Once {{first}} {{tasks}}")
    ask = ["--local", next(base.glob("*.gguf"), base), "--template", "plain", "--examples", 0, "--prompt", "p.txt"]
    code, _, err = cli("generate", *ask, "--max-tokens", 24, "--barren", 8, "--tasks", 2)
    assert code == 1, err
    assert "8 answers in a row brought no row, at 0 of 100 rows; look at the answers in the log" in err
    log = [json.loads(line) for line in (tmp_path / "generated.jsonl.log.jsonl").read_text().splitlines()]
    assert any(line["kind"] == "request" and line["answer"].strip() for line in log)


def test_from_seeds_to_a_curated_set_to_a_trained_model(
    cli: Cli, teacher: TeacherServer, tiny_run: list[str], tmp_path: Path
) -> None:
    ask = ["generate", "--teacher", "grammar", "--tasks", 6, "--count", 120, "--examples", 2, "--out", "tasks.jsonl"]
    assert cli(*ask)[0] == 0
    code, _, err = cli("curate", "tasks.jsonl", "--fix", "--out", "curated.jsonl", "--workers", 1)
    assert code == 0, err
    rows = rows_in(tmp_path / "curated.jsonl")
    assert 60 < len(rows) <= 120
    assert {row["id"]: row["lineage"] for row in rows}.items() <= {
        row["id"]: row["lineage"] for row in rows_in(tmp_path / "tasks.jsonl")
    }.items()
    code, _, err = cli(*without_data(tiny_run), "--set=data.path=curated.jsonl")
    assert code == 0, err
    split = json.loads((tmp_path / "runs" / "quickstart" / "split.json").read_text())
    side = {row: name for name in ("train", "validation", "test") for row in split[name]}
    assert len(side) == len(rows)
    assert all(len(split[name]) >= 2 for name in ("train", "validation", "test"))
    for seed in {name for row in rows for name in row["lineage"]}:
        assert len({side[row["id"]] for row in rows if seed in row["lineage"]}) == 1


def without_data(arguments: list[str]) -> list[str]:
    return [argument for argument in arguments if not argument.startswith("--set=data.")]


TAUGHT = {
    "hats": ("Fold a paper hat.", "Crease it twice."),
    "rain": ("Why does rain fall?", "Clouds grow heavy."),
    "bees": ("Count six busy bees.", "1 2 3 4 5 6"),
    "tea": ("Brew green tea well.", "Wait two minutes."),
    "moon": ("Is the moon round?", "Yes, nearly."),
    "jazz": ("Describe jazz to grandma.", "Music that plays."),
}
REQUEST = "Go on with task {{first}}{{domain}}"


def test_a_model_of_this_machine_is_the_teacher_from_its_tasks_to_the_next_model(
    cli: Cli, tiny_run: list[str], tmp_path: Path
) -> None:
    """A tiny model learns to write six tasks, writes them as a teacher, and the next model is trained on those."""
    said = {d: f"1. Instruction: {i}\n1. Output: {o}" for d, (i, o) in TAUGHT.items()}
    text = REQUEST.replace("{{first}}", "1").replace("{{domain}}", "\nAbove all: every task is about this subject: ")
    lessons = [{"instruction": text + domain, "output": answer} for domain, answer in said.items()]
    (tmp_path / "lessons.jsonl").write_text("".join(json.dumps(lesson) + "\n" for lesson in lessons))
    (tmp_path / "p.txt").write_text(REQUEST)
    shares = ["--set=data.validation_share=0", "--set=data.test_share=0"]
    learn = ["--set=method=full", "--set=lora=null", "--set=train.learning_rate=0.01", "--set=train.max_steps=70"]
    options = [a for a in without_data(tiny_run) if "lora" not in a and "max_steps" not in a and "eval_every" not in a]
    teach = [*options, *learn, *shares, "--set=data.path=lessons.jsonl", "--set=name=teacher", "--set=train.epochs=70"]
    code, _, err = cli(*teach)
    assert code == 0, err
    ask = [
        "--local",
        "teacher",
        "--temperature",
        0,
        "--tasks",
        1,
        "--examples",
        0,
        "--prompt",
        "p.txt",
        "--max-tokens",
        90,
    ]
    domains = [a for domain in TAUGHT for a in ("--domain", domain)]
    code, _, err = cli("generate", *ask, *domains, "--count", 4, "--out", "tasks.jsonl")
    assert code == 0, err
    made = {(row["instruction"], row["output"]) for row in rows_in(tmp_path / "tasks.jsonl")}
    assert len(made & set(TAUGHT.values())) == 4
    assert cli("curate", "tasks.jsonl", "--fix", "--out", "curated.jsonl", "--workers", 1)[0] == 0
    code, _, err = cli(*options, "--set=train.max_steps=2", *shares, "--set=data.path=curated.jsonl")
    assert code == 0, err
