"""What a run is once it is opened, and the frames that it gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mdtraj as md
import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

CAPS = ("ACE", "NME")
LIGAND_NAME = "LIG"


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
class Piece:
    """One file of a trajectory."""

    path: Path
    """The file."""
    first_frame: int
    """Number in the run of its first frame that counts."""
    n_frames: int
    """Frames that count."""
    skip: int = 0
    """Frames at its start that do not count, because the file before holds them already."""
    time_ps: NDArray[np.float64] | None = None
    """Times of the frames that count, shape (n_frames,), ps; None where the file holds them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """A simulation opened for reading: a run folder, or a trajectory of another program."""

    folder: Path
    """Where the results belong: the run folder, or the folder that was chosen for them."""
    inputs: Mapping[str, Any]
    """Tables of `run.toml`; empty for a trajectory of another program."""
    topology: md.Topology
    """Every atom of the frames; protein chains with letters of their own and UniProt numbers."""
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
    water: NDArray[np.intp]
    """Oxygen atoms of the water in `topology`, shape (n_waters,)."""
    ions: NDArray[np.intp]
    """Ions in `topology`, shape (n_ions,)."""
    ion_names: tuple[str, ...]
    """Element symbol of each ion, such as "Na"."""
    ion_charges: NDArray[np.float64]
    """Charge of each ion, shape (n_ions,), e."""
    pieces: tuple[Piece, ...]
    """Files of the trajectory, in order."""
    records: Mapping[str, NDArray[np.float64]]
    """What is recorded of every frame beside the trajectory, (n_frames,) before `stride`:
    potential_kj_mol, temperature_k and volume_nm3 of a run folder; empty otherwise."""
    bonds: NDArray[np.intp] = field(default_factory=lambda: np.empty((0, 2), dtype=np.intp))
    """Bonds of the solute along which broken molecules are mended, atom and earlier atom, shape
    (n_bonds, 2); none where molecules are whole as written."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """What a trajectory of another program was opened from: files, ligand, subunits; empty for a
    run folder."""
    stride: int = 1
    """Every how many frames one is read."""

    @property
    def n_frames(self) -> int:
        """Number of frames that are read."""
        return -(-sum(piece.n_frames for piece in self.pieces) // self.stride)

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chunk:
    """Some consecutive frames, imaged and fitted into the pore frame."""

    first_frame: int
    """Number of the first frame among those that are read."""
    time_ps: NDArray[np.float64]
    """Time of each frame, shape (n_frames,), ps."""
    trajectory: md.Trajectory
    """The frames; box vectors are left out because the frames have been turned."""
    fit_rmsd: NDArray[np.float64]
    """What the fit on the pore's backbone leaves, shape (n_frames,), nm."""
    water: NDArray[np.float32]
    """Oxygen atoms of the water, `Run.water`, each at its image nearest to the pore's centre,
    shape (n_frames, n_waters, 3), nm; the centre lies midway between the asparagine and the
    threonine ring."""
    ions: NDArray[np.float32]
    """Ions, `Run.ions`, likewise, shape (n_frames, n_ions, 3), nm."""
    inner_radius: NDArray[np.float64]
    """Distance from the pore's centre within which the water fills all space that is not taken,
    shape (n_frames,), nm: beyond it the periodic cell may end. Infinite without a box."""
