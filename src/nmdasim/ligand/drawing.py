"""Structural formulae as SVG."""

from functools import cache
from typing import Any

from rdkit import Chem
from rdkit.Chem import rdDepictor
from rdkit.Chem.Draw import rdMolDraw2D

# The part that relatives share, drawn in one orientation: an aryl and an amine on a ring.
_SCAFFOLD = "NC1(CCCCC1=O)c1ccccc1"


def formula_svg(smiles: str, *, width: int = 320, height: int = 260) -> str:
    """Draw a structural formula with CIP labels.

    Parameters
    ----------
    smiles : str
    width, height : int
        Pixels.

    Returns
    -------
    svg : str
        Relatives of ketamine are drawn in one orientation.
    """
    mol = Chem.MolFromSmiles(smiles)
    template = _template()
    if mol.HasSubstructMatch(template):
        rdDepictor.GenerateDepictionMatching2DStructure(mol, template)
    else:
        rdDepictor.Compute2DCoords(mol, useRingTemplates=True)
        rdDepictor.StraightenDepiction(mol)
    drawer = rdMolDraw2D.MolDraw2DSVG(width, height)
    options: Any = drawer.drawOptions()
    options.addStereoAnnotation = True
    options.clearBackground = False
    options.bondLineWidth = 1.6
    options.fixedBondLength = 28
    rdMolDraw2D.PrepareAndDrawMolecule(drawer, mol)
    drawer.FinishDrawing()
    return drawer.GetDrawingText()


@cache
def _template() -> Chem.Mol:
    # Single or double bonds where the metabolites differ.
    template = Chem.MolFromSmarts("NC1(CC~CCC1=O)c1ccccc1".replace("CC~CCC1", "C~C~C~CC1"))
    drawn = Chem.MolFromSmiles(_SCAFFOLD)
    rdDepictor.Compute2DCoords(drawn)
    match = drawn.GetSubstructMatch(template)
    conformer = Chem.Conformer(template.GetNumAtoms())
    for index, at in enumerate(match):
        conformer.SetAtomPosition(index, drawn.GetConformer().GetAtomPosition(at))
    template.AddConformer(conformer, assignId=True)
    return template
