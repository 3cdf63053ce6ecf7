"""Blind comparison of two or more models' answers: by people or by a judge. Loads without torch."""

from pacos.evaluation.pairwise.alpaca_eval import Texts, read_annotations, write_annotations, write_outputs
from pacos.evaluation.pairwise.finished import Told, comparisons_of, standing, told_of
from pacos.evaluation.pairwise.judge import judge, parse_verdict
from pacos.evaluation.pairwise.plan import REPEATS, plan_questions
from pacos.evaluation.pairwise.records import BY_PEOPLE, Ballot, Choice, Question, Shown
from pacos.evaluation.pairwise.result import PairResult, Result, result_of
from pacos.evaluation.pairwise.store import Comparisons, Spending, Stored, Vote, open_comparisons
from pacos.evaluation.pairwise.voting import (
    JUDGE,
    Progress,
    ballots_of,
    cast,
    default_rater,
    next_question,
    now,
    progress,
    texts_of,
    undo,
)

__all__ = [
    "BY_PEOPLE",
    "JUDGE",
    "REPEATS",
    "Ballot",
    "Choice",
    "Comparisons",
    "PairResult",
    "Progress",
    "Question",
    "Result",
    "Shown",
    "Spending",
    "Stored",
    "Texts",
    "Told",
    "Vote",
    "ballots_of",
    "cast",
    "comparisons_of",
    "default_rater",
    "judge",
    "next_question",
    "now",
    "open_comparisons",
    "parse_verdict",
    "plan_questions",
    "progress",
    "read_annotations",
    "result_of",
    "standing",
    "texts_of",
    "told_of",
    "undo",
    "write_annotations",
    "write_outputs",
]
