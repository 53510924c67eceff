"""From text and files to one molecule that the rest of nmdasim can handle."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from rdkit import Chem, rdBase

from nmdasim.errors import LigandError
from nmdasim.ligand.model import MAX_HEAVY_ATOMS

# What OpenFF Sage has parameters for; everything else would fail later and less clearly.
_ELEMENTS = ("H", "C", "N", "O", "F", "P", "S", "Cl", "Br", "I")
_NON_METALS = frozenset((*_ELEMENTS, "B", "Si", "Se", "As", "Te", "At", "He", "Ne", "Ar", "Kr"))
_BOND_TYPES = frozenset(
    (
        Chem.BondType.SINGLE,
        Chem.BondType.DOUBLE,
        Chem.BondType.TRIPLE,
        Chem.BondType.AROMATIC,
    )
)
# RDKit takes arynes and small cyclic allenes, whose geometry no force field here describes.
_SMALL_RING = "r3,r4,r5,r6,r7"
_BENT_LINEAR = Chem.MolFromSmarts(
    f"[$([{_SMALL_RING}]#@[{_SMALL_RING}]),$([{_SMALL_RING}](=@[{_SMALL_RING}])=@[{_SMALL_RING}])]"
)
# Longer text is no molecule of 80 heavy atoms, and deep nesting can exhaust the parser.
_MAX_SMILES_LENGTH = 1000
_MAX_FILE_BYTES = 10_000_000
SMILES_ATOM = r"\[[^\[\]]*\]|Br|Cl|[BCNOPSFI]|[bcnops]|\*"


def quoted(text: str) -> str:
    """Quote what was given, cut to what fits in a sentence."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def first_line(error: Exception) -> str:
    """Keep of an error what fits in a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def parse_smiles(text: str) -> Chem.Mol:
    """Read a SMILES, or say which character is wrong."""
    if len(text) > _MAX_SMILES_LENGTH:
        raise LigandError(
            f"the SMILES has {len(text)} characters: at most {_MAX_SMILES_LENGTH} are read"
        )
    parameters: Any = Chem.SmilesParserParams()
    parameters.sanitize = False
    parameters.removeHs = False
    parameters.parseName = False
    parameters.allowCXSMILES = False
    mol = Chem.MolFromSmiles(text, parameters) if text.isascii() and text.isprintable() else None
    if mol is None:
        raise LigandError(f"the SMILES {quoted(text)} does not parse: {_syntax_problem(text)}")
    return _sanitised(mol, f"the SMILES {quoted(text)}", text)


def _syntax_problem(text: str) -> str:
    """Say what is wrong with a SMILES, and where if RDKit tells."""
    for position, character in enumerate(text):
        if not (character.isascii() and character.isprintable()) or character == " ":
            return f"character {position + 1}, {character!r}, has no meaning there"
    # Releases of RDKit before the capture of messages name no position.
    capture = getattr(rdBase, "CaptureErrorLog", None)
    if capture is None:
        return "correct it or give a name from the library"
    with capture() as log:
        Chem.MolFromSmiles(text)
    found = re.search(r"Error: (.*?) (?:while parsing|for input)", log.messages)
    reason = found[1] if found else "syntax error"
    at = re.search(r"around position (\d+)", log.messages)
    position = min(int(at[1]), len(text)) if at else _open_ring(text)
    if not position:
        return reason
    return f"{reason} at character {position}, {text[position - 1]!r}"


def _open_ring(text: str) -> int:
    """Find the first ring-closure digit without a partner; 0 if there is none."""
    bare = re.sub(r"\[[^\[\]]*\]", lambda atom: "*" * len(atom[0]), text)
    waiting: dict[int, int] = {}
    for found in re.finditer(r"%(\d\d)|(\d)", bare):
        number = int(found[1] or found[2])
        if waiting.pop(number, None) is None:
            waiting[number] = found.start() + 1
    return min(waiting.values(), default=0)


def _sanitised(mol: Chem.Mol, subject: str, smiles: str | None = None) -> Chem.Mol:
    """Perceive rings and aromaticity, or say which atom makes that impossible."""
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(0)
    problems = Chem.DetectChemistryProblems(mol)
    if problems:
        raise LigandError(f"{subject} is no valid molecule: {_problem(problems[0], mol, smiles)}")
    Chem.SanitizeMol(mol)
    Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
    return mol


def _problem(problem: Any, mol: Chem.Mol, smiles: str | None) -> str:  # noqa: ANN401
    """Put one finding of RDKit, whose type its stubs leave open, into words."""
    if problem.GetType() == "KekulizeException":
        return "its aromatic atoms cannot be given alternating double bonds"
    if problem.GetType() != "AtomValenceException":
        return problem.Message().strip().rstrip(".")
    index = problem.GetAtomIdx()
    where = f"atom {index + 1}"
    tokens = list(re.finditer(SMILES_ATOM, smiles)) if smiles else []
    if len(tokens) == mol.GetNumAtoms():
        where = f"the atom at character {tokens[index].start() + 1}"
    return f"{where}, {mol.GetAtomWithIdx(index).GetSymbol()}, has too many bonds for its charge"


def read_molecule_file(path: Path) -> Chem.Mol:
    """Read the one molecule of an SDF file, hydrogens as they are there."""
    subject = f"the file {path}"
    records = [r for r in re.split(r"^\$\$\$\$.*$", _read_text(path), flags=re.M) if r.strip()]
    if not records:
        raise LigandError(f"{subject} is empty: it must hold one molecule in SDF format")
    if len(records) > 1:
        raise LigandError(f"{subject} holds {len(records)} molecules: give a file with one of them")
    mol = Chem.MolFromMolBlock(records[0].lstrip("\ufeff"), sanitize=False, removeHs=False)
    if mol is None:
        raise LigandError(f"{subject} is damaged or not in SDF format: write it again")
    if mol.GetNumAtoms() == 0:
        raise LigandError(f"{subject} holds a molecule without atoms: give one molecule in 3-D")
    mol = _sanitised(mol, subject)
    _check_three_dimensional(mol, subject)
    Chem.AssignStereochemistryFrom3D(mol)
    return mol


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise LigandError(f"the file {path} is too large for one molecule in SDF format")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise LigandError(
            f"the ligand file {path} cannot be read: {error.strerror or error}"
        ) from error
    except ValueError as error:
        raise LigandError(f"the file {quoted(str(path))} is not text in SDF format") from error


def _check_three_dimensional(mol: Chem.Mol, subject: str) -> None:
    positions = mol.GetConformer().GetPositions() if mol.GetNumConformers() else np.zeros((1, 3))
    if not np.isfinite(positions).all():
        raise LigandError(f"{subject} holds coordinates that are no numbers: write it again")
    flat = not mol.GetConformer().Is3D() or np.ptp(positions, axis=0).max() < 0.1
    if len(positions) > 1 and flat:
        raise LigandError(
            f"{subject} holds a drawing without 3-D coordinates: give it in 3-D, "
            "or give the molecule as a SMILES"
        )
    gaps = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    if len(positions) > 1 and gaps[np.triu_indices(len(positions), 1)].min() < 0.4:
        raise LigandError(f"{subject} holds atoms closer than 0.4 Angstrom: write it again")


def check_usable(mol: Chem.Mol, subject: str) -> None:
    """Refuse a molecule that the force field cannot describe."""
    n_heavy = mol.GetNumHeavyAtoms()
    if n_heavy > MAX_HEAVY_ATOMS:
        raise LigandError(
            f"{subject} has {n_heavy} heavy atoms: at most {MAX_HEAVY_ATOMS} are allowed"
        )
    symbols = [atom.GetSymbol() for atom in mol.GetAtoms()]
    for symbol in symbols:
        if symbol not in _ELEMENTS:
            kind = "an atom" if symbol in _NON_METALS or symbol == "*" else "the metal"
            raise LigandError(
                f"{subject} holds {kind} {symbol}: the force field knows {', '.join(_ELEMENTS)}"
            )
    if "C" not in symbols:
        raise LigandError(f"{subject} holds no carbon: give an organic molecule")
    _check_atoms_and_bonds(mol, subject)


def _check_atoms_and_bonds(mol: Chem.Mol, subject: str) -> None:
    for atom in mol.GetAtoms():
        where = f"{atom.GetSymbol()} (atom {atom.GetIdx() + 1})"
        if atom.GetNumRadicalElectrons():
            raise LigandError(
                f"{subject} is a radical at {where}: give a molecule whose valences are filled"
            )
        if atom.GetIsotope():
            raise LigandError(
                f"{subject} labels the isotope of {where}: give it without isotope labels"
            )
    if mol.HasSubstructMatch(_BENT_LINEAR):
        raise LigandError(
            f"{subject} bends a triple bond or cumulated double bonds into a ring of fewer than "
            "8 atoms: check its bonds"
        )
    if any(bond.GetBondType() not in _BOND_TYPES for bond in mol.GetBonds()):
        raise LigandError(
            f"{subject} holds a bond that is not single, double, triple or aromatic: "
            "give a definite structure"
        )
