"""What is known about a ligand: its library row, its charge states, itself."""

from dataclasses import dataclass

from rdkit import Chem

#: Residue name, chain and number of the ligand in every file that nmdasim writes.
RESIDUE_NAME, CHAIN, RESIDUE_NUMBER = "LIG", "L", 1
MAX_HEAVY_ATOMS = 80


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
    """Name under which results are reported; also that of files and folders."""
    title: str
    """The name for people, with locants and signs, such as `(2R,6R)-6-hydroxynorketamine`."""
    family: str
    """`ketamine`, or `reference` for another blocker to compare with."""
    kind: str
    """`molecule`, or `ion`: one atom of fixed charge without protons, stereo or conformers."""
    smiles: str
    """Isomeric SMILES of the uncharged form; of the ion itself."""
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
