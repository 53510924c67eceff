"""Names that the common force fields and file formats give to water and ions.

Names of amino acids are `nmdasim.subunits.ONE_LETTER`, which both halves use.
"""

import mdtraj as md
import numpy as np
from numpy.typing import NDArray

#: Residues that are water: PDB, Amber, CHARMM, GROMACS and the models with extra sites.
WATER_NAMES = frozenset(
    {
        "HOH", "DOD", "WAT", "SOL", "H2O", "TIP", "TP3", "TIP2", "TIP3", "TIP3P", "TIP4", "TIP4P",
        "TP4", "TIP5", "TP5", "T3P", "T4P", "SPC", "SPCE", "SPC/E", "OPC", "OPC3", "OPT", "FB3",
        "FB4", "TP4E", "W",
    }
)  # fmt: skip

#: Element symbol and charge (e) of the ions, by residue name without its signs and digits.
ION_NAMES = {
    "NA": ("Na", 1), "SOD": ("Na", 1), "K": ("K", 1), "POT": ("K", 1), "CL": ("Cl", -1),
    "CLA": ("Cl", -1), "CHL": ("Cl", -1), "LI": ("Li", 1), "LIT": ("Li", 1), "RB": ("Rb", 1),
    "RUB": ("Rb", 1), "CS": ("Cs", 1), "CES": ("Cs", 1), "F": ("F", -1), "BR": ("Br", -1),
    "I": ("I", -1), "IOD": ("I", -1), "IB": ("I", -1), "MG": ("Mg", 2), "CA": ("Ca", 2),
    "CAL": ("Ca", 2), "ZN": ("Zn", 2), "BA": ("Ba", 2), "BAR": ("Ba", 2), "SR": ("Sr", 2),
    "CD": ("Cd", 2),
}  # fmt: skip


def water_oxygens(topology: md.Topology) -> NDArray[np.intp]:
    """Find the oxygen atoms of the water.

    Parameters
    ----------
    topology : mdtraj.Topology

    Returns
    -------
    atoms : ndarray of int, shape (n_waters,)
    """
    atoms = [
        atom.index
        for residue in topology.residues
        if residue.name.upper() in WATER_NAMES
        for atom in residue.atoms
        if atom.name.upper().startswith("O")
    ]
    return np.array(atoms, dtype=np.intp)


def ions_of(
    topology: md.Topology,
) -> tuple[NDArray[np.intp], tuple[str, ...], NDArray[np.float64]]:
    """Find the ions that consist of one atom.

    Parameters
    ----------
    topology : mdtraj.Topology

    Returns
    -------
    atoms : ndarray of int, shape (n_ions,)
    names : tuple of str
        Element symbol of each.
    charges : ndarray of float64, shape (n_ions,), e
    """
    atoms, names, charges = [], [], []
    for residue in topology.residues:
        known = ion_of(residue)
        if known:
            atoms.append(residue.atom(0).index)
            names.append(known[0])
            charges.append(known[1])
    return np.array(atoms, dtype=np.intp), tuple(names), np.array(charges, dtype=np.float64)


def ion_of(residue: md.core.topology.Residue) -> tuple[str, int] | None:
    """Tell which ion a residue is.

    Parameters
    ----------
    residue : mdtraj residue

    Returns
    -------
    ion : tuple of str and int, or None
        Element symbol and charge; None when it is no ion of one atom that is known by name.
    """
    if residue.n_atoms != 1:
        return None
    # GROMACS topologies may call every ion's residue ION.
    name = residue.atom(0).name if residue.name.upper() == "ION" else residue.name
    return ION_NAMES.get(name.upper().strip("+-0123456789"))
