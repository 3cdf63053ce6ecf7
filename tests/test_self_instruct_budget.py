"""The budget: reserved before, settled after, never exceeded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacos.self_instruct.budget import OVERHEAD, Budget, Limits, Price, Spent, plausible

PRICE = Price(read=1.0, written=10.0)


def test_the_worst_case_is_every_byte_a_token_and_a_full_answer() -> None:
    worst = Budget(Limits()).worst("täglich", 100, PRICE)
    assert worst == Spent(1, 8 + OVERHEAD + 100, (8 + OVERHEAD + 100 * 10) / 1e6)


@pytest.mark.parametrize(
    ("limits", "name"),
    [(Limits(requests=2), "requests"), (Limits(tokens=299), "tokens"), (Limits(dollars=0.0299), "dollars")],
)
def test_a_request_that_would_pass_a_limit_is_not_reserved(limits: Limits, name: str) -> None:
    budget, worst = Budget(limits), Spent(1, 100, 0.01)
    assert [budget.reserve(worst) for _ in range(3)] == [True, True, False]
    assert budget.exceeded_by(worst) == name
    budget.settle(worst, Spent(1, 10, 0.001))
    assert budget.reserve(worst) is (name != "requests")


def test_what_does_not_fit_beside_what_is_spent_is_hopeless() -> None:
    budget = Budget(Limits(tokens=250), Spent(1, 100))
    assert budget.reserve(Spent(1, 100))
    assert not budget.reserve(Spent(1, 100))
    assert not budget.hopeless(Spent(1, 100))
    assert budget.hopeless(Spent(1, 151))


def test_a_server_that_counts_more_than_the_worst_case_is_learned_from_and_the_others_are_not() -> None:
    budget = Budget(Limits())
    worst = budget.worst("four", 10, PRICE, "long")
    budget.learn("long", worst.tokens + 30, worst)
    assert budget.worst("four", 10, PRICE, "long") == worst + Spent(0, 30, 30 * 10 / 1e6)
    budget.learn("long", 1, worst)
    assert budget.worst("four", 10, PRICE, "long").tokens == worst.tokens + 30
    assert budget.worst("four", 10, PRICE, "other") == worst


@pytest.mark.parametrize(
    ("tokens", "text", "can_be"),
    [(None, "", False), (0, "", True), (0, "yes", False), (-1, "", False), (1, "x" * 32, True), (1, "x" * 33, False),
     (10**9, "x", True), (10**400, "x", False)],
)  # fmt: skip
def test_a_count_of_tokens_that_cannot_be_is_not_believed(tokens: int | None, text: str, can_be: bool) -> None:
    assert plausible(tokens, text) is can_be


STEP = st.tuples(st.integers(1, 400), st.integers(0, 100), st.booleans())


@given(st.lists(STEP, max_size=60), st.integers(0, 12), st.integers(0, 3_000))
def test_however_requests_and_answers_interleave_no_limit_is_passed(
    steps: list[tuple[int, int, bool]], most_requests: int, most_tokens: int
) -> None:
    limits = Limits(most_requests, most_tokens, most_tokens * 4e-6)
    budget, under_way = Budget(limits), []
    for size, percent, answers_now in steps:
        if budget.reserve(worst := PRICE.cost(size, 0)):
            under_way.append((worst, PRICE.cost(size * percent // 100, 0)))
        if answers_now and under_way:
            budget.settle(*under_way.pop(0))
        total = budget.spent + budget.reserved
        assert total.requests <= most_requests
        assert total.tokens <= most_tokens
        assert total.dollars <= most_tokens * 4e-6 + 1e-15
