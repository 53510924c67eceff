"""From a name, a SMILES or an SDF file to a ligand whose chemistry is settled.

Settled means: one molecule, every stereocentre known, CIP labels derived rather than
trusted, charge states with their populations, and a 3-D structure of each state. Atom
order and atom names follow from the chemistry alone, so that the same compound written
in two ways gives the same atoms.
"""

import io
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rdkit import Chem, rdBase
from rdkit.Chem import rdMolDescriptors
from rdkit.Chem.Draw import rdMolDraw2D

from nmdasim.errors import LigandError, RunStorageError
from nmdasim.ligand.chemistry import (
    amines,
    canonical,
    canonical_smiles,
    neutralised,
    protonated,
    without_hydrogens,
)
from nmdasim.ligand.conformers import embedded, name_atoms
from nmdasim.ligand.model import (
    CHAIN,
    MAX_HEAVY_ATOMS,
    RESIDUE_NAME,
    RESIDUE_NUMBER,
    ChargeState,
    LibraryEntry,
    Ligand,
)
from nmdasim.ligand.names import (
    find_entry,
    library,
    library_and_mixtures,
    nearest_names,
    plain_name,
)
from nmdasim.ligand.reading import (
    SMILES_ATOM,
    check_usable,
    first_line,
    parse_smiles,
    quoted,
    read_molecule_file,
)
from nmdasim.ligand.stereo import check_labels, check_stereo, cip_labels

__all__ = [
    "CHAIN",
    "MAX_HEAVY_ATOMS",
    "RESIDUE_NAME",
    "RESIDUE_NUMBER",
    "ChargeState",
    "LibraryEntry",
    "Ligand",
    "find_entry",
    "library",
    "ligand_svg",
    "load_ligand",
    "read_ligand_sdf",
    "state_of",
    "write_ligand",
]

_SMILES_TEXT = re.compile(rf"(?:{SMILES_ATOM}|[-=#$:/\\.()~0-9%@+\[\]])+")
_FILE_SUFFIXES = (".sdf", ".mol")
_ALLOWED = "give a name from the library, a SMILES, or the path of an .sdf file"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Given:
    """What the user gave, read but not yet prepared."""

    text: str
    mol: Chem.Mol
    # The row that was asked for by name; a structure is looked up later.
    entry: LibraryEntry | None = None


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
                f"{quoted(str(text_or_path))} is no valid molecule: {first_line(error)}"
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


def _read(given: str | Path) -> _Given:
    text = str(given).strip()
    path = Path(given) if isinstance(given, Path) else Path(text)
    if not text:
        raise LigandError(f"no ligand was given: {_ALLOWED}")
    if isinstance(given, Path) or path.suffix.lower() in _FILE_SUFFIXES:
        return _Given(text=text, mol=read_molecule_file(path))
    entry = find_entry(text)
    if entry is not None:
        return _Given(text=text, mol=parse_smiles(entry.smiles), entry=entry)
    _, mixtures = library_and_mixtures()
    name = plain_name(text)
    if name in mixtures:
        raise LigandError(
            f"{quoted(text)} is a mixture of stereoisomers: choose {_either(mixtures[name])}"
        )
    if not _SMILES_TEXT.fullmatch(text) and not set("=#@[]") & set(text):
        raise LigandError(_unknown_name(text, path))
    return _Given(text=text, mol=parse_smiles(text))


def _either(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}"


def _unknown_name(text: str, path: Path) -> str:
    if path.is_file():
        return (
            f"{quoted(text)} is not an .sdf file: other formats do not state bond orders and "
            "charges, so convert it to SDF first"
        )
    hint = ", ".join(nearest_names(text))
    return (
        f"unknown ligand {quoted(text)}: "
        + (f"the nearest in the library is {hint}; " if hint else "")
        + _ALLOWED
    )


def _prepare(given: _Given, *, ph: float, seed: int) -> Ligand:
    subject = "the ligand " + quoted(given.text)
    ion = _library_ion(given.mol)
    if ion is not None:
        return _prepare_ion(ion, given.mol, ph=ph)
    check_usable(given.mol, subject)
    neutral = canonical(neutralised(without_hydrogens(given.mol)))
    check_stereo(neutral, subject)
    smiles = Chem.MolToSmiles(neutral)
    entry = given.entry or next(
        (e for e in library() if canonical_smiles(e.smiles) == smiles), None
    )
    if entry is not None:
        check_labels(entry)
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
        cip=",".join(cip_labels(neutral)),
        formula=rdMolDescriptors.CalcMolFormula(neutral),
        inchikey=inchikey,
        notes=(),
    )
    return _with_states(ligand, neutral, entry, seed=seed)


def _library_ion(mol: Chem.Mol) -> LibraryEntry | None:
    """Recognise an ion of the library, whatever it was called."""
    if mol.GetNumAtoms() != 1:
        return None
    smiles = Chem.MolToSmiles(mol)
    return next((e for e in library() if e.kind == "ion" and e.smiles == smiles), None)


def _prepare_ion(entry: LibraryEntry, mol: Chem.Mol, *, ph: float) -> Ligand:
    """Prepare one atom: its charge is fixed, and there is nothing to search or to titrate."""
    mol = Chem.Mol(mol)
    if not mol.GetNumConformers():
        conformer = Chem.Conformer(1)
        conformer.Set3D(True)
        mol.AddConformer(conformer, assignId=True)
    name_atoms(mol)
    charge = Chem.GetFormalCharge(mol)
    state = ChargeState(
        name=f"{entry.name}{charge:+d}",
        charge=charge,
        smiles=entry.smiles,
        population=1.0,
        mol=mol,
    )
    return Ligand(
        name=entry.name,
        smiles=entry.smiles,
        synonyms=entry.synonyms,
        states=(state,),
        ph=ph,
        pka=math.nan,
        pka_source="",
        cip="",
        formula=rdMolDescriptors.CalcMolFormula(mol),
        inchikey=Chem.MolToInchiKey(mol),
        notes=("an ion of fixed charge: protonation, stereo and conformers do not apply",),
    )


def _with_states(
    ligand: Ligand, neutral: Chem.Mol, entry: LibraryEntry | None, *, seed: int
) -> Ligand:
    """Add charge states and what is to be said about them."""
    sites = amines(neutral)
    share = 1.0 / (1.0 + 10.0 ** (ligand.ph - ligand.pka))
    forms = [(protonated(neutral, sites[0]), share)] if sites else []
    forms.append((neutral, 1.0 - share if sites else math.nan))
    states = tuple(
        _charge_state(ligand.name, form, population, seed=seed) for form, population in forms
    )
    notes = []
    if not sites:
        notes.append("no aliphatic amine to protonate: used in the charge state as given")
    elif math.isnan(ligand.pka):
        notes.append("pKa not known: the charge states are unweighted")
    elif entry and not entry.pka_mark.startswith("SEEN"):
        notes.append(f"pKa not confirmed ({entry.pka_mark}): so are the populations")
    if len(sites) > 1:
        notes.append(f"{len(sites)} aliphatic amines: only the most basic one is titrated")
    return replace(ligand, states=states, notes=tuple(notes))


def _charge_state(name: str, heavy: Chem.Mol, population: float, *, seed: int) -> ChargeState:
    charge = Chem.GetFormalCharge(heavy)
    if heavy.GetNumConformers():
        mol = Chem.AddHs(heavy, addCoords=True)
    else:
        mol = embedded(Chem.AddHs(heavy), f"{name}{charge:+d}", seed)
    name_atoms(mol)
    return ChargeState(
        name=f"{name}{charge:+d}",
        charge=charge,
        smiles=Chem.MolToSmiles(heavy),
        population=population,
        mol=mol,
    )
