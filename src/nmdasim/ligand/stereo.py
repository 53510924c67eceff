"""Stereochemistry: CIP labels, and what a molecule leaves undefined."""

from collections.abc import Iterable

from rdkit import Chem
from rdkit.Chem import rdCIPLabeler, rdDistGeom
from rdkit.Chem.EnumerateStereoisomers import (
    EnumerateStereoisomers,
    StereoEnumerationOptions,
)

from nmdasim.errors import LigandError
from nmdasim.ligand.conformers import embedding
from nmdasim.ligand.model import LibraryEntry

# An isomer that appears in half of the built structures is missed with a chance of 1e-6.
_N_SAMPLED = 20
_MAX_LISTED_ISOMERS = 8
MAX_ISOMERS = 64
_MAX_CIP_ITERATIONS = 1_000_000


def check_stereo(mol: Chem.Mol, subject: str) -> None:
    """Refuse undefined stereocentres, and list the isomers to choose from."""
    isomers = isomers_of(mol)
    if len(isomers) == 1:
        return
    n_undefined = len(_undefined(mol))
    more = " and others" if len(isomers) > _MAX_LISTED_ISOMERS else ""
    raise LigandError(
        f"{subject} leaves {n_undefined} stereocentre{'s' * (n_undefined > 1)} undefined: "
        f"give one of its isomers, {_listed(isomers[:_MAX_LISTED_ISOMERS])}{more}, or make all "
        "with `nmdasim ligand --enumerate-stereo`"
    )


def isomers_of(mol: Chem.Mol) -> list[Chem.Mol]:
    """List the isomers that a molecule leaves open, at most one more than `MAX_ISOMERS`.

    Itself alone where all is defined, or where the undefined centres leave no choice, as
    the bridgeheads of a cage do.
    """
    undefined = _undefined(mol)
    if not undefined:
        return [mol]
    caged = any(_is_bridgehead(info, mol) for info in undefined)
    isomers = _built_isomers(mol) if caged else _written_isomers(mol)
    return [mol] if len(isomers) == 1 else isomers


def _undefined(mol: Chem.Mol) -> list[Chem.StereoInfo]:
    return [info for info in Chem.FindPotentialStereo(mol) if _is_undefined(info, mol)]


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
    options = StereoEnumerationOptions(unique=True, maxIsomers=MAX_ISOMERS + 1)
    isomers = EnumerateStereoisomers(mol, options)
    return list({Chem.MolToInchi(isomer): isomer for isomer in isomers}.values())


def _built_isomers(mol: Chem.Mol) -> list[Chem.Mol]:
    """Collect the isomers that appear in 3-D when undefined centres are left free."""
    built = Chem.AddHs(mol)
    isomers = {}
    for conformer in rdDistGeom.EmbedMultipleConfs(built, _N_SAMPLED, embedding(seed=1)):
        Chem.AssignStereochemistryFrom3D(built, conformer)
        isomer = Chem.RemoveHs(built)
        isomer.RemoveAllConformers()
        isomers[Chem.MolToInchi(isomer)] = isomer
    return list(isomers.values()) or _written_isomers(mol)


def _listed(isomers: Iterable[Chem.Mol]) -> str:
    return "; ".join(
        f"{Chem.MolToSmiles(isomer)} ({','.join(cip_labels(isomer)) or 'no CIP label'})"
        for isomer in isomers
    )


def cip_labels(mol: Chem.Mol) -> tuple[str, ...]:
    """Derive the labels of stereocentres, then of double bonds, in the order of atoms."""
    mol = Chem.Mol(mol)
    try:
        rdCIPLabeler.AssignCIPLabels(mol, maxRecursiveIterations=_MAX_CIP_ITERATIONS)
    except RuntimeError as error:
        raise LigandError("the CIP labels of this molecule cannot be derived") from error
    sites: tuple[Chem.Atom | Chem.Bond, ...] = (*mol.GetAtoms(), *mol.GetBonds())
    return tuple(site.GetProp("_CIPCode") for site in sites if site.HasProp("_CIPCode"))


def check_labels(entry: LibraryEntry) -> None:
    """Hold a library row's SMILES against the labels that it claims."""
    derived = cip_labels(Chem.MolFromSmiles(entry.smiles))
    if derived != entry.cip:
        raise LigandError(
            f"the library's SMILES of {entry.name} is {','.join(derived)}, not "
            f"{','.join(entry.cip)}: correct library.toml"
        )
