"""From a name, a SMILES or an SDF file to a ligand whose chemistry is settled.

Settled means: one molecule, every stereocentre known, CIP labels derived rather than
trusted, charge states with their populations, and a 3-D structure of each state. Atom
order and atom names follow from the chemistry alone, so that the same compound written
in two ways gives the same atoms.
"""

import difflib
import io
import math
import os
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import (
    rdCIPLabeler,
    rdDistGeom,
    rdForceFieldHelpers,
    rdMolDescriptors,
)
from rdkit.Chem.Draw import rdMolDraw2D
from rdkit.Chem.EnumerateStereoisomers import (
    EnumerateStereoisomers,
    StereoEnumerationOptions,
)

from nmdasim.errors import LigandError
from nmdasim.structures import structures_folder

#: Residue name, chain and number of the ligand in every file that nmdasim writes.
RESIDUE_NAME, CHAIN, RESIDUE_NUMBER = "LIG", "L", 1
MAX_HEAVY_ATOMS = 80

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
# Longer text is no molecule of 80 heavy atoms, and deep nesting can exhaust the parser.
_MAX_SMILES_LENGTH = 1000
_MAX_FILE_BYTES = 10_000_000
_N_CONFORMERS = 5
_MAX_EMBEDDING_S = 60
# An isomer that appears in half of the built structures is missed with a chance of 1e-6.
_N_SAMPLED = 20
_MAX_LISTED_ISOMERS = 8
_MAX_CIP_ITERATIONS = 1_000_000

_SMILES_ATOM = r"\[[^\[\]]*\]|Br|Cl|[BCNOPSFI]|[bcnops]|\*"
_SMILES_TEXT = re.compile(rf"(?:{_SMILES_ATOM}|[-=#$:/\\.()~0-9%@+\[\]])+")
_FILE_SUFFIXES = (".sdf", ".mol")

# An amine whose lone pair is not shared with a pi system or weakened by a heteroatom on it.
_AMINE = "[NX3;+0;$(N[CX4]);!$(N-[!#6;!#1]);!$(N-[c,$(C=*),$(C#*)])]"
_AMMONIUM = Chem.MolFromSmarts("[NX4;+;!H0;!$(N~[!#6;!#1])]")
# From the most to the least basic; within alkyl amines, withdrawing groups two bonds away
# weigh more than the number of substituents (Hall, J. Am. Chem. Soc. 79, 5441 (1957)).
_AMINE_RANKS = tuple(
    Chem.MolFromSmarts(_AMINE[:-1] + rule + "]")
    for rule in (
        ";!$(N[CX4][!#6;!#1]);!$(NC[c,$(C=O)]);!$(NCC[O,N,F,Cl,Br,S]);H1",
        ";!$(N[CX4][!#6;!#1]);!$(NC[c,$(C=O)]);!$(NCC[O,N,F,Cl,Br,S]);!H1",
        ";!$(N[CX4][!#6;!#1]);H1",
        ";!$(N[CX4][!#6;!#1])",
        "",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChargeState:
    """One protonation state of a ligand, ready to simulate."""

    name: str
    """Name of the ligand with the signed charge, such as `S-ketamine+1`."""
    charge: int
    """Net charge, e."""
    smiles: str
    """Canonical isomeric SMILES of this state."""
    population: float
    """Share of this state at the ligand's pH; nan where the pKa is not known."""
    mol: Chem.Mol
    """All atoms, with one conformer in Angstrom and atom names in the residue information."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ligand:
    """A molecule with its stereochemistry, charge states and where they come from."""

    name: str
    """Name in the library, or the InChIKey of a molecule that is not in it."""
    smiles: str
    """Canonical isomeric SMILES with the amine uncharged."""
    synonyms: tuple[str, ...]
    """Other names; empty for a molecule outside the library."""
    states: tuple[ChargeState, ...]
    """Charge states, the most positive first."""
    ph: float
    """pH of the populations."""
    pka: float
    """pKa of the ammonium; nan where it is not known."""
    pka_source: str
    """Where the pKa was read, followed by its mark; empty where it is not known."""
    cip: str
    """CIP labels of the stereocentres in the order of the atoms, such as `S` or `R,R`."""
    formula: str
    """Molecular formula with the amine uncharged."""
    inchikey: str
    """Standard InChIKey with the amine uncharged."""
    notes: tuple[str, ...] = ()
    """What a reader of the results has to know about this ligand's chemistry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryEntry:
    """One row of the shipped library."""

    name: str
    """Name under which results are reported."""
    smiles: str
    """Isomeric SMILES of the uncharged form."""
    cip: tuple[str, ...]
    """Expected CIP labels in the order of the atoms of `smiles`."""
    synonyms: tuple[str, ...]
    """Other names."""
    pka: float
    """pKa of the ammonium; nan where it is not known."""
    pka_source: str
    """Where the pKa was read; empty where it is not known."""
    pka_mark: str
    """How well the pKa is confirmed: SEEN, SEEN-2nd, or MEM-* for a remembered value."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Given:
    """What the user gave, read but not yet prepared."""

    text: str
    mol: Chem.Mol
    # The row that was asked for by name; a structure is looked up later.
    entry: LibraryEntry | None = None


def library() -> tuple[LibraryEntry, ...]:
    """List the ligands that are known by name.

    Returns
    -------
    entries : tuple of LibraryEntry

    Examples
    --------
    >>> [entry.name for entry in library()][:2]
    ['S-ketamine', 'R-ketamine']
    """
    return _library()[0]


def load_ligand(text_or_path: str | Path, *, ph: float = 7.4, seed: int = 1) -> Ligand:
    """Prepare a ligand from a library name, a SMILES or an SDF file.

    Parameters
    ----------
    text_or_path : str or pathlib.Path
        Name or synonym from the library in any case, a SMILES, or the path of an .sdf or
        .mol file that holds one molecule in 3-D.
    ph : float
        pH at which the populations of the charge states are given.
    seed : int
        Seed of the conformer search.

    Returns
    -------
    ligand : Ligand
        A structure that is in the library is recognised however it was written.

    Raises
    ------
    LigandError
        If the text is neither, or the molecule cannot be used: several fragments,
        undefined stereocentres, radicals, elements without parameters, more than
        `MAX_HEAVY_ATOMS` heavy atoms.

    Notes
    -----
    Only the most basic aliphatic amine is titrated, picked by simple rules: other acids
    and bases, zwitterions and tautomers stay as given. Populations follow Henderson and
    Hasselbalch and are nan where the pKa is not known. Coordinates of heavy atoms in a
    file are kept; hydrogens are placed anew.

    Examples
    --------
    >>> ligand = load_ligand("esketamine")
    >>> ligand.name, ligand.cip, [state.charge for state in ligand.states]
    ('S-ketamine', 'S', [1, 0])
    >>> round(ligand.states[0].population, 3)
    0.557
    """
    if not (math.isfinite(ph) and 0.0 <= ph <= 14.0):
        raise LigandError(f"a pH of {ph} was given: it must lie between 0 and 14")
    if not 0 <= seed < 2**31:
        raise LigandError(f"a seed of {seed} was given: it must lie between 0 and 2147483647")
    with rdBase.BlockLogs():
        try:
            return _prepare(_read(text_or_path), ph=ph, seed=seed)
        except LigandError:
            raise
        except (ValueError, RuntimeError) as error:
            # RDKit's own checks let a few impossible molecules pass, which it refuses later.
            raise LigandError(
                f"{_quoted(str(text_or_path))} is no valid molecule: {_first_line(error)}"
            ) from error


def state_of(ligand: Ligand, charge: int | None = None) -> ChargeState:
    """Choose one charge state of a ligand.

    Parameters
    ----------
    ligand : Ligand
    charge : int, optional
        Net charge, e. Without it the most positive state, which is the one that the
        channel binds.

    Returns
    -------
    state : ChargeState

    Raises
    ------
    LigandError
        If the ligand has no state of this charge.
    """
    if charge is None:
        return max(ligand.states, key=lambda state: state.charge)
    for state in ligand.states:
        if state.charge == charge:
            return state
    known = " and ".join(f"{state.charge:+d}" for state in ligand.states)
    raise LigandError(
        f"{ligand.name} has no state of charge {charge:+d}: choose from its charges {known}"
    )


def write_ligand(state: ChargeState, path: str | Path) -> None:
    """Write one charge state to an SDF file, all hydrogens included.

    Parameters
    ----------
    state : ChargeState
    path : str or pathlib.Path
        An existing file is replaced in one step.

    Raises
    ------
    LigandError
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
        raise LigandError(f"cannot write the ligand to {target}: {error.strerror}") from error


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
        If the file is missing, empty, cut short, flat, or holds more than one molecule.
    """
    with rdBase.BlockLogs():
        mol = _read_molecule_file(Path(path))
        _name_atoms(mol)
        return mol


def ligand_svg(ligand: Ligand, *, charge: int | None = None) -> str:
    """Draw the structural formula of one charge state.

    Parameters
    ----------
    ligand : Ligand
    charge : int, optional
        As for `state_of`.

    Returns
    -------
    svg : str
        A picture of 320 by 260 pixels with CIP labels.
    """
    mol = Chem.MolFromSmiles(state_of(ligand, charge).smiles)
    drawer = rdMolDraw2D.MolDraw2DSVG(320, 260)
    options: Any = drawer.drawOptions()
    options.addStereoAnnotation = True
    rdMolDraw2D.PrepareAndDrawMolecule(drawer, mol)
    drawer.FinishDrawing()
    return drawer.GetDrawingText()


# --- reading -------------------------------------------------------------------------


def _read(given: str | Path) -> _Given:
    text = str(given).strip()
    path = Path(given) if isinstance(given, Path) else Path(text)
    if not text:
        raise LigandError(f"no ligand was given: {_ALLOWED}")
    if isinstance(given, Path) or path.suffix.lower() in _FILE_SUFFIXES:
        return _Given(text=text, mol=_read_molecule_file(path))
    entries, mixtures = _library()
    name = _plain(text)
    for entry in entries:
        if name in map(_plain, (entry.name, *entry.synonyms)):
            return _Given(text=text, mol=_parse_smiles(entry.smiles), entry=entry)
    if name in mixtures:
        raise LigandError(
            f"{_quoted(text)} is a mixture of stereoisomers: choose {' or '.join(mixtures[name])}"
        )
    if not _SMILES_TEXT.fullmatch(text) and not set("=#@[]") & set(text):
        raise LigandError(_unknown_name(text, path))
    return _Given(text=text, mol=_parse_smiles(text))


_ALLOWED = "give a name from the library, a SMILES, or the path of an .sdf file"


@cache
def _library() -> tuple[tuple[LibraryEntry, ...], dict[str, tuple[str, ...]]]:
    with (structures_folder() / "ligands" / "library.toml").open("rb") as file:
        data = tomllib.load(file)
    entries = tuple(
        LibraryEntry(
            name=row["name"],
            smiles=row["smiles"],
            cip=tuple(row["cip"]),
            synonyms=tuple(row["synonyms"]),
            pka=float(row.get("pka", {}).get("value", math.nan)),
            pka_source=row.get("pka", {}).get("source", ""),
            pka_mark=row.get("pka", {}).get("mark", ""),
        )
        for row in data["ligand"]
    )
    mixtures = {
        _plain(name): tuple(row["components"])
        for row in data.get("mixture", ())
        for name in (row["name"], *row["synonyms"])
    }
    return entries, mixtures


def _plain(name: str) -> str:
    """Fold the spellings of a name that mean the same."""
    return re.sub(r"[\s_]+", "-", name.strip()).casefold()


def _unknown_name(text: str, path: Path) -> str:
    if path.is_file():
        return (
            f"{_quoted(text)} is not an .sdf file: other formats do not state bond orders and "
            "charges, so convert it to SDF first"
        )
    names = {
        _plain(name): entry.name for entry in library() for name in (entry.name, *entry.synonyms)
    }
    near = difflib.get_close_matches(_plain(text), names, n=3, cutoff=0.6)
    hint = ", ".join(dict.fromkeys(names[name] for name in near))
    return (
        f"unknown ligand {_quoted(text)}: "
        + (f"the nearest in the library is {hint}; " if hint else "")
        + _ALLOWED
    )


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _parse_smiles(text: str) -> Chem.Mol:
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
        raise LigandError(f"the SMILES {_quoted(text)} does not parse: {_syntax_problem(text)}")
    return _sanitised(mol, f"the SMILES {_quoted(text)}", text)


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
    if at is None:
        return reason
    position = min(int(at[1]), len(text))
    return f"{reason} at character {position}, {text[position - 1]!r}"


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
    tokens = list(re.finditer(_SMILES_ATOM, smiles)) if smiles else []
    if len(tokens) == mol.GetNumAtoms():
        where = f"the atom at character {tokens[index].start() + 1}"
    return f"{where}, {mol.GetAtomWithIdx(index).GetSymbol()}, has too many bonds for its charge"


def _read_molecule_file(path: Path) -> Chem.Mol:
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
        raise LigandError(f"the file {_quoted(str(path))} is not text in SDF format") from error


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


# --- preparing -----------------------------------------------------------------------


def _prepare(given: _Given, *, ph: float, seed: int) -> Ligand:
    subject = "the ligand " + _quoted(given.text)
    _check_usable(given.mol, subject)
    neutral = _canonical(_neutralised(_without_hydrogens(given.mol)))
    _check_stereo(neutral, subject)
    smiles = Chem.MolToSmiles(neutral)
    entry = given.entry or next(
        (e for e in library() if _canonical_smiles(e.smiles) == smiles), None
    )
    if entry is not None:
        _check_labels(entry)
    pka = entry.pka if entry else math.nan
    inchikey = Chem.MolToInchiKey(neutral)
    ligand = Ligand(
        name=entry.name if entry else inchikey,
        smiles=smiles,
        synonyms=entry.synonyms if entry else (),
        states=(),
        ph=ph,
        pka=pka,
        pka_source=f"{entry.pka_source} [{entry.pka_mark}]" if entry and entry.pka_source else "",
        cip=",".join(_cip_labels(neutral)),
        formula=rdMolDescriptors.CalcMolFormula(neutral),
        inchikey=inchikey,
        notes=(),
    )
    return _with_states(ligand, neutral, entry, seed=seed)


def _with_states(
    ligand: Ligand, neutral: Chem.Mol, entry: LibraryEntry | None, *, seed: int
) -> Ligand:
    """Add charge states and what is to be said about them."""
    amines = _amines(neutral)
    share = 1.0 / (1.0 + 10.0 ** (ligand.ph - ligand.pka))
    forms = [(_protonated(neutral, amines[0]), share)] if amines else []
    forms.append((neutral, 1.0 - share if amines else math.nan))
    states = tuple(
        _charge_state(ligand.name, form, population, seed=seed) for form, population in forms
    )
    notes = []
    if not amines:
        notes.append("no aliphatic amine to protonate: used in the charge state as given")
    elif math.isnan(ligand.pka):
        notes.append("pKa not known: the charge states are unweighted")
    elif entry and not entry.pka_mark.startswith("SEEN"):
        notes.append(f"pKa not confirmed ({entry.pka_mark}): so are the populations")
    if len(amines) > 1:
        notes.append(f"{len(amines)} aliphatic amines: only the most basic one is titrated")
    return replace(ligand, states=states, notes=tuple(notes))


def _charge_state(name: str, heavy: Chem.Mol, population: float, *, seed: int) -> ChargeState:
    charge = Chem.GetFormalCharge(heavy)
    if heavy.GetNumConformers():
        mol = Chem.AddHs(heavy, addCoords=True)
    else:
        mol = _embedded(Chem.AddHs(heavy), f"{name}{charge:+d}", seed)
    _name_atoms(mol)
    return ChargeState(
        name=f"{name}{charge:+d}",
        charge=charge,
        smiles=Chem.MolToSmiles(heavy),
        population=population,
        mol=mol,
    )


def _check_usable(mol: Chem.Mol, subject: str) -> None:
    fragments = Chem.GetMolFrags(mol, asMols=True)
    if len(fragments) > 1:
        listed = sorted(fragments, key=lambda f: -f.GetNumHeavyAtoms())
        raise LigandError(
            f"{subject} holds {len(fragments)} separate molecules: give one of them alone, "
            f"such as {Chem.MolToSmiles(Chem.RemoveHs(listed[0]))} without its salt or solvent"
        )
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
    if any(bond.GetBondType() not in _BOND_TYPES for bond in mol.GetBonds()):
        raise LigandError(
            f"{subject} holds a bond that is not single, double, triple or aromatic: "
            "give a definite structure"
        )


def _without_hydrogens(mol: Chem.Mol) -> Chem.Mol:
    parameters: Any = Chem.RemoveHsParameters()
    # Hydrogens that mark a double bond's sides carry nothing once its stereo is perceived.
    parameters.removeDefiningBondStereo = True
    parameters.removeHydrides = True
    return Chem.RemoveHs(mol, parameters)


def _neutralised(mol: Chem.Mol) -> Chem.Mol:
    """Take one proton from every aliphatic ammonium."""
    mol = Chem.RWMol(mol)
    for (index,) in mol.GetSubstructMatches(_AMMONIUM):
        _set_charge(mol.GetAtomWithIdx(index), 0)
    return _refreshed(mol)


def _protonated(neutral: Chem.Mol, amine: int) -> Chem.Mol:
    mol = Chem.RWMol(neutral)
    _set_charge(mol.GetAtomWithIdx(amine), 1)
    return _refreshed(mol)


def _set_charge(nitrogen: Chem.Atom, charge: int) -> None:
    nitrogen.SetFormalCharge(charge)
    nitrogen.SetNumExplicitHs(0)
    nitrogen.SetNoImplicit(False)
    # It inverts as an amine and exchanges its proton as an ammonium.
    nitrogen.SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)


def _refreshed(mol: Chem.RWMol) -> Chem.Mol:
    Chem.SanitizeMol(mol)
    Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
    return mol.GetMol()


def _canonical(mol: Chem.Mol) -> Chem.Mol:
    """Give the molecule the atom order of its canonical SMILES, coordinates kept."""
    canonical = Chem.MolFromSmiles(Chem.MolToSmiles(mol))
    if not mol.GetNumConformers():
        return canonical
    Chem.MolToSmiles(mol)
    order = list(mol.GetPropsAsDict(True, True)["_smilesAtomOutputOrder"])
    positions = mol.GetConformer().GetPositions()[order]
    conformer = Chem.Conformer(len(order))
    conformer.Set3D(True)
    conformer.SetPositions(positions)
    canonical.AddConformer(conformer)
    return canonical


@cache
def _canonical_smiles(smiles: str) -> str:
    return Chem.MolToSmiles(Chem.MolFromSmiles(smiles))


def _amines(mol: Chem.Mol) -> list[int]:
    """List the aliphatic amines, the most basic first."""
    ranked = (index for rule in _AMINE_RANKS for (index,) in mol.GetSubstructMatches(rule))
    return list(dict.fromkeys(ranked))


# --- stereochemistry -----------------------------------------------------------------


def _check_stereo(mol: Chem.Mol, subject: str) -> None:
    undefined = [info for info in Chem.FindPotentialStereo(mol) if _is_undefined(info, mol)]
    if not undefined:
        return
    caged = any(_is_bridgehead(info, mol) for info in undefined)
    isomers = _built_isomers(mol) if caged else _written_isomers(mol)
    if len(isomers) == 1:
        # Bridgeheads of a cage look like stereocentres and leave no choice.
        return
    more = " and others" if len(isomers) > _MAX_LISTED_ISOMERS else ""
    raise LigandError(
        f"{subject} leaves {len(undefined)} stereocentre{'s' * (len(undefined) > 1)} undefined: "
        f"give one of its isomers, {_listed(isomers[:_MAX_LISTED_ISOMERS])}{more}"
    )


def _is_undefined(info: Chem.StereoInfo, mol: Chem.Mol) -> bool:
    if info.specified != Chem.StereoSpecified.Unspecified:
        return False
    if info.type == Chem.StereoType.Atom_Tetrahedral:
        atom = mol.GetAtomWithIdx(info.centeredOn)
        return atom.GetSymbol() != "N" or atom.GetTotalDegree() - atom.GetTotalNumHs() == 4
    if info.type == Chem.StereoType.Bond_Double:
        bond = mol.GetBondWithIdx(info.centeredOn)
        ends = (bond.GetBeginAtom(), bond.GetEndAtom())
        # The proton of an imine or amidine moves over; its side is no isomer.
        return not any(end.GetSymbol() == "N" and end.GetTotalNumHs() for end in ends)
    return False


def _is_bridgehead(info: Chem.StereoInfo, mol: Chem.Mol) -> bool:
    of_atom = info.type == Chem.StereoType.Atom_Tetrahedral
    return of_atom and mol.GetRingInfo().NumAtomRings(info.centeredOn) > 1


def _written_isomers(mol: Chem.Mol) -> list[Chem.Mol]:
    options = StereoEnumerationOptions(unique=True, maxIsomers=2 * _MAX_LISTED_ISOMERS)
    isomers = EnumerateStereoisomers(mol, options)
    return list({Chem.MolToInchi(isomer): isomer for isomer in isomers}.values())


def _built_isomers(mol: Chem.Mol) -> list[Chem.Mol]:
    """Collect the isomers that appear in 3-D when undefined centres are left free."""
    built = Chem.AddHs(mol)
    isomers = {}
    for conformer in rdDistGeom.EmbedMultipleConfs(built, _N_SAMPLED, _embedding(seed=1)):
        Chem.AssignStereochemistryFrom3D(built, conformer)
        isomer = Chem.RemoveHs(built)
        isomer.RemoveAllConformers()
        isomers[Chem.MolToInchi(isomer)] = isomer
    return list(isomers.values()) or _written_isomers(mol)


def _listed(isomers: Iterable[Chem.Mol]) -> str:
    return "; ".join(
        f"{Chem.MolToSmiles(isomer)} ({','.join(_cip_labels(isomer)) or 'no CIP label'})"
        for isomer in isomers
    )


def _cip_labels(mol: Chem.Mol) -> tuple[str, ...]:
    """Derive the labels of stereocentres, then of double bonds, in the order of atoms."""
    mol = Chem.Mol(mol)
    try:
        rdCIPLabeler.AssignCIPLabels(mol, maxRecursiveIterations=_MAX_CIP_ITERATIONS)
    except RuntimeError as error:
        raise LigandError("the CIP labels of this molecule cannot be derived") from error
    sites: tuple[Chem.Atom | Chem.Bond, ...] = (*mol.GetAtoms(), *mol.GetBonds())
    return tuple(site.GetProp("_CIPCode") for site in sites if site.HasProp("_CIPCode"))


def _check_labels(entry: LibraryEntry) -> None:
    derived = _cip_labels(Chem.MolFromSmiles(entry.smiles))
    if derived != entry.cip:
        raise LigandError(
            f"the library's SMILES of {entry.name} is {','.join(derived)}, not "
            f"{','.join(entry.cip)}: correct library.toml"
        )


# --- three dimensions and names ------------------------------------------------------


def _embedded(mol: Chem.Mol, subject: str, seed: int) -> Chem.Mol:
    """Build conformers and keep the one of lowest MMFF94 energy."""
    parameters = _embedding(seed)
    for parameters.useRandomCoords in (False, True):
        # May find none in a strained cage, where random starts succeed.
        if rdDistGeom.EmbedMultipleConfs(mol, _N_CONFORMERS, parameters):
            break
    energies = _relaxed_energies(mol)
    kept = [i for i in energies if _keeps_chirality(mol, i)]
    if not kept:
        raise LigandError(
            f"no 3-D structure of {subject} can be built: check its rings and stereocentres"
        )
    best = Chem.Conformer(mol.GetConformer(min(kept, key=energies.__getitem__)))
    mol.RemoveAllConformers()
    mol.AddConformer(best, assignId=True)
    return mol


def _embedding(seed: int) -> Any:  # noqa: ANN401
    """Set up ETKDGv3, whose attributes have wrong types in RDKit's stubs."""
    parameters: Any = rdDistGeom.ETKDGv3()
    parameters.randomSeed = seed
    parameters.timeout = _MAX_EMBEDDING_S
    return parameters


def _relaxed_energies(mol: Chem.Mol) -> dict[int, float]:
    """Relax every conformer; energies in kcal/mol by conformer, to rank them only."""
    conformers = [conformer.GetId() for conformer in mol.GetConformers()]
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        results = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(mol, maxIters=2000)
    elif rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
        results = rdForceFieldHelpers.UFFOptimizeMoleculeConfs(mol, maxIters=2000)
    else:
        results = [(0, 0.0)] * len(conformers)
    return {i: energy for i, (_, energy) in zip(conformers, results, strict=True)}


def _keeps_chirality(mol: Chem.Mol, conformer: int) -> bool:
    """Tell whether the coordinates show every defined stereocentre as it is written."""
    shown = Chem.Mol(mol)
    Chem.AssignAtomChiralTagsFromStructure(shown, conformer, replaceExistingTags=True)
    return all(
        atom.GetChiralTag() in (Chem.ChiralType.CHI_UNSPECIFIED, seen.GetChiralTag())
        for atom, seen in zip(mol.GetAtoms(), shown.GetAtoms(), strict=True)
    )


def _name_atoms(mol: Chem.Mol) -> None:
    """Name atoms by element and count, which follows from their order alone."""
    counts: dict[str, int] = {}
    for atom in mol.GetAtoms():
        symbol = atom.GetSymbol()
        counts[symbol] = counts.get(symbol, 0) + 1
        name = f"{symbol}{counts[symbol]}"
        atom.SetProp("_Name", name)
        info = Chem.AtomPDBResidueInfo(f"{name:<4}", residueName=RESIDUE_NAME)
        info.SetResidueNumber(RESIDUE_NUMBER)
        info.SetChainId(CHAIN)
        info.SetIsHeteroAtom(True)
        atom.SetMonomerInfo(info)
