"""The map of a set: instructions as points, like ones close together. Needs an embedding model, which is handed in.

    embed(texts) -> (N, D) vectors;  the two directions in which they vary most (principal components) are the map

A linear map shows coarse groups, and says how much of the variation it shows; what it leaves out can be anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pacos.data.curation.verbs import verb_and_noun

Embed = Callable[[Sequence[str]], np.ndarray]
MAPPED = 2000


@dataclass(frozen=True)
class EmbeddingMap:
    """`points` (N, 2) within -1 to 1; `shown`: the share of the variance that two directions hold, 0 to 1."""

    model: str
    texts: tuple[str, ...]
    verbs: tuple[str, ...]
    points: np.ndarray
    shown: float


def embedding_map(texts: Sequence[str], model: str, embed: Embed) -> EmbeddingMap:
    """The map of the first MAPPED texts; `diversity.Sample` gives them in an order that says nothing."""
    texts = texts[:MAPPED]
    vectors = embed(texts).astype(np.float64)
    centred = vectors - vectors.mean(axis=0) if len(vectors) else vectors
    values, directions = np.linalg.eigh(centred.T @ centred)
    plane = directions[:, ::-1][:, :2]
    signs = np.where(plane[np.abs(plane).argmax(axis=0), range(plane.shape[1])] < 0, -1.0, 1.0)
    points = centred @ (plane * signs)
    points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    points /= max(float(np.abs(points).max(initial=0.0)), 1e-12)
    total = float(values.sum())
    return EmbeddingMap(
        model,
        tuple(texts),
        tuple(verb_and_noun(text)[0] for text in texts),
        points,
        float(values[::-1][:2].sum()) / total if total > 0 else 0.0,
    )
