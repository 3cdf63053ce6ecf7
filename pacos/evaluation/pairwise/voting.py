"""A rater's session, for a terminal or a web page: plain functions over an open store.

    while shown := next_question(store, number, "ann"):  cast(store, number, "ann", shown.number, "left")

Names do not pass through here. What was voted is kept at once, so a session may end anywhere and go on anywhere.
"""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from datetime import UTC, datetime

from pacos.errors import UsageError
from pacos.evaluation.pairwise.alpaca_eval import Texts
from pacos.evaluation.pairwise.records import BY_PEOPLE, RIGHT_SCORE, Ballot, Choice, Question, Shown
from pacos.evaluation.pairwise.store import Comparisons, Vote

JUDGE = "judge:"
"""How raters that are models are named."""


@dataclass(frozen=True)
class Progress:
    """Questions a rater has answered, of all that are asked."""

    done: int
    total: int


def asked(questions: list[Question]) -> list[Question]:
    """Those that are put to people: all but the ones whose answers are the same."""
    return [question for question in questions if not question.same]


def progress(store: Comparisons, number: int, rater: str) -> Progress:
    return Progress(len(store.votes(number, rater)), len(asked(store.questions(number))))


def next_question(store: Comparisons, number: int, rater: str) -> Shown | None:
    """The first question that the rater has not answered; None at the end. Raises UsageError for an unknown number."""
    stored = store.get(number)
    questions = asked(store.questions(number))
    answered = {vote.question for vote in store.votes(number, rater)}
    question = next((q for q in questions if q.number not in answered), None)
    if question is None:
        return None
    prompt, left, right = store.texts(stored, question)
    return Shown(question.number, prompt.instruction, prompt.input, left, right, len(answered), len(questions))


def cast(
    store: Comparisons,
    number: int,
    rater: str,
    question: int,
    choice: Choice,
    *,
    comment: str = "",
    seconds: float = 0.0,
) -> None:
    """Keep a vote. Raises UsageError for a choice or question that is not there, or that was voted on."""
    if choice not in BY_PEOPLE:
        raise UsageError(f"'{choice}' is no choice; accepted: {', '.join(BY_PEOPLE)}")
    store.vote(number, [Vote(question, rater, False, choice, comment, seconds)], now())


def undo(store: Comparisons, number: int, rater: str) -> int | None:
    """Take the rater's last vote back; the number of its question, which comes again next. None where there is none."""
    return store.take_back(number, rater)


def ballots_of(store: Comparisons, number: int) -> list[Ballot]:
    """Every vote as the statistics take it; answers that are the same are a tie of everyone who voted."""
    stored = store.get(number)
    prompts = store.ledger.prompts(stored.evaluation)
    sides = range(len(stored.contestants))
    lengths = [[len(a.text) for a in store.ledger.answers(stored.evaluation, str(side))] for side in sides]
    questions = store.questions(number)
    votes = store.votes(number)
    by_number = {question.number: question for question in questions}
    raters = dict.fromkeys(vote.rater for vote in votes)
    same = [Vote(q.number, rater, False, "tie", "", 0.0) for q in questions if q.same for rater in raters]

    def ballot(vote: Vote) -> Ballot:
        question = by_number[vote.question]
        left, right = (question.right, question.left) if vote.swapped else (question.left, question.right)
        return Ballot(
            item=question.position,
            cluster=prompts[question.position].cluster,
            left=left,
            right=right,
            rater=vote.rater,
            choice="same" if question.same else vote.choice,
            right_score=RIGHT_SCORE[vote.choice],
            left_length=lengths[left][question.position],
            right_length=lengths[right][question.position],
            repeat=question.repeat_of is not None,
        )

    return [ballot(vote) for vote in (*votes, *same)]


def texts_of(store: Comparisons, number: int) -> list[Texts]:
    """Every prompt, instruction and input as one text, with everyone's answers."""
    stored = store.get(number)
    sides = [store.ledger.answers(stored.evaluation, str(side)) for side in range(len(stored.contestants))]
    return [
        Texts(f"{p.instruction}\n\n{p.input}" if p.input else p.instruction, tuple(side[i].text for side in sides))
        for i, p in enumerate(store.ledger.prompts(stored.evaluation))
    ]


def default_rater() -> str:
    """The name of the user of this machine."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "me"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
