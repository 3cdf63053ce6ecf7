"""Questions, votes and their keeping: without a terminal, as a web page would drive them."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from pacos.errors import UsageError
from pacos.evaluation.ledger import Entry, Prompt, Subject, Written
from pacos.evaluation.pairwise import (
    Comparisons,
    Vote,
    ballots_of,
    cast,
    judge,
    next_question,
    open_comparisons,
    parse_verdict,
    plan_questions,
    progress,
    undo,
)
from pacos.evaluation.pairwise.judge import request_text, unanswered
from pacos.evaluation.pairwise.plan import GAP

ANSWERS = [[f"answer {side} to {i}" for i in range(12)] for side in "AB"]


def make(store: Comparisons, answers: list[list[str]] = ANSWERS, key: str = "k") -> int:
    names = [f"model-{n}" for n in range(len(answers))]
    entry = Entry("compare", "x", "now", "v", {str(n): Subject(name, name) for n, name in enumerate(names)})
    prompts = [Prompt(f"p{i}", f"Do {i}.", f"thing {i}") for i in range(len(answers[0]))]
    written = [[Written(text) for text in column] for column in answers]
    return store.add(key, names, entry, prompts, written, plan_questions(answers, seed=0))


def test_every_prompt_and_pair_is_asked_once_and_a_tenth_again_later_with_sides_swapped() -> None:
    answers = [[f"{c} {i}" for i in range(40)] for c in "abc"]
    questions = plan_questions(answers, seed=7)
    first = [q for q in questions if q.repeat_of is None]
    assert [q.number for q in questions] == list(range(132))
    assert len({(q.position, frozenset((q.left, q.right))) for q in first}) == len(first) == 120
    for again in (q for q in questions if q.repeat_of is not None):
        before = questions[again.repeat_of]  # type: ignore[index]
        assert (again.position, again.left, again.right) == (before.position, before.right, before.left)
        assert again.number - before.number >= GAP
    assert 45 <= sum(q.left < q.right for q in first) <= 75
    assert questions == plan_questions(answers, seed=7) != plan_questions(answers, seed=8)


def test_few_prompts_have_their_repeats_too() -> None:
    answers = [[f"{c} {i}" for i in range(4)] for c in "ab"]
    questions = plan_questions(answers, seed=0, repeats=0.5)
    assert [q.repeat_of is not None for q in questions].count(True) == 2


def test_answers_that_are_the_same_are_not_asked_about_and_tie(tmp_path: Path) -> None:
    answers = [["yes", "one", " same\n"], ["no", "two", "same"]]
    with open_comparisons(tmp_path) as store:
        number = make(store, answers)
        assert progress(store, number, "ann").total == 2
        while shown := next_question(store, number, "ann"):
            cast(store, number, "ann", shown.number, "left")
        assert Counter(b.choice for b in ballots_of(store, number)) == {"left": 2, "same": 1}


def test_a_question_shows_texts_and_no_names(tmp_path: Path) -> None:
    with open_comparisons(tmp_path) as store:
        number = make(store)
        shown = next_question(store, number, "ann")
        assert shown is not None
        question = store.questions(number)[0]
        assert shown.left == ANSWERS[question.left][question.position]
        assert shown.right == ANSWERS[question.right][question.position]
        assert (shown.instruction, shown.input) == (f"Do {question.position}.", f"thing {question.position}")
        assert "model" not in repr(shown)


def test_votes_are_there_in_the_next_process_and_raters_do_not_meet(tmp_path: Path) -> None:
    with open_comparisons(tmp_path) as store:
        number = make(store)
        for choice in ("left", "tie", "skip"):
            cast(store, number, "ann", next_question(store, number, "ann").number, choice, comment=choice)  # type: ignore[union-attr, arg-type]
    with open_comparisons(tmp_path) as store:
        assert [(v.question, v.choice, v.comment) for v in store.votes(number, "ann")] == [
            (0, "left", "left"),
            (1, "tie", "tie"),
            (2, "skip", "skip"),
        ]
        assert progress(store, number, "ann").done == 3
        assert next_question(store, number, "bob").number == 0  # type: ignore[union-attr]
        assert undo(store, number, "bob") is None
        assert undo(store, number, "ann") == 2
        assert next_question(store, number, "ann").number == 2  # type: ignore[union-attr]


def test_a_second_vote_on_a_question_and_an_unknown_choice_are_refused(tmp_path: Path) -> None:
    with open_comparisons(tmp_path) as store:
        number = make(store)
        cast(store, number, "ann", 0, "left")
        with pytest.raises(UsageError, match="a question that ann has voted on"):
            cast(store, number, "ann", 0, "right")
        with pytest.raises(UsageError, match="a question that ann has voted on, or that it does not have"):
            cast(store, number, "ann", 99, "right")
        with pytest.raises(UsageError, match="'maybe' is no choice; accepted: left, right, tie, both bad, skip"):
            cast(store, number, "ann", 1, "maybe")  # type: ignore[arg-type]
        assert len(store.votes(number)) == 1


def test_a_comparison_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    with open_comparisons(tmp_path) as store:
        make(store)
        entry = Entry("compare", "x", "now", "v", {"0": Subject("a", "a"), "1": Subject("b", "b")})
        twice = plan_questions([["yes"], ["no"]], seed=0, repeats=0) * 2
        with pytest.raises(sqlite3.IntegrityError):
            store.add("other", ["a", "b"], entry, [Prompt("p", "Do.")], [[Written("yes")], [Written("no")]], twice)
        assert len(store.all()) == len(store.ledger.entries()) == 1


def test_two_processes_that_prepare_the_same_comparison_have_one(tmp_path: Path) -> None:
    with open_comparisons(tmp_path) as one, open_comparisons(tmp_path) as other:
        assert one.find("k") is None is other.find("k")
        assert make(one) == make(other) == 1
        assert len(one.all()) == len(one.ledger.entries()) == 1


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("A is right.\n[[A]]", "left"),
        ("x\n\n  [[B]]  \n\n", "right"),
        ("[[tie]]", "tie"),
        ("[[A]] is better", "unparsable"),
        ("[[A]]\nI mean it.", "unparsable"),
        ("I choose A", "unparsable"),
        ("[[C]]", "unparsable"),
        ("[[A]][[B]]", "unparsable"),
        ("**[[A]]**", "unparsable"),
        ("[[a]]", "unparsable"),
        ("", "unparsable"),
    ],
)
def test_a_verdict_is_the_last_line_or_none(text: str, choice: str) -> None:
    assert parse_verdict(text) == choice


def test_what_an_answer_says_is_not_filled_in_again() -> None:
    text = request_text("Do it.", "with this", "{right} [[A]]", "the right one")
    assert "<answer_A>\n{right} [[A]]\n</answer_A>" in text
    assert "<instruction>\nDo it.\n\nwith this\n</instruction>" in text


def test_a_judge_reads_each_question_in_both_orders_and_goes_on_after_a_stop(tmp_path: Path) -> None:
    calls: list[int] = []

    def complete(prompts: list[str]) -> list[str]:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(len(prompts))
        return ["[[A]]" if "answer_A>\nanswer A" in p else "so\n[[B]]" if "answer A" in p else "?" for p in prompts]

    with open_comparisons(tmp_path) as store:
        number = make(store)
        with pytest.raises(KeyboardInterrupt):
            judge(store, number, "judge:m", complete, batch=5)  # type: ignore[arg-type]
        assert len(store.votes(number)) == 10
        calls.append(0)
        judge(store, number, "judge:m", complete, batch=5)  # type: ignore[arg-type]
        assert unanswered(store, number, "judge:m") == []
        ballots = ballots_of(store, number)
        assert len(ballots) == 24
        assert {b.score for b in ballots} == {0.0}  # the first contestant's answers were taken, wherever they stood
        assert Counter(b.choice for b in ballots) == {"left": 12, "right": 12}


def test_a_verdict_that_cannot_be_read_is_kept_with_its_text(tmp_path: Path) -> None:
    with open_comparisons(tmp_path) as store:
        number = make(store)
        judge(store, number, "judge:m", lambda prompts: ["neither, really"] * len(prompts), batch=100)
        votes = store.votes(number)
        assert {(v.choice, v.comment) for v in votes} == {("unparsable", "neither, really")}
        assert {b.score for b in ballots_of(store, number)} == {None}
        assert isinstance(votes[0], Vote)
