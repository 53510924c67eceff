"""Chains of water through the pore, and the largest ball that could pass."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import mdtraj as md
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmdasim.permeation.kernels import connect
from nmdasim.permeation.lumen import (
    LUMEN_MARGIN_NM,
    PORE_ENDS_NM,
    checked_ends,
    checked_positions,
    found,
    tube,
    with_lumen,
)
from nmdasim.pore import DEFAULT_LEVELS_NM, PoreProfile
from nmdasim.trajectory.names import water_oxygens

#: Waters whose oxygens are this near are neighbours: the distance of the hydrogen bond of
#: Luzar and Chandler (1996), at the first minimum of the pair distribution of water's oxygens.
EDGE_NM = 0.35


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WaterPaths:
    """Whether a chain of waters leads through the pore, in each frame."""

    through: NDArray[np.float64]
    """1 where a chain joins the space below the pore with that above it, 0 where none does,
    nan without water, (n_frames,)."""
    past: NDArray[np.float64]
    """The same from below the ligand to above it; nan where the ligand is outside the pore,
    (n_frames,)."""
    from_inside: NDArray[np.float64]
    """How far up waters are joined with those below the pore, (n_frames,), nm; nan when there
    are none."""
    from_outside: NDArray[np.float64]
    """How far down waters are joined with those above the pore, (n_frames,), nm."""

    def __post_init__(self) -> None:
        for field in fields(self):
            getattr(self, field.name).flags.writeable = False


def find_water_paths(
    water: ArrayLike,
    *,
    lumen: PoreProfile,
    ends: tuple[float, float] = PORE_ENDS_NM,
    guest: ArrayLike | None = None,
    edge: float = EDGE_NM,
    margin: float = LUMEN_MARGIN_NM,
) -> WaterPaths:
    """Follow the waters in the lumen from neighbour to neighbour.

    Parameters
    ----------
    water : array_like of float, shape (n_frames, n_waters, 3), nm
        Oxygens in the pore frame.
    lumen : PoreProfile
        Of the same frames, the ligand not counted.
    ends : tuple of float, nm
        Heights between which the pore lies.
    guest : array_like of float, shape (n_frames, 2), nm, optional
        Lowest and highest atom of the ligand. Without it `past` is nan.
    edge : float, nm
        Oxygens that are no farther apart are neighbours.
    margin : float, nm
        How far beyond the lumen's radius an oxygen still belongs to it.

    Returns
    -------
    paths : WaterPaths

    Raises
    ------
    PoreError
        If frames of water and lumen differ or the ends are not in rising order.

    Notes
    -----
    Waters of the lumen are the nodes of a graph and neighbours its edges. The pore is passed
    when one connected component holds a water at or below the lower end and one at or above
    the upper end. A chain of protons may follow such a path; an ion need not.

    References
    ----------
    .. [1] A. Luzar, D. Chandler, Nature 379, 55 (1996), doi:10.1038/379055a0
    .. [2] B. A. Galler, M. J. Fischer, Commun. ACM 7, 301 (1964), doi:10.1145/364099.364331
    """
    places = checked_positions(water, lumen)
    low, high = checked_ends(ends)
    span = np.full((len(places), 2), np.nan)
    if guest is not None:
        span[:] = guest
        # A ligand that sticks out of the pore is passed where it is inside.
        outside = (span[:, 1] < low) | (span[:, 0] > high)
        span = np.clip(span, low, high)
        span[outside] = np.nan
    joined = connect(places, *tube(lumen, margin), low, high, span, edge)
    return WaterPaths(
        **{name: joined[:, column].copy() for column, name in enumerate(_names(WaterPaths))}
    )


def narrowest_radius(
    profile: PoreProfile, *, ends: tuple[float, float] = PORE_ENDS_NM
) -> NDArray[np.float64]:
    """Give the radius of the largest ball that could pass, in each frame.

    Parameters
    ----------
    profile : PoreProfile
        With the ligand as wall (`nmdasim.pore.radius_profile_past`) or without it.
    ends : tuple of float, nm
        Heights between which the pore must be passed.

    Returns
    -------
    radius : ndarray of float64, shape (n_frames,), nm
        Least radius of the levels between the ends; levels without walls do not hinder. nan
        when no level has walls.

    Raises
    ------
    PoreError
        If the ends are not in rising order.
    """
    low, high = checked_ends(ends)
    between = (profile.levels >= low) & (profile.levels <= high)
    radius = np.where(np.isfinite(profile.radius), profile.radius, np.inf)
    least = radius[:, between].min(axis=1, initial=np.inf)
    return np.where(np.isfinite(least), least, np.nan)


def water_paths(
    trajectory: md.Trajectory | Iterable[md.Trajectory],
    *,
    ligand_atoms: ArrayLike | None = None,
    ends: tuple[float, float] = PORE_ENDS_NM,
    levels: ArrayLike = DEFAULT_LEVELS_NM,
) -> WaterPaths:
    """Tell in which frames waters make a connected path through the pore.

    Parameters
    ----------
    trajectory : mdtraj.Trajectory or iterable of mdtraj.Trajectory
        The channel whole and in one periodic cell, with its water in any periodic image; or
        such chunks in their order.
    ligand_atoms : array_like of int, optional
        Atoms of the ligand, whose stretch of the pore is looked at as well.
    ends : tuple of float, nm
        Heights in the pore frame between which the pore lies.
    levels : array_like of float, shape (n_levels,), nm
        Heights at which the lumen is measured.

    Returns
    -------
    paths : WaterPaths
        See `find_water_paths`.

    Raises
    ------
    SelectionError
        If the topology holds no pore or no water.
    TrajectoryError
        If there is no frame.
    """
    parts = []
    for chunk, lumen in with_lumen(trajectory, levels):
        water = found(water_oxygens(chunk.topology), "water")
        guest = None
        if ligand_atoms is not None:
            heights = chunk.xyz[:, np.asarray(ligand_atoms, dtype=np.intp), 2]
            guest = np.stack([heights.min(axis=1), heights.max(axis=1)], axis=1)
        parts.append(find_water_paths(chunk.xyz[:, water], lumen=lumen, ends=ends, guest=guest))
    return WaterPaths(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in _names(WaterPaths)
        }
    )


def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))
