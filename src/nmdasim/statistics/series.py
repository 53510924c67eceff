"""What one series tells about its own sampling: correlation, equilibration, blocks, resampling."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmdasim.errors import StatisticsError

# Lags that are summed even when the correlation has crossed zero, because a rapidly oscillating
# series is negative at lag one (the choice of Chodera et al. 2007).
_MIN_LAGS = 3
# About so many values are correlated at once.
_MAX_AT_ONCE = 100_000
# A series longer than this is correlated over so many lags first, and over more only as needed.
_LAGS_AT_ONCE = 4096
# Long series are averaged down to about this many values before the start is searched.
_MAX_VALUES = 2000
_N_STARTS = 26
# The start is cut only when the rest is worth this much more than the whole: the largest of many
# noisy numbers is always somewhat larger than the first.
_LEAST_GAIN = 1.5


def checked(series: ArrayLike) -> NDArray[np.float64]:
    """Turn a series into floats, refusing what cannot be averaged.

    Parameters
    ----------
    series : array_like of float, shape (n_frames,)

    Returns
    -------
    values : ndarray of float64, shape (n_frames,)

    Raises
    ------
    StatisticsError
        If the series is not one-dimensional or holds nan or infinity.
    """
    values = np.asarray(series, dtype=np.float64)
    if values.ndim != 1:
        raise StatisticsError(
            f"got an array of shape {values.shape}; need one value per frame: "
            "pass a single observable"
        )
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise StatisticsError(
            f"{bad} of {len(values)} values are nan or infinite; only finite numbers can be "
            "averaged: leave out the frames in which the observable is not defined"
        )
    return values


def statistical_inefficiency(series: ArrayLike) -> float:
    r"""Count how many frames make one independent sample.

    Parameters
    ----------
    series : array_like of float, shape (n_frames,)
        An observable in every frame, equally spaced in time.

    Returns
    -------
    inefficiency : float
        g, at least 1; nan for a series that never changes or has fewer than two frames,
        because neither tells anything about its correlation.

    Raises
    ------
    StatisticsError
        If the series is not one-dimensional or holds nan or infinity.

    Notes
    -----
    .. math:: g = 1 + 2 \sum_{t=1}^{t_0} \left(1 - \frac{t}{N}\right) C(t)

    with the normalised autocorrelation C(t) of the fluctuations, summed over the initial
    positive sequence: up to the first lag beyond three where C is not positive [1]_. A series
    that is not much longer than its correlation time hides that time, because its own mean was
    taken from it. g is therefore at least that of a first-order autoregressive series,
    (1 + phi) / (1 - phi), with phi = C(1) (N - 1) / N corrected for that bias, (1 + 3 phi) / N
    [2]_, and N where phi then reaches one.

    References
    ----------
    .. [1] J. D. Chodera et al., J. Chem. Theory Comput. 3, 26 (2007), doi:10.1021/ct0502864
    .. [2] F. H. C. Marriott, J. A. Pope, Biometrika 41, 390 (1954), doi:10.1093/biomet/41.3-4.390

    Examples
    --------
    >>> statistical_inefficiency([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    1.0
    """
    values = checked(series)
    return float(inefficiencies(values[None])[0]) if len(values) else math.nan


def inefficiencies(series: NDArray[np.float64]) -> NDArray[np.float64]:
    """Count for many series at once how many frames make one independent sample.

    Parameters
    ----------
    series : ndarray of float64, shape (n_series, n_frames)
        At least one frame, all finite.

    Returns
    -------
    inefficiency : ndarray of float64, shape (n_series,)
        As `statistical_inefficiency` of each.
    """
    found = np.full(len(series), math.nan)
    n = series.shape[1]
    moving = np.flatnonzero(np.ptp(series, axis=1) > 0.0)
    if n > 4 * _LAGS_AT_ONCE:
        for row in moving:
            found[row] = _inefficiency_of_long(series[row])
        return found
    # In parts, so that a long series costs little memory.
    size = max(1, _MAX_AT_ONCE // n)
    for first in range(0, len(moving), size):
        rows = moving[first : first + size]
        fluctuation = series[rows] - series[rows].mean(axis=1, keepdims=True)
        found[rows] = _inefficiencies(fluctuation, np.full(len(rows), n))
    return found


def _inefficiencies(
    fluctuation: NDArray[np.float64], lengths: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Count for series of several lengths, zero beyond their ends, (n_series, n_frames)."""
    correlation = _autocorrelation(fluctuation, lengths)[:, 1:]
    lags = np.arange(1, fluctuation.shape[1])
    stops = (correlation <= 0.0) & (lags > _MIN_LAGS)
    last = np.where(stops.any(axis=1), stops.argmax(axis=1), lengths - 1)
    weights = 1.0 - lags / lengths[:, None]
    weighted = np.where(lags - 1 < last[:, None], weights * correlation, 0.0)
    summed = 1.0 + 2.0 * weighted.sum(axis=1)
    floors = [
        _autoregressive(float(c), int(n)) for c, n in zip(correlation[:, 0], lengths, strict=True)
    ]
    return np.maximum(1.0, np.maximum(summed, floors))


def _inefficiency_of_long(values: NDArray[np.float64]) -> float:
    """Count as `inefficiencies` does, with no more lags in memory than are summed."""
    n = len(values)
    fluctuation = values - values.mean()
    fluctuation /= np.abs(fluctuation).max()
    n_lags = _LAGS_AT_ONCE
    while True:
        n_lags = min(n_lags, n)
        correlation = _lagged_sums(fluctuation, n_lags) / np.arange(n, n - n_lags, -1)
        correlation = correlation[1:] / correlation[0]
        stops = np.flatnonzero(correlation[_MIN_LAGS:] <= 0.0)
        if len(stops) or n_lags == n:
            break
        n_lags *= 4
    last = _MIN_LAGS + int(stops[0]) if len(stops) else n - 1
    whole = 1.0 + 2.0 * float(((1.0 - np.arange(1, last + 1) / n) * correlation[:last]).sum())
    return max(1.0, whole, _autoregressive(float(correlation[0]), n))


def _lagged_sums(values: NDArray[np.float64], n_lags: int) -> NDArray[np.float64]:
    """Sum the products of a series with itself so many frames later, block by block."""
    size = 1 << (2 * n_lags - 1).bit_length()
    sums = np.zeros(n_lags)
    for first in range(0, len(values), n_lags):
        block = np.fft.rfft(values[first : first + n_lags], n=size)
        later = np.fft.rfft(values[first : first + 2 * n_lags], n=size)
        sums += np.fft.irfft(np.conj(block) * later, n=size)[:n_lags]
    return sums


def correlation_time(series: ArrayLike, *, interval: float) -> float:
    r"""Measure the integrated autocorrelation time of a series.

    Parameters
    ----------
    series : array_like of float, shape (n_frames,)
        An observable in every frame.
    interval : float, ps
        Time between two frames.

    Returns
    -------
    time : float, ps
        :math:`\tau = (g - 1) \Delta t / 2`, zero for frames that are independent; nan where
        `statistical_inefficiency` is.

    Raises
    ------
    StatisticsError
        If the series is not one-dimensional or holds nan or infinity, or the interval is not
        positive.
    """
    if not interval > 0.0:
        raise StatisticsError(f"got {interval} ps between frames; it must be more than zero")
    return (statistical_inefficiency(series) - 1.0) * interval / 2.0


def detect_equilibration(series: ArrayLike) -> int:
    r"""Find where the part of a series begins that may be averaged.

    Parameters
    ----------
    series : array_like of float, shape (n_frames,)
        An observable in every frame, equally spaced in time.

    Returns
    -------
    first : int
        First frame of the equilibrated part; 0 when leaving out a start gains nothing.

    Raises
    ------
    StatisticsError
        If the series is not one-dimensional or holds nan or infinity.

    Notes
    -----
    The start is chosen so that what follows holds the most independent samples,
    :math:`\max_{t_0} (N - t_0) / g(t_0)` [1]_: a drift at the start makes the rest look
    strongly correlated. Here it is searched at twenty-six places in the first half only,
    because a series that settles later is not known to have settled. A cut must raise the
    number of independent samples by half, and the mean of what is cut must lie more than two
    standard errors from that of the rest, so that a stationary series is left whole. Series of
    more than 2000 frames are averaged in blocks first, and cut between blocks.

    References
    ----------
    .. [1] J. D. Chodera, J. Chem. Theory Comput. 12, 1799 (2016), doi:10.1021/acs.jctc.5b00784

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=200)
    >>> detect_equilibration(noise), detect_equilibration([9.0] * 20 + list(noise)) >= 20
    (0, True)
    """
    values = checked(series)
    size = max(1, len(values) // _MAX_VALUES)
    coarse = values[: len(values) // size * size].reshape(-1, size).mean(axis=1)
    if len(coarse) < 4 or np.ptp(coarse) == 0.0:
        return 0
    starts = np.unique(np.linspace(0, len(coarse) // 2, _N_STARTS).astype(int))
    worth = _worths(coarse, starts)
    best = int(np.argmax(worth))
    first = int(starts[best])
    gained = worth[best] >= _LEAST_GAIN * worth[0]
    return first * size if gained and _differs(coarse, first, worth[best]) else 0


def block_error(series: ArrayLike, *, n_blocks: int) -> float:
    """Take the standard error of the mean from the scatter of block averages.

    An independent check of `estimate_mean`: it needs no autocorrelation, only blocks that are
    long against the correlation time.

    Parameters
    ----------
    series : array_like of float, shape (n_frames,)
        An observable in every frame, equally spaced in time.
    n_blocks : int
        Equal blocks to cut; frames that do not fill the last block are left out at the start.

    Returns
    -------
    error : float
        Standard error of the mean, in the unit of the series.

    Raises
    ------
    StatisticsError
        If there are fewer than two blocks or fewer frames than blocks.

    References
    ----------
    .. [1] H. Flyvbjerg, H. G. Petersen, J. Chem. Phys. 91, 461 (1989), doi:10.1063/1.457480
    """
    values = checked(series)
    if not 2 <= n_blocks <= len(values):
        raise StatisticsError(
            f"got {n_blocks} blocks for {len(values)} frames; "
            "need at least two blocks and at least one frame in each"
        )
    length = len(values) // n_blocks
    blocks = values[len(values) - n_blocks * length :].reshape(n_blocks, length).mean(axis=1)
    return float(blocks.std(ddof=1) / math.sqrt(n_blocks))


def bootstrap_means(
    replicas: Sequence[ArrayLike],
    *,
    n_resamples: int = 1000,
    block: int | None = None,
    seed: int = 1,
) -> NDArray[np.float64]:
    r"""Resample the mean over replicas: first the replicas, then blocks of time within each.

    The spread of the result is the error of the mean, and its percentiles bound it. It needs no
    formula for the error, so that it checks `estimate_mean` (one replica) and `combine_replicas`
    (several) by another way.

    Parameters
    ----------
    replicas : sequence of array_like of float, shape (n_frames,)
        One series for each replica; each counts alike.
    n_resamples : int
        Means to draw.
    block : int, optional
        Frames in a block; the larger of twice the series' own statistical inefficiency and the
        cube root of its length when left out.
    seed : int
        Of the random numbers.

    Returns
    -------
    means : ndarray of float64, shape (n_resamples,)

    Raises
    ------
    StatisticsError
        If a series is empty, not one-dimensional or holds nan or infinity, or a count is less
        than one.

    Notes
    -----
    Within a replica overlapping blocks are drawn (moving-block bootstrap [1]_), and the result is
    scaled by :math:`\sqrt{N / (N - b)}` for the blocks' loss of variance. Deviations of the R
    replicas from their mean are scaled by :math:`\sqrt{R / (R - 1)}`, without which few replicas
    would look too much alike. With less than about ten replicas percentiles are still too narrow:
    a t interval (`compare_estimates`) is not.

    References
    ----------
    .. [1] H. R. Künsch, Ann. Stat. 17, 1217 (1989), doi:10.1214/aos/1176347265
    """
    series = [checked(replica) for replica in replicas]
    if not series or not all(map(len, series)) or n_resamples < 1 or (block or 1) < 1:
        raise StatisticsError(
            f"got {len(series)} replicas, {n_resamples} resamples and blocks of {block}; need at "
            "least one of each and frames in every replica"
        )
    random = np.random.default_rng(seed)
    means = np.array([values.mean() for values in series])
    within = np.stack([_resampled(values, n_resamples, block, random) for values in series])
    count = len(series)
    if count == 1:
        return means[0] + within[0]
    between = (means - means.mean()) * math.sqrt(count / (count - 1.0))
    drawn = random.integers(count, size=(count, n_resamples))
    moved = between[drawn] + within[drawn, np.arange(n_resamples)]
    return means.mean() + moved.mean(axis=0)


def _resampled(
    values: NDArray[np.float64], n_resamples: int, block: int | None, random: np.random.Generator
) -> NDArray[np.float64]:
    """Deviations of resampled means from the mean, shape (n_resamples,)."""
    n = len(values)
    if n < 2 or np.ptp(values) == 0.0:
        return np.zeros(n_resamples)
    length = block or math.ceil(max(2.0 * statistical_inefficiency(values), n ** (1.0 / 3.0)))
    length = min(length, n // 2)
    sums = np.concatenate([[0.0], np.cumsum(values - values.mean())])
    blocks = (sums[length:] - sums[:-length]) / length
    drawn = random.integers(len(blocks), size=(n_resamples, -(-n // length)))
    deviation = (blocks - blocks.mean())[drawn].mean(axis=1)
    return deviation * math.sqrt(n / (n - length))


def _differs(values: NDArray[np.float64], first: int, worth: float) -> bool:
    """Tell whether the start of a series is another than the rest, by two standard errors."""
    if not first:
        return False
    start, rest = values[:first], values[first:]
    inefficiency = len(rest) / worth
    error = float(rest.std()) * math.sqrt(inefficiency / len(start) + 1.0 / worth)
    return abs(float(start.mean() - rest.mean())) > 2.0 * error


def _worths(values: NDArray[np.float64], starts: NDArray[np.intp]) -> list[float]:
    """Count the independent samples in what follows each start, all starts at once."""
    rests = np.zeros((len(starts), len(values)))
    for row, start in zip(rests, starts, strict=True):
        row[: len(values) - start] = values[start:] - values[start:].mean()
    lengths = len(values) - starts
    moving = np.flatnonzero([np.ptp(values[start:]) > 0.0 for start in starts])
    found = np.zeros(len(starts))
    found[moving] = lengths[moving] / _inefficiencies(rests[moving], lengths[moving])
    return found.tolist()


def _autoregressive(correlation: float, n_frames: int) -> float:
    """Inefficiency of a first-order autoregressive series with this correlation at lag one."""
    phi = correlation * (n_frames - 1) / n_frames
    phi += (1.0 + 3.0 * phi) / n_frames
    return (1.0 + phi) / (1.0 - phi) if phi < 1.0 else float(n_frames)


def _autocorrelation(
    fluctuation: NDArray[np.float64], lengths: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Normalised autocorrelation at every lag, (n_series, n_frames); one at lag zero."""
    n = fluctuation.shape[1]
    # Scaled first, so that neither tiny nor huge units lose the variance.
    scaled = fluctuation / np.abs(fluctuation).max(axis=1, keepdims=True)
    # A power of two is fast whatever the length, and zeros change no sum.
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(scaled, n=size)) ** 2
    sums = np.fft.irfft(spectrum, n=size)[:, :n]
    # Beyond the end of a series there is nothing to divide by, and zero to divide.
    correlation = sums / np.maximum(lengths[:, None] - np.arange(n), 1)
    return correlation / correlation[:, :1]
