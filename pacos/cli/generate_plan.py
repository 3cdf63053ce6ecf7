"""What `pacos generate` is asked for: requests, what nothing may resemble, how many rows, and where the run stands."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pacos.errors import UsageError

if TYPE_CHECKING:
    from pacos.data import Example
    from pacos.self_instruct.books import Books
    from pacos.self_instruct.options import Options
    from pacos.self_instruct.requests import Requests
    from pacos.self_instruct.wording import Wording

DEFAULT_COUNT = 100


@dataclass(frozen=True)
class Plan:
    """What is asked, what nothing may resemble, how many rows are wanted, and what the log is known by."""

    requests: Requests
    known: Sequence[Example]
    count: int | None
    settings: dict[str, Any]

    @staticmethod
    def of(options: Options) -> Plan:
        return {"tasks": plan_tasks, "evolve": plan_evolving, "answer": plan_answers}[options.mode](options)


def plan_tasks(options: Options) -> Plan:
    from pacos.data.fields import text_problem
    from pacos.self_instruct import TaskRequests, read_seeds

    for problem in filter(None, map(text_problem, options.domain)):
        raise UsageError(f"--domain: {problem}")
    seeds, text = read_seeds(options.seeds), wording(options, "one" if options.tasks == 1 else "list")
    requests = TaskRequests(
        seeds,
        text,
        num_tasks=options.tasks,
        num_examples=options.examples,
        family=options.family,
        domains=options.domain,
        seed=options.seed,
    )
    own: dict[str, Any] = {
        "tasks": options.tasks,
        "examples": options.examples,
        "family": options.family,
        "seed": options.seed,
    }
    own |= {"domain": list(options.domain), "prompt": text.sha256[:16], "seeds": digest(seeds)}
    return Plan(requests, seeds, options.count or DEFAULT_COUNT, settings(options, own))


def plan_evolving(options: Options) -> Plan:
    from pacos.data import load_examples
    from pacos.self_instruct import EvolveRequests
    from pacos.self_instruct.wording import WAYS

    rows, ways = load_examples(options.evolve).examples, options.way or WAYS
    if options.prompt and len(ways) != 1:
        raise UsageError(f"--prompt {options.prompt}: is the text of one way; give that with --way, as in --way harder")
    texts = {way: wording(options, way) for way in ways}
    own = {"prompt": [text.sha256[:16] for text in texts.values()], "way": list(ways), "evolve": digest(rows)}
    return Plan(EvolveRequests(rows, texts), rows, options.count, settings(options, own))


def plan_answers(options: Options) -> Plan:
    from pacos.self_instruct import AnswerRequests, read_instructions

    rows, text = read_instructions(options.answer), wording(options, "answer")
    own = {"prompt": text.sha256[:16], "answer": digest(rows)}
    return Plan(AnswerRequests(rows, text), (), options.count, settings(options, own))


def wording(options: Options, name: str) -> Wording:
    """The text of the requests: the packaged one by that name, or the user's."""
    from pacos.self_instruct.wording import packaged, read_wording

    return read_wording(options.prompt, name) if options.prompt else packaged(name)


def settings(options: Options, own: dict[str, Any]) -> dict[str, Any]:
    """What the rows of one log have in common; teachers, budgets and counts may change from run to run."""
    return {"mode": options.mode, "without": sorted(options.without), "similar": options.similar, **own}


def digest(rows: Sequence[Example]) -> str:
    return hashlib.sha256(" ".join(row.id for row in rows).encode()).hexdigest()[:16]


def books_of(log: Any, plan: Plan, options: Options) -> Books:
    """Where the run stands, by its log."""
    from pacos.self_instruct import Books, Limits, Pool, rules_without

    rules = {} if options.mode == "answer" else rules_without(options.without)
    compared = options.mode != "answer"
    pool = Pool(plan.known, rules, options.similar if compared else None)
    limits = Limits(options.budget_requests, options.budget_tokens, options.budget_dollars)
    return Books(pool, log, limits)
