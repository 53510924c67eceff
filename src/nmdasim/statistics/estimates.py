"""Estimates: a mean, its error, and how much data it rests on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaincinv, stdtrit

from nmdasim.errors import StatisticsError
from nmdasim.statistics.series import checked, detect_equilibration, statistical_inefficiency

#: Fewer effective samples than this give no error: at ten, an error is itself uncertain by
#: 1 / sqrt(2 (n - 1)), about 24 %.
MIN_EFFECTIVE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean, how sure it is, and how much data it rests on."""

    name: str
    """What is averaged, in words that a reader of the report understands."""
    unit: str
    """Unit of `mean` and `error`; empty for shares and counts."""
    mean: float
    """Mean over the frames (nan when there are none)."""
    error: float
    """Standard error of the mean (one standard deviation); nan when there is not enough data."""
    n_frames: int
    """Frames that were averaged."""
    n_effective: float
    """Independent samples that the frames are worth; nan when that cannot be told."""
    note: str = ""
    """Why the error is missing, or what to know about it; empty when there is nothing to say."""
    n_discarded: int = 0
    """Frames at the start that were left out because the series had not settled."""


def estimate_mean(
    series: ArrayLike, *, name: str, unit: str, equilibrate: bool = False
) -> Estimate:
    r"""Average a scalar series and give the standard error of the mean.

    Parameters
    ----------
    series : array_like of float, shape (n_frames,)
        An observable in every frame, equally spaced in time.
    name, unit : str
        What the series is, for the reader.
    equilibrate : bool
        Leave out the start that `detect_equilibration` finds. Where the rest is not enough data
        either, nothing is left out: the mean then describes the frames there are.

    Returns
    -------
    estimate : Estimate
        The error is nan, and the note says why, below `MIN_EFFECTIVE` effective samples and for
        a series that never changes.

    Raises
    ------
    StatisticsError
        If the series is not one-dimensional or holds nan or infinity.

    Notes
    -----
    :math:`\sigma_{\bar x}^2 = \frac{1}{N} \sum (x - \bar x)^2 / (n_\mathrm{eff} - 1)` with
    :math:`n_\mathrm{eff} = N / g`: the variance of the sample is corrected for the mean that was
    taken from the same correlated data. Drift beyond the start is not removed: it shows as a long
    correlation, and so as a large error or none.

    Examples
    --------
    >>> estimate_mean([0.1, 0.2], name="depth", unit="nm").note
    'not enough data: 2 effective samples in 2 frames, 10 are needed for an error'
    """
    values = checked(series)
    first = detect_equilibration(values) if equilibrate else 0
    n_effective = _n_effective(values[first:])
    if first and n_effective < MIN_EFFECTIVE:
        first, n_effective = 0, _n_effective(values)
    values = values[first:]
    mean = float(values.mean()) if len(values) else math.nan
    note = _shortage(n_effective, n_frames=len(values))
    error = math.nan
    if not note:
        error = float(values.std() / math.sqrt(n_effective - 1.0))
    return Estimate(
        name=name,
        unit=unit,
        mean=mean,
        error=error,
        n_frames=len(values),
        n_effective=n_effective,
        note=note,
        n_discarded=first,
    )


def confidence_interval(estimate: Estimate, *, level: float = 0.95) -> tuple[float, float]:
    """Bound the mean by Student's t with the effective samples.

    Parameters
    ----------
    estimate : Estimate
    level : float
        Share of such intervals that hold the true mean, between 0 and 1.

    Returns
    -------
    low, high : float
        In the unit of the estimate; nan when there is not enough data for an error.

    Raises
    ------
    StatisticsError
        If the level is not between 0 and 1.

    References
    ----------
    .. [1] Student, Biometrika 6, 1 (1908), doi:10.1093/biomet/6.1.1
    """
    half = estimate.error * t_quantile(level, estimate.n_effective - 1.0)
    return estimate.mean - half, estimate.mean + half


def t_quantile(level: float, freedom: float) -> float:
    """Give the half-width of a central interval in standard errors.

    Parameters
    ----------
    level : float
        Share that the interval holds, between 0 and 1.
    freedom : float
        Degrees of freedom; need not be whole.

    Returns
    -------
    quantile : float
        nan without a degree of freedom.

    Raises
    ------
    StatisticsError
        If the level is not between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise StatisticsError(f"got a confidence level of {level}; it lies between 0 and 1")
    return float(stdtrit(freedom, 0.5 + level / 2.0)) if freedom > 0.0 else math.nan


def estimate_occupancy(
    occupied: ArrayLike, *, name: str, inefficiency: float = math.nan
) -> Estimate:
    r"""Estimate the share of time in which something holds.

    Parameters
    ----------
    occupied : array_like of bool, shape (n_frames,)
        Whether it holds in each frame, equally spaced in time.
    name : str
        What holds, for the reader.
    inefficiency : float
        Frames per independent sample, from a related observable that does fluctuate (for a
        contact: the distance). The larger of it and the series' own inefficiency counts. It is
        the only source when the series never changes.

    Returns
    -------
    estimate : Estimate
        Occupancy as a share. The error is the larger distance from the mean to an end of the
        Wilson score interval at one standard deviation, so that it is never zero: for a contact
        that is always (or never) there it is :math:`1 / (n_\mathrm{eff} + 1)`. It is nan below
        `MIN_EFFECTIVE` effective samples, and when nothing tells the number of samples.

    Raises
    ------
    StatisticsError
        If the series is not one-dimensional, or not made of 0 and 1.

    Notes
    -----
    A state that was never left within the run may still have a lifetime longer than the run:
    the interval covers sampling within the visited state only. The note of such an estimate
    says that no change was seen.

    References
    ----------
    .. [1] E. B. Wilson, J. Am. Stat. Assoc. 22, 209 (1927), doi:10.1080/01621459.1927.10502953
    .. [2] L. D. Brown, T. T. Cai, A. DasGupta, Stat. Sci. 16, 101 (2001),
       doi:10.1214/ss/1009213286

    Examples
    --------
    >>> always = estimate_occupancy([True] * 190, name="contact", inefficiency=10.0)
    >>> always.mean, round(always.error, 3), always.note
    (1.0, 0.05, 'no change was seen: the error is a bound from 19 effective samples')
    """
    values = checked(occupied)
    if not np.isin(values, (0.0, 1.0)).all():
        raise StatisticsError(
            "an occupancy needs a series of True and False (or 1 and 0), got other values: "
            "compare the observable with its threshold first"
        )
    n_effective = _n_effective(values, inefficiency=inefficiency)
    note = _shortage(n_effective, n_frames=len(values))
    mean = float(values.mean()) if len(values) else math.nan
    error = math.nan
    if not note:
        low, high = wilson_interval(mean, n_effective)
        error = max(mean - low, high - mean)
        if mean in (0.0, 1.0):
            note = (
                f"no change was seen: the error is a bound from {n_effective:.3g} effective samples"
            )
    return Estimate(
        name=name,
        unit="",
        mean=mean,
        error=error,
        n_frames=len(values),
        n_effective=n_effective,
        note=note,
    )


def wilson_interval(share: float, n_samples: float, *, z: float = 1.0) -> tuple[float, float]:
    """Bound a share that was measured on independent samples.

    Parameters
    ----------
    share : float
        Measured share, 0 to 1.
    n_samples : float
        Independent samples; need not be whole.
    z : float
        Half-width in standard deviations of the normal distribution.

    Returns
    -------
    low, high : float
        Ends of the Wilson score interval, within 0 and 1.

    Raises
    ------
    StatisticsError
        If the share is outside 0 to 1 or there are no samples.

    References
    ----------
    .. [1] E. B. Wilson, J. Am. Stat. Assoc. 22, 209 (1927), doi:10.1080/01621459.1927.10502953
    """
    if not 0.0 <= share <= 1.0 or not n_samples > 0.0:
        raise StatisticsError(
            f"got a share of {share} from {n_samples} samples; "
            "a share lies between 0 and 1 and needs more than 0 samples"
        )
    shrink = 1.0 + z**2 / n_samples
    centre = (share + z**2 / (2.0 * n_samples)) / shrink
    half = z / shrink * math.sqrt(share * (1.0 - share) / n_samples + (z / (2.0 * n_samples)) ** 2)
    return max(0.0, centre - half), min(1.0, centre + half)


def poisson_interval(count: int, *, level: float = 0.95) -> tuple[float, float]:
    r"""Bound the mean of a Poisson distribution from one count of independent events.

    Parameters
    ----------
    count : int
        Events that were seen; 0 is allowed.
    level : float
        Probability that the interval covers the mean.

    Returns
    -------
    low, high : float
        Ends of the exact central interval; `low` is 0 for no event.

    Raises
    ------
    StatisticsError
        If the count is negative or the level is not between 0 and 1.

    Notes
    -----
    The ends are quantiles of gamma distributions: with :math:`\alpha` = 1 - level they are
    :math:`P^{-1}(n, \alpha / 2)` and :math:`P^{-1}(n + 1, 1 - \alpha / 2)`. Counting is discrete,
    so the interval covers the mean at least as often as `level` says. Divided by the time of
    observation it bounds a rate, and that time divided by it bounds a lifetime.

    References
    ----------
    .. [1] F. Garwood, Biometrika 28, 437 (1936), doi:10.1093/biomet/28.3-4.437

    Examples
    --------
    >>> low, high = poisson_interval(0)
    >>> low, round(high, 2)
    (0.0, 3.69)
    """
    if count < 0 or not 0.0 < level < 1.0:
        raise StatisticsError(
            f"got {count} events and a level of {level}; "
            "the count cannot be negative and the level lies between 0 and 1"
        )
    tail = (1.0 - level) / 2.0
    low = float(gammaincinv(count, tail)) if count else 0.0
    return low, float(gammaincinv(count + 1, 1.0 - tail))


def combine_replicas(estimates: Sequence[Estimate]) -> Estimate:
    """Combine the estimates of one observable from independent replicas.

    Parameters
    ----------
    estimates : sequence of Estimate
        One per replica, same name and unit.

    Returns
    -------
    estimate : Estimate
        Mean of the replicas' means, each replica counting alike. The error is the larger of the
        scatter between replicas and what the replicas' own errors allow. When the scatter is
        larger, the replicas are the independent samples and `n_effective` is their number. Two
        replicas without errors of their own are not enough for an error.

    Raises
    ------
    StatisticsError
        If there is no replica with frames or names and units differ.

    Notes
    -----
    Replicas count alike, whatever their length: a long replica that is trapped in one state
    must not outvote the others.
    """
    _check_same(estimates)
    if len(estimates) == 1:
        return estimates[0]
    means = np.array([estimate.mean for estimate in estimates])
    count = len(means)
    between = float(means.std(ddof=1) / math.sqrt(count))
    within = math.sqrt(sum(estimate.error**2 for estimate in estimates)) / count
    if math.isnan(within):
        error = between if count > 2 else math.nan
        n_effective = float(count)
        note = (
            f"error from the scatter of {count} replicas alone"
            if count > 2
            else "not enough data: 2 replicas, and at least one is too short for its own error"
        )
    else:
        error = max(between, within)
        n_effective = float(count) if between > within else sum(e.n_effective for e in estimates)
        note = "the replicas differ more than their own errors allow" if between > within else ""
    return Estimate(
        name=estimates[0].name,
        unit=estimates[0].unit,
        mean=float(means.mean()),
        error=error,
        n_frames=sum(estimate.n_frames for estimate in estimates),
        n_effective=n_effective,
        note=note,
        n_discarded=sum(estimate.n_discarded for estimate in estimates),
    )


def _check_same(estimates: Sequence[Estimate]) -> None:
    """Refuse replicas that do not measure the same thing."""
    kinds = {(estimate.name, estimate.unit) for estimate in estimates}
    if len(kinds) != 1 or any(estimate.n_frames < 1 for estimate in estimates):
        raise StatisticsError(
            f"got {len(estimates)} estimates of {len(kinds)} observables; "
            "need at least one replica, all of the same observable and each with frames"
        )


def _n_effective(values: NDArray[np.float64], *, inefficiency: float = math.nan) -> float:
    """Effective samples of a series; nan when nothing tells its correlation."""
    if len(values) < 1:
        return 0.0
    own = statistical_inefficiency(values)
    return len(values) / float(np.fmax(own, inefficiency))


def _shortage(n_effective: float, *, n_frames: int) -> str:
    """Say why there is no error, or nothing."""
    if math.isnan(n_effective):
        if n_frames < 2:
            return f"not enough data: {n_frames} frame"
        return "the series never changes, so nothing tells how sure its mean is"
    if n_effective < MIN_EFFECTIVE:
        return (
            f"not enough data: {n_effective:.3g} effective samples in {n_frames} frames, "
            f"{MIN_EFFECTIVE:.3g} are needed for an error"
        )
    return ""
