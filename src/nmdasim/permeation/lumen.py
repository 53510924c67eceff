"""The lumen in which particles are looked for, and where to find them in a trajectory."""

from collections.abc import Iterable

import mdtraj as md
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmdasim.errors import PoreError, SelectionError
from nmdasim.pore import MAX_RADIUS_NM, PoreProfile, radii_of, radius_profile
from nmdasim.subunits import ONE_LETTER
from nmdasim.trajectory import CAPS, in_pore_frame, pore_atoms
from nmdasim.trajectory.imaging import nearest_points
from nmdasim.trajectory.names import ions_of, water_oxygens

#: From below the filter to above the outer gate: in 7EU8 the pore widens 1.0 nm below the CA of
#: the asparagine ring, and 0.4 nm above those of the vivi ring.
PORE_ENDS_NM = (-1.0, 3.1)
#: The lumen is not round: beside the largest sphere there is room for about one more water.
LUMEN_MARGIN_NM = 0.3


def imaged_solvent(
    trajectory: md.Trajectory | Iterable[md.Trajectory],
) -> Iterable[md.Trajectory]:
    """Bring water and ions to the periodic images nearest to the pore.

    Parameters
    ----------
    trajectory : mdtraj.Trajectory or iterable of mdtraj.Trajectory
        The channel whole and in one periodic cell.

    Yields
    ------
    imaged : mdtraj.Trajectory
        One for each chunk; a copy where anything may have moved. Of a water only the oxygen
        is moved: its hydrogens stay behind.
    """
    for chunk in [trajectory] if isinstance(trajectory, md.Trajectory) else trajectory:
        points = np.sort(
            np.concatenate([water_oxygens(chunk.topology), ions_of(chunk.topology)[0]])
        )
        if not chunk.n_frames or chunk.unitcell_vectors is None or not len(points):
            yield chunk
            continue
        rings = pore_atoms(chunk.topology).rings
        middle = np.concatenate([rings["asparagine"], rings["threonine"]])
        moved = md.Trajectory(chunk.xyz.copy(), chunk.topology, time=chunk.time)
        moved.xyz[:, points] = nearest_points(
            chunk.xyz,
            chunk.unitcell_vectors.astype(np.float64),
            points,
            chunk.xyz[:, middle].mean(axis=1, dtype=np.float64),
        )
        yield moved


def pore_walls(topology: md.Topology) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Find the atoms that make the wall of the pore.

    Parameters
    ----------
    topology : mdtraj.Topology

    Returns
    -------
    atoms : ndarray of int, shape (n_atoms,)
        Heavy atoms of amino acids and caps.
    radii : ndarray of float64, shape (n_atoms,), nm
    """
    names = ONE_LETTER.keys() | set(CAPS)
    atoms = [atom.index for atom in topology.atoms if atom.residue.name in names]
    return heavy_atoms(topology, np.array(atoms, dtype=np.intp))


def heavy_atoms(
    topology: md.Topology, atoms: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Keep those of some atoms that are no hydrogens.

    Parameters
    ----------
    topology : mdtraj.Topology
    atoms : ndarray of int, shape (n_atoms,)

    Returns
    -------
    heavy : ndarray of int, shape (n_heavy,)
    radii : ndarray of float64, shape (n_heavy,), nm
    """
    if not len(atoms):
        return atoms, np.empty(0)
    radii = radii_of([topology.atom(int(index)).element.symbol for index in atoms])
    return atoms[np.isfinite(radii)], radii[np.isfinite(radii)]


def with_lumen(
    trajectory: md.Trajectory | Iterable[md.Trajectory], levels: ArrayLike
) -> Iterable[tuple[md.Trajectory, PoreProfile]]:
    """Give each chunk in the pore frame, its solvent imaged, with the lumen of its frames."""
    for chunk in in_pore_frame(imaged_solvent(trajectory)):
        atoms, radii = pore_walls(chunk.topology)
        yield chunk, radius_profile(chunk.xyz[:, atoms], radii=radii, levels=levels)


def particles(topology: md.Topology) -> tuple[NDArray[np.intp], list[str]]:
    """Find waters and ions, and give each its kind."""
    water, (ions, names, _) = water_oxygens(topology), ions_of(topology)
    kinds = ["water"] * len(water) + list(names)
    return found(np.concatenate([water, ions]), "water and ions"), kinds


def found(atoms: NDArray[np.intp], what: str) -> NDArray[np.intp]:
    """Refuse a selection that is empty."""
    if not len(atoms):
        raise SelectionError(
            f"the topology holds no {what}; keep them in the trajectory, or look only at the "
            "radius of the pore"
        )
    return atoms


def checked_positions(positions: ArrayLike, lumen: PoreProfile) -> NDArray[np.float32]:
    """Bring positions into shape for the kernels, (n_frames, n_particles, 3)."""
    places = np.ascontiguousarray(positions, dtype=np.float32)
    if places.ndim != 3 or places.shape[2] != 3 or len(places) != len(lumen.radius):
        raise PoreError(
            f"got positions of shape {places.shape} and a lumen of {len(lumen.radius)} frames; "
            "need (n_frames, n_particles, 3) and the profile of the same frames"
        )
    return places


def checked_ends(ends: tuple[float, float]) -> tuple[float, float]:
    """Refuse ends that do not rise."""
    low, high = (float(end) for end in ends)
    if not low < high:
        raise PoreError(f"got ends of the pore at {low:g} and {high:g} nm; need them rising")
    return low, high


def tube(
    lumen: PoreProfile, margin: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Levels, centres and how far from them the lumen reaches; wide where there are no walls."""
    reach = np.where(np.isfinite(lumen.radius), lumen.radius, MAX_RADIUS_NM) + margin
    # Arrays of a profile are read-only, which would be another type to compile for.
    return lumen.levels.copy(), np.nan_to_num(lumen.centre), reach
