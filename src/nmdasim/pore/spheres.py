"""Atoms as hard spheres, and the room that they leave."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmdasim.errors import PoreError

#: Radii in nm of the united atoms of HOLE's simple.rad (Weiner et al. 1984); halogens,
#: which that file lacks, after Bondi, J. Phys. Chem. 68, 441 (1964), doi:10.1021/j100785a001.
RADII_NM = {
    "C": 0.185, "N": 0.175, "O": 0.165, "S": 0.200, "P": 0.210,
    "F": 0.147, "CL": 0.175, "BR": 0.185, "I": 0.198,
}  # fmt: skip
#: A sphere as large as this has left the pore; HOLE ends at 1.5 nm where it is told to.
MAX_RADIUS_NM = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wall:
    """Atoms near the pore, prepared for many distances."""

    atoms: NDArray[np.float64]
    """Heavy atoms that may touch a sphere, shape (n_atoms, 3), nm."""
    radii: NDArray[np.float64]
    """Their radii, shape (n_atoms,), nm."""
    lifted: NDArray[np.float32]
    """Rows -2x, -2y, -2z and x^2 + y^2 + z^2 of the atoms, shape (4, n_atoms)."""
    radii32: NDArray[np.float32]
    """`radii` in single precision."""


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


def checked_spheres(
    coordinates: ArrayLike, radii: ArrayLike, levels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Bring frames, radii and levels into shape, and refuse what does not fit together.

    Returns frames (n_frames, n_atoms, 3), radii (n_atoms,) and levels (n_levels,), nm.
    """
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


def wall_of(atoms: NDArray[np.float64], radii: NDArray[np.float64]) -> Wall:
    """Prepare atoms (n_atoms, 3) and radii (n_atoms,), nm."""
    lifted = np.vstack([-2.0 * atoms.T, (atoms**2).sum(axis=1)])
    return Wall(
        atoms=atoms,
        radii=radii,
        lifted=lifted.astype(np.float32),
        radii32=radii.astype(np.float32),
    )


def near_the_pore(
    atoms: NDArray[np.float64],
    radii: NDArray[np.float64],
    levels: NDArray[np.float64],
    reach: float,
) -> Wall:
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
    return wall_of(atoms[near], radii[near])


def clearance_on_grid(
    points: NDArray[np.float64],
    heights: NDArray[np.float64],
    wall: Wall,
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
