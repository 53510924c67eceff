"""Densities of water and ions along the pore."""

import math
from collections.abc import Iterable, Sequence

import mdtraj as md
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from nmdasim.errors import PoreError
from nmdasim.permeation.kernels import count
from nmdasim.permeation.lumen import (
    LUMEN_MARGIN_NM,
    checked_ends,
    checked_positions,
    particles,
    tube,
    with_lumen,
)
from nmdasim.pore import DEFAULT_LEVELS_NM, PoreProfile
from nmdasim.statistics import RunningMeans

#: Thickness of the slices in which particles are counted.
SLICE_NM = 0.05
#: Water is bulk this far from every heavy atom of the solute: three layers of water.
BULK_CLEAR_NM = 0.9
# Radius and spacing of the balls in which bulk water is counted; each holds about nine.
_BALL_NM = 0.4
_BALL_STEP_NM = 0.8
# A layer of fewer balls does not tell whether it is water.
_LEAST_BALLS = 8


class PoreDensity:
    """Count particles along the pore while the frames go by.

    Parameters
    ----------
    kinds : sequence of str
        Kind of each particle, such as "water" or "Na".
    ends : tuple of float, nm
        Heights between which slices are cut.
    slice_nm : float
        Thickness of a slice; the last one may be cut off at the upper end.
    margin : float, nm
        How far beyond the lumen's radius a particle still belongs to it.

    Raises
    ------
    PoreError
        If the ends are not in rising order or a slice has no thickness.
    """

    __slots__ = ("_bottom", "_codes", "_margin", "_means", "_names", "_thick", "levels")

    def __init__(
        self,
        kinds: Sequence[str],
        *,
        ends: tuple[float, float] = (-1.0, 3.5),
        slice_nm: float = SLICE_NM,
        margin: float = LUMEN_MARGIN_NM,
    ) -> None:
        low, high = checked_ends(ends)
        n_slices = int((high - low) / slice_nm + 1e-9) if slice_nm > 0.0 else 0
        if n_slices < 1:
            raise PoreError(
                f"slices of {slice_nm:g} nm do not fit between {low:g} and {high:g} nm: "
                "take thinner ones"
            )
        self._bottom, self._thick, self._margin = low, slice_nm, margin
        self._names = tuple(dict.fromkeys(kinds))
        codes = {name: code for code, name in enumerate(self._names)}
        self._codes = np.array([codes[kind] for kind in kinds], dtype=np.int64)
        self._means = RunningMeans(n_columns=(2 * len(self._names) + 1) * n_slices)
        #: Heights of the middles of the slices, shape (n_slices,), nm.
        self.levels = low + slice_nm * (np.arange(n_slices) + 0.5)

    def add(self, positions: ArrayLike, *, lumen: PoreProfile) -> None:
        """Add the frames that follow those added before.

        Parameters
        ----------
        positions : array_like of float, shape (n_frames, n_particles, 3), nm
            In the pore frame, the particles always in the same order.
        lumen : PoreProfile
            Of the same frames, the ligand not counted.

        Raises
        ------
        PoreError
            If the shapes do not agree.
        """
        self.add_counts(self.count(positions, lumen=lumen))

    def count(self, positions: ArrayLike, *, lumen: PoreProfile) -> NDArray[np.float64]:
        """Count the particles of some frames without adding them; threads may do so at once.

        Parameters
        ----------
        positions : array_like of float, shape (n_frames, n_particles, 3), nm
        lumen : PoreProfile

        Returns
        -------
        counts : ndarray of float64, shape (n_frames, n_columns)
            For `add_counts`.

        Raises
        ------
        PoreError
            If the shapes do not agree.
        """
        places = checked_positions(positions, lumen)
        if places.shape[1] != len(self._codes):
            raise PoreError(
                f"got {places.shape[1]} particles; need the {len(self._codes)} of the first frames"
            )
        levels, centre, reach = tube(lumen, self._margin)
        n_kinds, n_slices = len(self._names), len(self.levels)
        counts = np.zeros((len(places), 2, n_kinds, n_slices))
        count(
            places, levels, centre, reach, self._margin, self._bottom, self._thick, self._codes,
            counts,
        )  # fmt: skip
        near = np.abs(self.levels[:, None] - levels).argmin(axis=1)
        area = np.pi * (reach[:, near] - self._margin) ** 2
        return np.concatenate([counts.reshape(len(places), 2 * n_kinds * n_slices), area], axis=1)

    def add_counts(self, counts: NDArray[np.float64]) -> None:
        """Add what `count` gave of the frames that follow.

        Parameters
        ----------
        counts : ndarray of float64, shape (n_frames, n_columns)
        """
        self._means.add(counts)

    def to_columns(self, *, bulk_per_nm3: float = math.nan) -> dict[str, list[object]]:
        """Give the densities so far as columns for any table library.

        Parameters
        ----------
        bulk_per_nm3 : float, 1/nm^3
            Density of water far from the protein, for the relative density; nan when unknown.

        Returns
        -------
        columns : dict of str to list
            One row for each kind and slice. `per_nm` is the number of particles of the lumen
            per length of the axis. `per_nm3` counts only those within the lumen's largest
            sphere, per volume of its discs; its error takes that volume as exact.
        """
        mean, error = (
            getattr(self._means.estimate(), name).reshape(-1, len(self.levels))
            for name in ("mean", "error")
        )
        n_kinds = len(self._names)
        columns: dict[str, list[object]] = {
            "kind": [kind for kind in self._names for _ in self.levels],
            "z_nm": self.levels.tolist() * n_kinds,
        }
        with np.errstate(divide="ignore", invalid="ignore"):
            over_volume = np.where(mean[-1] > 0.0, 1.0 / (mean[-1] * self._thick), np.nan)
        for name, part, over in (
            ("per_nm", slice(0, n_kinds), np.float64(1.0 / self._thick)),
            ("per_nm3", slice(n_kinds, 2 * n_kinds), over_volume),
        ):
            columns[name] = (mean[part] * over).ravel().tolist()
            columns[f"{name}_error"] = (error[part] * over).ravel().tolist()
        water = np.array(columns["kind"]) == "water"
        dense = np.where(water, np.array(columns["per_nm3"], dtype=np.float64), np.nan)
        columns["relative_to_bulk"] = (dense / bulk_per_nm3).tolist()
        known = math.isfinite(bulk_per_nm3)
        columns["note"] = [
            "" if known or not mine else "not enough data: no water far from the protein"
            for mine in water
        ]
        return columns


def bulk_density(water: ArrayLike, *, solute: ArrayLike, centre: ArrayLike, radius: float) -> float:
    """Measure the density of water far from the solute in one frame.

    Parameters
    ----------
    water : array_like of float, shape (n_waters, 3), nm
        Oxygens, each at its periodic image nearest to `centre`.
    solute : array_like of float, shape (n_atoms, 3), nm
        Heavy atoms that the bulk keeps away from.
    centre : array_like of float, shape (3,), nm
    radius : float, nm
        Distance from `centre` within which the periodic cell is whole.

    Returns
    -------
    density : float, 1/nm^3
        nan where too few balls of 0.4 nm lie far enough from the solute and within the cell, or
        none holds any water.

    Notes
    -----
    Waters are counted in balls on a grid that keep `BULK_CLEAR_NM` away from the solute. Lipids are
    no solute: layers of balls across the pore's axis that hold much less than the others lie in a
    membrane or at its face and are left out. The density is the mean over the rest.
    """
    middle = np.asarray(centre, dtype=np.float64)
    oxygens = np.asarray(water, dtype=np.float64) - middle
    reach = radius - _BALL_NM
    if not 0.0 < reach < math.inf or not len(oxygens):
        return math.nan
    half = int(reach / _BALL_STEP_NM)
    side = np.arange(-half, half + 1)
    grid = np.stack(np.meshgrid(side, side, side, indexing="ij"), axis=-1).reshape(-1, 3)
    # Balls do not touch each other, so that a water lies in one at most.
    cell = np.rint(oxygens / _BALL_STEP_NM)
    inside = (np.linalg.norm(oxygens - cell * _BALL_STEP_NM, axis=1) <= _BALL_NM) & (
        np.abs(cell) <= half
    ).all(axis=1)
    place = (cell[inside].astype(np.intp) + half) @ [len(side) ** 2, len(side), 1]
    held = np.bincount(place, minlength=len(grid))
    balls = _BALL_STEP_NM * grid
    away, _ = cKDTree(np.asarray(solute, dtype=np.float64) - middle).query(
        balls, distance_upper_bound=BULK_CLEAR_NM + _BALL_NM
    )
    bulk = np.isinf(away) & (np.linalg.norm(balls, axis=1) <= reach)
    if not bulk.any():
        return math.nan
    balls, held = balls[bulk], held[bulk]
    _, layer, size = np.unique(balls[:, 2], return_inverse=True, return_counts=True)
    means = np.where(size >= _LEAST_BALLS, np.bincount(layer, held) / size, 0.0)
    if not means.any():
        return math.nan
    wet = means >= 0.75 * np.median(means[means > 0.25 * means.max()])
    return float(held[wet[layer]].mean() / (4.0 / 3.0 * np.pi * _BALL_NM**3))


def particle_density(
    trajectory: md.Trajectory | Iterable[md.Trajectory],
    *,
    levels: ArrayLike = DEFAULT_LEVELS_NM,
) -> PoreDensity:
    """Measure the density of water and ions along the pore.

    Parameters
    ----------
    trajectory : mdtraj.Trajectory or iterable of mdtraj.Trajectory
        The channel whole and in one periodic cell, with water and ions in any periodic image;
        or such chunks in their order.
    levels : array_like of float, shape (n_levels,), nm
        Heights at which the lumen is measured; densities are given between their ends.

    Returns
    -------
    density : PoreDensity

    Raises
    ------
    SelectionError
        If the topology holds no pore, or neither water nor ions.
    TrajectoryError
        If there is no frame.
    """
    density = None
    for chunk, lumen in with_lumen(trajectory, levels):
        atoms, kinds = particles(chunk.topology)
        if density is None:
            density = PoreDensity(kinds, ends=(lumen.levels[0], lumen.levels[-1]))
        density.add(chunk.xyz[:, atoms], lumen=lumen)
    assert density is not None
    return density
