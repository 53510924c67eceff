"""Pieces of the shipped receptor written as deposited files, so that tests need no other file."""

from collections.abc import Callable
from pathlib import Path

import gemmi

from nmdasim.receptor import receptor_file
from nmdasim.subunits import ONE_LETTER


def deposited_like() -> gemmi.Structure:
    """Give the shipped receptor as an entry would show it: heavy atoms, no caps."""
    shipped = gemmi.read_structure(str(receptor_file("7eu8")))
    model = gemmi.Model(1)
    for letter in "ABCD":
        chain = gemmi.Chain(letter)
        for source in shipped[0]:
            for residue in source if source.name == letter else ():
                if residue.name in ONE_LETTER:
                    kept = gemmi.Residue()
                    kept.name, kept.seqid = residue.name, residue.seqid
                    for atom in residue:
                        if atom.element.name != "H":
                            kept.add_atom(atom)
                    chain.add_residue(kept)
        model.add_chain(chain)
    structure = gemmi.Structure()
    structure.name = "TEST"
    structure.add_model(model)
    return structure


def write(
    structure: gemmi.Structure, path: Path, change: Callable[[gemmi.Model], None] | None = None
) -> Path:
    """Write a structure as PDB or mmCIF by the ending of `path`, after a change to its model."""
    structure = structure.clone()
    if change:
        change(structure[0])
    structure.setup_entities()
    if path.suffix == ".cif":
        structure.make_mmcif_document().write_file(str(path))
    else:
        structure.write_pdb(str(path))
    return path


def drop(structure: gemmi.Model, letters: str, numbers: range) -> None:
    """Take residues out of chains."""
    for chain in structure:
        if chain.name in letters:
            for index in reversed(range(len(chain))):
                if chain[index].seqid.num in numbers:
                    del chain[index]
