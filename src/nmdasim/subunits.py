"""NMDA receptor subunits: sequences, UniProt numbering, segments and rings of the pore.

Chains are recognised by their sequence, never by their letter, because deposited entries
disagree: chains A and C are GluN1 in 7EU8 and GluN2A in 7EOS.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

#: Rings of equivalent pore residues, from the cytoplasmic to the extracellular side.
RING_NAMES = ("asparagine", "hydrophobic_1", "hydrophobic_2", "threonine", "a652", "vivi")

_FORMS = {
    "ALA": "A", "ARG": "R", "ASN": "N", "ASP": "D", "CYS": "C", "GLN": "Q", "GLU": "E",
    "GLY": "G", "HIS": "H", "ILE": "I", "LEU": "L", "LYS": "K", "MET": "M", "PHE": "F",
    "PRO": "P", "SER": "S", "THR": "T", "TRP": "W", "TYR": "Y", "VAL": "V",
    # The same residues in their protonation states: Amber, CHARMM, then GROMACS, GROMOS, OPLS.
    "ASH": "D", "GLH": "E", "LYN": "K", "ARN": "R", "CYX": "C", "CYM": "C",
    "HID": "H", "HIE": "H", "HIP": "H", "HSD": "H", "HSE": "H", "HSP": "H",
    "ASPP": "D", "GLUP": "E", "LSN": "K", "ASPH": "D", "GLUH": "E", "LYSH": "K", "ARGN": "R",
    "HISA": "H", "HISB": "H", "HISD": "H", "HISE": "H", "HISH": "H", "HIS1": "H",
    "CYSH": "C", "CYS1": "C", "CYS2": "C",
}  # fmt: skip

ONE_LETTER = _FORMS | {
    # Amber marks the ends of a chain in front: NALA, CALA.
    end + name: letter
    for end in "NC"
    for name, letter in _FORMS.items()
    if len(name) == 3
}
"""One-letter codes of the amino acids under every name that nmdasim meets."""

# Fewer residues than this are not enough to tell GluN2A from GluN2B.
_MIN_RESIDUES = 12
# GluN2A and GluN2B are about 90 % identical in the membrane domain at their best shift.
_MIN_IDENTITY = 0.8
_MAX_SHIFT = 100


def without_end(name: str) -> str:
    """Take Amber's mark of a chain's end off a residue name.

    Parameters
    ----------
    name : str
        Such as NVAL or CHIP; other names are allowed.

    Returns
    -------
    name : str
        In capitals: VAL, HIP; names without the mark stay.

    Examples
    --------
    >>> without_end("CHIP"), without_end("HIS1")
    ('HIP', 'HIS1')
    """
    name = name.upper()
    return name[1:] if name in ONE_LETTER and name not in _FORMS else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Subunit:
    """One NMDA receptor subunit in UniProt numbering."""

    name: str
    """GluN1, GluN2A or GluN2B."""
    uniprot: str
    """UniProt accession of the human isoform that defines the numbering."""
    sequence: str
    """One-letter sequence from Met 1, without the cytoplasmic tail."""
    segments: Mapping[str, range]
    """Residue numbers of m1, m2, m2_m3, m3 and m4."""
    rings: Mapping[str, int]
    """Residue number of this subunit in each ring of `RING_NAMES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """Answer to which subunit a chain is."""

    subunit: str
    """GluN1, GluN2A or GluN2B."""
    shift: int
    """UniProt number minus the number in the file."""
    identity: float
    """Share of the given residues that equal the subunit's sequence."""


@cache
def subunits() -> Mapping[str, Subunit]:
    """Read the subunits that nmdasim knows.

    Returns
    -------
    subunits : dict of str to Subunit
    """
    with (Path(__file__).parent / "data" / "subunits.toml").open("rb") as file:
        data = tomllib.load(file)
    return {
        name: Subunit(
            name=name,
            uniprot=entry["uniprot"],
            sequence=entry["sequence"],
            segments={
                segment: range(first, last + 1)
                for segment, (first, last) in entry["segments"].items()
            },
            rings={ring: data["rings"][ring][name] for ring in RING_NAMES},
        )
        for name, entry in data["subunits"].items()
    }


def recognise_subunit(residues: Mapping[int, str]) -> Recognised | None:
    """Tell which subunit a chain is, from its residues alone.

    Parameters
    ----------
    residues : mapping of int to str
        Residue number in the file to one-letter code; gaps are allowed.

    Returns
    -------
    recognised : Recognised or None
        None when fewer than 12 residues are given or none of the subunits agrees with
        at least 80 % of them.

    Notes
    -----
    The file's numbering may differ from UniProt's by a constant of up to 100, as in
    constructs with a cut signal peptide. Insertions inside a chain are not handled.
    The file's own numbering wins a tie.

    Examples
    --------
    >>> sequence = subunits()["GluN2B"].sequence
    >>> recognise_subunit({n - 26: sequence[n - 1] for n in range(600, 660)})
    Recognised(subunit='GluN2B', shift=26, identity=1.0)
    """
    if len(residues) < _MIN_RESIDUES:
        return None
    best = Recognised(subunit="", shift=0, identity=0.0)
    for shift in sorted(range(-_MAX_SHIFT, _MAX_SHIFT + 1), key=abs):
        for name, subunit in subunits().items():
            identity = _identity(residues, subunit.sequence, shift)
            if identity > best.identity:
                best = Recognised(subunit=name, shift=shift, identity=identity)
        if best.identity == 1.0:
            break
    return best if best.identity >= _MIN_IDENTITY else None


def ring_of(subunit: str, number: int) -> str | None:
    """Name the ring that a residue belongs to.

    Parameters
    ----------
    subunit : str
        GluN1, GluN2A or GluN2B.
    number : int
        UniProt residue number.

    Returns
    -------
    ring : str or None
        One of `RING_NAMES`; None for a residue outside the rings.
    """
    rings = subunits()[subunit].rings
    return next((ring for ring in RING_NAMES if rings[ring] == number), None)


def _identity(residues: Mapping[int, str], sequence: str, shift: int) -> float:
    same = sum(
        0 < number + shift <= len(sequence) and sequence[number + shift - 1] == letter
        for number, letter in residues.items()
    )
    return same / len(residues)
