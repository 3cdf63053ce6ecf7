"""The loop with real teachers on localhost, sound and faulty: exactly the rows asked for, and the budget kept."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pacos.data import Example
from pacos.self_instruct import (
    Answer,
    AnswerRequests,
    Books,
    Course,
    Drawing,
    Endpoint,
    EvolveRequests,
    Generation,
    Limits,
    Local,
    Log,
    Pool,
    Price,
    TaskRequests,
    Unlogged,
)
from pacos.self_instruct.filters import RULES
from pacos.self_instruct.log import spent_of
from pacos.self_instruct.loop import Health
from pacos.self_instruct.requests import Requests
from pacos.self_instruct.responses import retry_after
from pacos.self_instruct.wording import packaged
from tests.teacher_server import TeacherServer, serve_teacher, task_list

SEEDS = [Example(f"Seed number {n} about {word}", "", "x", lineage=(f"s{n}",)) for n, word in enumerate("abcdefgh")]
PRICE = Price(read=1.0, written=4.0)


def source(num_tasks: int = 5) -> TaskRequests:
    return TaskRequests(SEEDS, packaged("list"), num_tasks=num_tasks, num_examples=2, family=4)


def endpoint(server: TeacherServer, **changes: Any) -> Endpoint:
    settings = {"price": PRICE, "in_flight": 3, "timeout_seconds": 5.0, **changes}
    return Endpoint("grammar", server.url, Drawing(400, 1.0, 1.0), **settings)


def generation(
    teachers: Sequence[Any], books: Books, *, count: int | None = 20, requests: Requests | None = None, **more: Any
) -> Generation:
    course = Course(count, more.pop("retries", 5), more.pop("barren", 10), first_wait=0.02)
    return Generation(requests or source(), teachers, books, course, rng=random.Random(0), **more)


def books_on(path: Path | None = None, limits: Limits = Limits()) -> Books:
    return Books(Pool(SEEDS, RULES, 0.7), Log(path, {}) if path else Unlogged(), limits)


def records(path: Path, kind: str = "request") -> list[dict[str, Any]]:
    return [record for record in map(json.loads, path.read_text().splitlines()) if record["kind"] == kind]


def test_a_sound_teacher_fills_the_set_and_every_row_says_where_it_is_from(tmp_path: Path) -> None:
    with serve_teacher() as server:
        books = books_on(tmp_path / "log.jsonl")
        one_at_a_time = endpoint(server, in_flight=1)  # so that answers come in the order of the requests
        assert asyncio.run(generation([one_at_a_time], books).run()) == "enough"
    rows = books.pool.accepted
    assert len(rows) >= 20
    assert len({row.instruction for row in rows}) == len(rows)
    one, request = rows[0], source().request(0)
    assert one.lineage == request.lineage
    assert one.extra["teacher"] == f"grammar@{server.url}"
    assert one.extra["dollars"] > 0
    assert server.bodies[0]["messages"] == [{"role": "user", "content": request.text}]
    assert {k: v for k, v in server.bodies[0].items() if k != "messages"} == {
        "model": "grammar", "max_tokens": 400, "temperature": 1.0, "top_p": 1.0,
    }  # fmt: skip
    assert books.budget.spent.tokens == server.billed_tokens
    assert books.budget.spent.dollars == pytest.approx((server.prompt_tokens + 4 * server.completion_tokens) / 1e6)


def test_three_faulty_teachers_give_exactly_the_rows_asked_for_within_the_budget(tmp_path: Path) -> None:
    faults = [
        ["slow", "ok", "429 0.05", "ok", "ok"],
        ["500", "ok", "cut", "ok", "429 date", "ok"],
        ["bad json", "ok", "drip", "ok", "503 busy", "no usage", "ok"],
    ]
    limits = Limits(requests=70, tokens=90_000, dollars=0.2)
    with serve_teacher(faults[0]) as a, serve_teacher(faults[1], seed=1) as b, serve_teacher(faults[2], seed=2) as c:
        servers = (a, b, c)
        books = books_on(tmp_path / "log.jsonl", limits)
        teachers = [endpoint(server, timeout_seconds=0.4) for server in servers]
        began = time.monotonic()
        assert asyncio.run(generation(teachers, books, count=60).run()) == "enough"
    assert time.monotonic() - began < 20
    assert len(books.pool.accepted[:60]) == 60
    sent = sum(len(server.bodies) for server in servers)
    billed = sum(server.prompt_tokens + 4 * server.completion_tokens for server in servers) / 1e6
    assert sent <= books.budget.spent.requests <= 70
    assert sum(server.billed_tokens for server in servers) <= books.budget.spent.tokens <= 90_000
    assert billed <= books.budget.spent.dollars <= 0.2
    assert books.budget.reserved.tokens == 0
    whys = " ".join(record["why"] for record in records(tmp_path / "log.jsonl", "failed"))
    for words in (
        "no answer within 0.4 s",
        "HTTP 429: slow down",
        "HTTP 500: no",
        "cut off",
        "not JSON",
        "HTTP 503: busy",
    ):
        assert words in whys
    assert Counter(r["request"] for r in records(tmp_path / "log.jsonl")).most_common(1)[0][1] == 1


@pytest.mark.parametrize(
    "limits", [Limits(requests=3), Limits(tokens=9_000), Limits(dollars=0.012)], ids=["requests", "tokens", "dollars"]
)
def test_a_budget_ends_the_run_before_it_is_passed(limits: Limits, tmp_path: Path) -> None:
    with serve_teacher(["ok", "bad json"]) as server:
        books = books_on(tmp_path / "log.jsonl", limits)
        assert asyncio.run(generation([endpoint(server)], books, count=500).run()) == "budget"
    assert len(server.bodies) <= (limits.requests or 99)
    assert server.billed_tokens <= (limits.tokens or 10**9)
    assert (server.prompt_tokens + 4 * server.completion_tokens) / 1e6 <= (limits.dollars or 9)
    assert len(server.bodies) >= 2


def test_a_teacher_too_dear_for_the_budget_does_not_end_a_run_that_a_cheaper_one_finishes() -> None:
    rows = [Example(f"Say {n}.") for n in range(6)]
    with serve_teacher() as dear, serve_teacher() as cheap:
        books = Books(Pool((), {}, None), Unlogged(), Limits(dollars=0.01))
        teachers = [endpoint(dear, price=Price(1000, 1000)), endpoint(cheap, price=Price(0.1, 0.1), in_flight=1)]
        source = AnswerRequests(rows, packaged("answer"))
        assert asyncio.run(generation(teachers, books, count=None, requests=source).run()) == "all"
    assert (len(dear.bodies), len(cheap.bodies), len(books.pool.accepted)) == (0, 6, 6)


def test_what_was_sent_by_a_process_that_died_counts_at_its_worst(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    books = books_on(log)
    sent = books.send(source().request(0), "t", PRICE, 400)
    books.log.close()  # type: ignore[union-attr]
    assert sent is not None
    again = books_on(log, Limits(requests=1))
    assert again.budget.spent == sent.worst == spent_of(records(log, "sent")[0])
    assert again.send(source().request(0), "t", PRICE, 400) is None


def test_retry_after_is_honoured_in_seconds_and_as_a_date(tmp_path: Path) -> None:
    for behaviour, least in (("429 0.4", 0.4), ("429 date", 0.001)):
        with serve_teacher([behaviour, "ok"]) as server:
            assert asyncio.run(generation([endpoint(server, in_flight=1)], books_on(), count=1).run()) == "enough"
        assert server.at[1] - server.at[0] >= least
    assert retry_after("7") == 7.0
    assert retry_after("Wed, 21 Oct 2015 07:28:10 GMT", now=1445412480.0) == 10.0
    assert retry_after("Wed, 21 Oct 2015 07:28:10 GMT", now=1445412500.0) == 0.0
    assert [retry_after(text) for text in ("", "soon", "-3")] == [0.0, 0.0, 0.0]


def test_back_off_doubles_and_failures_of_parallel_lanes_are_one() -> None:
    with serve_teacher(["500", "500", "500", "500", "ok"]) as server:
        loop = generation([endpoint(server, in_flight=1)], books_on(), count=1)
        loop.course = Course(1, 5, 10, first_wait=0.1)
        loop.rng.random = lambda: 1.0  # type: ignore[method-assign]
        assert asyncio.run(loop.run()) == "enough"
    gaps = [after - before for before, after in zip(server.at, server.at[1:], strict=False)]
    assert all(wait <= gap < wait + 0.4 for wait, gap in zip((0.1, 0.2, 0.4, 0.8), gaps, strict=True))
    with serve_teacher(["500"] * 8 + ["ok"] * 40) as server:
        loop = generation([endpoint(server, in_flight=8)], books_on(), count=60)
        loop.course = Course(60, 1, 10, first_wait=0.3)
        assert asyncio.run(loop.run()) == "enough"


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [("401 bad key sk-123", "HTTP 401: bad key ***"), ("404 no such model", "HTTP 404: no such model"),
     ("429 9999", "HTTP 429: slow down"), ("500", "HTTP 500: no")],
)  # fmt: skip
def test_a_teacher_that_does_not_answer_is_given_up_and_the_key_is_never_told(
    behaviour: str, told: str, tmp_path: Path
) -> None:
    notes: list[str] = []
    with serve_teacher([behaviour]) as server:
        books = books_on(tmp_path / "log.jsonl")
        teacher = endpoint(server, key="sk-123", in_flight=1)
        assert asyncio.run(generation([teacher], books, retries=1, on_note=notes.append).run()) == "teachers"
    assert notes == [f"grammar@{server.url} is asked no more: {told}"]
    assert server.headers[0]["Authorization"] == "Bearer sk-123"
    assert "sk-123" not in (tmp_path / "log.jsonl").read_text()


def test_another_teacher_takes_over_where_one_is_not_there() -> None:
    with serve_teacher() as gone:
        pass
    with serve_teacher() as server:
        books = books_on()
        assert asyncio.run(generation([endpoint(gone), endpoint(server)], books, retries=1).run()) == "enough"
    assert books.budget.spent.requests == len(server.bodies)


def test_a_model_that_wants_the_limit_under_its_newer_name_gets_it() -> None:
    with serve_teacher(["400 use max_completion_tokens instead", "ok"]) as server:
        assert asyncio.run(generation([endpoint(server, in_flight=1)], books_on(), count=1).run()) == "enough"
    assert server.bodies[1]["max_completion_tokens"] == 400
    assert "max_tokens" not in server.bodies[1]


def test_a_request_that_a_server_refuses_is_left_out_and_the_next_one_asked(tmp_path: Path) -> None:
    with serve_teacher(["400 content policy", "ok"]) as server:
        books = books_on(tmp_path / "log.jsonl")
        assert asyncio.run(generation([endpoint(server, in_flight=1)], books, count=1).run()) == "enough"
    assert server.bodies[0]["messages"] != server.bodies[1]["messages"]
    assert [r["why"] for r in records(tmp_path / "log.jsonl", "failed")] == ["HTTP 400: content policy"]


def test_an_instruction_that_failed_too_often_is_asked_again_by_the_next_run(tmp_path: Path) -> None:
    rows, endings = [Example(f"Say {n}.") for n in range(4)], []
    with serve_teacher(["ok", "500", "500"]) as server:
        for _ in range(2):
            books = Books(Pool((), {}, None), Log(tmp_path / "log.jsonl", {}), Limits())
            source = AnswerRequests(rows, packaged("answer"))
            loop = generation([endpoint(server, in_flight=1)], books, count=None, requests=source, retries=1)
            loop.course = Course(None, 1, 10, first_wait=0.01)
            loop.health = {name: Unfailing() for name in loop.health}
            endings.append(asyncio.run(loop.run()))
            books.log.close()  # type: ignore[union-attr]
            server.behaviours = ["ok"]
    assert endings == ["unanswered", "all"]
    assert len(books.pool.accepted) == 4


class Unfailing(Health):
    """A teacher that is never given up."""

    def failed(self, *_: Any) -> None:
        """Nothing happens."""


def test_answers_without_a_row_end_the_run() -> None:
    with serve_teacher() as server:
        server.answer = "I would rather not."
        assert asyncio.run(generation([endpoint(server)], books_on(), barren=4).run()) == "barren"
    assert 4 <= len(server.bodies) <= 7


def test_asked_to_stop_it_waits_for_what_is_under_way_and_keeps_it() -> None:
    with serve_teacher() as server:
        books = books_on()
        loop = generation([endpoint(server)], books, count=500, stop=lambda: len(server.bodies) >= 3)
        assert asyncio.run(loop.run()) == "stopped"
    assert books.budget.spent.requests == len(server.bodies) == len(books.done)
    assert len(books.pool.accepted) > 0


def test_no_more_is_asked_than_will_probably_do() -> None:
    with serve_teacher() as server:
        asyncio.run(generation([endpoint(server, in_flight=50)], books_on(), count=10).run())
    assert len(server.bodies) <= 5


def test_a_run_goes_on_where_its_log_ends_and_repeats_no_request(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with serve_teacher() as server:
        for count in (10, 10, 30):
            books = books_on(log)
            assert asyncio.run(generation([endpoint(server)], books, count=count).run()) == "enough"
            rows = books.pool.accepted
            books.log.close()  # type: ignore[union-attr]
    numbers = [record["request"] for record in records(log)]
    assert len(set(numbers)) == len(numbers) == len(server.bodies)
    assert books_on(log).pool.accepted == rows
    assert len({row.id for row in rows}) == len(rows) >= 30


def test_the_answer_that_is_cut_at_its_limit_loses_its_last_task_alone(tmp_path: Path) -> None:
    with serve_teacher() as server:
        books = books_on(tmp_path / "log.jsonl")
        asyncio.run(generation([endpoint(server)], books, count=5, requests=source(num_tasks=30)).run())
    record = records(tmp_path / "log.jsonl")[0]
    assert record["finish"] == "length"
    assert [task["verdict"] for task in record["tasks"]].count("cut") == 1
    assert record["tasks"][-1]["verdict"] == "cut"


def test_instructions_are_each_answered_once_in_any_order() -> None:
    rows = [Example(f"Say {n}.", lineage=(f"r{n}",)) for n in range(9)]
    pool = Pool((), {}, None)
    with serve_teacher(["ok", "429"]) as server:
        books = Books(pool, Unlogged(), Limits())
        requests = AnswerRequests(rows, packaged("answer"))
        loop = generation([endpoint(server)], books, count=None, requests=requests, retries=100)
        assert asyncio.run(loop.run()) == "all"
    assert sorted(row.instruction for row in pool.accepted) == [row.instruction for row in rows]
    assert {row.output for row in pool.accepted} == {"Yes."}


def test_evolving_makes_rows_that_name_their_parent() -> None:
    rows = [Example("Add the numbers three and four together.", "", "7"), Example("Why do leaves fall?", "", "cold")]
    ways = {way: packaged(way) for way in ("harder", "deeper")}
    with serve_teacher() as server:
        books = Books(Pool(rows, RULES, 0.7), Unlogged(), Limits())
        loop = generation([endpoint(server)], books, count=None, requests=EvolveRequests(rows, ways))
        assert asyncio.run(loop.run()) == "all"
    made = {(row.extra["parent"], row.extra["way"]) for row in books.pool.accepted}
    assert made <= {(row.id, way) for row in rows for way in ways}
    assert len(books.pool.accepted) + sum(books.pool.rejected.values()) == 4
    assert all(row.lineage == (row.extra["parent"],) for row in books.pool.accepted)


def test_a_local_model_is_asked_in_batches_and_its_error_is_ours() -> None:
    asked: list[int] = []

    def complete(texts: Sequence[str], numbers: Sequence[int]) -> list[Answer]:
        asked.append(len(texts))
        return [Answer(task_list(random.Random(number), 3, 7), "stop", 0.1, 500, 200) for number in numbers]

    books = books_on()
    assert (
        asyncio.run(generation([Local("local:m", complete, batch=4, max_tokens=9)], books, count=30).run()) == "enough"
    )
    assert asked[0] == 4
    assert books.budget.spent.tokens == 700 * sum(asked)

    def broken(texts: Sequence[str], numbers: Sequence[int]) -> list[Answer]:
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        asyncio.run(generation([Local("local:m", broken, batch=4, max_tokens=9)], books_on()).run())
