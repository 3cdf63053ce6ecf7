"""Near-copies among sketches: groups within one set, best matches between two. The measure is `near.py`'s.

    clusters(sketches, 0.7)              -> for each text the group it is in, and how alike it is to what it joined
    best_matches(queries, known, 0.7)    -> for each query the most similar known text, or -1

Sketches are made a chunk at a time and joined here, so that texts themselves need not be held.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pacos.data.near import NearIndex, Sketches, sketch


def join(parts: Sequence[Sketches]) -> Sketches:
    """One table of the rows of many."""
    if not parts:
        return sketch([])
    starts = [np.zeros(1, dtype=np.int64)]
    for part in parts:
        starts.append(part.starts[1:] + starts[-1][-1])
    return Sketches(np.concatenate([part.values for part in parts]), np.concatenate(starts))


def clusters(sketches: Sketches, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(label, other, similarity) of each text: the smallest member of its group, the earlier text it is most like (-1 where
    there is none), and how much. Texts are one group where a chain of similarities of at least `threshold` joins them."""
    index, count = NearIndex(sketches, threshold), len(sketches)
    parent, other, alike = list(range(count)), np.full(count, -1), np.zeros(count)
    for n, shared in enumerate(index.shared(sketches, least=2)):
        if not len(shared):
            continue
        rows = index.candidates(shared)
        rows, found = index.verified(sketches[n], rows[rows < n])
        if len(rows):
            other[n], alike[n] = rows[found.argmax()], found.max()
            _tie(parent, [n, *rows.tolist()])
    return np.array([_root(parent, n) for n in range(count)], dtype=np.int64), other, alike


def _tie(parent: list[int], members: Sequence[int]) -> None:
    """Make the groups of the members one, named by its smallest (union-find with path halving, Tarjan 1975)."""
    roots = sorted({_root(parent, member) for member in members})
    for root in roots[1:]:
        parent[root] = roots[0]


def _root(parent: list[int], n: int) -> int:
    while parent[n] != n:
        parent[n] = n = parent[parent[n]]
    return n


def best_matches(queries: Sketches, known: Sketches, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """(number, similarity) of the known text that each query is most like; -1 and 0 where none reaches the threshold."""
    best, alike = np.full(len(queries), -1), np.zeros(len(queries))
    index = NearIndex(known, threshold)
    for n, shared in enumerate(index.shared(queries)):
        if len(shared):
            rows, found = index.verified(queries[n], index.candidates(shared))
            if len(rows):
                best[n], alike[n] = rows[found.argmax()], found.max()
    return best, alike
