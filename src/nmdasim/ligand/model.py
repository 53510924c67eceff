"""What is known about a ligand: its library row, its charge states, itself."""

import math
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
class Finding:
    """One published figure with its source and its mark: a potency, a pKa, a logP."""

    subject: str
    """What was measured: a ligand of the library, or the name of a mixture of them."""
    form: str
    """`racemic` or `not stated` for a mixture; empty where `subject` is one ligand."""
    quantity: str
    """What the figure is, such as `IC50`, `Ki`, `koff`, `pKa` or `logP`."""
    relation: str
    """One of =, ~, <, <=, >, >=; a range is two findings. Empty where there is no figure."""
    value: float
    """The figure; nan where the finding is one in words, which `note` holds."""
    text: str
    """The figure as it was written, or a text such as a molecular formula."""
    uncertainty: str
    """As printed; whether SD or SEM is not known. Empty where none was given."""
    unit: str
    """Unit of the figure; empty for a number without one."""
    assay: str
    """Kind of experiment; empty for a property of the molecule."""
    species: str
    """Animal of the receptor; empty where it is not known."""
    subunits: str
    """Subunits of the receptor, or `native`; empty where they are not known."""
    preparation: str
    """Cells, membranes or conditions; empty where they are not known."""
    mg_mM: str  # noqa: N815 - as the unit is written
    """Concentration of Mg2+ in mM; empty where it is not known."""
    voltage_mV: str  # noqa: N815
    """Membrane voltage in mV; empty where it is not known or does not apply."""
    source: str
    """Where the figure was read; empty where it is remembered without a source."""
    doi: str
    """DOI of the source, where it is known."""
    mark: str
    """How well the figure is confirmed: see `MARKS`."""
    note: str
    """What limits the figure."""

    @property
    def is_confirmed(self) -> bool:
        """Whether it was read somewhere, and does not rest on a remembered figure."""
        return is_confirmed(self.mark) and "basis MEM" not in self.note

    @property
    def conditions(self) -> tuple[str, ...]:
        """What two findings must share before they may be compared."""
        return (
            self.assay,
            self.preparation,
            self.species,
            self.subunits,
            self.mg_mM,
            self.voltage_mV,
            self.source,
        )


#: What the mark of a finding or a reaction means.
MARKS = {
    "SEEN": "read in the source itself",
    "SEEN-2nd": "read in a work that quotes the source; the source itself was not read",
    "FILE": "read from a deposited file",
    "DERIVED": "computed from other figures; never better than they are",
    "MEM-hi": "remembered with high confidence, not confirmed",
    "MEM-mid": "remembered with middling confidence, not confirmed",
    "MEM-lo": "remembered with low confidence, not confirmed",
}


def is_confirmed(mark: str) -> bool:
    """Say whether a figure of this mark was read somewhere rather than remembered."""
    return not mark.startswith("MEM")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """One way in which the body makes a metabolite."""

    parent: str
    """Library name of what it is made from."""
    name: str
    """Kind of reaction, such as `N-demethylation`."""
    enzymes: str
    """Enzymes that were named; empty where none was."""
    source: str
    """Where it was read."""
    doi: str
    """DOI of the source, where it is known."""
    mark: str
    """How well it is confirmed: see `MARKS`."""
    note: str
    """What limits the statement."""


#: Families of the library, with a heading for each.
FAMILIES = {
    "ketamine": "ketamine and its metabolites",
    "reference": "other blockers to compare with",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryEntry:
    """One row of the shipped library."""

    name: str
    """Name under which results are reported; also that of files and folders."""
    title: str
    """The name for people, with locants and signs, such as `(2R,6R)-6-hydroxynorketamine`."""
    family: str
    """A key of `FAMILIES`."""
    kind: str
    """`molecule`, or `ion`: one atom of fixed charge without protons, stereo or conformers."""
    smiles: str
    """Isomeric SMILES of the uncharged form; of the ion itself."""
    cip: tuple[str, ...]
    """Expected CIP labels in the order of the atoms of `smiles`."""
    synonyms: tuple[str, ...]
    """Other names."""
    pdb_component: str
    """Identifier in the Protein Data Bank; empty where none was read in an entry."""
    reactions: tuple[Reaction, ...]
    """How the body makes it; empty for what is given as a drug."""
    properties: tuple[Finding, ...]
    """pKa and logP, also those of mixtures that contain it, the figures to use first."""

    @property
    def titration(self) -> Finding | None:
        """The pKa that weights the charge states: the first that is one figure, not a range."""
        found = (f for f in self.properties if f.quantity == "pKa" and f.relation == "=")
        return next(found, None)

    @property
    def pka(self) -> float:
        """The pKa of the ammonium; nan where it is not known as one figure."""
        return self.titration.value if self.titration else math.nan

    @property
    def pka_mark(self) -> str:
        """Mark of the pKa or of its range; empty where neither is known."""
        return next((f.mark for f in self.properties if f.quantity == "pKa"), "")

    @property
    def pka_range(self) -> tuple[float, float] | None:
        """Ends of the range in which the pKa is said to lie, where no figure is known."""
        ends = {f.relation: f.value for f in self.properties if f.quantity == "pKa"}
        if self.titration or not {">=", "<="} <= ends.keys():
            return None
        return ends[">="], ends["<="]
