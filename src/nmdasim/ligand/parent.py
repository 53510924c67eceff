"""Salts and solvates: which of several molecules is meant, and what is left out."""

from collections import Counter
from functools import cache

from rdkit import Chem
from rdkit.Chem.MolStandardize import rdMolStandardize

from nmdasim.errors import LigandError
from nmdasim.ligand.reading import quoted

# What drugs are sold with, uncharged and without stereo. As a free acid or base where there
# is one: a chloride is found as hydrogen chloride.
_COMPANIONS = {
    "hydrogen chloride": "Cl",
    "hydrogen bromide": "Br",
    "hydrogen iodide": "I",
    "hydrogen fluoride": "F",
    "sulfuric acid": "OS(=O)(=O)O",
    "phosphoric acid": "OP(=O)(O)O",
    "nitric acid": "O[N+](=O)[O-]",
    "perchloric acid": "OCl(=O)(=O)=O",
    "tetrafluoroborate": "F[B-](F)(F)F",
    "hexafluorophosphate": "F[P-](F)(F)(F)(F)F",
    "formic acid": "OC=O",
    "acetic acid": "CC(=O)O",
    "trifluoroacetic acid": "OC(=O)C(F)(F)F",
    "oxalic acid": "OC(=O)C(=O)O",
    "malonic acid": "OC(=O)CC(=O)O",
    "succinic acid": "OC(=O)CCC(=O)O",
    "maleic or fumaric acid": "OC(=O)C=CC(=O)O",
    "malic acid": "OC(=O)CC(O)C(=O)O",
    "tartaric acid": "OC(=O)C(O)C(O)C(=O)O",
    "citric acid": "OC(=O)CC(O)(CC(=O)O)C(=O)O",
    "lactic acid": "CC(O)C(=O)O",
    "gluconic acid": "OCC(O)C(O)C(O)C(O)C(=O)O",
    "benzoic acid": "OC(=O)c1ccccc1",
    "methanesulfonic acid": "CS(=O)(=O)O",
    "benzenesulfonic acid": "OS(=O)(=O)c1ccccc1",
    "toluenesulfonic acid": "Cc1ccc(S(=O)(=O)O)cc1",
    "camphorsulfonic acid": "CC1(C)C2CCC1(CS(=O)(=O)O)C(=O)C2",
    "lithium": "[Li+]",
    "sodium": "[Na+]",
    "potassium": "[K+]",
    "calcium": "[Ca+2]",
    "magnesium": "[Mg+2]",
    "zinc": "[Zn+2]",
    "ammonia": "N",
    "water": "O",
    "methanol": "CO",
    "ethanol": "CCO",
    "isopropanol": "CC(C)O",
    "acetone": "CC(C)=O",
    "acetonitrile": "CC#N",
    "dimethyl sulfoxide": "CS(C)=O",
    "dichloromethane": "ClCCl",
    "ethyl acetate": "CCOC(C)=O",
}
_MAX_SHOWN = 3


def parent_of(mol: Chem.Mol, subject: str) -> tuple[Chem.Mol, str]:
    """Leave the usual acids, bases and solvents out where one other molecule remains.

    Returns
    -------
    parent : rdkit.Chem.Mol
        With its coordinates, if it had any.
    left_out : str
        One sentence for the reader; empty where there was one molecule.

    Raises
    ------
    LigandError
        If more than one molecule remains, or none.
    """
    fragments = Chem.GetMolFrags(mol, asMols=True)
    if len(fragments) == 1:
        return mol, ""
    companions = [_companion(fragment) for fragment in fragments]
    others = [f for f, name in zip(fragments, companions, strict=True) if name is None]
    kinds = {Chem.MolToSmiles(Chem.RemoveHs(fragment)): fragment for fragment in others}
    if len(kinds) != 1:
        shown = [quoted(smiles) for smiles in kinds][:_MAX_SHOWN]
        listed = " and ".join(shown) if kinds else "nothing but acids, bases and solvents"
        raise LigandError(
            f"{subject} holds {len(fragments)} separate molecules, {listed}: give the one that "
            "is meant alone"
        )
    ((smiles, parent),) = kinds.items()
    counts = Counter(name for name in companions if name is not None)
    if len(others) > 1:
        counts["a second copy of the ligand"] += len(others) - 1
    listed = ", ".join(f"{n} x {name}" if n > 1 else name for name, n in counts.items())
    return parent, f"{len(fragments)} molecules were given: {smiles} is kept; left out: {listed}"


@cache
def _companions() -> dict[str, str]:
    return {Chem.CanonSmiles(smiles): name for name, smiles in _COMPANIONS.items()}


def _companion(fragment: Chem.Mol) -> str | None:
    """Name an acid, base or solvent whatever its charge; None for anything else."""
    mol = rdMolStandardize.Uncharger(force=True).uncharge(Chem.RemoveHs(fragment))
    for form in (mol, fragment):
        name = _companions().get(Chem.MolToSmiles(Chem.RemoveHs(form), isomericSmiles=False))
        if name is not None:
            return name
    return None
