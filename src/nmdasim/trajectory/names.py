"""Names that the common force fields and file formats give to water and ions.

Names of amino acids are `nmdasim.subunits.ONE_LETTER`, which both halves use.
"""

import mdtraj as md
import numpy as np
from numpy.typing import NDArray

from nmdasim.subunits import ONE_LETTER
from nmdasim.trajectory.model import CAPS

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

#: Residues that are lipids, or the parts that Amber cuts them into.
LIPID_NAMES = frozenset(
    {
        "POP", "POPC", "POPE", "POPS", "POPG", "POPA", "POPI", "DPP", "DPPC", "DPPE", "DOP",
        "DOPC", "DOPE", "DOPS", "DMP", "DMPC", "DLPC", "DSPC", "SAPI", "PSM", "SSM", "CHL", "CHL1",
        "CHOL", "CLR", "PA", "PC", "PE", "PS", "PGR", "PH-", "OL", "OLE", "PLM", "LAL", "MY", "ST",
        "AR", "DHA", "SPM", "SA",
    }
)  # fmt: skip

# The usual name behind what force fields and programs call amino acids and caps. Protonation is
# kept, in Amber's names.
_USUAL = {
    "HSD": "HID", "HSE": "HIE", "HSP": "HIP", "HISD": "HID", "HISE": "HIE", "HISH": "HIP",
    "HISA": "HID", "HISB": "HIE", "ASPP": "ASH", "GLUP": "GLH", "LSN": "LYN", "LYSH": "LYS",
    "ASPH": "ASH", "GLUH": "GLH", "HIS1": "HID", "CYS1": "CYX", "CYS2": "CYX", "CYSH": "CYS",
    "NMA": "NME",
}  # fmt: skip
_USUAL_ATOMS = {"OT1": "O", "OT2": "OXT", "OC1": "O", "OC2": "OXT", "HN": "H"}


def rename_protein(topology: md.Topology) -> None:
    """Give amino acids, caps and their atoms the usual names, in place.

    Parameters
    ----------
    topology : mdtraj.Topology
    """
    for residue in topology.residues:
        name = _USUAL.get(residue.name.upper(), residue.name.upper())
        if len(name) == 4 and name[0] in "NC" and name[1:] in ONE_LETTER:
            name = _USUAL.get(name[1:], name[1:])
        if name not in ONE_LETTER and name not in CAPS:
            continue
        residue.name = name
        for atom in residue.atoms:
            atom.name = _USUAL_ATOMS.get(atom.name, atom.name)
            if name == "ILE" and atom.name == "CD":
                atom.name = "CD1"
            # Names such as CA and CD are read as metals where elements are guessed.
            symbol = atom.name.lstrip("0123456789")[:1]
            if symbol in ("C", "N", "O", "S", "H"):
                atom.element = md.element.get_by_symbol(symbol)


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
