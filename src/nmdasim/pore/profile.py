"""Radius of the pore along its axis, open and with a blocker in it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmdasim.errors import PoreError
from nmdasim.pore.climb import climb
from nmdasim.pore.path import search_path
from nmdasim.pore.spheres import MAX_RADIUS_NM, checked_spheres, clearance, near_the_pore

#: Levels every 0.025 nm from below the asparagine ring to above the outer gate.
DEFAULT_LEVELS_NM = np.linspace(-1.0, 3.5, 181)
DEFAULT_LEVELS_NM.flags.writeable = False
#: How far from the axis the centre of the lumen may lie: in 7EU8 it stays within 0.25 nm, and
#: where HOLE goes beyond 0.3 nm it has left the lumen for a crevice between the helices.
REACH_NM = 0.3
#: The gap that is left beside a blocker lies further out.
REACH_PAST_NM = 0.5
# Frames that climb together.
_BLOCK = 32
# Levels this far from a blocker lead the search into the gap beside it.
_APPROACH_NM = 0.3


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
    frames, sizes, heights = checked_spheres(coordinates, radii, levels)
    heavy = np.isfinite(sizes)
    centre = np.empty((len(frames), len(heights), 2))
    radius = np.empty(centre.shape[:2])
    for first in range(0, len(frames), _BLOCK):
        block = slice(first, first + _BLOCK)
        walls = [
            near_the_pore(atoms, sizes[heavy], heights, reach) for atoms in frames[block, heavy]
        ]
        seeds = [search_path(wall, heights, reach) for wall in walls]
        centre[block], radius[block] = climb(np.array(seeds), walls, heights, reach)
    return PoreProfile(levels=heights, radius=_with_walls(radius), centre=centre)


def radius_profile_past(
    profile: PoreProfile,
    coordinates: ArrayLike,
    *,
    radii: ArrayLike,
    blocker: ArrayLike,
    blocker_radii: ArrayLike,
    reach: float = REACH_PAST_NM,
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
    frames, sizes, levels = checked_spheres(coordinates, radii, profile.levels)
    guests, guest_sizes, _ = checked_spheres(blocker, blocker_radii, profile.levels)
    if not len(frames) == len(guests) == len(profile.radius):
        raise PoreError(
            f"got {len(profile.radius)} frames of the profile, {len(frames)} of the pore and "
            f"{len(guests)} of the blocker; need the same number of each"
        )
    heavy, solid = np.isfinite(sizes), np.isfinite(guest_sizes)
    walls = np.concatenate([sizes[heavy], guest_sizes[solid]])
    centre, radius = profile.centre.copy(), profile.radius.copy()
    for first in range(0, len(frames), _BLOCK):
        block = slice(first, first + _BLOCK)
        both = np.concatenate([frames[block, heavy], guests[block, solid]], axis=1)
        touched = np.array(
            [
                _touched(middle, size, levels, guest, guest_sizes[solid])
                for middle, size, guest in zip(
                    centre[block], radius[block], guests[block, solid], strict=True
                )
            ]
        )
        tops, found = _around(both, walls, levels, touched, reach)
        frame, level = np.nonzero(touched)
        centre[frame + first, level] = tops[frame, level]
        radius[frame + first, level] = np.fmin(
            _with_walls(found[frame, level]), radius[frame + first, level]
        )
    return PoreProfile(levels=levels, radius=radius, centre=centre)


def _around(
    frames: NDArray[np.float64],
    radii: NDArray[np.float64],
    levels: NDArray[np.float64],
    touched: NDArray[np.bool_],
    reach: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres and unclipped radii at the touched levels, the blocker among the atoms."""
    seeds = np.full((*touched.shape, 2), np.nan)
    walls = []
    for atoms, mine, seed in zip(frames, touched, seeds, strict=True):
        at = levels[mine] if mine.any() else levels
        stretch = (levels > at[0] - _APPROACH_NM) & (levels < at[-1] + _APPROACH_NM)
        walls.append(near_the_pore(atoms, radii, levels[stretch], reach))
        if mine.any():
            seed[mine] = search_path(walls[-1], levels[stretch], reach)[mine[stretch]]
    return climb(seeds, walls, levels, reach)


def _touched(
    centre: NDArray[np.float64],
    radius: NDArray[np.float64],
    levels: NDArray[np.float64],
    guest: NDArray[np.float64],
    sizes: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Tell at which levels the guest reaches into the sphere, shape (n_levels,)."""
    if not len(guest):
        return np.zeros(len(levels), dtype=bool)
    points = np.column_stack([centre, levels])
    room = clearance(points, coordinates=guest, radii=sizes)
    return room < np.nan_to_num(radius, nan=MAX_RADIUS_NM)


def _with_walls(radius: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(radius > MAX_RADIUS_NM, np.nan, np.maximum(radius, 0.0))
