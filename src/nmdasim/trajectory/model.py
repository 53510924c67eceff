"""What a run is once it is opened, and the frames that it gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mdtraj as md
import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from nmdasim.rundir import Segment

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
    water: NDArray[np.intp]
    """Oxygen atoms of the water in `topology`, shape (n_waters,)."""
    ions: NDArray[np.intp]
    """Ions in `topology`, shape (n_ions,)."""
    ion_names: tuple[str, ...]
    """Element symbol of each ion, such as "Na"."""
    ion_charges: NDArray[np.float64]
    """Charge of each ion, shape (n_ions,), e."""
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
