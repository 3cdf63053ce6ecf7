"""Rows that are related: of one document, or generated from one seed task. They rise and fall together, so a hundred
of them can be worth ten.

Every figure here is a function of summed counts, so a cluster is a row with the sum of its rows' counts: the bootstrap
that draws clusters, and the permutation that swaps whole clusters, are the plain ones on `cluster_sums`. For a mean
there is also the formula (Liang and Zeger 1986; Miller 2024, "Adding Error Bars to Evals"), with t at G - 1 degrees of
freedom:

    variance = G / (G - 1) * sum over clusters of (sum of the residuals in it)^2 / N^2
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pacos.evaluation.statistics.bootstrap import LEVEL, Interval
from pacos.evaluation.statistics.student import t_quantile


@dataclass(frozen=True)
class ClusteredMean:
    """A mean with the standard error that its clusters leave it. One cluster alone tells nothing: infinite."""

    mean: float
    standard_error: float
    interval: Interval
    num_clusters: int


def cluster_sums(counts: np.ndarray, clusters: Sequence[str]) -> np.ndarray:
    """Counts (N, K) -> (G, K), one row for each cluster, in the order in which they first appear."""
    number = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    assert len(clusters) == len(counts)
    sums = np.zeros((len(number), counts.shape[1]))
    np.add.at(sums, [number[name] for name in clusters], counts)
    return sums


def clustered_mean(values: np.ndarray, clusters: Sequence[str], *, level: float = LEVEL) -> ClusteredMean:
    """Cluster-robust mean of values (N,). With every row its own cluster it is the t interval of a mean."""
    values = np.asarray(values, float)
    mean = float(values.mean())
    residuals = cluster_sums((values - mean)[:, None], clusters)[:, 0]
    many = len(residuals)
    if many < 2:
        return ClusteredMean(mean, math.inf, Interval(-math.inf, math.inf), many)
    error = math.sqrt(many / (many - 1) * float((residuals**2).sum())) / len(values)
    half = t_quantile((1 + level) / 2, many - 1) * error
    return ClusteredMean(mean, error, Interval(mean - half, mean + half), many)
