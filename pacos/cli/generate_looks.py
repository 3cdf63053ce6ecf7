"""`pacos generate --dry-run` and `--check-teacher`: what would be sent, and whether anybody answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pacos.cli.show import duration, out, safe, tokens
from pacos.errors import GateError

if TYPE_CHECKING:
    from pacos.cli.generate_plan import Plan
    from pacos.self_instruct.answers import Teacher
    from pacos.self_instruct.options import Options

PROBE = "Count from 1 to 40 in words, separated by commas."


def show_request(plan: Plan, options: Options) -> None:
    """--dry-run: the first request, and what all of them may come to."""
    from pacos.self_instruct import Budget, Limits, Price

    request = plan.requests.request(0)
    price = Price(options.price_in, options.price_out)
    worst = Budget(Limits()).worst(request.text, options.max_tokens, price)
    total = plan.count if plan.count is not None else plan.requests.total or 0
    needed = -(-total // plan.requests.num_tasks)
    figures = {"requests": needed, "tokens_at_most": needed * worst.tokens, "dollars_at_most": needed * worst.dollars}
    if options.as_json:
        print(json.dumps({"text": request.text, "lineage": request.lineage, **figures}))
        return
    out().print(safe(request.text), markup=False)
    out().rule(style="dim")
    out().print(
        f"{needed:,} requests if every task is accepted, at most {tokens(worst.tokens)} tokens and "
        f"${worst.dollars:.4f} each: ${needed * worst.dollars:.2f}",
        markup=False,
    )


def check_teachers(teachers: Sequence[Teacher], as_json: bool) -> None:
    """--check-teacher: one short question to each. Raises GateError where one does not answer."""
    from pacos.self_instruct import Failure, Request

    async def ask(teacher: Teacher) -> Any:
        try:
            return (await teacher.ask([Request(0, PROBE, ())]))[0]
        finally:
            await teacher.close()

    outcomes = [(teacher.name, asyncio.run(ask(teacher))) for teacher in teachers]
    if as_json:
        print(json.dumps([{"teacher": name, **checked(outcome)} for name, outcome in outcomes]))
    for name, outcome in [] if as_json else outcomes:
        out().print(f"{name}: {told(outcome)}", markup=False)
    failed = [name for name, outcome in outcomes if isinstance(outcome, Failure)]
    if failed:
        raise GateError(f"{len(failed)} of {len(outcomes)} teachers do not answer: {', '.join(failed)}")


def checked(outcome: Any) -> dict[str, Any]:
    from pacos.self_instruct import Failure

    if isinstance(outcome, Failure):
        return {"answers": False, "why": outcome.why}
    pace = outcome.completion_tokens / outcome.seconds if outcome.completion_tokens and outcome.seconds else None
    return {"answers": True, "seconds": outcome.seconds, "tokens_per_second": pace, "answer": outcome.text}


def told(outcome: Any) -> str:
    facts = checked(outcome)
    if not facts["answers"]:
        return safe(facts["why"])
    pace = f", {facts['tokens_per_second']:,.1f} tokens/s" if facts["tokens_per_second"] else ", tells no token counts"
    return f"answers in {duration(facts['seconds'])}{pace}: {safe(' '.join(facts['answer'].split()))[:100]}"
