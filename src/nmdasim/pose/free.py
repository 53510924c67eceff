"""Free conformers of a charge state, searched once for all its poses."""

import functools
from typing import Any

from rdkit import Chem

from nmdasim.ligand import Conformer, conformers


def free_conformers(mol: Chem.Mol) -> tuple[Conformer, ...]:
    """Give the conformers of a charge state without the receptor, the lowest first.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        All atoms; where they are does not matter.

    Returns
    -------
    conformers : tuple of Conformer
        Kept for the next pose of the same state, because the search takes seconds.

    Raises
    ------
    LigandError
        If MMFF94s cannot describe the molecule, or no structure can be built.
    """
    bare = Chem.Mol(mol)
    bare.RemoveAllConformers()
    return _searched(bare.ToBinary())


@functools.lru_cache(maxsize=64)
def _searched(molecule: Any) -> tuple[Conformer, ...]:  # noqa: ANN401
    return conformers(Chem.Mol(molecule))
