"""Means of correlated series with errors that may be believed, or a plain "not enough data".

Frames of a trajectory are not independent: neighbouring ones resemble each other. The error of a
mean therefore follows from the number of *effective* (independent) samples, which the series'
own autocorrelation tells. Below `MIN_EFFECTIVE` of them no error is given.
"""

from nmdasim.statistics.comparison import Answer, Difference, compare_estimates, compare_shares
from nmdasim.statistics.estimates import (
    MIN_EFFECTIVE,
    Estimate,
    combine_replicas,
    confidence_interval,
    estimate_mean,
    estimate_occupancy,
    poisson_interval,
    wilson_interval,
)
from nmdasim.statistics.running import ColumnMeans, RunningMeans
from nmdasim.statistics.series import (
    block_error,
    bootstrap_means,
    correlation_time,
    detect_equilibration,
    statistical_inefficiency,
)

__all__ = [
    "MIN_EFFECTIVE",
    "Answer",
    "ColumnMeans",
    "Difference",
    "Estimate",
    "RunningMeans",
    "block_error",
    "bootstrap_means",
    "combine_replicas",
    "compare_estimates",
    "compare_shares",
    "confidence_interval",
    "correlation_time",
    "detect_equilibration",
    "estimate_mean",
    "estimate_occupancy",
    "poisson_interval",
    "statistical_inefficiency",
    "wilson_interval",
]
