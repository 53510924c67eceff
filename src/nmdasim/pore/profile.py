"""Radius of the pore along its axis, open and with a blocker in it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmdasim.errors import PoreError
from nmdasim.pore.kernels import (
    MAX_RADIUS_NM,
    NO_ATOM,
    NOT_FINITE,
    grid_within,
    profile_frames,
    touched_levels,
)
from nmdasim.pore.spheres import Spheres, checked_levels, checked_spheres, in_blocks

#: Levels every 0.025 nm from below the asparagine ring to above the outer gate.
DEFAULT_LEVELS_NM = np.linspace(-1.0, 3.5, 181)
DEFAULT_LEVELS_NM.flags.writeable = False
#: How far from the axis the centre of the lumen may lie: in 7EU8 it stays within 0.25 nm, and
#: where HOLE goes beyond 0.3 nm it has left the lumen for a crevice between the helices.
REACH_NM = 0.3
#: The gap that is left beside a blocker lies further out.
REACH_PAST_NM = 0.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoreProfile:
    """Radius of the pore along its axis."""

    levels: NDArray[np.float64]
    """Heights in the pore frame, shape (n_levels,), nm."""
    radius: NDArray[np.float64]
    """Largest sphere that fits at each level, shape (n_frames, n_levels), nm; 0 where none
    fits, nan where the level has no walls."""
    centre: NDArray[np.float64]
    """Centre of that sphere, x and y, shape (n_frames, n_levels, 2), nm."""

    def __post_init__(self) -> None:
        for name in ("levels", "radius", "centre"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.flags.writeable = False
            object.__setattr__(self, name, array)


def radius_profile(
    coordinates: ArrayLike,
    *,
    radii: ArrayLike,
    levels: ArrayLike = DEFAULT_LEVELS_NM,
    reach: float = REACH_NM,
    n_threads: int = 1,
) -> PoreProfile:
    """Measure the radius of the pore at each level of each frame.

    The radius at a level is that of the largest sphere centred there that touches no atom.
    The centre follows the lumen: of all paths through the levels, no step steeper than 45
    degrees, the one with the least summed cost exp(-clearance / 0.03 nm) is found on a
    grid, and from it each level climbs to the top of its clearance, where the sphere
    touches three atoms.

    Parameters
    ----------
    coordinates : array_like of float, shape (n_frames, n_atoms, 3) or (n_atoms, 3), nm
        In the pore frame.
    radii : array_like of float, shape (n_atoms,), nm
        Atoms whose radius is nan (hydrogens) are left out.
    levels : array_like of float, shape (n_levels,), nm
        Rising heights.
    reach : float, nm
        How far from the axis a centre may lie; a lumen that bends further needs more.
    n_threads : int
        Frames are shared among so many; the result does not depend on it.

    Returns
    -------
    profile : PoreProfile

    Raises
    ------
    PoreError
        If the shapes do not agree, the levels do not rise, or no atom is near the pore.

    Notes
    -----
    A local top of the clearance is taken, so a sphere does not slide out through a window
    in the wall even where the space outside is wider. A level where the centre stops at
    `reach` is open sideways: its radius is a lower bound.

    References
    ----------
    .. [1] O. Smart et al., J. Mol. Graph. 14, 354 (1996),
       doi:10.1016/S0263-7855(97)00009-X
    """
    frames, picked, sizes = checked_spheres(coordinates, radii)
    heights = checked_levels(levels)
    centre = np.full((len(frames), len(heights), 2), np.nan)
    radius = np.full(centre.shape[:2], np.nan)
    _measure(
        (frames, picked, sizes),
        (frames[:, :0], picked[:0], sizes[:0]),
        heights,
        reach=reach,
        mine=np.ones(radius.shape, dtype=bool),
        centre=centre,
        radius=radius,
        n_threads=n_threads,
    )
    return PoreProfile(levels=heights, radius=_with_walls(radius), centre=centre)


def radius_profile_past(
    profile: PoreProfile,
    coordinates: ArrayLike,
    *,
    radii: ArrayLike,
    blocker: ArrayLike,
    blocker_radii: ArrayLike,
    reach: float = REACH_PAST_NM,
    n_threads: int = 1,
) -> PoreProfile:
    """Measure what remains of the pore's radius when a blocker counts as wall.

    Parameters
    ----------
    profile : PoreProfile
        Of the same frames without the blocker, from `radius_profile`.
    coordinates : array_like of float, shape (n_frames, n_atoms, 3) or (n_atoms, 3), nm
        The pore without the blocker, in the pore frame.
    radii : array_like of float, shape (n_atoms,), nm
        nan for atoms to leave out.
    blocker : array_like of float, shape (n_frames, n_blocker, 3) or (n_blocker, 3), nm
        Atoms of the ligand, in the pore frame.
    blocker_radii : array_like of float, shape (n_blocker,), nm
        nan for atoms to leave out.
    reach : float, nm
        How far from the axis the centre of a gap beside the blocker may lie.
    n_threads : int
        Frames are shared among so many; the result does not depend on it.

    Returns
    -------
    past : PoreProfile
        Equal to `profile` at levels where the blocker does not touch the open sphere; that
        sphere is still the largest there. Elsewhere the path is searched anew around it, and
        the radius is at most that of the open pore.

    Raises
    ------
    PoreError
        If the shapes do not agree.
    """
    frames, picked, sizes = checked_spheres(coordinates, radii)
    guests, solid, guest_sizes = checked_spheres(blocker, blocker_radii)
    guests = guests.astype(frames.dtype, copy=False)
    if not len(frames) == len(guests) == len(profile.radius):
        raise PoreError(
            f"got {len(profile.radius)} frames of the profile, {len(frames)} of the pore and "
            f"{len(guests)} of the blocker; need the same number of each"
        )
    levels = checked_levels(profile.levels)
    touched = touched_levels(profile.centre, profile.radius, levels, guests, solid, guest_sizes)
    centre, found = profile.centre.copy(), np.full(profile.radius.shape, np.inf)
    _measure(
        (frames, picked, sizes),
        (guests, solid, guest_sizes),
        levels,
        reach=reach,
        mine=touched,
        centre=centre,
        radius=found,
        n_threads=n_threads,
    )
    radius = np.fmin(_with_walls(found), profile.radius)
    return PoreProfile(levels=levels, radius=radius, centre=centre)


def _measure(
    walls: Spheres,
    guests: Spheres,
    levels: NDArray[np.float64],
    *,
    reach: float,
    mine: NDArray[np.bool_],
    centre: NDArray[np.float64],
    radius: NDArray[np.float64],
    n_threads: int,
) -> None:
    """Fill centre and radius at the levels that are `mine`, blocks of frames side by side."""

    def measure(block: slice) -> int:
        return profile_frames(
            walls[0][block], *walls[1:], guests[0][block], *guests[1:], levels,
            grid_within(float(reach)), float(reach), mine[block], centre[block], radius[block],
        )  # fmt: skip

    answers = in_blocks(measure, len(radius), n_threads)
    if NOT_FINITE in answers:
        raise PoreError("got coordinates that are not finite; leave the broken frames out")
    if NO_ATOM in answers:
        raise PoreError(
            f"no atom lies within {reach + MAX_RADIUS_NM:.1f} nm of the axis between "
            f"z = {levels[0]:g} and {levels[-1]:g} nm in some frame; move the coordinates into "
            "the pore frame first"
        )


def _with_walls(radius: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(radius > MAX_RADIUS_NM, np.nan, np.maximum(radius, 0.0))
