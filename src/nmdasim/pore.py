"""The pore: its frame, its radius along the axis and what fills its cross-section.

Plain geometry of points and spheres, used by both halves of nmdasim. Lengths are in nm.
Levels and profiles are meant in the pore frame, whose z axis runs along the pore.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from nmdasim.errors import PoreError

#: Radii in nm of the united atoms of HOLE's simple.rad (Weiner et al. 1984); halogens,
#: which that file lacks, after Bondi, J. Phys. Chem. 68, 441 (1964), doi:10.1021/j100785a001.
RADII_NM = {
    "C": 0.185, "N": 0.175, "O": 0.165, "S": 0.200, "P": 0.210,
    "F": 0.147, "CL": 0.175, "BR": 0.185, "I": 0.198,
}  # fmt: skip

#: Levels every 0.025 nm from below the asparagine ring to above the outer gate.
DEFAULT_LEVELS_NM = np.linspace(-1.0, 3.5, 181)
DEFAULT_LEVELS_NM.flags.writeable = False

#: A sphere as large as this has left the pore; HOLE ends there too (endrad 15 A by default).
MAX_RADIUS_NM = 1.0
#: How far from the axis the centre of the lumen may lie: in 7EU8 it stays within 0.25 nm, and
#: where HOLE goes beyond 0.3 nm it has left the lumen for a crevice between the helices.
REACH_NM = 0.3
#: The gap that is left beside a blocker lies further out.
REACH_PAST_NM = 0.5
#: Radius of a water molecule as a probe.
PROBE_NM = 0.14

# Search for the path: spacing of the grid in the plane and along z, the clearance over
# which a passage becomes e times cheaper, and the price of moving sideways.
_GRID_NM = 0.05
_STEP_NM = 0.1
_SOFTNESS_NM = 0.03
_SIDEWAYS_COST = 1e-3
_OFF_AXIS_COST = 1e-4
# Beyond this clearance the search sees no walls; the climb that follows does.
_SEEN_NM = 0.35

# The climb: how much farther than the nearest an atom is still looked at, size of one step,
# and when to stop.
_SHELL_NM = 0.15
_TRUST_NM = 0.05
_TOLERANCE_NM = 1e-5
# Frames that climb together, and where the rows of a table are padded to.
_BLOCK = 16
_FAR_NM = 1e3
_MAX_STEPS = 60
_MAX_ROUNDS = 8
_MAX_PIVOTS = 30
# How far from the centre of the lumen a cross-section is looked at.
_HALF_WINDOW_NM = 0.8
# Three walls at 120 degrees that bound each step of the climb.
_WALLS = -np.array([[np.cos(t), np.sin(t)] for t in (0.0, 2 * np.pi / 3, 4 * np.pi / 3)])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoreFrame:
    """Where the pore lies and how it is oriented in the coordinates it was fitted to."""

    origin: NDArray[np.float64]
    """Centroid of the asparagine ring, shape (3,), nm."""
    rotation: NDArray[np.float64]
    """Unit axes x, y and z of the pore as rows, shape (3, 3)."""

    def __post_init__(self) -> None:
        for name, shape in (("origin", (3,)), ("rotation", (3, 3))):
            object.__setattr__(self, name, _read_only(getattr(self, name), shape, name))


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Wall:
    atoms: NDArray[np.float64]
    """Heavy atoms that may touch a sphere, shape (n_atoms, 3), nm."""
    radii: NDArray[np.float64]
    """Their radii, shape (n_atoms,), nm."""


def _read_only(values: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    array = np.array(values, dtype=np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise PoreError(f"got {name} of shape {array.shape}; need finite numbers of shape {shape}")
    array.flags.writeable = False
    return array


# ---------------------------------------------------------------------------- the frame


def fit_pore_frame(
    *, n_site_ca: ArrayLike, threonine_ca: ArrayLike, glun1_direction: ArrayLike
) -> PoreFrame:
    """Fit the pore frame to the rings of the pore.

    Parameters
    ----------
    n_site_ca : array_like of float, shape (4, 3), nm
        CA atoms of the asparagine ring; their centroid is the origin.
    threonine_ca : array_like of float, shape (4, 3), nm
        CA atoms of the threonine ring; +z runs from the origin to their centroid,
        that is towards the outside of the cell.
    glun1_direction : array_like of float, shape (3,)
        From the second GluN1 chain to the first; its part across z is +x.

    Returns
    -------
    frame : PoreFrame

    Raises
    ------
    PoreError
        If the two rings coincide or `glun1_direction` runs along the pore.

    Examples
    --------
    >>> square = np.array([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
    >>> frame = fit_pore_frame(
    ...     n_site_ca=square, threonine_ca=square + [0, 0, 1.5], glun1_direction=[1, 0, 0]
    ... )
    >>> frame.rotation.round(3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    lower = _read_only(n_site_ca, (4, 3), "asparagine ring")
    upper = _read_only(threonine_ca, (4, 3), "threonine ring")
    direction = _read_only(glun1_direction, (3,), "GluN1 direction")
    origin = lower.mean(axis=0)
    z = _unit(upper.mean(axis=0) - origin, "the asparagine and the threonine ring coincide")
    x = _unit(direction - (direction @ z) * z, "the GluN1 chains lie above each other on the axis")
    return PoreFrame(origin=origin, rotation=np.array([x, np.cross(z, x), z]))


def _unit(vector: NDArray[np.float64], problem: str) -> NDArray[np.float64]:
    length = np.linalg.norm(vector)
    if length < 1e-6:
        raise PoreError(f"{problem}: give the CA atoms of one tetramer of the receptor")
    return vector / length


def to_pore(frame: PoreFrame, coordinates: ArrayLike) -> NDArray[np.float64]:
    """Move coordinates into the pore frame.

    Parameters
    ----------
    frame : PoreFrame
    coordinates : array_like of float, shape (..., 3), nm

    Returns
    -------
    in_pore : ndarray of float64, shape (..., 3), nm
    """
    return (np.asarray(coordinates, dtype=np.float64) - frame.origin) @ frame.rotation.T


def from_pore(frame: PoreFrame, in_pore: ArrayLike) -> NDArray[np.float64]:
    """Move coordinates out of the pore frame, undoing `to_pore`.

    Parameters
    ----------
    frame : PoreFrame
    in_pore : array_like of float, shape (..., 3), nm

    Returns
    -------
    coordinates : ndarray of float64, shape (..., 3), nm
    """
    return np.asarray(in_pore, dtype=np.float64) @ frame.rotation + frame.origin


def superpose(
    coordinates: ArrayLike, *, reference: ArrayLike, fit: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Superpose each frame on a reference by the atoms that `fit` picks.

    Parameters
    ----------
    coordinates : array_like of float, shape (n_frames, n_atoms, 3), nm
    reference : array_like of float, shape (n_atoms, 3), nm
    fit : array_like of int, shape (n_fit,)
        Atoms to superpose, at least three; all atoms are moved.

    Returns
    -------
    fitted : ndarray of float64, shape (n_frames, n_atoms, 3), nm
    rmsd : ndarray of float64, shape (n_frames,), nm
        Of the atoms in `fit`, after the fit.

    Raises
    ------
    PoreError
        If fewer than three atoms are picked or the shapes do not agree.

    References
    ----------
    .. [1] W. Kabsch, Acta Cryst. A 32, 922 (1976), doi:10.1107/S0567739476001873
    """
    moving = np.asarray(coordinates, dtype=np.float64)
    fixed = np.asarray(reference, dtype=np.float64)
    fit = np.asarray(fit, dtype=np.intp)
    if moving.ndim != 3 or moving.shape[1:] != fixed.shape or fit.size < 3:
        raise PoreError(
            f"got frames of shape {moving.shape}, a reference of shape {fixed.shape} and "
            f"{fit.size} atoms to fit; need (n_frames, n_atoms, 3), (n_atoms, 3) and at least 3"
        )
    target = fixed[fit].mean(axis=0)
    centroid = moving[:, fit].mean(axis=1, keepdims=True)
    covariance = np.swapaxes(moving[:, fit] - centroid, 1, 2) @ (fixed[fit] - target)
    left, _, right = np.linalg.svd(covariance)
    handed = np.ones((len(moving), 3))
    handed[:, 2] = np.sign(np.linalg.det(left @ right))
    fitted = (moving - centroid) @ (left * handed[:, None] @ right) + target
    shift = fitted[:, fit] - fixed[fit]
    return fitted, np.sqrt((shift**2).sum(axis=-1).mean(axis=-1))


# -------------------------------------------------------------------------- the profile


def radii_of(elements: ArrayLike) -> NDArray[np.float64]:
    """Look up the radii of atoms by element.

    Parameters
    ----------
    elements : array_like of str, shape (n_atoms,)
        Element symbols in any case. Hydrogens have no sphere of their own.

    Returns
    -------
    radii : ndarray of float64, shape (n_atoms,), nm
        nan for hydrogens, which are part of their heavy atom.

    Raises
    ------
    PoreError
        If an element has no radius.

    References
    ----------
    .. [1] O. Smart et al., J. Mol. Graph. 14, 354 (1996),
       doi:10.1016/S0263-7855(97)00009-X
    """
    symbols = np.char.upper(np.asarray(elements, dtype=str))
    unknown = set(symbols) - set(RADII_NM) - {"H", "D"}
    if unknown:
        raise PoreError(
            f"no radius for element {', '.join(sorted(unknown))}; "
            f"known are {', '.join(sorted(RADII_NM))}: leave such atoms out"
        )
    return np.array([RADII_NM.get(symbol, np.nan) for symbol in symbols])


def clearance(
    points: ArrayLike, *, coordinates: ArrayLike, radii: ArrayLike
) -> NDArray[np.float64]:
    """Measure the radius of the largest sphere that fits at each point.

    Parameters
    ----------
    points : array_like of float, shape (n_points, 3), nm
    coordinates : array_like of float, shape (n_atoms, 3), nm
    radii : array_like of float, shape (n_atoms,), nm

    Returns
    -------
    radius : ndarray of float64, shape (n_points,), nm
        Distance to the nearest surface; negative inside an atom.
    """
    apart = np.asarray(points, float)[:, None] - np.asarray(coordinates, float)
    return (np.linalg.norm(apart, axis=-1) - np.asarray(radii, float)).min(axis=1)


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
    frames, sizes, heights = _checked(coordinates, radii, levels)
    heavy = np.isfinite(sizes)
    centre = np.empty((len(frames), len(heights), 2))
    radius = np.empty(centre.shape[:2])
    for first in range(0, len(frames), _BLOCK):
        block = slice(first, first + _BLOCK)
        walls = [
            _near_the_pore(atoms, sizes[heavy], heights, reach) for atoms in frames[block, heavy]
        ]
        seeds = [_search(wall, heights, reach) for wall in walls]
        centre[block], radius[block] = _climb_all(np.array(seeds), walls, heights, reach)
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
    frames, sizes, levels = _checked(coordinates, radii, profile.levels)
    guests, guest_sizes, _ = _checked(blocker, blocker_radii, profile.levels)
    if not len(frames) == len(guests) == len(profile.radius):
        raise PoreError(
            f"got {len(profile.radius)} frames of the profile, {len(frames)} of the pore and "
            f"{len(guests)} of the blocker; need the same number of each"
        )
    heavy, solid = np.isfinite(sizes), np.isfinite(guest_sizes)
    walls = np.concatenate([sizes[heavy], guest_sizes[solid]])
    centre, radius = profile.centre.copy(), profile.radius.copy()
    for index, guest in enumerate(guests[:, solid]):
        atoms = np.concatenate([frames[index, heavy], guest])
        around = _touched(centre[index], radius[index], levels, guest, guest_sizes[solid])
        if not around.any():
            continue
        # Some levels on either side lead the search into the gap beside the blocker.
        at = levels[around]
        stretch = (levels > at[0] - 3 * _STEP_NM) & (levels < at[-1] + 3 * _STEP_NM)
        wall = _near_the_pore(atoms, walls, levels[stretch], reach)
        seeds = _search(wall, levels[stretch], reach)[around[stretch]]
        tops, found = _climb_all(seeds[None], [wall], at, reach)
        centre[index, around] = tops[0]
        radius[index, around] = np.fmin(_with_walls(found[0]), radius[index, around])
    return PoreProfile(levels=levels, radius=radius, centre=centre)


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


def _checked(
    coordinates: ArrayLike, radii: ArrayLike, levels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    frames = np.asarray(coordinates, dtype=np.float64)
    frames = frames[None] if frames.ndim == 2 else frames
    sizes = np.asarray(radii, dtype=np.float64)
    heights = np.asarray(levels, dtype=np.float64)
    if frames.ndim != 3 or frames.shape[1:] != (sizes.size, 3):
        raise PoreError(
            f"got coordinates of shape {frames.shape} and {sizes.size} radii; "
            "need (n_frames, n_atoms, 3) and one radius an atom"
        )
    if heights.ndim != 1 or heights.size < 1 or (np.diff(heights) <= 0).any():
        raise PoreError(f"got {heights.size} levels; need at least one, in rising order")
    if not np.isfinite(frames[:, np.isfinite(sizes)]).all():
        raise PoreError("got coordinates that are not finite; leave the broken frames out")
    return frames, sizes, heights


def _near_the_pore(
    atoms: NDArray[np.float64],
    radii: NDArray[np.float64],
    levels: NDArray[np.float64],
    reach: float,
) -> _Wall:
    """Pick the atoms that a sphere within reach could touch."""
    margin = MAX_RADIUS_NM + radii.max(initial=0.0)
    near = (
        (np.abs(atoms[:, 0]) < reach + margin)
        & (np.abs(atoms[:, 1]) < reach + margin)
        & (atoms[:, 2] > levels[0] - margin)
        & (atoms[:, 2] < levels[-1] + margin)
    )
    if not near.any():
        raise PoreError(
            f"no atom lies within {reach + margin:.1f} nm of the axis between z = {levels[0]:g} "
            f"and {levels[-1]:g} nm; move the coordinates into the pore frame first"
        )
    return _Wall(atoms=atoms[near], radii=radii[near])


@lru_cache(maxsize=8)
def _grid(reach: float) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float64]]:
    """Points of the plane within `reach`, the points one step away from each, and the cost."""
    side = np.arange(-np.floor(reach / _GRID_NM), np.floor(reach / _GRID_NM) + 1) * _GRID_NM
    points = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    points = points[np.hypot(*points.T) <= reach + 1e-9]
    apart = np.linalg.norm(points[:, None] - points, axis=-1)
    order = np.argsort(apart, axis=1, kind="stable")
    n_steps = int((apart <= _STEP_NM + 1e-9).sum(axis=1).max())
    steps = order[:, :n_steps]
    moved = np.take_along_axis(apart, steps, axis=1)
    cost = np.where(moved <= _STEP_NM + 1e-9, _SIDEWAYS_COST * (moved / _STEP_NM) ** 2, np.inf)
    return points, steps, cost


def _search(wall: _Wall, levels: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """Find the cheapest path through the levels; its x and y at each, (n_levels, 2)."""
    n_coarse = max(2, int(np.ceil((levels[-1] - levels[0]) / _STEP_NM)) + 1)
    coarse = np.linspace(levels[0], levels[-1], n_coarse)
    points, steps, sideways = _grid(reach)
    room = _clearance_on_grid(points, coarse, wall, _SEEN_NM)
    price = np.exp(-room / _SOFTNESS_NM) + _OFF_AXIS_COST * (points**2).sum(axis=1) / reach**2
    total = price[0]
    came_from = np.empty((n_coarse, len(points)), dtype=np.intp)
    rows = np.arange(len(points))
    for level in range(1, n_coarse):
        through = total[steps] + sideways
        best = through.argmin(axis=1)
        came_from[level] = steps[rows, best]
        total = through[rows, best] + price[level]
    path = np.empty(n_coarse, dtype=np.intp)
    path[-1] = total.argmin()
    for level in range(n_coarse - 1, 0, -1):
        path[level - 1] = came_from[level, path[level]]
    track = points[path]
    return np.stack([np.interp(levels, coarse, track[:, axis]) for axis in (0, 1)], axis=1)


def _clearance_on_grid(
    points: NDArray[np.float64],
    heights: NDArray[np.float64],
    wall: _Wall,
    limit: float,
) -> NDArray[np.float64]:
    """Clearance of each point at each height, (n_heights, n_points), at most `limit`."""
    room = np.full((len(heights), len(points)), limit)
    extent = np.abs(points).max()
    plane = np.column_stack([points, np.ones(len(points))]).astype(np.float32)
    square = (points**2).sum(axis=1)
    for size in np.unique(wall.radii):
        seen = limit + size
        mine = wall.atoms[wall.radii == size]
        mine = mine[(np.abs(mine[:, :2]) < extent + seen).all(axis=1)]
        if not len(mine):
            continue
        slabs, present = _slabs(mine[:, 2], heights, seen)
        picked = mine[slabs]
        # |p - a|^2 - |p|^2 = -2 p.a + |a|^2, so that one matrix product serves a slab.
        offset = (picked[..., :2] ** 2).sum(axis=-1) + (picked[..., 2] - heights[:, None]) ** 2
        offset[~present] = 1e3
        columns = np.stack([-2 * picked[..., 0], -2 * picked[..., 1], offset], axis=1)
        squared = (plane @ columns.astype(np.float32)).min(axis=2) + square
        np.minimum(room, np.sqrt(np.maximum(squared, 0.0)) - size, out=room)
    return room


def _slabs(
    z: NDArray[np.float64], heights: NDArray[np.float64], half: float
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Index the atoms within `half` of each height, padded, and tell which are no padding."""
    order = np.argsort(z, kind="stable")
    first = np.searchsorted(z[order], heights - half)
    last = np.searchsorted(z[order], heights + half)
    columns = first[:, None] + np.arange(max(1, (last - first).max()))
    present = columns < last[:, None]
    return order[np.minimum(columns, len(z) - 1)], present


def _climb_all(
    seeds: NDArray[np.float64],
    walls: Sequence[_Wall],
    levels: NDArray[np.float64],
    reach: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Climb from the seeds, then let each level take over a neighbour's better top.

    seeds (n_frames, n_levels, 2); returns the tops' centres and radii.
    """
    every = np.indices(seeds.shape[:2]).reshape(2, -1)
    tops, sizes = _climb(seeds.reshape(-1, 2), walls, *every, levels, reach)
    centres, radius = tops.reshape(seeds.shape), sizes.reshape(seeds.shape[:2])
    fresh = np.ones(radius.shape, dtype=bool)
    while fresh.any():
        tried, fresh = fresh, np.zeros_like(fresh)
        for shift in (1, -1):
            neighbour = np.roll(centres, shift, axis=1)
            worth = np.roll(tried, shift, axis=1)
            worth &= np.linalg.norm(neighbour - centres, axis=2) > 0.5 * _TRUST_NM
            worth[:, 0 if shift > 0 else -1] = False
            frame, level = np.nonzero(worth)
            if not len(frame):
                continue
            found, size = _climb(neighbour[frame, level], walls, frame, level, levels, reach)
            better = size > radius[frame, level] + 10 * _TOLERANCE_NM
            at = frame[better], level[better]
            centres[at], radius[at], fresh[at] = found[better], size[better], True
    return centres, radius


def _climb(
    seeds: NDArray[np.float64],
    walls: Sequence[_Wall],
    frame: NDArray[np.intp],
    level: NDArray[np.intp],
    levels: NDArray[np.float64],
    reach: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Climb from each seed to a local top of the clearance in the plane of its level.

    Only atoms near a seed are looked at; a climb that would leave what they can vouch for
    goes on from where it stopped with the atoms near there.
    """
    centres = seeds.copy()
    radius = np.empty(len(seeds))
    active = np.arange(len(seeds))
    for _ in range(_MAX_ROUNDS):
        if not len(active):
            break
        here, heights = centres[active], levels[level[active]]
        atoms, radii = _nearest(here, heights, walls, frame[active])
        centres[active], radius[active], done = _climb_among(here, heights, atoms, radii, reach)
        active = active[~done]
    return centres, radius


def _nearest(
    centres: NDArray[np.float64],
    heights: NDArray[np.float64],
    walls: Sequence[_Wall],
    frame: NDArray[np.intp],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gather for each centre all atoms less than `_SHELL_NM` farther than the nearest.

    Returns coordinates (n_centres, n_near, 3) and radii (n_centres, n_near).
    """
    picked = []
    for number in np.unique(frame):
        mine, wall = frame == number, walls[number]
        room = (centres[mine, :1] - wall.atoms[:, 0]) ** 2
        room += (centres[mine, 1:] - wall.atoms[:, 1]) ** 2
        room += (heights[mine, None] - wall.atoms[:, 2]) ** 2
        np.sqrt(room, out=room)
        room -= wall.radii
        limit = room.min(axis=1, keepdims=True) + _SHELL_NM
        row, atom = np.nonzero(room < limit)
        picked.append((np.flatnonzero(mine)[row], wall.atoms[atom], wall.radii[atom]))
    # Rows rise: the rows of a frame are neighbours and frames come in order.
    row, near, sizes = (np.concatenate(parts) for parts in zip(*picked, strict=True))
    count = np.bincount(row, minlength=len(centres))
    column = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    atoms = np.full((len(centres), count.max(), 3), _FAR_NM)
    radii = np.zeros(atoms.shape[:2])
    atoms[row, column], radii[row, column] = near, sizes
    return atoms, radii


def _climb_among(
    centres: NDArray[np.float64],
    levels: NDArray[np.float64],
    atoms: NDArray[np.float64],
    radii: NDArray[np.float64],
    reach: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Climb as far as the given atoms, (n_levels, n_near, 3), can vouch for.

    The distance to an atom is convex, so its tangent never lies above it: the best point
    under the tangents of all atoms (a linear programme in the plane) is at least as good as
    they promise, and the climb never loses ground.

    Returns the centres, their clearance, and whether each has reached its top.
    """
    here = centres.copy()
    rise2 = (levels[:, None] - atoms[..., 2]) ** 2
    clear = np.empty(len(here))
    limit = np.full(len(here), np.inf)
    done = np.ones(len(here), dtype=bool)
    moving = np.arange(len(here))
    for _ in range(_MAX_STEPS):
        apart = here[moving, None] - atoms[moving, :, :2]
        distance = np.sqrt((apart**2).sum(axis=-1) + rise2[moving])
        room = distance - radii[moving]
        clear[moving] = room.min(axis=1)
        limit = np.minimum(limit, clear + _SHELL_NM)
        # An atom outside the list is at least `limit` minus the way gone from here.
        way = np.linalg.norm(here[moving] - centres[moving], axis=1)
        trust = np.minimum(_TRUST_NM, (limit[moving] - clear[moving] - way) / 4)
        slope = apart / distance[..., None]
        step, gain = _best_step(room - clear[moving, None], slope, here[moving], trust, reach)
        go = gain > _TOLERANCE_NM
        short = trust < 0.1 * _TRUST_NM
        done[moving] = ~(go | short)
        go &= ~short
        moving, step = moving[go], step[go]
        if not len(moving):
            break
        here[moving] += step
    return here, clear, done


def _best_step(
    room: NDArray[np.float64],
    slope: NDArray[np.float64],
    here: NDArray[np.float64],
    trust: NDArray[np.float64],
    reach: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Maximise over a step d the least of room + slope.d, within the trust region and reach.

    A dual simplex, all levels at once: three constraints support the top; while another one
    lies below it, that one enters and the one that then carries no weight leaves.

    room (n_levels, n_nearest) and slope (n_levels, n_nearest, 2); returns the steps
    (n_levels, 2) and the least of room + slope.d at their ends (n_levels,).
    """
    room, slope = _bounded(room, slope, here, trust, reach)
    steps, tops = np.empty(here.shape), np.empty(len(here))
    live = np.arange(len(room))
    support = np.tile([0, 1, 2], (len(room), 1))
    weight = np.full(support.shape, 1 / 3)
    for _ in range(_MAX_PIVOTS):
        rows = np.arange(len(live))
        step, top, inverse, last = _vertex(room, slope, support)
        steps[live], tops[live] = step, top
        under = room + slope[..., 0] * step[:, :1]
        under += slope[..., 1] * step[:, 1:]
        enter = under.argmin(axis=1)
        pivot = under[rows, enter] < top - 0.1 * _TOLERANCE_NM
        if not pivot.any():
            break
        if pivot.sum() < 0.7 * len(pivot):
            live, room, slope, rows = live[pivot], room[pivot], slope[pivot], rows[: pivot.sum()]
            support, weight, enter = support[pivot], weight[pivot], enter[pivot]
            inverse, last, pivot = inverse[pivot], last[pivot], pivot[pivot]
        target = slope[rows, enter] - last
        mix = np.empty_like(weight)
        mix[:, :2] = (target[:, None] @ inverse)[:, 0]
        mix[:, 2] = 1 - mix[:, 0] - mix[:, 1]
        ratio = np.where(mix > 1e-12, weight, np.inf) / np.maximum(mix, 1e-12)
        leave = ratio.argmin(axis=1)
        share = ratio[rows, leave]
        weight = np.where(pivot[:, None], weight - share[:, None] * mix, weight)
        weight[rows[pivot], leave[pivot]] = share[pivot]
        support[rows[pivot], leave[pivot]] = enter[pivot]
    return steps, tops


def _bounded(
    room: NDArray[np.float64],
    slope: NDArray[np.float64],
    here: NDArray[np.float64],
    trust: NDArray[np.float64],
    reach: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Put three walls that end the step, and one that stands at `reach`, before the atoms."""
    n = len(room)
    offset = np.linalg.norm(here, axis=1)
    outward = here / np.maximum(offset, 1e-12)[:, None]
    walls = np.empty((n, 4))
    walls[:, :3] = trust[:, None]
    walls[:, 3] = 10.0 * (reach - offset)
    facing = np.empty((n, 4, 2))
    facing[:, :3] = _WALLS
    facing[:, 3] = -10.0 * outward
    return np.concatenate([walls, room], axis=1), np.concatenate([facing, slope], axis=1)


def _vertex(
    room: NDArray[np.float64], slope: NDArray[np.float64], support: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Find where the three supports are equal.

    Returns the step, the height there, and for the pivot that follows the inverse of the
    slopes' edges and the last slope.
    """
    rows = np.arange(len(room))[:, None]
    s, u = room[rows, support], slope[rows, support]
    edges = u[:, :2] - u[:, 2:]
    determinant = edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]
    inverse = np.empty_like(edges)
    inverse[:, 0, 0], inverse[:, 1, 1] = edges[:, 1, 1], edges[:, 0, 0]
    inverse[:, 0, 1], inverse[:, 1, 0] = -edges[:, 0, 1], -edges[:, 1, 0]
    inverse /= determinant[:, None, None]
    step = (inverse @ (s[:, 2:] - s[:, :2])[..., None])[..., 0]
    last = u[:, 2]
    return step, s[:, 2] + (last * step).sum(axis=1), inverse, last


# -------------------------------------------------------------------- the cross-section


def cross_section(
    coordinates: ArrayLike,
    *,
    radii: ArrayLike,
    blocker: ArrayLike,
    blocker_radii: ArrayLike,
    level: float,
    centre: ArrayLike,
    spacing: float = 0.02,
) -> tuple[float, float]:
    """Measure the lumen's cross-section at a level and the share that a blocker fills.

    The cross-section is the part of the plane that discs of a water's size (0.14 nm) cover
    when their centres move from `centre` without touching the pore, the blocker not
    counted. Gaps between helices that are narrower than a water do not belong to it. The
    filled part is where the plane cuts the van der Waals spheres of the blocker.

    Parameters
    ----------
    coordinates : array_like of float, shape (n_atoms, 3), nm
        The pore without the blocker, in the pore frame.
    radii : array_like of float, shape (n_atoms,), nm
        nan for atoms to leave out.
    blocker : array_like of float, shape (n_blocker, 3), nm
    blocker_radii : array_like of float, shape (n_blocker,), nm
        nan for atoms to leave out.
    level : float, nm
    centre : array_like of float, shape (2,), nm
        Where the largest sphere lies at this level.
    spacing : float, nm
        Of the grid that the areas are counted on.

    Returns
    -------
    area : float, nm^2
        0 where not even a water fits at `centre`. Nothing beyond 0.8 nm from `centre` is seen.
    filled_share : float
        Between 0 and 1; nan where `area` is 0.
    """
    frames, sizes, _ = _checked(coordinates, radii, [level])
    guests, guest_sizes, _ = _checked(blocker, blocker_radii, [level])
    heavy, solid = np.isfinite(sizes), np.isfinite(guest_sizes)
    n_cells = int(np.ceil(_HALF_WINDOW_NM / spacing))
    side = spacing * np.arange(-n_cells, n_cells + 1)
    points = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    origin = np.array([*np.asarray(centre, dtype=np.float64), 0.0])

    def room_left_by(atoms: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.float64]:
        wall = _Wall(atoms=atoms - origin, radii=own)
        room = _clearance_on_grid(points, np.array([level]), wall, 2 * PROBE_NM)
        return room[0].reshape(side.size, side.size)

    room = room_left_by(frames[0, heavy], sizes[heavy])
    parts, _ = ndimage.label(room >= PROBE_NM)
    here = parts[n_cells, n_cells]
    if not here:
        return 0.0, np.nan
    reached = ndimage.distance_transform_edt(parts != here, sampling=spacing) <= PROBE_NM
    reached &= room >= 0.0
    filled = reached & (room_left_by(guests[0, solid], guest_sizes[solid]) < 0.0)
    return float(reached.sum() * spacing**2), float(filled.sum() / reached.sum())
