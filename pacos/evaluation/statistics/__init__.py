"""How sure a figure is, and a difference. Numpy alone."""

from pacos.evaluation.statistics.bootstrap import (
    FEWEST_ROWS,
    LEVEL,
    Comparison,
    Interval,
    Verdict,
    bca_interval,
    compare,
    expanded_level,
    resample_sums,
    verdict,
)
from pacos.evaluation.statistics.clusters import ClusteredMean, cluster_sums, clustered_mean
from pacos.evaluation.statistics.permutation import permutation_p
from pacos.evaluation.statistics.power import more_prompts, prompts_needed, simulated_power, smallest_difference
from pacos.evaluation.statistics.proportions import McNemar, mcnemar, wilson
from pacos.evaluation.statistics.several import holm
from pacos.evaluation.statistics.student import t_quantile

__all__ = [
    "FEWEST_ROWS",
    "LEVEL",
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
    "simulated_power",
    "smallest_difference",
    "t_quantile",
    "verdict",
    "wilson",
]
