"""Landmarks of the pore in any topology, and the pore frame that they define."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import mdtraj as md
import numpy as np
from numpy.typing import ArrayLike

from nmdasim.errors import PoreError, SelectionError, TrajectoryError
from nmdasim.pore import PoreFrame, fit_pore_frame, superpose, to_pore
from nmdasim.subunits import (
    ONE_LETTER,
    RING_NAMES,
    Recognised,
    recognise_subunit,
    ring_of,
    subunits,
)
from nmdasim.trajectory.model import PoreAtoms

FIT_SEGMENTS = ("m2", "m2_m3", "m3")
_BACKBONE = ("N", "CA", "C")


def pore_atoms(topology: md.Topology, *, subunit_of: Mapping[str, str] | None = None) -> PoreAtoms:
    """Find the atoms that define the pore.

    Parameters
    ----------
    topology : mdtraj.Topology
    subunit_of : mapping of str to str, optional
        Subunit of each chain letter, with residues numbered as in UniProt. Without it each
        chain is recognised by its sequence.

    Returns
    -------
    atoms : PoreAtoms

    Raises
    ------
    SelectionError
        If there are not two GluN1 and two GluN2 chains with asparagine and threonine rings.

    Notes
    -----
    Residues may be numbered as in UniProt or shifted by a constant. Chains that share a letter
    are one subunit; chains without letters are told apart by their place.
    """
    chains: dict[object, list[md.core.topology.Residue]] = {}
    for chain in topology.chains:
        key = chain.chain_id if str(chain.chain_id or "").strip() else chain.index
        chains.setdefault(key, []).extend(r for r in chain.residues if r.name in ONE_LETTER)
    rings: dict[str, list[int]] = {ring: [] for ring in RING_NAMES}
    fit: list[int] = []
    m3_of_glun1: list[list[int]] = []
    for letter, residues in chains.items():
        known = (
            recognise_subunit({r.resSeq: ONE_LETTER[r.name] for r in residues})
            if subunit_of is None
            else _recorded(subunit_of.get(str(letter)))
        )
        if known is None:
            continue
        segments = subunits()[known.subunit].segments
        m3 = []
        for residue in residues:
            number = residue.resSeq + known.shift
            named = {atom.name: atom.index for atom in residue.atoms}
            ring = ring_of(known.subunit, number)
            if ring and "CA" in named:
                rings[ring].append(named["CA"])
            if any(number in segments[name] for name in FIT_SEGMENTS):
                fit.extend(named[name] for name in _BACKBONE if name in named)
            if number in segments["m3"] and "CA" in named:
                m3.append(named["CA"])
        if known.subunit == "GluN1":
            m3_of_glun1.append(m3)
    return _checked_pore(rings, m3_of_glun1, fit)


def _recorded(subunit: str | None) -> Recognised | None:
    return Recognised(subunit=subunit, shift=0, identity=1.0) if subunit else None


def _checked_pore(
    rings: Mapping[str, Sequence[int]], glun1: Sequence[Sequence[int]], fit: Sequence[int]
) -> PoreAtoms:
    whole = {ring: np.array(atoms, np.intp) for ring, atoms in rings.items() if len(atoms) == 4}
    if len(glun1) != 2 or not {"asparagine", "threonine"} <= set(whole):
        raise SelectionError(
            f"found {len(glun1)} GluN1 chains and the complete rings {', '.join(whole) or 'none'}; "
            "the pore needs two GluN1 and two GluN2 chains with their asparagine and threonine "
            "rings: give the channel's whole membrane domain"
        )
    first, second = (np.array(atoms, np.intp) for atoms in glun1)
    return PoreAtoms(rings=whole, glun1=(first, second), fit=np.array(fit, np.intp))


def pore_frame(trajectory: md.Trajectory, *, frame: int = 0) -> PoreFrame:
    """Find the pore frame in one frame of a trajectory.

    Parameters
    ----------
    trajectory : mdtraj.Trajectory
        The channel whole and in one periodic cell.
    frame : int

    Returns
    -------
    pore : PoreFrame

    Raises
    ------
    SelectionError
        If the topology does not hold the pore of an NMDA receptor.
    PoreError
        If the coordinates do not define it.
    """
    if not -trajectory.n_frames <= frame < trajectory.n_frames:
        raise PoreError(f"asked for frame {frame} of {trajectory.n_frames}")
    return frame_at(trajectory.xyz[frame], pore_atoms(trajectory.topology))


def frame_at(xyz: ArrayLike, atoms: PoreAtoms) -> PoreFrame:
    """Find the pore frame from the landmarks.

    Parameters
    ----------
    xyz : array_like of float, shape (n_atoms, 3), nm
        The channel whole and in one periodic cell.
    atoms : PoreAtoms

    Returns
    -------
    pore : PoreFrame

    Raises
    ------
    PoreError
        If the coordinates do not define it.
    """
    places = np.asarray(xyz, dtype=np.float64)
    first, second = (places[chain].mean(axis=0) for chain in atoms.glun1)
    return fit_pore_frame(
        n_site_ca=places[atoms.rings["asparagine"]],
        threonine_ca=places[atoms.rings["threonine"]],
        glun1_direction=first - second,
    )


def in_pore_frame(
    trajectory: md.Trajectory | Iterable[md.Trajectory],
) -> Iterator[md.Trajectory]:
    """Turn every frame of a trajectory into the pore frame.

    The pore frame of the very first frame is found from its rings; every frame is superposed
    on that one by the backbone of M2 and M3.

    Parameters
    ----------
    trajectory : mdtraj.Trajectory or iterable of mdtraj.Trajectory
        The channel whole and in one periodic cell; chunks in their order, such as
        `mdtraj.iterload` gives them. They are left as they are.

    Yields
    ------
    turned : mdtraj.Trajectory
        One for each chunk, without box vectors, which no longer belong to the turned frames.

    Raises
    ------
    SelectionError
        If the topology does not hold the pore of an NMDA receptor.
    TrajectoryError
        If there is no frame.
    """
    chunks = [trajectory] if isinstance(trajectory, md.Trajectory) else trajectory
    reference = None
    for chunk in chunks:
        if not chunk.n_frames:
            continue
        if reference is None:
            atoms = pore_atoms(chunk.topology)
            reference = to_pore(frame_at(chunk.xyz[0], atoms), chunk.xyz[0])
        fitted, _ = superpose(chunk.xyz, reference=reference, fit=atoms.fit)
        yield md.Trajectory(fitted.astype(np.float32), chunk.topology, time=chunk.time)
    if reference is None:
        raise TrajectoryError("the trajectory has no frame; give at least one")
