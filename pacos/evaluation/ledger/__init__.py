"""What was evaluated, kept in the workspace's database: every prompt, answer and score."""

from pacos.evaluation.ledger.evaluations import add_evaluation, answer_of, difference, written
from pacos.evaluation.ledger.records import Entry, Prompt, Subject, Written
from pacos.evaluation.ledger.store import Ledger, open_ledger

__all__ = [
    "Entry",
    "Ledger",
    "Prompt",
    "Subject",
    "Written",
    "add_evaluation",
    "answer_of",
    "difference",
    "open_ledger",
    "written",
]
