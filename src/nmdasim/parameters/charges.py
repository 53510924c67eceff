"""AM1-BCC charges from the sqm program of AmberTools."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers

from nmdasim.errors import ParametersError
from nmdasim.ligand import ChargeState

MICRO = 1_000_000
_N_CONFORMERS = 200
# AM1 bonds are within a few percent of the sum of the covalent radii; a bond that left for
# another atom is longer than this multiple of it.
_MAX_STRETCH = 1.35
#: What antechamber and sqm print when they give up, and what it means.
_REASONS = (
    ("odd number of electrons", "its formal charge leaves an unpaired electron"),
    ("self consistency", "the AM1 calculation does not converge"),
    ("Unable to achieve", "the AM1 calculation does not converge"),
    ("not supported", "AM1 lacks parameters for one of its elements"),
    ("No BCC", "AM1-BCC lacks a correction for one of its bonds"),
)


def programs() -> dict[str, str] | None:
    """Find antechamber and sqm.

    Returns
    -------
    environment : dict of str to str or None
        Variables to run them with; None where either is not installed.
    """
    # An environment that is used without being activated leaves its programs off the path.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    if any(shutil.which(name, path=path) is None for name in ("antechamber", "sqm")):
        return None
    # More threads than one slow sqm down on molecules of this size.
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}


def am1bcc_charges(openff: Any, state: ChargeState, *, timeout_s: float) -> list[int]:  # noqa: ANN401
    """Compute the partial charges of a charge state.

    Parameters
    ----------
    openff : module
        `openff.toolkit`.
    state : ChargeState
    timeout_s : float
        Longest time that sqm may take, s.

    Returns
    -------
    charges : list of int, length n_atoms
        In 1e-6 e and in the order of `state.mol`; the sum is exact.

    Raises
    ------
    ParametersError
        If sqm fails, takes too long, or breaks the molecule.
    ValueError
        If no conformer can be chosen.
    """
    # One of the two mirror images stands for both, so that they share every digit.
    shared = min(state.smiles, mirror_image(state.smiles))
    representative, charges = _shared_charges(openff, shared, state.charge, timeout_s)
    match = state.mol.GetSubstructMatch(representative, useChirality=False)
    mapped = dict(zip(match, charges, strict=True))
    return [mapped[index] for index in range(state.mol.GetNumAtoms())]


@cache
def mirror_image(smiles: str) -> str:
    """Write the mirror image of a molecule as canonical SMILES.

    Parameters
    ----------
    smiles : str

    Returns
    -------
    smiles : str
        Of the molecule itself where it is not chiral.
    """
    mol = Chem.MolFromSmiles(smiles)
    for atom in mol.GetAtoms():
        atom.InvertChirality()
    return Chem.MolToSmiles(mol)


@cache
def _shared_charges(
    openff: Any,  # noqa: ANN401
    smiles: str,
    charge: int,
    timeout_s: float,
) -> tuple[Chem.Mol, Sequence[int]]:
    """Run sqm once for both mirror images."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    if not rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        raise ValueError("it holds atom types for which no conformer can be chosen by MMFF94")
    molecule = openff.Molecule.from_rdkit(mol, allow_undefined_stereo=True)
    # Named, because OpenFF would take other programs first where they are installed.
    rdkit = openff.RDKitToolkitWrapper()
    molecule.generate_conformers(n_conformers=_N_CONFORMERS, toolkit_registry=rdkit)
    # Collapsed conformers, where the ammonium touches the oxygen, bias the charges.
    molecule.apply_elf_conformer_selection(limit=1, toolkit_registry=rdkit)
    conformer = molecule.to_rdkit().GetConformer(0)
    posed = Chem.Mol(mol)
    posed.RemoveAllConformers()
    posed.AddConformer(Chem.Conformer(conformer), assignId=True)
    return mol, _exact(_run_sqm(posed, charge, timeout_s), mol, charge)


def _run_sqm(mol: Chem.Mol, charge: int, timeout_s: float) -> np.ndarray:
    """Let antechamber run sqm on one conformer; charges in e."""
    with tempfile.TemporaryDirectory(prefix="nmdasim-sqm-") as name:
        folder = Path(name)
        (folder / "molecule.sdf").write_text(Chem.MolToMolBlock(mol) + "$$$$\n", encoding="utf-8")
        into = ("-i", "molecule.sdf", "-fi", "sdf", "-o", "charged.mol2", "-fo", "mol2")
        _antechamber(folder, *into, "-c", "bcc", "-nc", str(charge), timeout_s=timeout_s)
        _check_unbroken(mol, folder / "sqm.pdb")
        # The mol2 file holds fewer digits than this list.
        into = ("-i", "charged.mol2", "-fi", "mol2", "-o", "again.mol2", "-fo", "mol2")
        _antechamber(folder, *into, "-c", "wc", "-cf", "charges.txt", timeout_s=timeout_s)
        charges = np.array((folder / "charges.txt").read_text(encoding="utf-8").split(), float)
    if len(charges) != mol.GetNumAtoms() or not np.isfinite(charges).all():
        raise ParametersError("antechamber gave no charge for some atoms")
    return charges


def _antechamber(folder: Path, *arguments: str, timeout_s: float) -> None:
    """Run antechamber; on failure raise one sentence that says why."""
    command = ("antechamber", *arguments, "-pf", "yes", "-dr", "n")
    # A group of its own, so that sqm does not outlive an antechamber that is given up.
    with subprocess.Popen(
        command,
        cwd=folder,
        env=programs(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise ParametersError(f"sqm did not finish within {timeout_s:g} s") from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    outputs = [Path(name) for name in arguments if name.endswith((".mol2", ".txt"))]
    if process.returncode or not all((folder / name).is_file() for name in outputs):
        raise ParametersError(_reason(said, folder / "sqm.out"))


def _reason(said: str, log: Path) -> str:
    if log.is_file():
        said += log.read_text(encoding="utf-8", errors="replace")
    for mark, reason in _REASONS:
        if mark in said:
            return reason
    last = [line.strip() for line in said.splitlines() if line.strip()]
    return f"antechamber failed: {last[-1][:160] if last else 'it said nothing'}"


def _check_unbroken(mol: Chem.Mol, relaxed: Path) -> None:
    """Refuse charges of a geometry in which AM1 moved an atom to another partner.

    In the gas phase a zwitterion often loses its proton to the carboxylate, and its charges
    would then be those of another molecule.
    """
    lines = relaxed.read_text(encoding="utf-8").splitlines()
    atoms = [line for line in lines if line.startswith(("ATOM", "HETATM"))]
    places = np.array([[float(line[a : a + 8]) for a in (30, 38, 46)] for line in atoms])
    table = Chem.GetPeriodicTable()
    for bond in mol.GetBonds():
        one, other = bond.GetBeginAtom(), bond.GetEndAtom()
        radii = table.GetRcovalent(one.GetSymbol()) + table.GetRcovalent(other.GetSymbol())
        length = float(np.linalg.norm(places[one.GetIdx()] - places[other.GetIdx()]))
        if length > _MAX_STRETCH * radii:
            raise ParametersError(
                f"AM1 breaks a bond between {one.GetSymbol()} and {other.GetSymbol()} in the gas "
                "phase, so its charges would be those of another molecule: give another tautomer"
            )


def _exact(raw: np.ndarray, mol: Chem.Mol, charge: int) -> list[int]:
    """Average over equivalent atoms and round to 1e-6 e with an exact sum."""
    # Without chirality: the two hydrogens of a CH2 are told apart by no bonded term, and the
    # mirror image maps onto the molecule in one way only.
    classes = np.array(Chem.CanonicalRankAtoms(mol, breakTies=False, includeChirality=False))
    charges = np.zeros(len(raw), dtype=int)
    groups = [np.flatnonzero(classes == label) for label in np.unique(classes)]
    for members in groups:
        charges[members] = round(raw[members].mean() * MICRO)
    rest = charge * MICRO - int(charges.sum())
    # The rest is a few 1e-6 e: put it where it weighs least, on the largest charge whose
    # equivalent atoms can share it. Charges of a class have one size, hence its first atom.
    fitting = [members for members in groups if rest % len(members) == 0]
    members = max(fitting or groups, key=lambda members: abs(charges[members[0]]))
    charges[members if fitting else members[:1]] += rest // (len(members) if fitting else 1)
    return charges.tolist()
