"""Differences between two ligands or conditions, and whether they can be told from chance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from nmdasim.errors import StatisticsError
from nmdasim.statistics.estimates import (
    MIN_EFFECTIVE,
    Estimate,
    combine_replicas,
    t_quantile,
    wilson_interval,
)


class Answer(StrEnum):
    """What a comparison says."""

    HIGHER = "higher"
    """The second is higher than the first: the interval lies above zero."""
    LOWER = "lower"
    """The second is lower than the first: the interval lies below zero."""
    NO_DIFFERENCE_SEEN = "no difference seen"
    """The interval holds zero. That is not proof of equality: its ends say what is excluded."""
    NOT_ENOUGH_DATA = "not enough data"
    """Nothing can be said about the two ligands or conditions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How much the second of two ligands or conditions differs from the first."""

    name: str
    """What is compared."""
    unit: str
    """Unit of the numbers; empty for shares and counts."""
    difference: float
    """Mean of the second minus mean of the first; nan when one has no mean."""
    low: float
    """Lower end of the interval; nan when there is none."""
    high: float
    """Upper end of the interval; nan when there is none."""
    level: float
    """Share of such intervals that hold the true difference."""
    answer: Answer
    """What may be concluded."""
    n_first: int
    """Replicas of the first."""
    n_second: int
    """Replicas of the second."""
    note: str = ""
    """Why there is no answer, or what the interval rests on."""


def compare_estimates(
    first: Sequence[Estimate], second: Sequence[Estimate], *, level: float = 0.95
) -> Difference:
    r"""Compare an observable between two ligands or conditions.

    Parameters
    ----------
    first, second : sequence of Estimate
        The replicas of each, all of one observable; each replica counts alike.
    level : float
        Confidence level of the interval.

    Returns
    -------
    difference : Difference
        Its answer is `Answer.NOT_ENOUGH_DATA` unless each side has at least two replicas and an
        error: two trajectories always differ, and only replicas tell by how much those of one
        ligand do. With a single replica the interval is given where there are errors, and holds
        for these trajectories alone.

    Raises
    ------
    StatisticsError
        If a side has no replica, names or units differ, or the level is not between 0 and 1.

    Notes
    -----
    Welch's interval: :math:`\Delta \pm t_\nu \sqrt{s_1^2 + s_2^2}` with the standard errors of
    `combine_replicas`, R - 1 degrees of freedom on each side with several replicas and
    :math:`n_\mathrm{eff} - 1` with one, and :math:`\nu` after Satterthwaite [1]_. One interval in
    twenty at 95 % misses the truth: of twenty quantities compared, expect one to differ by
    chance.

    References
    ----------
    .. [1] B. L. Welch, Biometrika 34, 28 (1947), doi:10.1093/biomet/34.1-2.28
    """
    pooled = _pooled(first, second)
    low, high = _welch(pooled, (len(first), len(second)), level)
    return _difference(pooled, (len(first), len(second)), low, high, level)


def compare_shares(
    first: Sequence[Estimate], second: Sequence[Estimate], *, level: float = 0.95
) -> Difference:
    """Compare a share of time, such as an occupancy, between two ligands or conditions.

    Parameters
    ----------
    first, second : sequence of Estimate
        The replicas of each, as `estimate_occupancy` gives them.
    level : float
        Confidence level of the interval.

    Returns
    -------
    difference : Difference
        As from `compare_estimates`; the interval stays within -1 and 1. Of one replica on each
        side it is Newcombe's from the two Wilson intervals [1]_, with effective samples.

    Raises
    ------
    StatisticsError
        If a side has no replica, names or units differ, a mean is no share, or the level is not
        between 0 and 1.

    References
    ----------
    .. [1] R. G. Newcombe, Stat. Med. 17, 873 (1998),
       doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I
    """
    pooled = _pooled(first, second)
    wrong = [side.mean for side in pooled if side.mean < 0.0 or side.mean > 1.0]
    if wrong:
        raise StatisticsError(f"got a share of {wrong[0]:g}; a share lies between 0 and 1")
    counts = len(first), len(second)
    enough = all(side.n_effective >= MIN_EFFECTIVE for side in pooled)
    if counts == (1, 1) and enough and not math.isnan(pooled[0].error + pooled[1].error):
        low, high = _newcombe(pooled, level)
    else:
        low, high = (float(np.clip(end, -1.0, 1.0)) for end in _welch(pooled, counts, level))
    return _difference(pooled, counts, low, high, level)


def _pooled(first: Sequence[Estimate], second: Sequence[Estimate]) -> tuple[Estimate, Estimate]:
    pooled = combine_replicas(first), combine_replicas(second)
    if (pooled[0].name, pooled[0].unit) != (pooled[1].name, pooled[1].unit):
        raise StatisticsError(
            f"got {pooled[0].name} ({pooled[0].unit}) and {pooled[1].name} ({pooled[1].unit}); "
            "compare the same observable in the same unit"
        )
    return pooled


def _welch(
    pooled: tuple[Estimate, Estimate], counts: tuple[int, int], level: float
) -> tuple[float, float]:
    parts = [
        # Without effective samples there is an error only above the least number of them.
        (side.error**2, count - 1.0 if count > 1 else np.fmax(side.n_effective, MIN_EFFECTIVE) - 1)
        for side, count in zip(pooled, counts, strict=True)
    ]
    squared = sum(square for square, _ in parts)
    step = pooled[1].mean - pooled[0].mean
    if not squared > 0.0:
        t_quantile(level, 1.0)  # Refuses an impossible level whatever the data.
        return math.nan, math.nan
    freedom = squared**2 / sum(square**2 / free for square, free in parts)
    half = t_quantile(level, float(freedom)) * math.sqrt(squared)
    return step - half, step + half


def _newcombe(pooled: tuple[Estimate, Estimate], level: float) -> tuple[float, float]:
    z = t_quantile(level, math.inf)
    (p1, p2) = (side.mean for side in pooled)
    (l1, u1), (l2, u2) = (wilson_interval(s.mean, s.n_effective, z=z) for s in pooled)
    low = p2 - p1 - math.hypot(p2 - l2, u1 - p1)
    high = p2 - p1 + math.hypot(u2 - p2, p1 - l1)
    return low, high


def _difference(
    pooled: tuple[Estimate, Estimate],
    counts: tuple[int, int],
    low: float,
    high: float,
    level: float,
) -> Difference:
    answer, note = Answer.NOT_ENOUGH_DATA, ""
    if math.isnan(low):
        note = "at least one side has no error: run longer, or more replicas"
    elif min(counts) < 2:
        note = (
            "a side has a single replica: the interval holds for these trajectories, not for the "
            "ligands or conditions"
        )
    elif low > 0.0 or high < 0.0:
        answer = Answer.HIGHER if low > 0.0 else Answer.LOWER
    else:
        answer = Answer.NO_DIFFERENCE_SEEN
    return Difference(
        name=pooled[0].name,
        unit=pooled[0].unit,
        difference=pooled[1].mean - pooled[0].mean,
        low=low,
        high=high,
        level=level,
        answer=answer,
        n_first=counts[0],
        n_second=counts[1],
        note=note,
    )
