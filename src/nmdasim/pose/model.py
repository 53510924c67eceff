"""What a pose is, before and after it is relaxed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from nmdasim.errors import Check
from nmdasim.ligand import ChargeState, Strain
from nmdasim.parameters import Parameters
from nmdasim.receptor import Receptor

#: How a start pose was found.
DEPOSITED, SCAFFOLD, DOCKED = "deposited", "common scaffold", "docked"
ION, HYDRATED_ION = "ion", "hydrated ion"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StartPose:
    """One place where a ligand may start, before the receptor relaxes around it."""

    number: int
    """Number that users choose it by, from 1."""
    name: str
    """What tells it from the others, in words."""
    method: str
    """`deposited`, `common scaffold`, `docked`, `ion` or `hydrated ion`."""
    mol: Chem.Mol
    """The charge state with hydrogens, in the pore frame, Angstrom."""
    score_kcal_mol: float
    """Score of the docking program; nan where none was asked. Not an affinity."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Program, versions, seed and hashes, where a program decided."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pose:
    """A ligand in its receptor, ready to be put into a simulation."""

    receptor: Receptor
    """Receptor as prepared."""
    receptor_positions: NDArray[np.float64]
    """Receptor after relaxing against the ligand, shape (n_atoms, 3), nm."""
    ligand: ChargeState
    """The simulated state; its molecule holds the relaxed coordinates in the pore frame."""
    parameters: Parameters
    """Force field of the ligand."""
    start: StartPose
    """Where it started and how that place was found."""
    positions: NDArray[np.float64]
    """Relaxed ligand, shape (n_ligand, 3), nm."""
    unrelaxed: NDArray[np.float64]
    """Ligand at its start with hydrogens, shape (n_ligand, 3), nm."""
    shift_nm: float
    """RMSD of the ligand's heavy atoms between the two."""
    closest_nm: float
    """Distance of the nearest heavy atoms of ligand and receptor, hydrogen bonds left out."""
    turned_amides: tuple[str, ...]
    """Asparagines and glutamines near the ligand whose amide was turned round."""
    checks: tuple[Check, ...]
    """Clashes, shift, chirality, geometry, and strain where it was asked for."""
    strain: Strain | None = None
    """Against the free conformers; None until `with_strain` is asked, and for an ion."""


def origin_sentence(start: StartPose) -> str:
    """Say for a methods section where a ligand started.

    Parameters
    ----------
    start : StartPose

    Returns
    -------
    text : str
        Follows the ligand's name as its subject.

    References
    ----------
    .. [1] J. Eberhardt et al., J. Chem. Inf. Model. 61, 3891 (2021),
       doi:10.1021/acs.jcim.1c00203
    """
    if start.method == DEPOSITED:
        kept = "started from the deposited blocker"
        return kept if start.name == "as deposited" else f"{kept}, {start.name}"
    if start.method == SCAFFOLD:
        return f"was laid over the scaffold it shares with the deposited blocker ({start.name})"
    if start.method == DOCKED:
        return (
            f"started from a docked pose ({start.provenance['program']}, "
            f"doi:10.1021/acs.jcim.1c00203; rank {start.provenance['rank']}, score "
            f"{start.score_kcal_mol:.2f} kcal/mol, which ranks poses and is no affinity)"
        )
    return f"was placed by hand: {start.name}"
