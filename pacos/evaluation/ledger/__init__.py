"""What was evaluated, kept in the workspace's database: every prompt, answer and score."""

from pacos.evaluation.ledger.evaluations import add_evaluation, answer_of, difference, written
from pacos.evaluation.ledger.pairs import Column, Paired, entry_with, paired, read_column
from pacos.evaluation.ledger.records import Entry, Prompt, Subject, Written
from pacos.evaluation.ledger.store import Ledger, open_ledger

__all__ = [
    "Column",
    "Entry",
    "Ledger",
    "Paired",
    "Prompt",
    "Subject",
    "Written",
    "add_evaluation",
    "answer_of",
    "difference",
    "entry_with",
    "open_ledger",
    "paired",
    "read_column",
    "written",
]
