"""Folding of long series into a bounded number of bins, so that a page stays small and true."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Series with at most so many frames are drawn frame by frame.
MAX_POINTS = 2000
#: Bins of longer ones, each drawn with its mean, lowest and highest value.
N_BINS = 500
#: Columns of a heat map over time.
MAX_COLUMNS = 400


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Envelope:
    """A series in equal bins of frames."""

    mean: NDArray[np.float64]
    """Mean over the frames of a bin in which the value is defined, shape (n_bins,)."""
    low: NDArray[np.float64]
    """Lowest value, shape (n_bins,)."""
    high: NDArray[np.float64]
    """Highest value, shape (n_bins,)."""


def bin_starts(n_frames: int, n_bins: int) -> NDArray[np.intp]:
    """Cut frames into bins that differ by at most one frame.

    Parameters
    ----------
    n_frames, n_bins : int
        At least one of each; there are never more bins than frames.

    Returns
    -------
    starts : ndarray of int, shape (n_bins,)
        First frame of each bin.
    """
    n_bins = min(n_bins, n_frames)
    return -(-np.arange(n_bins) * n_frames // n_bins)


def envelope(values: NDArray, *, n_bins: int = N_BINS) -> Envelope:
    """Fold a series into bins that keep its extremes.

    Parameters
    ----------
    values : ndarray of float64, shape (n_frames,)
        nan where not defined.
    n_bins : int

    Returns
    -------
    envelope : Envelope
        nan in a bin without a value.
    """
    values = np.asarray(values, dtype=np.float64)
    starts = bin_starts(len(values), n_bins)
    return Envelope(
        mean=binned_mean(values, n_bins=n_bins),
        low=np.fmin.reduceat(values, starts),
        high=np.fmax.reduceat(values, starts),
    )


def binned_mean(values: NDArray, *, n_bins: int) -> NDArray[np.float64]:
    """Average a series in bins.

    Parameters
    ----------
    values : ndarray of float64, shape (n_frames,)
        nan where not defined; 0 and 1 for a share.
    n_bins : int

    Returns
    -------
    mean : ndarray of float64, shape (n_bins,)
        nan in a bin without a value.
    """
    values = np.asarray(values, dtype=np.float64)
    starts = bin_starts(len(values), n_bins)
    defined = np.isfinite(values)
    count = np.add.reduceat(defined.astype(np.int64), starts)
    total = np.add.reduceat(np.where(defined, values, 0.0), starts)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def most_common(codes: NDArray[np.integer], *, n_codes: int, n_bins: int) -> NDArray[np.intp]:
    """Find the code that most frames of a bin have.

    Parameters
    ----------
    codes : ndarray of int, shape (n_frames,)
        From 0 to `n_codes` - 1.
    n_codes, n_bins : int

    Returns
    -------
    common : ndarray of int, shape (n_bins,)
        The first of those that are equally frequent.
    """
    starts = bin_starts(len(codes), n_bins)
    counts = [np.add.reduceat((codes == code).astype(np.int64), starts) for code in range(n_codes)]
    return np.argmax(counts, axis=0)


def bin_of_frames(frames: NDArray[np.integer], *, n_frames: int, n_bins: int) -> NDArray[np.intp]:
    """Tell in which bin each frame lies.

    Parameters
    ----------
    frames : ndarray of int
        Indices of frames.
    n_frames, n_bins : int

    Returns
    -------
    bins : ndarray of int
        One for each of `frames`, by the bins of `bin_starts`.
    """
    return np.searchsorted(bin_starts(n_frames, n_bins), frames, side="right") - 1


def bin_times(time: NDArray[np.float64], *, n_bins: int) -> NDArray[np.float64]:
    """Give the middle of each bin.

    Parameters
    ----------
    time : ndarray of float64, shape (n_frames,)
    n_bins : int

    Returns
    -------
    middle : ndarray of float64, shape (n_bins,)
    """
    return binned_mean(time, n_bins=n_bins)


def time_axis(time_ps: NDArray) -> tuple[NDArray, str]:
    """Choose the unit of a time axis.

    Parameters
    ----------
    time_ps : ndarray of float64, shape (n_frames,), ps

    Returns
    -------
    time : ndarray of float64
    unit : str
        ps below 10 ns, ns below 10 us, then us.
    """
    end = float(time_ps[-1])
    if end >= 1e7:
        return time_ps / 1e6, "µs"
    return (time_ps / 1e3, "ns") if end >= 1e4 else (time_ps, "ps")
