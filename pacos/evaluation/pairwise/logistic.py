"""Logistic regression by Newton's method (iteratively reweighted least squares), for shares between 0 and 1 too.

    P(y) = sigmoid(X b)        b += (X' W X)^-1 X' (y - p),  W = p (1 - p)

The covariance is the sandwich of clusters, which also holds where y is not one coin for each row:
    (X'WX)^-1 [ sum over clusters of g g' ] (X'WX)^-1 * G / (G - 1),   g = sum of x (y - p) in a cluster
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pacos.evaluation.statistics import cluster_sums

MOST_STEPS = 50
LARGEST = 15.0
"""A coefficient beyond it means that the rows are told apart wholly, and that there is no finite answer."""


class Fit(NamedTuple):
    """Coefficients (P,) and their covariance (P, P)."""

    coefficients: np.ndarray
    covariance: np.ndarray


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))


def fit_logistic(features: np.ndarray, shares: np.ndarray, clusters: Sequence[str]) -> Fit | None:
    """Features (N, P), shares (N,) from 0 to 1. None where no finite coefficients fit, or one cluster is all there is."""
    b = np.zeros(features.shape[1])
    for _ in range(MOST_STEPS):
        p = sigmoid(features @ b)
        hessian = features.T @ (features * (p * (1 - p))[:, None])
        try:
            step = np.linalg.solve(hessian, features.T @ (shares - p))
        except np.linalg.LinAlgError:
            return None
        b = b + step
        if not np.abs(b).max() < LARGEST:
            return None
        if np.abs(step).max() < 1e-10:
            return _with_covariance(features, shares, clusters, b)
    return None


def _with_covariance(features: np.ndarray, shares: np.ndarray, clusters: Sequence[str], b: np.ndarray) -> Fit | None:
    p = sigmoid(features @ b)
    bread = np.linalg.inv(features.T @ (features * (p * (1 - p))[:, None]))
    sums = cluster_sums(features * (shares - p)[:, None], clusters)
    many = len(sums)
    if many < 2:
        return None
    return Fit(b, bread @ (sums.T @ sums) @ bread * many / (many - 1))
