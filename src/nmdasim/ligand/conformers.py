"""Three dimensions and atom names."""

from functools import lru_cache
from typing import Any

from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from nmdasim.errors import LigandError
from nmdasim.ligand.model import CHAIN, RESIDUE_NAME, RESIDUE_NUMBER

_N_CONFORMERS = 5
_MAX_EMBEDDING_S = 10


def embedded(mol: Chem.Mol, subject: str, seed: int) -> Chem.Mol:
    """Build conformers and keep the one of lowest MMFF94 energy.

    It costs most of the time of loading a ligand, so that a process does it once for each.
    """
    return Chem.Mol(_built(mol.ToBinary(Chem.PropertyPickleOptions.AllProps), subject, seed))


@lru_cache(maxsize=64)
def _built(binary: bytes, subject: str, seed: int) -> Chem.Mol:
    mol = Chem.Mol(binary)  # type: ignore[call-overload]  # the stubs know only text
    parameters = embedding(seed)
    for parameters.useRandomCoords in (False, True):
        # Where the first structure is not found, five more searches would only take longer;
        # in a strained cage random starts succeed.
        if rdDistGeom.EmbedMolecule(mol, parameters) >= 0:
            rdDistGeom.EmbedMultipleConfs(mol, _N_CONFORMERS, parameters)
            break
    energies = _relaxed_energies(mol)
    kept = [i for i in energies if keeps_chirality(mol, i)]
    if not kept:
        raise LigandError(
            f"no 3-D structure of {subject} can be built: check its rings and stereocentres"
        )
    best = Chem.Conformer(mol.GetConformer(min(kept, key=energies.__getitem__)))
    mol.RemoveAllConformers()
    mol.AddConformer(best, assignId=True)
    return mol


def embedding(seed: int) -> Any:  # noqa: ANN401
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


def keeps_chirality(mol: Chem.Mol, conformer: int) -> bool:
    """Tell whether the coordinates show every defined stereocentre as it is written."""
    shown = Chem.Mol(mol)
    Chem.AssignAtomChiralTagsFromStructure(shown, conformer, replaceExistingTags=True)
    return all(
        atom.GetChiralTag() in (Chem.ChiralType.CHI_UNSPECIFIED, seen.GetChiralTag())
        for atom, seen in zip(mol.GetAtoms(), shown.GetAtoms(), strict=True)
    )


def name_atoms(mol: Chem.Mol) -> None:
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
