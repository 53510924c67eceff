"""Where protons sit, and which canonical form stands for a molecule."""

from functools import cache
from typing import Any

from rdkit import Chem
from rdkit.Chem.MolStandardize import rdMolStandardize

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


def without_hydrogens(mol: Chem.Mol) -> Chem.Mol:
    """Make hydrogens implicit, coordinates of the other atoms kept."""
    parameters: Any = Chem.RemoveHsParameters()
    # Hydrogens that mark a double bond's sides carry nothing once its stereo is perceived.
    parameters.removeDefiningBondStereo = True
    parameters.removeHydrides = True
    return Chem.RemoveHs(mol, parameters)


def neutralised(mol: Chem.Mol) -> Chem.Mol:
    """Take protons from cations and give them to anions, as far as that discharges them."""
    mol = Chem.RWMol(mol)
    for (index,) in mol.GetSubstructMatches(_AMMONIUM):
        _set_charge(mol.GetAtomWithIdx(index), 0)
    return _refreshed(Chem.RWMol(rdMolStandardize.Uncharger().uncharge(_refreshed(mol))))


def protonated(neutral: Chem.Mol, amine: int) -> Chem.Mol:
    """Put a proton on one amine."""
    mol = Chem.RWMol(neutral)
    _set_charge(mol.GetAtomWithIdx(amine), 1)
    return _refreshed(mol)


def with_charges_of(variant: Chem.Mol, neutral: Chem.Mol) -> Chem.Mol | None:
    """Give a molecule the charges of a variant of itself, order and coordinates kept.

    Atoms of the variant carry the index in `neutral`, plus one, as their map number. None
    where they were lost on more than one atom.
    """
    indices = [atom.GetAtomMapNum() - 1 for atom in variant.GetAtoms()]
    lost = set(range(neutral.GetNumAtoms())) - set(indices)
    if indices.count(-1) != len(lost) or len(lost) > 1:
        return None
    mol = Chem.RWMol(neutral)
    for atom, index in zip(variant.GetAtoms(), indices, strict=True):
        target = mol.GetAtomWithIdx(lost.pop() if index < 0 else index)
        if target.GetFormalCharge() != atom.GetFormalCharge():
            target.SetNumExplicitHs(atom.GetTotalNumHs() if target.GetIsAromatic() else 0)
            target.SetFormalCharge(atom.GetFormalCharge())
            target.SetNoImplicit(target.GetIsAromatic())
            if target.GetSymbol() == "N":
                target.SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
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


def canonical(mol: Chem.Mol) -> Chem.Mol:
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
def canonical_smiles(smiles: str) -> str:
    """Write a SMILES as RDKit does."""
    return Chem.MolToSmiles(Chem.MolFromSmiles(smiles))


def amines(mol: Chem.Mol) -> list[int]:
    """List the aliphatic amines, the most basic first."""
    ranked = (index for rule in _AMINE_RANKS for (index,) in mol.GetSubstructMatches(rule))
    return list(dict.fromkeys(ranked))
