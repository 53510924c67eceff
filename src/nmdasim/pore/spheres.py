"""Atoms as hard spheres, and the room that they leave."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmdasim.errors import PoreError

#: Radii in nm of the united atoms of HOLE's simple.rad (Weiner et al. 1984); halogens,
#: which that file lacks, after Bondi, J. Phys. Chem. 68, 441 (1964), doi:10.1021/j100785a001.
#: Metals are ions: effective radii at six neighbours after Shannon, Acta Cryst. A 32, 751 (1976),
#: doi:10.1107/S0567739476001551. They are bare; the water around them is not part of them.
RADII_NM = {
    "C": 0.185, "N": 0.175, "O": 0.165, "S": 0.200, "P": 0.210,
    "F": 0.147, "CL": 0.175, "BR": 0.185, "I": 0.198,
    "LI": 0.076, "NA": 0.102, "K": 0.138, "RB": 0.152, "CS": 0.167, "MG": 0.072, "CA": 0.100,
}  # fmt: skip
Result = TypeVar("Result")
#: Frames (n_frames, n_atoms, 3), the atoms with a radius, their radii.
Spheres = tuple[NDArray[np.floating], NDArray[np.intp], NDArray[np.float64]]


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


def checked_spheres(coordinates: ArrayLike, radii: ArrayLike) -> Spheres:
    """Bring frames and radii into shape without a copy, and refuse what does not fit together."""
    frames = np.asarray(coordinates)
    if frames.dtype != np.float32:
        frames = frames.astype(np.float64, copy=False)
    # The compiled code is made for arrays of one kind.
    frames = np.require(frames[None] if frames.ndim == 2 else frames, requirements=["C", "W"])
    sizes = np.asarray(radii, dtype=np.float64)
    if frames.ndim != 3 or frames.shape[1:] != (sizes.size, 3):
        raise PoreError(
            f"got coordinates of shape {frames.shape} and {sizes.size} radii; "
            "need (n_frames, n_atoms, 3) and one radius an atom"
        )
    picked = np.flatnonzero(np.isfinite(sizes))
    return frames, picked, sizes[picked]


def checked_levels(levels: ArrayLike) -> NDArray[np.float64]:
    """Bring levels (n_levels,) into shape, and refuse those that do not rise."""
    heights = np.array(levels, dtype=np.float64)
    if heights.ndim != 1 or heights.size < 1 or (np.diff(heights) <= 0).any():
        raise PoreError(f"got {heights.size} levels; need at least one, in rising order")
    return heights


def in_blocks(measure: Callable[[slice], Result], n_frames: int, n_threads: int) -> list[Result]:
    """Measure blocks of frames, one on each thread; what they return, in order."""
    edges = np.linspace(0, n_frames, max(1, min(n_threads, n_frames)) + 1).astype(int)
    blocks = [slice(first, after) for first, after in pairwise(edges.tolist())]
    if len(blocks) == 1:
        return [measure(blocks[0])]
    with ThreadPoolExecutor(len(blocks)) as threads:
        return list(threads.map(measure, blocks))
