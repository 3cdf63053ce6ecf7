"""Do the intervals cover, and do the tests and gates raise false alarms as seldom as they say? Simulated with known truth.

    coverage        share of 2,000 studies whose 95 % interval holds the true difference, by distribution and prompts
    false alarms    share of 2,000 studies of equal models whose permutation p is at most 5 %
    gates           an equally good model refused: by pacos's gate, and by the rule "tuned's figure below base's"

Writes results/intervals.json. Again with: make bench-intervals
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from common import write_result

from pacos.evaluation.gates import Condition, judge
from pacos.evaluation.metrics import ratio
from pacos.evaluation.statistics import cluster_sums, clustered_mean, compare, permutation_p, wilson

STUDIES, RESAMPLES = 2000, 400
SIZES = (20, 40, 80, 200)
Draw = Callable[[np.random.Generator, int], np.ndarray]
DISTRIBUTIONS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, n: rng.normal(0.2, 1, n), 0.2),
    "exponential": (lambda rng, n: rng.exponential(1, n), 1.0),
    "won, lost or tied": (lambda rng, n: rng.choice([-1.0, 0.0, 1.0], n, p=[0.1, 0.7, 0.2]), 0.1),
    "difference of lognormals": (lambda rng, n: rng.lognormal(0, 0.5, n) - rng.lognormal(0, 0.5, n), 0.0),
    "lognormal, sigma 0.75": (lambda rng, n: rng.lognormal(0, 0.75, n), math.exp(0.75**2 / 2)),
    "score of 0 to 1, mostly low": (lambda rng, n: rng.beta(0.5, 1.5, n), 0.25),
}
CLUSTERS: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(0, 1, n),
    "exponential": lambda rng, n: rng.exponential(1, n) - 1,
}
SHARES = (0.5, 0.8, 0.9)


def means(values: np.ndarray) -> np.ndarray:
    return np.column_stack([values, np.ones(len(values))])


def coverage(draw: Draw, truth: float, size: int) -> float:
    rng, hits = np.random.default_rng(size), 0
    for _ in range(STUDIES):
        found = compare(means(np.zeros(size)), means(draw(rng, size)), ratio, rng=rng, resamples=RESAMPLES)
        hits += found.interval.low <= truth <= found.interval.high
    return hits / STUDIES


def share_coverage(share: float, size: int) -> float:
    """Of a share's own interval, Wilson's."""
    rng, hits = np.random.default_rng(size), 0
    for successes in rng.binomial(size, share, STUDIES):
        low, high = wilson(int(successes), size)
        hits += low <= share <= high
    return hits / STUDIES


def clustered_coverage(num_clusters: int, shared: Draw) -> dict[str, float]:
    """Four rows a cluster, which share what `shared` draws, of mean 0 and variance 1: half of their variance."""
    rng, hits = np.random.default_rng(num_clusters), {"bootstrap": 0, "formula": 0, "rows taken one by one": 0}
    names = [str(i // 4) for i in range(4 * num_clusters)]
    for _ in range(STUDIES):
        values = np.repeat(shared(rng, num_clusters), 4) + rng.normal(0, 1, len(names))
        sums = cluster_sums(means(values), names)
        base = np.column_stack([np.zeros(len(sums)), sums[:, 1]])
        low, high = compare(base, sums, ratio, rng=rng, resamples=RESAMPLES).interval
        hits["bootstrap"] += low <= 0 <= high
        low, high = clustered_mean(values, names).interval
        hits["formula"] += low <= 0 <= high
        hits["rows taken one by one"] += abs(values.mean()) <= 1.96 * values.std() / math.sqrt(len(values))
    return {name: count / STUDIES for name, count in hits.items()}


def false_alarms(size: int) -> float:
    rng, alarms = np.random.default_rng(size), 0
    for _ in range(STUDIES):
        hard = rng.exponential(1, size)
        base, tuned = (means(hard * rng.lognormal(0, 0.4, size)) for _ in range(2))
        alarms += permutation_p(base, tuned, ratio, rng=rng, draws=999) <= 0.05
    return alarms / STUDIES


def gates(size: int) -> dict[str, float]:
    """Two models that are each right on half of the prompts, independently."""
    rng, condition = np.random.default_rng(size), Condition(metric="exact_match", no_worse_than_base_by=0.0)
    refused = {"pacos": 0, "figure below base's": 0}
    for _ in range(STUDIES):
        base, tuned = (means((rng.random(size) < 0.5).astype(float)) for _ in range(2))
        found = compare(base, tuned, ratio, rng=rng, resamples=RESAMPLES)
        refused["pacos"] += judge(condition, found, size).outcome == "does not hold"
        refused["figure below base's"] += found.difference < 0
    return {name: count / STUDIES for name, count in refused.items()}


def main() -> None:
    figures: dict[str, Any] = {
        "studies": STUDIES,
        "coverage": {
            name: {str(n): coverage(draw, truth, n) for n in SIZES} for name, (draw, truth) in DISTRIBUTIONS.items()
        },
        "coverage_of_shares": {f"{share:.0%}": {str(n): share_coverage(share, n) for n in SIZES} for share in SHARES},
        "coverage_clustered": {
            f"{name}, {n} clusters": clustered_coverage(n, draw)
            for name, draw in CLUSTERS.items()
            for n in (20, 40, 80)
        },
        "false_alarms_of_permutation": {str(n): false_alarms(n) for n in (10, 40, 200)},
        "equal_models_refused": {str(n): gates(n) for n in (50, 200)},
    }
    refused = figures["equal_models_refused"]["200"]
    ratio_of_refusals = refused["pacos"] / refused["figure below base's"]
    path = write_result("intervals", figures, {"equal_models_refused_pacos_over_figure_alone": ratio_of_refusals})
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
