"""A judge behind an endpoint, or a model of this machine, as `complete(prompts) -> texts` with its cost counted.

A request that fails is asked again after a wait that doubles; one that would pass the budget is not sent. One that the
judge refuses while it answers others (too long, a content filter) is an answer without a verdict, which says why.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pacos.errors import UndecidedError, UsageError, UserError

if TYPE_CHECKING:
    from pacos.evaluation.pairwise import Spending
    from pacos.self_instruct.answers import Answer, Failure, Teacher
    from pacos.self_instruct.budget import Spent
    from pacos.self_instruct.options import Options

RETRIES = 5
LONGEST_WAIT = 60.0
ROUNDS = 4
"""Requests for each lane in a batch, after which the votes are kept."""


class Judge:
    """`complete` raises UserError where the judge cannot be asked any more, UndecidedError where the budget ends. What was
    answered before that, it answers first: it may give back the answers to the first few prompts only.

    `spent` is what it has cost, with what earlier runs of the comparison cost.
    """

    def __init__(self, teacher: Teacher, options: Options, earlier: Spending, *, answered: bool = False):
        from pacos.self_instruct.budget import Budget, Limits, Spent

        self.teacher = teacher
        self.ended: UserError | None = None
        """Why no more is asked."""
        self.answered = answered
        """Whether it has ever answered: what is refused then is the request, not the judge's settings."""
        self.refused: list[str] = []
        """Why requests were refused."""
        limits = Limits(options.budget_requests, options.budget_tokens, options.budget_dollars)
        self.budget = Budget(limits, Spent(earlier.requests, earlier.tokens, earlier.dollars))

    @property
    def batch(self) -> int:
        return self.teacher.lanes * self.teacher.batch * ROUNDS

    @property
    def spent(self) -> Spent:
        return self.budget.spent

    def complete(self, prompts: Sequence[str]) -> list[str]:
        return asyncio.run(self._complete(prompts))

    async def _complete(self, prompts: Sequence[str]) -> list[str]:
        size, lanes = self.teacher.batch, asyncio.Semaphore(self.teacher.lanes)

        async def ask(some: Sequence[str]) -> list[Answer | Failure]:
            async with lanes:
                return await self._ask(some)

        try:
            asked = (ask(prompts[i : i + size]) for i in range(0, len(prompts), size))
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
        finally:
            await self.teacher.close()
        answered = list(itertools.takewhile(lambda each: not isinstance(each, BaseException), outcomes))
        if not answered:
            raise next(each for each in outcomes if isinstance(each, BaseException))
        return self._texts([each for some in answered for each in some])  # type: ignore[union-attr]

    def _texts(self, outcomes: Sequence[Answer | Failure]) -> list[str]:
        """What was answered; of a refused request why it was. Raises UserError where nothing was ever answered."""
        from pacos.self_instruct.answers import Failure
        from pacos.self_instruct.parse import without_thoughts

        refused = [each for each in outcomes if isinstance(each, Failure)]
        self.answered |= len(refused) < len(outcomes)
        if not self.answered:
            raise self._over(refused[0])
        self.refused += [each.why for each in refused]
        return [each.why if isinstance(each, Failure) else without_thoughts(each.text) for each in outcomes]

    async def _ask(self, texts: Sequence[str]) -> list[Answer | Failure]:
        """Answers, however often they must be asked for, and refusals."""
        from pacos.self_instruct.answers import Failure

        for attempt in range(RETRIES + 1):
            if self.ended is not None:
                raise self.ended
            outcomes = await self._attempt(texts)
            failures = [each for each in outcomes if isinstance(each, Failure) and (each.again or each.fatal)]
            if not failures:
                return outcomes
            last = failures[0]
            if last.fatal or attempt == RETRIES or last.wait > LONGEST_WAIT:
                break
            await asyncio.sleep(max(last.wait, min(LONGEST_WAIT, 0.5 * 2**attempt)))
        self.ended = self._over(last)
        raise self.ended

    def _over(self, failure: Failure) -> UserError:
        return UserError(
            f"{self.teacher.name}: {failure.why}\n  the votes so far are kept; the same command goes on from there"
        )

    async def _attempt(self, texts: Sequence[str]) -> list[Answer | Failure]:
        from pacos.evaluation.pairwise.tables import cost_line
        from pacos.self_instruct.answers import Answer
        from pacos.self_instruct.budget import Spent, plausible
        from pacos.self_instruct.requests import Request

        teacher = self.teacher
        worst = [self.budget.worst(text, teacher.max_tokens, teacher.price, teacher.name) for text in texts]
        together = sum(worst, start=Spent())
        if not self.budget.reserve(together):
            self.ended = UndecidedError(
                f"{teacher.name}: the budget has no room for another request ({cost_line(self.spent)} spent); the votes "
                "so far are kept: give more with --budget-dollars or --budget-requests, and run it again"
            )
            raise self.ended
        actual = together
        try:
            outcomes = await teacher.ask([Request(number, text, ()) for number, text in enumerate(texts)])
            actual = Spent()
            for text, most, outcome in zip(texts, worst, outcomes, strict=True):
                if not isinstance(outcome, Answer):
                    actual += {"nothing": Spent(), "request": Spent(1), "worst": most}[outcome.charge]
                elif plausible(outcome.prompt_tokens, text) and plausible(outcome.completion_tokens, outcome.text):
                    actual += teacher.price.cost(outcome.prompt_tokens, outcome.completion_tokens)
                else:
                    actual += most
        finally:
            self.budget.settle(together, actual)
        return outcomes


def open_judge(
    spec: str | None, local: str | None, *, max_tokens: int, requests: int | None, dollars: float | None
) -> tuple[Teacher, Options]:
    """The judge as it is named on the command line, `requests` and `dollars` its budget. Raises UsageError."""
    from pacos.cli.teachers import open_teachers
    from pacos.self_instruct.options import Options

    options = Options(
        teacher=(spec,) if spec else (),
        local=local or "",
        temperature=0.0,
        max_tokens=max_tokens,
        budget_requests=requests,
        budget_dollars=dollars,
    )
    try:
        (teacher,) = open_teachers(options)
    except UsageError as error:
        raise UsageError(str(error).replace("--teacher", "--judge").replace("--local", "--judge-local")) from None
    return teacher, options
