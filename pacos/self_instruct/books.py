"""Budget, log and pool, kept in step: what is done around every attempt, whoever the teacher and however it is asked.

    send(request)  reserve the worst case, write it down  ->  Sent
    answered(sent, answer)   parse, judge, write it down (fsync), then count the rows
    failed(sent, failure)    write it down

Rows count only once the record that holds them is on the disk. After a kill at any moment the log says what was kept,
and none of it is asked for again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pacos.self_instruct.answers import Answer, Failure
from pacos.self_instruct.budget import Budget, Limits, Price, Spent, plausible
from pacos.self_instruct.log import Log, Unlogged, spent_of, stamp
from pacos.self_instruct.parse import CUT, NO_OUTPUT, SURPLUS, Task, parse_tasks, without_thoughts
from pacos.self_instruct.pool import ACCEPTED, Pool
from pacos.self_instruct.requests import Request


@dataclass(frozen=True)
class Sent:
    """An attempt under way, and what is reserved for it."""

    request: Request
    attempt: int
    teacher: str
    price: Price
    worst: Spent


class Books:
    """The state of a run. Made from a log, it is where the run stopped."""

    def __init__(self, pool: Pool, log: Log | Unlogged, limits: Limits):
        self.pool, self.log = pool, log
        history = log.history
        pool.restore(history.requests)
        history.requests.clear()
        self.done, self.attempts, self.failures = set(history.done), history.attempts, history.failures
        self.budget = Budget(limits, history.worst)
        self.budget.excess.update(history.excess)
        self.asked_tasks = 0
        """Tasks that this process asked for and got an answer to, and how many of those were accepted."""
        self.accepted_here = 0

    def send(self, request: Request, teacher: str, price: Price, max_tokens: int, **more: Any) -> Sent | None:
        """Reserve and write down; None where the budget has no room for it now."""
        worst = self.budget.worst(request.text, max_tokens, price, teacher)
        if not self.budget.reserve(worst):
            return None
        self.attempts += 1
        sent = Sent(request, self.attempts, teacher, price, worst)
        self.log.append(
            {"kind": "sent", **_about(sent), **_cost(worst), "sha256": request.sha256, **more}, durable=False
        )
        return sent

    def answered(self, sent: Sent, answer: Answer) -> int:
        """Judge the tasks of an answer and keep them. Returns the number of rows accepted."""
        actual = self._actual(sent, answer)
        self.budget.settle(sent.worst, actual)
        verdicts = [self.pool.judge(task) for task in read_answer(sent.request, answer)]
        record = {
            "kind": "request",
            **_about(sent),
            "seeds": list(sent.request.lineage),
            "sha256": sent.request.sha256,
            "extra": dict(sent.request.extra),
            "made": stamp(),
            **_cost(actual),
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "seconds": round(answer.seconds, 3),
            "finish": answer.finish,
            "answer": answer.text,
            "tasks": [verdict.to_json() for verdict in verdicts],
        }
        self.log.append(record, durable=True)
        self.pool.take(record)
        self.done.add(sent.request.number)
        accepted = sum(verdict.reason == ACCEPTED for verdict in verdicts)
        self.asked_tasks += sent.request.num_tasks
        self.accepted_here += accepted
        return accepted

    def failed(self, sent: Sent, failure: Failure) -> None:
        """An attempt without an answer."""
        actual = {"nothing": Spent(), "request": Spent(1), "worst": sent.worst}[failure.charge]
        self.budget.settle(sent.worst, actual)
        record = {"why": failure.why, "seconds": round(failure.seconds, 3)}
        self.log.append({"kind": "failed", **_about(sent), **_cost(actual), **record}, durable=False)
        self.failures += 1

    def reopened(self, record: dict[str, Any], request: Request, price: Price) -> Sent:
        """An attempt of an earlier process that nothing came of yet. Its worst case is set aside again."""
        worst = spent_of(record)
        self.budget.settle(Spent() - worst, Spent() - worst)
        return Sent(request, record["attempt"], record["teacher"], price, worst)

    def _actual(self, sent: Sent, answer: Answer) -> Spent:
        read, written = answer.prompt_tokens, answer.completion_tokens
        if not (plausible(read, sent.request.text) and plausible(written, answer.text)):
            return sent.worst
        self.budget.learn(sent.teacher, read + written, sent.worst)
        return sent.price.cost(read, written)


def read_answer(request: Request, answer: Answer) -> list[Task]:
    """The tasks in an answer; where only an answer was wanted, the row that it completes."""
    cut = answer.finish == "length"
    if request.given is None:
        tasks = parse_tasks(answer.text, cut=cut)
        return one_alone(tasks) if "parent" in request.extra else tasks
    output = without_thoughts(answer.text)
    problem = CUT if cut else "" if output else NO_OUTPUT
    return [Task(request.given.instruction, request.given.input, output, problem)]


def one_alone(tasks: list[Task]) -> list[Task]:
    """The tasks of an answer of which one was asked for: a teacher that writes on makes no family of one row."""
    first = next((at for at, task in enumerate(tasks) if not task.problem), len(tasks))
    return [*tasks[: first + 1], *(replace(task, problem=task.problem or SURPLUS) for task in tasks[first + 1 :])]


def _about(sent: Sent) -> dict[str, Any]:
    return {"request": sent.request.number, "attempt": sent.attempt, "teacher": sent.teacher}


def _cost(spent: Spent) -> dict[str, Any]:
    return {"requests": spent.requests, "tokens": spent.tokens, "dollars": spent.dollars}
