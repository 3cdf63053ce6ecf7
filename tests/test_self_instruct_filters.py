"""Filters and novelty: each rule by name, each rejection with its reason and what it resembles."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from pacos.data import Example
from pacos.errors import UsageError
from pacos.self_instruct.filters import RULES, first_reason, rules_without
from pacos.self_instruct.parse import Task
from pacos.self_instruct.pool import Pool

GOOD = "Name three rivers that flow through Asia."


@pytest.mark.parametrize(
    ("instruction", "rule"),
    [
        ("Sing now", "length"),
        (" ".join(["word"] * 151), "length"),
        ("Draw a house with a red door.", "media"),
        ("Describe this Picture of a cat.", "media"),
        ("Go to the shop and buy milk.", "media"),
        ("Write a program that adds two numbers.", "program"),
        ('"Translate this sentence into German', "punctuation"),
        ("<task> name three rivers", "punctuation"),
        ("Ärgere dich nicht, sondern erkläre", "ascii"),
        ("请 列出 三 条 河流", "ascii"),
    ],
)
def test_each_rule_rejects_what_it_is_for_and_nothing_when_switched_off(instruction: str, rule: str) -> None:
    task = Task(instruction, "", "yes")
    assert first_reason(task, RULES) == rule
    assert first_reason(task, rules_without([rule])) == ""


@pytest.mark.parametrize(
    "instruction",
    [GOOD, "One two three", " ".join(["word"] * 150), "Profile the imagery of this poem.", "Rewrite a program note.",
     "Is a mapping injective?", "Explain how to write a program."],
)  # fmt: skip
def test_good_instructions_pass(instruction: str) -> None:
    assert first_reason(Task(instruction, "", "yes"), RULES) == ""


def test_the_tasks_own_problem_comes_first_and_cannot_be_switched_off() -> None:
    assert first_reason(Task("Sing", "", "", "no output"), RULES) == "no output"
    assert first_reason(Task(GOOD, "\ud800", "yes"), {}) == "characters"
    assert first_reason(Task(GOOD, "", "a\0b"), {}) == "characters"


def test_an_unknown_rule_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(
        UsageError, match=r"--without medai: no such rule; did you mean 'media'\?; known: length, media"
    ):
        rules_without(["medai"])


@given(st.text(min_size=1).filter(str.strip))
def test_every_instruction_has_a_reason_or_none(instruction: str) -> None:
    assert first_reason(Task(instruction.strip(), "", "x"), RULES) in {"", "characters", *RULES}


def judged(pool: Pool, instruction: str, material: str = "") -> tuple[str, tuple[tuple[str, float], ...]]:
    verdict = pool.judge(Task(instruction, material, "yes"))
    return verdict.reason, verdict.nearest


def test_what_resembles_a_seed_or_an_accepted_row_is_rejected_with_its_name() -> None:
    pool = Pool([Example("Name three rivers of Asia.", "", "x", lineage=("seed_task_7",))], RULES, 0.7)
    assert judged(pool, "Name three rivers of Africa.") == ("similar", (("seed_task_7", pytest.approx(0.8)),))
    assert judged(pool, "Why is the sky blue at noon?") == ("accepted", ())
    accepted = Example("Why is the sky blue at noon?", "", "yes")
    assert judged(pool, "Why is the sky blue at dusk?") == ("similar", ((accepted.id, pytest.approx(6 / 7)),))


def test_exactly_the_threshold_is_novel_and_the_nearest_are_recorded() -> None:
    pool = Pool([Example("a b c d e f g h i j", lineage=("ten",))], {}, 0.7)
    reason, nearest = judged(pool, "a b c d e f g x y z")
    assert (reason, nearest) == ("accepted", (("ten", 0.7),))


def test_the_same_task_twice_is_repeated_also_where_rouge_sees_no_word() -> None:
    pool = Pool([], {}, 0.7)
    assert judged(pool, "列出三条河流") == ("accepted", ())
    assert judged(pool, "列出三条河流 ")[0] == "repeated"
    assert judged(pool, "列出三座山")[0] == "accepted"


def test_a_threshold_of_one_keeps_all_but_repetitions() -> None:
    pool = Pool([], {}, 1.0)
    assert [judged(pool, f"Name three rivers of Asia{end}")[0] for end in (".", "!", ".")] == [
        "accepted",
        "accepted",
        "repeated",
    ]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=8).map(" ".join), max_size=25))
def test_accepted_rows_are_pairwise_novel_and_every_rejection_names_one_that_is_not(texts: list[str]) -> None:
    scorer, pool = RougeScorer(["rougeL"]), Pool([], {}, 0.7)
    accepted: list[str] = []
    for text in texts:
        best = max((scorer.score(other, text)["rougeL"].fmeasure for other in accepted), default=0.0)
        reason, nearest = judged(pool, text)
        assert reason == ("repeated" if text in accepted else "similar" if best > 0.7 else "accepted")
        if reason == "similar":
            assert nearest[0][1] == best
        if reason == "accepted":
            accepted.append(text)
