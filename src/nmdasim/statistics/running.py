"""Means of many columns over any number of frames, in memory that does not grow."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmdasim.errors import StatisticsError
from nmdasim.statistics.estimates import MIN_EFFECTIVE
from nmdasim.statistics.series import inefficiencies

_MAX_BATCHES = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ColumnMeans:
    """Mean and error of each column of a wide observable, such as a radius at each level."""

    mean: NDArray[np.float64]
    """Mean over the frames in which the column is defined; nan where there are none."""
    error: NDArray[np.float64]
    """Standard error of the mean; nan where there is not enough data."""
    deviation: NDArray[np.float64]
    """Standard deviation over the frames: how much the column fluctuates."""
    n_defined: NDArray[np.int64]
    """Frames in which the column is defined."""
    n_effective: NDArray[np.float64]
    """Independent frames that they are worth; nan where nothing tells."""


class RunningMeans:
    """Average a wide observable while its frames pass by.

    Frames are gathered in batches, of which each keeps its count, mean and sum of squares [1]_.
    When `max_batches` are full, neighbours are joined and a batch is twice as long from then on,
    so that memory stays flat and the batches always cover the whole series. The error follows from
    the batch means with their own autocorrelation, which is right also where a batch is not yet
    longer than the correlation time (Flyvbjerg and Petersen's blocking [2]_ goes on until it is).

    Parameters
    ----------
    n_columns : int
        Values in each frame.
    max_batches : int
        Even, at least 64. Up to this many frames the result is that of `estimate_mean` exactly.

    Raises
    ------
    StatisticsError
        If a count is not as said above.

    Notes
    -----
    Add frames in their order. nan means "not defined in this frame" and is left out.

    References
    ----------
    .. [1] T. F. Chan, G. H. Golub, R. J. LeVeque, Am. Stat. 37, 242 (1983),
       doi:10.1080/00031305.1983.10483115
    .. [2] H. Flyvbjerg, H. G. Petersen, J. Chem. Phys. 91, 461 (1989), doi:10.1063/1.457480

    Examples
    --------
    >>> running = RunningMeans(n_columns=2)
    >>> running.add([[1.0, 5.0], [3.0, np.nan]])
    >>> running.n_frames, running.estimate().mean.tolist()
    (2, [2.0, 5.0])
    """

    __slots__ = ("_count", "_full", "_length", "_mean", "_open", "_squares")

    def __init__(self, n_columns: int, *, max_batches: int = _MAX_BATCHES) -> None:
        if n_columns < 0 or max_batches < 64 or max_batches % 2:
            raise StatisticsError(
                f"got {n_columns} columns and {max_batches} batches; need no fewer than 0 columns "
                "and an even number of at least 64 batches"
            )
        shape = (max_batches, n_columns)
        self._count = np.zeros(shape, dtype=np.int64)
        self._mean = np.zeros(shape)
        self._squares = np.zeros(shape)
        self._length = 1
        self._full = 0
        self._open = 0

    @property
    def n_frames(self) -> int:
        """Frames that were added."""
        return self._full * self._length + self._open

    def add(self, frames: ArrayLike) -> None:
        """Add the frames that follow those added before.

        Parameters
        ----------
        frames : array_like of float or bool, shape (n_frames, n_columns)
            nan where a column is not defined.

        Raises
        ------
        StatisticsError
            If the number of columns is another, or a value is infinite.
        """
        rows = np.asarray(frames)
        if rows.ndim != 2 or rows.shape[1] != self._mean.shape[1]:
            raise StatisticsError(
                f"got an array of shape {rows.shape}; need (n_frames, {self._mean.shape[1]})"
            )
        if np.isinf(rows).any():
            raise StatisticsError("a value is infinite; give nan where a column is not defined")
        done = 0
        while done < len(rows):
            whole = min((len(rows) - done) // self._length, len(self._count) - self._full)
            taken = min(self._length - self._open, len(rows) - done)
            if self._open or not whole:
                self._gather(rows[done : done + taken])
            else:
                taken = whole * self._length
                self._fill(rows[done : done + taken].reshape(whole, self._length, rows.shape[1]))
            done += taken

    def _fill(self, batches: NDArray) -> None:
        """Put whole batches behind those that are full, of which none is open."""
        at = slice(self._full, self._full + len(batches))
        self._count[at], self._mean[at], self._squares[at] = _moments(batches)
        self._full = at.stop
        if self._full == len(self._count):
            self._halve()

    def _gather(self, rows: NDArray) -> None:
        """Put frames into the open batch, which they at most fill."""
        at = self._full
        more = _moments(rows)
        parts = (self._count[at], self._mean[at], self._squares[at])
        self._count[at], self._mean[at], self._squares[at] = _joined(parts, more)
        self._open += len(rows)
        if self._open == self._length:
            self._full, self._open = self._full + 1, 0
            if self._full == len(self._count):
                self._halve()

    def _halve(self) -> None:
        """Join neighbouring batches: half as many, twice as long."""
        half = self._full // 2
        kept = (self._count, self._mean, self._squares)
        joined = _joined(tuple(a[::2] for a in kept), tuple(a[1::2] for a in kept))
        for array, values in zip(kept, joined, strict=True):
            array[:half], array[half:] = values, 0
        self._full, self._length = half, 2 * self._length

    def estimate(self, *, first_frame: int = 0) -> ColumnMeans:
        """Give mean and error of each column.

        Parameters
        ----------
        first_frame : int
            Frames before it are left out, as `detect_equilibration` tells; rounded up to a whole
            batch.

        Returns
        -------
        means : ColumnMeans

        Raises
        ------
        StatisticsError
            If `first_frame` is negative.
        """
        if first_frame < 0:
            raise StatisticsError(f"got frame {first_frame} to begin with; the first is 0")
        n_batches = self._full + bool(self._open)
        used = slice(min(-(-first_frame // self._length), n_batches), n_batches)
        count, mean, squares = self._count[used], self._mean[used], self._squares[used]
        total = count.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            middle = (count * mean).sum(axis=0) / total
            variance = (squares + count * (mean - middle) ** 2).sum(axis=0) / total
        # A batch that has barely begun is as noisy as a frame and would disturb the correlation.
        whole = slice(0, len(count) - (0 < 2 * self._open < self._length))
        error, worth = np.full(len(total), math.nan), np.full(len(total), math.nan)
        kept = count[whole] > 0
        # Columns that are defined in the same batches go together.
        alike = {kept[:, column].tobytes(): kept[:, column] for column in range(len(total))}
        for mine in alike.values():
            columns = np.flatnonzero((kept == mine[:, None]).all(axis=0))
            part = np.ix_(np.flatnonzero(mine), columns)
            error[columns], worth[columns] = _errors(
                count[whole][part], mean[whole][part], n=total[columns], variance=variance[columns]
            )
        return ColumnMeans(
            mean=_fixed(middle), error=_fixed(error), deviation=_fixed(np.sqrt(variance)),
            n_defined=_fixed(total), n_effective=_fixed(worth),
        )  # fmt: skip


def _moments(rows: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Count, mean and sum of squared deviations of each column of (..., n_frames, n_columns).

    nan is left out.
    """
    values = rows.astype(np.float64)
    defined = ~np.isnan(values)
    count = defined.sum(axis=-2)
    mean = np.where(defined, values, 0.0).sum(axis=-2) / np.maximum(count, 1)
    squares = (np.where(defined, values - mean[..., None, :], 0.0) ** 2).sum(axis=-2)
    return count, mean, squares


def _joined(
    first: tuple[NDArray, ...], second: tuple[NDArray, ...]
) -> tuple[NDArray, NDArray, NDArray]:
    """Moments of two samples together, from those of each."""
    count = first[0] + second[0]
    share = second[0] / np.maximum(count, 1)
    step = second[1] - first[1]
    squares = first[2] + second[2] + step**2 * first[0] * share
    return count, first[1] + step * share, squares


def _errors(
    count: NDArray[np.int64],
    mean: NDArray[np.float64],
    *,
    n: NDArray[np.int64],
    variance: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Error of the mean and independent frames of each column, (n_batches, n_columns).

    Every batch holds something. n frames of each column are defined.
    """
    if not len(mean):
        return np.full(len(n), math.nan), np.where(n < 1, 0.0, math.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        independent = len(mean) / inefficiencies(mean.T)
        independent[~(variance > 0.0)] = math.nan
        middle = (count * mean).sum(axis=0) / count.sum(axis=0)
        scatter = (count * (mean - middle) ** 2).sum(axis=0) / count.sum(axis=0)
        # No correlation makes frames worth more than independent ones.
        squared = np.maximum(scatter / (independent - 1.0), variance / np.maximum(n - 1.0, 1.0))
        worth = np.minimum(independent, 1.0 + variance / squared)
        enough = (independent > 1.0) & (worth >= MIN_EFFECTIVE)
        error = np.where(enough, np.sqrt(squared), math.nan)
        worth = np.where(enough, 1.0 + variance / squared, worth)
    return error, np.where(independent > 1.0, worth, independent)


def _fixed(values: NDArray) -> NDArray:
    values.flags.writeable = False
    return values
