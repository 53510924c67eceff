"""Run folders and trajectories as imaged frames in the pore frame, streamed in chunks.

A run's trajectory is the list of its committed segments. They are joined only while they are
read: every frame comes exactly once, and memory does not grow with length.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gemmi
import mdtraj as md
import numpy as np
from mdtraj.formats import XTCTrajectoryFile
from numpy.typing import ArrayLike, NDArray
from rdkit import Chem

from nmdasim.errors import PoreError, RunFolderError, SelectionError, TrajectoryError
from nmdasim.ligand import read_ligand_sdf
from nmdasim.pore import PoreFrame, fit_pore_frame, superpose, to_pore
from nmdasim.rundir import LIGAND, RECEPTOR, TOPOLOGY, Segment, read_inputs, read_segments
from nmdasim.subunits import (
    ONE_LETTER,
    RING_NAMES,
    Recognised,
    recognise_subunit,
    ring_of,
    subunits,
)

LIGAND_NAME = "LIG"
CAPS = ("ACE", "NME")
FIT_SEGMENTS = ("m2", "m2_m3", "m3")
_BACKBONE = ("N", "CA", "C")
_CHUNK = 50
# A peptide bond is 0.133 nm long; residues further apart than this are separate pieces.
_BONDED_NM = 0.2
_CELLS = np.array(list(itertools.product((-1, 0, 1), repeat=3)), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResidue:
    """One residue of the protein that was simulated."""

    chain: str
    """Chain letter of the deposited entry."""
    subunit: str
    """GluN1, GluN2A or GluN2B."""
    number: int
    """UniProt number."""
    name: str
    """Residue name of three letters; ACE or NME for a cap."""
    status: str
    """"observed", "side chain rebuilt", "rebuilt" or "cap"."""
    ring: str | None
    """Ring of the pore, one of `nmdasim.subunits.RING_NAMES`; None outside the rings."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoreAtoms:
    """Atoms that define the pore in a topology. Rings hold atoms in the order of the file."""

    rings: Mapping[str, NDArray[np.intp]]
    """CA atoms of each complete ring, four of them, by the ring's name."""
    glun1: tuple[NDArray[np.intp], NDArray[np.intp]]
    """CA atoms of the M3 of the first and of the second GluN1 chain."""
    fit: NDArray[np.intp]
    """N, CA and C of M2, its loop and M3: what frames are superposed on, shape (n_fit,)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """A run folder opened for reading."""

    folder: Path
    """The folder."""
    inputs: Mapping[str, Any]
    """Tables of `run.toml`."""
    topology: md.Topology
    """Every atom that was simulated; chain letters and numbers as in the receptor."""
    start: NDArray[np.float64]
    """Starting structure in the pore frame, shape (n_atoms, 3), nm."""
    solute: NDArray[np.intp]
    """Protein and ligand, shape (n_solute,)."""
    ligand: Chem.Mol
    """The ligand as it was simulated, hydrogens included."""
    ligand_atoms: NDArray[np.intp]
    """Its atoms in `topology`, in the order of `ligand`, shape (n_ligand,)."""
    residues: tuple[RunResidue, ...]
    """Residues of the protein, caps included, in the order of `topology`."""
    segments: tuple[Segment, ...]
    """Committed pieces of the trajectory, in order."""

    @property
    def n_frames(self) -> int:
        """Number of production frames."""
        return sum(segment.n_frames for segment in self.segments)

    @property
    def subunit_of(self) -> dict[str, str]:
        """Subunit of each chain letter."""
        return {residue.chain: residue.subunit for residue in self.residues}

    @property
    def status_of(self) -> dict[tuple[str, int], str]:
        """Origin of each residue's coordinates by chain letter and number."""
        return {
            (residue.chain, residue.number): residue.status
            for residue in self.residues
            if residue.name not in CAPS
        }

    def series(self, name: str) -> NDArray[np.float64]:
        """Join what the manifests record of every frame.

        Parameters
        ----------
        name : str
            time_ps, potential_kj_mol, temperature_k or volume_nm3.

        Returns
        -------
        values : ndarray of float64, shape (n_frames,)
        """
        parts = [np.asarray(segment.manifest[name], float) for segment in self.segments]
        return np.concatenate(parts) if parts else np.empty(0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chunk:
    """Some consecutive frames, imaged and fitted into the pore frame."""

    first_frame: int
    """Number of the first frame in the run."""
    trajectory: md.Trajectory
    """The frames; box vectors are left out because the frames have been turned."""
    fit_rmsd: NDArray[np.float64]
    """What the fit on the pore's backbone leaves, shape (n_frames,), nm."""


# --------------------------------------------------------------------------- opening a run


def open_run(folder: str | Path) -> Run:
    """Open a run folder for reading.

    Parameters
    ----------
    folder : str or pathlib.Path

    Returns
    -------
    run : Run

    Raises
    ------
    RunFolderError
        If the folder holds no run, or one of its files is missing or damaged.
    TrajectoryError
        If ligand and topology do not fit each other.
    RunStorageError
        If a manifest is damaged or missing.
    """
    folder = Path(folder)
    inputs = read_inputs(folder)
    topology, start = _read_topology(_existing(folder / TOPOLOGY))
    ligand = read_ligand_sdf(_existing(folder / LIGAND))
    ligand_atoms = _find_ligand(topology, ligand, folder)
    protein = [
        atom.index
        for atom in topology.atoms
        if atom.residue.name in ONE_LETTER or atom.residue.name in CAPS
    ]
    start.flags.writeable = False
    return Run(
        folder=folder,
        inputs=inputs,
        topology=topology,
        start=start,
        solute=np.sort(np.concatenate([np.array(protein, dtype=np.intp), ligand_atoms])),
        ligand=ligand,
        ligand_atoms=ligand_atoms,
        residues=_read_residues(topology, _existing(folder / RECEPTOR)),
        segments=read_segments(folder),
    )


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise RunFolderError(
            f"{path} is missing: repeat the `nmdasim run` command that made this folder"
        )
    return path


def _read_cif(path: Path) -> gemmi.cif.Block:
    try:
        return gemmi.cif.read(str(path)).sole_block()
    except (ValueError, RuntimeError, OSError) as error:
        raise RunFolderError(
            f"{path} is damaged ({error}): restore it from a copy, or start the run in a new folder"
        ) from error


def _read_topology(path: Path) -> tuple[md.Topology, NDArray[np.float64]]:
    """Read atoms in the order of the file, with letters and numbers as the author gave them."""
    tags = [
        "type_symbol", "label_atom_id", "auth_comp_id", "auth_asym_id", "auth_seq_id",
        "label_asym_id", "Cartn_x", "Cartn_y", "Cartn_z",
    ]  # fmt: skip
    table = _read_cif(path).find("_atom_site.", tags)
    if not len(table):
        raise RunFolderError(f"{path} holds no atoms: restore it from a copy")
    columns = [[gemmi.cif.as_string(cell) for cell in table.column(i)] for i in range(len(tags))]
    topology = md.Topology()
    chain = residue = None
    last_chain = last_residue = None
    names: set[str] = set()
    for symbol, name, comp, letter, number, part in zip(*columns[:6], strict=True):
        if (letter, part) != last_chain:
            chain = topology.add_chain(chain_id=letter)
            last_chain, last_residue = (letter, part), None
        # Waters may share a number: a name that comes again begins a residue, too.
        if (comp, number) != last_residue or name in names:
            residue = topology.add_residue(comp, chain, resSeq=int(number))
            last_residue, names = (comp, number), set()
        names.add(name)
        topology.add_atom(name, md.element.get_by_symbol(symbol.capitalize()), residue)
    return topology, np.array(columns[6:], dtype=np.float64).T / 10


def _find_ligand(topology: md.Topology, ligand: Chem.Mol, folder: Path) -> NDArray[np.intp]:
    atoms = [atom for atom in topology.atoms if atom.residue.name == LIGAND_NAME]
    if [atom.element.atomic_number for atom in atoms] != [
        atom.GetAtomicNum() for atom in ligand.GetAtoms()
    ]:
        raise TrajectoryError(
            f"{folder / LIGAND} has {ligand.GetNumAtoms()} atoms that are not the {len(atoms)} "
            f"atoms of {LIGAND_NAME} in {TOPOLOGY}; both must list the same atoms in the same "
            "order: restore the files of this run from a copy"
        )
    return np.array([atom.index for atom in atoms], dtype=np.intp)


def _read_residues(topology: md.Topology, receptor: Path) -> tuple[RunResidue, ...]:
    tags = ["chain", "subunit", "number", "name", "status"]
    rows = [
        [gemmi.cif.as_string(cell) for cell in row]
        for row in _read_cif(receptor).find("_nmdasim_residue.", tags)
    ]
    subunit_of = {chain: subunit for chain, subunit, *_ in rows}
    status_of = {(chain, int(number)): status for chain, _, number, name, status in rows
                 if name not in CAPS}  # fmt: skip
    residues = []
    for residue in topology.residues:
        chain, number = residue.chain.chain_id, residue.resSeq
        cap = residue.name in CAPS
        if not cap and residue.name not in ONE_LETTER:
            continue
        if chain not in subunit_of or not (cap or (chain, number) in status_of):
            raise RunFolderError(
                f"{residue.name}{number} of chain {chain} in {TOPOLOGY} is not in the table of "
                f"residues of {receptor}: restore the files of this run from a copy"
            )
        residues.append(
            RunResidue(
                chain=chain,
                subunit=subunit_of[chain],
                number=number,
                name=residue.name,
                status="cap" if cap else status_of[chain, number],
                ring=None if cap else ring_of(subunit_of[chain], number),
            )
        )
    return tuple(residues)


# ----------------------------------------------------------------------------- the frames


def read_frames(
    run: Run, *, atoms: ArrayLike | None = None, chunk: int = _CHUNK
) -> Iterator[Chunk]:
    """Read the frames of a run, imaged and fitted into the pore frame.

    Parameters
    ----------
    run : Run
    atoms : array_like of int, optional
        Atoms of `run.topology` to read; protein and ligand by default, which is much faster
        than reading the water as well. The backbone of M2 and M3 must be among them.
    chunk : int
        Frames that are held in memory at a time.

    Yields
    ------
    chunk : Chunk
        In order; every committed frame exactly once.

    Raises
    ------
    TrajectoryError
        If a segment's file is missing, truncated or damaged.
    SelectionError
        If `atoms` lacks what the frames are fitted on.
    """
    picked = run.solute if atoms is None else np.asarray(atoms, dtype=np.intp)
    topology = run.topology.subset(picked)
    reference = run.start[picked]
    fit = pore_atoms(topology, subunit_of=run.subunit_of).fit
    molecules = molecules_of(topology, reference)
    for segment in run.segments:
        for first, xyz, box in _read_segment(segment, run.topology.n_atoms, picked, chunk):
            whole = nearest_images(xyz, box, reference=reference, molecules=molecules)
            fitted, rmsd = superpose(whole, reference=reference, fit=fit)
            time = segment.manifest["time_ps"][first : first + len(xyz)]
            yield Chunk(
                first_frame=segment.first_frame + first,
                trajectory=md.Trajectory(fitted.astype(np.float32), topology, time=time),
                fit_rmsd=rmsd,
            )


def _read_segment(
    segment: Segment, n_atoms: int, atoms: NDArray[np.intp], chunk: int
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
    path = segment.trajectory
    if not path.is_file():
        raise TrajectoryError(f"{path} is missing: restore it from a copy, or run again")
    done = 0
    try:
        with XTCTrajectoryFile(str(path)) as file:
            while done < segment.n_frames:
                n_frames = min(chunk, segment.n_frames - done)
                xyz, _, _, box = file.read(n_frames=n_frames, atom_indices=atoms)
                if not len(xyz):
                    break
                yield done, xyz, box
                done += len(xyz)
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        raise TrajectoryError(_damaged(segment, done, n_atoms)) from error
    if done != segment.n_frames:
        raise TrajectoryError(_damaged(segment, done, n_atoms))


def _damaged(segment: Segment, n_read: int, n_atoms: int) -> str:
    return (
        f"{segment.trajectory} is truncated or damaged: {n_read} of {segment.n_frames} frames of "
        f"{n_atoms} atoms could be read; restore it from a copy, or run again to replace it"
    )


def molecules_of(topology: md.Topology, start: ArrayLike) -> NDArray[np.intp]:
    """Give each molecule of a topology a number, in the order of the file.

    Residues of one chain belong to one molecule where a peptide bond joins them in the
    starting structure; every other residue is a molecule of its own.

    Parameters
    ----------
    topology : mdtraj.Topology
    start : array_like of float, shape (n_atoms, 3), nm
        A structure in which the molecules are whole.

    Returns
    -------
    molecules : ndarray of int, shape (n_atoms,)
        Rising from 0.
    """
    places = np.asarray(start, dtype=np.float64)
    molecules = np.empty(topology.n_atoms, dtype=np.intp)
    number, tail = -1, None
    for residue in topology.residues:
        named = {atom.name: atom.index for atom in residue.atoms}
        head = named.get("N")
        joined = tail is not None and head is not None and residue.name != LIGAND_NAME
        if not joined or np.linalg.norm(places[head] - places[tail]) > _BONDED_NM:
            number += 1
        tail = named.get("C") if residue.name in ONE_LETTER or residue.name in CAPS else None
        molecules[[atom.index for atom in residue.atoms]] = number
    return molecules


def nearest_images(
    xyz: ArrayLike, box: ArrayLike | None, *, reference: ArrayLike, molecules: ArrayLike
) -> NDArray[np.float64]:
    """Bring each molecule to its periodic image that lies as in the reference.

    The largest molecule stays. Every other one is moved by whole box vectors so that its
    centre, seen from the largest molecule's, comes nearest to where the reference has it.

    Parameters
    ----------
    xyz : array_like of float, shape (n_frames, n_atoms, 3), nm
        Each molecule whole.
    box : array_like of float, shape (n_frames, 3, 3), nm, or None
        Box vectors as rows, any shape that OpenMM or GROMACS allows; None or zeros: nothing
        is periodic and nothing is moved.
    reference : array_like of float, shape (n_atoms, 3), nm
    molecules : array_like of int, shape (n_atoms,)
        From `molecules_of`.

    Returns
    -------
    imaged : ndarray of float64, shape (n_frames, n_atoms, 3), nm
    """
    frames = np.array(xyz, dtype=np.float64)
    if box is None or not np.any(box):
        return frames
    vectors = np.asarray(box, dtype=np.float64)
    numbers = np.asarray(molecules, dtype=np.intp)
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    sizes = np.diff(starts, append=len(numbers))
    centres = np.add.reduceat(frames, starts, axis=1) / sizes[:, None]
    wanted = np.add.reduceat(np.asarray(reference, float), starts, axis=0) / sizes[:, None]
    anchor = sizes.argmax()
    away = (centres - centres[:, anchor, None]) - (wanted - wanted[anchor])
    shift = -np.rint(away @ np.linalg.inv(vectors))
    # In a skewed box the nearest image may be one cell beside the rounded one.
    cells = shift[:, :, None] + _CELLS
    left = away[:, :, None] + cells @ vectors[:, None]
    best = (left**2).sum(axis=-1).argmin(axis=-1)
    shift = np.take_along_axis(cells, best[..., None, None], axis=2)[:, :, 0] @ vectors
    return frames + np.repeat(shift, sizes, axis=1)


# ------------------------------------------------------------------- landmarks of the pore


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
    return _frame_at(trajectory, pore_atoms(trajectory.topology), frame)


def _frame_at(trajectory: md.Trajectory, atoms: PoreAtoms, frame: int) -> PoreFrame:
    if not -trajectory.n_frames <= frame < trajectory.n_frames:
        raise PoreError(f"asked for frame {frame} of {trajectory.n_frames}")
    xyz = trajectory.xyz[frame].astype(np.float64)
    first, second = (xyz[chain].mean(axis=0) for chain in atoms.glun1)
    return fit_pore_frame(
        n_site_ca=xyz[atoms.rings["asparagine"]],
        threonine_ca=xyz[atoms.rings["threonine"]],
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
            reference = to_pore(_frame_at(chunk, atoms, 0), chunk.xyz[0])
        fitted, _ = superpose(chunk.xyz, reference=reference, fit=atoms.fit)
        yield md.Trajectory(fitted.astype(np.float32), chunk.topology, time=chunk.time)
    if reference is None:
        raise TrajectoryError("the trajectory has no frame; give at least one")
