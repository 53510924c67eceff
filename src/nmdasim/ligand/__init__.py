"""From a name, a SMILES or an SDF file to a ligand whose chemistry is settled.

Settled means: one molecule, every stereocentre known, CIP labels derived rather than
trusted, charge states with their populations, and a 3-D structure of each state. Atom
order and atom names follow from the chemistry alone, so that the same compound written
in two ways gives the same atoms.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rdkit import Chem, rdBase
from rdkit.Chem import rdMolDescriptors

from nmdasim.errors import LigandError
from nmdasim.ligand.chemistry import canonical, canonical_smiles, neutralised, without_hydrogens
from nmdasim.ligand.conformers import embedded, name_atoms
from nmdasim.ligand.drawing import formula_svg
from nmdasim.ligand.ensemble import (
    ENERGY_MODEL,
    Conformer,
    Strain,
    conformers,
    ring_form,
    strain,
)
from nmdasim.ligand.files import read_ligand_sdf, write_ligand
from nmdasim.ligand.model import (
    CHAIN,
    FAMILIES,
    MARKS,
    MAX_HEAVY_ATOMS,
    RESIDUE_NAME,
    RESIDUE_NUMBER,
    ChargeState,
    Finding,
    LibraryEntry,
    Ligand,
    Reaction,
    is_confirmed,
)
from nmdasim.ligand.names import components_of, find_entry, names_of, nearest_names
from nmdasim.ligand.parent import parent_of
from nmdasim.ligand.reading import (
    SMILES_ATOM,
    check_usable,
    first_line,
    parse_smiles,
    quoted,
    read_molecule_file,
)
from nmdasim.ligand.records import library, mixtures, potencies
from nmdasim.ligand.states import (
    Protomer,
    cited,
    enumerated,
    library_protomers,
    notes_on_pka,
    protonated_share,
    titrated,
)
from nmdasim.ligand.stereo import (
    MAX_ISOMERS,
    check_labels,
    check_stereo,
    cip_labels,
    isomers_of,
)

__all__ = [
    "CHAIN",
    "ENERGY_MODEL",
    "FAMILIES",
    "MARKS",
    "MAX_HEAVY_ATOMS",
    "RESIDUE_NAME",
    "RESIDUE_NUMBER",
    "ChargeState",
    "Conformer",
    "Finding",
    "LibraryEntry",
    "Ligand",
    "Protomer",
    "Reaction",
    "Strain",
    "conformers",
    "describe_ligand",
    "find_entry",
    "formula_svg",
    "is_confirmed",
    "library",
    "library_protomers",
    "ligand_svg",
    "load_ligand",
    "mixtures",
    "names_of",
    "potencies",
    "protonated_share",
    "read_ligand_sdf",
    "ring_form",
    "state_of",
    "stereoisomers",
    "strain",
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
        If the text is neither, or the molecule cannot be used: several molecules of
        which more than one may be meant, undefined stereocentres, radicals, elements
        without parameters, more than `MAX_HEAVY_ATOMS` heavy atoms.

    Notes
    -----
    A library ligand has the cation and the free base of its amine; populations follow
    Henderson and Hasselbalch and are nan where the pKa is not known. States of any other
    molecule are those that Dimorphite-DL enumerates within one unit of the pH, one for
    each net charge, unweighted. Tautomers stay as given. Acids, bases and solvents that
    come with a salt are left out, which a note says. Coordinates of heavy atoms in a file are
    kept; hydrogens are placed anew.

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
            raise _refused_later(text_or_path, error) from error


def describe_ligand(entry: LibraryEntry, *, ph: float = 7.4) -> Ligand:
    """Describe a library ligand without structures in space, in milliseconds.

    Parameters
    ----------
    entry : LibraryEntry
    ph : float
        pH that the notes are about.

    Returns
    -------
    ligand : Ligand
        As from `load_ligand`, but without states; `library_protomers` lists those.
    """
    mol = Chem.MolFromSmiles(entry.smiles)
    if entry.kind == "ion":
        return replace(_prepare_ion(entry, mol, ph=ph), states=())
    with rdBase.BlockLogs():
        neutral = canonical(neutralised(mol))
        forms = library_protomers(entry, ph=ph)
        return _described(neutral, entry, ph=ph, notes=tuple(notes_on_pka(entry, ph, forms)))


def stereoisomers(text_or_path: str | Path) -> tuple[str, ...]:
    """List what a ligand leaves open: each stereoisomer as a text for `load_ligand`.

    Parameters
    ----------
    text_or_path : str or pathlib.Path
        As for `load_ligand`; also the name of a mixture, such as `ketamine`.

    Returns
    -------
    isomers : tuple of str
        Names of the library for a mixture, else SMILES; the given text alone where it
        leaves nothing open.

    Raises
    ------
    LigandError
        If the molecule cannot be used for another reason, or has more than 64 isomers.

    Examples
    --------
    >>> stereoisomers("ketamine")
    ('S-ketamine', 'R-ketamine')
    >>> len(stereoisomers("NC1(CCCC(O)C1=O)c1ccccc1Cl"))
    4
    """
    text = str(text_or_path).strip()
    components = components_of(text)
    if components:
        return components
    with rdBase.BlockLogs():
        try:
            _, neutral, _ = _one_molecule(_read(text_or_path))
            isomers = isomers_of(neutral) if neutral.GetNumAtoms() > 1 else [neutral]
        except LigandError:
            raise
        except (ValueError, RuntimeError) as error:
            raise _refused_later(text_or_path, error) from error
    if len(isomers) > MAX_ISOMERS:
        raise LigandError(
            f"{quoted(text)} has more than {MAX_ISOMERS} stereoisomers: define some of its centres"
        )
    if len(isomers) == 1:
        return (text,)
    return tuple(sorted(Chem.MolToSmiles(isomer) for isomer in isomers))


def _refused_later(given: str | Path, error: Exception) -> LigandError:
    """Put into words what RDKit's own checks let pass and what it refuses later."""
    return LigandError(f"{quoted(str(given))} is no valid molecule: {first_line(error)}")


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
        f"{ligand.name} has no state of charge {charge:+d} at pH {ligand.ph:g}: choose from its "
        f"charges {known}"
    )


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
    return formula_svg(state_of(ligand, charge).smiles)


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
    components = components_of(text)
    if components:
        raise LigandError(
            f"{quoted(text)} is a mixture of stereoisomers: choose {_either(components)}"
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


def _one_molecule(given: _Given) -> tuple[str, Chem.Mol, str]:
    """Give a subject for errors, the uncharged molecule in canonical order, and a note."""
    subject = "the ligand " + quoted(given.text)
    parent, left_out = parent_of(given.mol, subject)
    if _library_ion(parent) is not None:
        return subject, parent, left_out
    check_usable(parent, subject)
    return subject, canonical(neutralised(without_hydrogens(parent))), left_out


def _prepare(given: _Given, *, ph: float, seed: int) -> Ligand:
    subject, neutral, left_out = _one_molecule(given)
    ion = _library_ion(neutral)
    if ion is not None:
        return _prepare_ion(ion, neutral, ph=ph)
    check_stereo(neutral, subject)
    smiles = Chem.MolToSmiles(neutral)
    entry = given.entry or next(
        (e for e in library() if canonical_smiles(e.smiles) == smiles), None
    )
    if entry is not None:
        check_labels(entry)
    ligand = _described(neutral, entry, ph=ph, notes=(left_out,) if left_out else ())
    return _with_states(ligand, neutral, entry, seed=seed)


def _described(
    neutral: Chem.Mol, entry: LibraryEntry | None, *, ph: float, notes: tuple[str, ...]
) -> Ligand:
    """Say everything about a molecule but its charge states."""
    inchikey = Chem.MolToInchiKey(neutral)
    return Ligand(
        name=entry.name if entry else inchikey,
        smiles=Chem.MolToSmiles(neutral),
        synonyms=entry.synonyms if entry else (),
        states=(),
        ph=ph,
        pka=entry.pka if entry else math.nan,
        pka_source=cited(entry.titration) if entry else "",
        cip=",".join(cip_labels(neutral)),
        formula=rdMolDescriptors.CalcMolFormula(neutral),
        inchikey=inchikey,
        notes=notes,
    )


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
    if entry is None:
        forms, notes = enumerated(neutral, ligand.ph)
    else:
        forms, notes = titrated(neutral, ligand.pka, ligand.ph), ()
    states = tuple(_charge_state(ligand.name, form, seed=seed) for form in forms)
    return replace(
        ligand,
        states=states,
        notes=(*ligand.notes, *notes_on_pka(entry, ligand.ph, forms), *notes),
    )


def _charge_state(name: str, form: Protomer, *, seed: int) -> ChargeState:
    heavy = form.heavy
    if heavy.GetNumConformers():
        mol = Chem.AddHs(heavy, addCoords=True)
    else:
        mol = embedded(Chem.AddHs(heavy), f"{name}{form.charge:+d}", seed)
    name_atoms(mol)
    return ChargeState(
        name=f"{name}{form.charge:+d}",
        charge=form.charge,
        smiles=form.smiles,
        population=form.population,
        mol=mol,
    )
