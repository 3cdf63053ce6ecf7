"""Which questions are asked, in which order, and who stands on which side: all from a seed.

    every prompt x every pair, shuffled        half of them the other way round, by chance
    + a share of them again, later, sides swapped, which nobody is told: they measure the rater

A repeat comes at least `GAP` questions after the first time, so that it is judged and not remembered.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations

from pacos.evaluation.pairwise.records import Question

GAP = 10
REPEATS = 0.1


def plan_questions(answers: Sequence[Sequence[str]], *, seed: int, repeats: float = REPEATS) -> list[Question]:
    """Questions in the order they are asked. `answers` (contestants, prompts)."""
    rng = random.Random(f"{seed} comparison")
    pairs = list(combinations(range(len(answers)), 2))
    asked = [(position, *rng.sample(pair, 2)) for position in range(len(answers[0])) for pair in pairs]
    rng.shuffle(asked)
    questions = [
        Question(number, position, left, right, same=same_text(answers[left][position], answers[right][position]))
        for number, (position, left, right) in enumerate(asked)
    ]
    return _with_repeats(questions, repeats, rng)


def same_text(first: str, second: str) -> bool:
    return first.split() == second.split()


def _with_repeats(questions: list[Question], share: float, rng: random.Random) -> list[Question]:
    """Questions numbered anew, with the repeats between them."""
    total = len(questions)
    gap = min(GAP, total // 2)
    open_to_it = [q for q in questions if not q.same and q.number + gap <= total]
    again = rng.sample(open_to_it, min(len(open_to_it), round(share * sum(not q.same for q in questions))))
    placed = [(float(q.number), q, False) for q in questions]
    placed += [(rng.uniform(q.number + gap, total) - 0.5, q, True) for q in again]
    placed.sort(key=lambda each: each[0])
    new_number = {q.number: number for number, (_, q, is_repeat) in enumerate(placed) if not is_repeat}
    return [
        Question(number, q.position, q.right, q.left, new_number[q.number])
        if is_repeat
        else Question(number, q.position, q.left, q.right, same=q.same)
        for number, (_, q, is_repeat) in enumerate(placed)
    ]
