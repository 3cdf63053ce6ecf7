"""Who votes on a comparison: a person at this terminal, or a judge; and what they are told before."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from pacos.cli.compare_judge import Judge, open_judge
from pacos.cli.show import bar, say
from pacos.errors import UsageError

if TYPE_CHECKING:
    from pacos.evaluation.pairwise import Comparisons


class Asked:
    """Who votes: a person at this terminal, or a judge."""

    def __init__(
        self,
        rater: str | None,
        judge: str | None,
        judge_local: str | None,
        tokens: int,
        requests: int | None,
        dollars: float | None,
    ):
        from pacos.evaluation.pairwise import JUDGE

        if judge and judge_local:
            raise UsageError("--judge and --judge-local: give one of them")
        self.by_judge = bool(judge or judge_local)
        if self.by_judge and rater:
            raise UsageError("--rater names a person, and has no effect beside a judge; leave one away")
        if not self.by_judge and (requests or dollars):
            raise UsageError("--budget-requests and --budget-dollars have no effect without a judge: give --judge")
        if rater and rater.startswith(JUDGE):
            raise UsageError(f"--rater {rater}: '{JUDGE}' begins the names of judges; give another name")
        self.rater = rater
        self.open = partial(open_judge, judge, judge_local, max_tokens=tokens, requests=requests, dollars=dollars)
        self.opened = self.open() if judge else None  # what is wrong with it is known before anyone answers

    def vote(self, store: Comparisons, number: int) -> bool:
        """Whether all was answered; a person may quit before."""
        say(expectation(store, number))
        if self.by_judge:
            self.judge_all(store, number)
            return True
        from pacos.cli.compare_vote import vote as ask
        from pacos.evaluation.pairwise import default_rater

        return ask(store, number, self.rater or default_rater())

    def judge_all(self, store: Comparisons, number: int) -> None:
        from pacos.evaluation.pairwise import JUDGE, Spending
        from pacos.evaluation.pairwise import judge as ask
        from pacos.evaluation.pairwise.tables import cost_line

        teacher, options = self.opened or self.open()
        rater = f"{JUDGE}{teacher.name}"
        answered = bool(store.votes(number, rater))
        judge = Judge(teacher, options, store.spending(number).get(rater, Spending()), answered=answered)

        def complete(prompts: Sequence[str]) -> list[str]:
            try:
                return judge.complete(prompts)
            finally:
                store.spend(number, rater, Spending(judge.spent.requests, judge.spent.tokens, judge.spent.dollars))

        try:
            with bar("judging") as shown:
                ask(store, number, rater, complete, batch=judge.batch, on_batch=shown.update)
        finally:
            say(f"{rater}: {cost_line(judge.spent)}")
            if judge.refused:
                say(f"{rater}: refused {len(judge.refused):,} requests, which count as unparsable: {judge.refused[0]}")


def expectation(store: Comparisons, number: int) -> str:
    """What this many prompts can show, before anyone votes."""
    from pacos.evaluation.statistics import smallest_difference
    from pacos.evaluation.statistics.power import WIN_SPREAD

    prompts = store.ledger.prompts(store.get(number).evaluation)
    units = len({prompt.cluster or f"prompt {i}" for i, prompt in enumerate(prompts)})
    apart = 100 * smallest_difference(units, WIN_SPREAD)
    groups = f" in {units:,} groups of related ones" if units < len(prompts) else ""
    head = f"comparison {number}: {len(prompts):,} prompts{groups}"
    if apart >= 50:
        return f"{head}: too few to show any difference, with 80 % chance"
    return f"{head} show, with 80 % chance, a win rate of {50 + apart:.1f} % or more, or {50 - apart:.1f} % or less"
