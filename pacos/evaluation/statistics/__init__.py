"""How sure a figure is, and a difference. Numpy alone."""

from pacos.evaluation.statistics.bootstrap import (
    LEVEL,
    UNTOLD,
    Interval,
    bca_interval,
    expanded_level,
    resample_sums,
)
from pacos.evaluation.statistics.clusters import ClusteredMean, cluster_sums, clustered_mean
from pacos.evaluation.statistics.intervals import FEW, resampled_interval
from pacos.evaluation.statistics.paired import FEWEST_ROWS, Comparison, Verdict, compare, verdict
from pacos.evaluation.statistics.permutation import permutation_p
from pacos.evaluation.statistics.power import more_prompts, prompts_needed, simulated_power, smallest_difference
from pacos.evaluation.statistics.proportions import McNemar, mcnemar, wilson
from pacos.evaluation.statistics.several import holm
from pacos.evaluation.statistics.student import t_quantile

__all__ = [
    "FEW",
    "FEWEST_ROWS",
    "LEVEL",
    "UNTOLD",
    "ClusteredMean",
    "Comparison",
    "Interval",
    "McNemar",
    "Verdict",
    "bca_interval",
    "cluster_sums",
    "clustered_mean",
    "compare",
    "expanded_level",
    "holm",
    "mcnemar",
    "more_prompts",
    "permutation_p",
    "prompts_needed",
    "resample_sums",
    "resampled_interval",
    "simulated_power",
    "smallest_difference",
    "t_quantile",
    "verdict",
    "wilson",
]
