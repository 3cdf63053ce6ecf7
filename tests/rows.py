"""Random rows of ids for tests of packing and training: a shared beginning, a prompt, an answer, a stop token."""

from __future__ import annotations

import random

from pacos.prompts import Rendered

STOP = 2


def random_rows(number: int, *, seed: int = 0, vocab: int = 320, shared: int = 6, longest: int = 24) -> list[Rendered]:
    """Rows of ragged length that begin with the same `shared` ids; loss on the answer and the stop token."""
    drawn = random.Random(seed)
    beginning = [drawn.randrange(3, vocab) for _ in range(shared)]
    rows = []
    for _ in range(number):
        prompt = beginning + [drawn.randrange(3, vocab) for _ in range(drawn.randint(1, longest))]
        answer = [drawn.randrange(3, vocab) for _ in range(drawn.randint(0, longest))] + [STOP]
        rows.append(Rendered(tuple(prompt + answer), (False,) * len(prompt) + (True,) * len(answer)))
    return rows
