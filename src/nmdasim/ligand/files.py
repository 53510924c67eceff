"""Ligands on disk: SDF files as nmdasim writes them."""

import io
import os
from pathlib import Path

from rdkit import Chem, rdBase

from nmdasim.errors import LigandError, RunStorageError
from nmdasim.ligand.conformers import name_atoms
from nmdasim.ligand.model import ChargeState
from nmdasim.ligand.reading import read_molecule_file


def write_ligand(state: ChargeState, path: str | Path) -> None:
    """Write one charge state to an SDF file, all hydrogens included.

    Parameters
    ----------
    state : ChargeState
    path : str or pathlib.Path
        An existing file is replaced in one step.

    Raises
    ------
    RunStorageError
        If the file cannot be written.

    Notes
    -----
    Coordinates are kept to 0.0001 Angstrom. Atom names are not part of the format; they
    follow from the order, which is kept.
    """
    mol = Chem.Mol(state.mol)
    for name in mol.GetPropNames():
        mol.ClearProp(name)
    mol.SetProp("_Name", state.name)
    mol.SetProp("smiles", state.smiles)
    text = io.StringIO()
    with Chem.SDWriter(text) as writer:
        writer.write(mol)
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        partial.write_text(text.getvalue(), encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise RunStorageError(f"cannot write the ligand to {target}: {error.strerror}") from error


def read_ligand_sdf(path: str | Path) -> Chem.Mol:
    """Read a molecule as `write_ligand` left it.

    Parameters
    ----------
    path : str or pathlib.Path

    Returns
    -------
    mol : rdkit.Chem.Mol
        Atoms in the order of the file, hydrogens included, one conformer in Angstrom,
        the same atom names as in `ChargeState.mol`.

    Raises
    ------
    LigandError
        If the file is missing, empty, cut short, flat, lacks hydrogens, or holds more than
        one molecule.
    """
    with rdBase.BlockLogs():
        mol = read_molecule_file(Path(path))
        if any(atom.GetNumImplicitHs() for atom in mol.GetAtoms()):
            raise LigandError(
                f"the file {path} lacks hydrogens: write it with all of them, as nmdasim does"
            )
        name_atoms(mol)
        return mol
