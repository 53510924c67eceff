"""Deposited entries: read, find the subunits and cut out the membrane domain."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Geometry import Point3D

from nmdasim.errors import ReceptorError
from nmdasim.subunits import ONE_LETTER, Recognised, recognise_subunit, subunits

# How far the model goes beyond the segments of `subunits`. The pre-M1 helix and the first
# turn before M4 lie against the gate; the linkers to the binding domains do not hold without
# those domains and are cut.
_BEFORE_M1, _AFTER_M3, _BEFORE_M4 = 8, 6, 5
_BACKBONE = {"N", "CA", "C", "O"}
# Small molecules with at least this many carbon atoms, within this distance of the pore's
# centre, are taken for the blocker: ions, glycans and agonists are excluded by it.
_MIN_BLOCKER_ATOMS, _BLOCKER_REACH_ANGSTROM = 8, 12.0
_BOND_ORDERS = {"SING": Chem.BondType.SINGLE, "DOUB": Chem.BondType.DOUBLE,
                "TRIP": Chem.BondType.TRIPLE, "AROM": Chem.BondType.AROMATIC}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Residue:
    """Heavy atoms of one residue as deposited."""

    number: int
    """UniProt number."""
    name: str
    """Three-letter name."""
    atoms: Mapping[str, NDArray[np.float64]]
    """Atom name to position, shape (3,), Angstrom."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chain:
    """One subunit of the receptor as deposited."""

    letter: str
    """Chain letter in the entry."""
    recognised: Recognised
    """Subunit and numbering shift found from the sequence."""
    residues: Mapping[int, Residue]
    """Observed residues by UniProt number."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """What a deposited file says about one receptor."""

    chains: tuple[Chain, ...]
    """The four subunits, in the order of the file."""
    blockers: tuple[Chem.Mol, ...]
    """Heavy-atom molecules in the membrane domain, deposited coordinates, Angstrom."""
    source: Mapping[str, str]
    """Entry id, revision, title, DOI and SHA-256 of the file."""
    left_out: tuple[str, ...]
    """Names of ligands, glycans and other chains that are not modelled."""


def read_entry(path: Path) -> Entry:
    """Read a deposited NMDA receptor.

    Parameters
    ----------
    path : pathlib.Path
        mmCIF or PDB file, gzipped or not.

    Returns
    -------
    entry : Entry

    Raises
    ------
    ReceptorError
        If the file cannot be read or does not hold two GluN1 and two GluN2 chains.
    """
    if not path.is_file():
        raise ReceptorError(f"no such file: {path}; give an mmCIF or PDB file of the receptor")
    try:
        structure = gemmi.read_structure(str(path))
        structure.setup_entities()
        structure.remove_alternative_conformations()
        model = structure[0]
    except (RuntimeError, ValueError, IndexError, OSError) as error:
        raise ReceptorError(
            f"{path} cannot be read as mmCIF or PDB ({_one_line(error)}): "
            "the file is cut short or damaged; fetch it again"
        ) from error
    chains = tuple(chain for chain in map(_read_chain, model) if chain is not None)
    _require_receptor(chains, path)
    centre = _n_site_centre(chains)
    orders = _bond_orders(path)
    blockers = [
        _blocker(residue, orders)
        for chain in model
        for residue in chain
        if _is_blocker(residue, centre)
    ]
    return Entry(
        chains=chains,
        blockers=tuple(blockers),
        source=_source(path, structure),
        left_out=_left_out(model, chains),
    )


def membrane_pieces(chain: Chain) -> tuple[range, ...]:
    """Say which residues of a chain form the membrane domain.

    Parameters
    ----------
    chain : Chain

    Returns
    -------
    pieces : tuple of range, length 3
        UniProt numbers of M1, M2 to M3, and M4, trimmed to the first and last observed
        residue. Gaps inside a piece are not closed here.

    Raises
    ------
    ReceptorError
        If a piece is not in the file at all.
    """
    segments = subunits()[chain.recognised.subunit].segments
    wanted = {
        "M1": range(segments["m1"].start - _BEFORE_M1, segments["m1"].stop),
        "M2-M3": range(segments["m2"].start, segments["m3"].stop + _AFTER_M3),
        "M4": range(segments["m4"].start - _BEFORE_M4, segments["m4"].stop),
    }
    pieces = []
    for name, numbers in wanted.items():
        seen = [number for number in numbers if number in chain.residues]
        if len(seen) < len(numbers) // 2:
            raise ReceptorError(
                f"chain {chain.letter} ({chain.recognised.subunit}) shows only {len(seen)} of "
                f"{len(numbers)} residues of {name}: the entry lacks the membrane domain that "
                "forms the pore; use an entry of the whole receptor"
            )
        pieces.append(range(seen[0], seen[-1] + 1))
    return tuple(pieces)


def _read_chain(chain: gemmi.Chain) -> Chain | None:
    polymer = [(r.seqid.num or 0, r) for r in chain.get_polymer() if r.name in ONE_LETTER]
    recognised = recognise_subunit({number: ONE_LETTER[r.name] for number, r in polymer})
    if recognised is None:
        return None
    residues = {}
    for deposited, residue in polymer:
        atoms = {a.name: np.array(a.pos.tolist()) for a in residue if a.element.name != "H"}
        if atoms.keys() >= _BACKBONE:
            number = deposited + recognised.shift
            residues[number] = Residue(number=number, name=residue.name, atoms=atoms)
    return Chain(letter=chain.name, recognised=recognised, residues=residues)


def _require_receptor(chains: tuple[Chain, ...], path: Path) -> None:
    names = [chain.recognised.subunit for chain in chains]
    glun1 = names.count("GluN1")
    if len(names) == 4 and glun1 == 2:
        return
    found = ", ".join(f"{c.letter} {c.recognised.subunit}" for c in chains) or "no NMDA subunit"
    raise ReceptorError(
        f"{path} holds {found}: an NMDA receptor channel needs two GluN1 and two GluN2 chains; "
        "give the whole tetramer"
    )


def _n_site_centre(chains: tuple[Chain, ...]) -> NDArray[np.float64]:
    try:
        return np.mean(
            [
                chain.residues[subunits()[chain.recognised.subunit].rings["asparagine"]].atoms["CA"]
                for chain in chains
            ],
            axis=0,
        )
    except KeyError as error:
        raise ReceptorError(
            f"residue {error.args[0]} of the asparagine ring is not in the file: the pore cannot "
            "be located; use an entry that shows the M2 loops"
        ) from error


def _is_blocker(residue: gemmi.Residue, centre: NDArray[np.float64]) -> bool:
    heavy = [atom for atom in residue if atom.element.name != "H"]
    if residue.name in ONE_LETTER or len(heavy) < _MIN_BLOCKER_ATOMS:
        return False
    place = np.mean([atom.pos.tolist() for atom in heavy], axis=0)
    return bool(np.linalg.norm(place - centre) < _BLOCKER_REACH_ANGSTROM)


def _bond_orders(path: Path) -> dict[str, list[tuple[str, str, str]]]:
    """Read the bond orders that the entry itself gives for its small molecules."""
    if ".cif" not in path.name:
        return {}
    table = (
        gemmi.cif.read(str(path))
        .sole_block()
        .find("_chem_comp_bond.", ["comp_id", "atom_id_1", "atom_id_2", "value_order"])
    )
    orders: dict[str, list[tuple[str, str, str]]] = {}
    for comp, first, second, order in table:
        bond = (gemmi.cif.as_string(first), gemmi.cif.as_string(second), order.upper())
        orders.setdefault(comp, []).append(bond)
    return orders


def _blocker(residue: gemmi.Residue, orders: Mapping[str, list[tuple[str, str, str]]]) -> Chem.Mol:
    mol = Chem.RWMol()
    heavy = [atom for atom in residue if atom.element.name != "H"]
    index = {atom.name: mol.AddAtom(Chem.Atom(atom.element.name)) for atom in heavy}
    for first, second, order in orders.get(residue.name, []):
        if first in index and second in index:
            mol.AddBond(index[first], index[second], _BOND_ORDERS.get(order, Chem.BondType.SINGLE))
    conformer = Chem.Conformer(len(heavy))
    for number, atom in enumerate(heavy):
        conformer.SetAtomPosition(number, Point3D(*atom.pos.tolist()))
    mol.AddConformer(conformer)
    mol.SetProp("_Name", residue.name)
    blocker = mol.GetMol()
    if orders.get(residue.name):
        Chem.SanitizeMol(blocker)
    return blocker


def _source(path: Path, structure: gemmi.Structure) -> dict[str, str]:
    info = dict(structure.info)
    entry = info.get("_entry.id", structure.name)
    source = {
        "entry": entry.upper(),
        "title": info.get("_struct.title", ""),
        "doi": f"10.2210/pdb{entry.lower()}/pdb" if len(entry) == 4 else "",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "resolution_angstrom": f"{structure.resolution:g}" if structure.resolution else "",
    }
    if ".cif" in path.name:
        block = gemmi.cif.read(str(path)).sole_block()
        dates = block.find_values("_pdbx_audit_revision_history.revision_date")
        source["revision"] = max((gemmi.cif.as_string(date) for date in dates), default="")
        citation = block.find_value("_citation.pdbx_database_id_DOI")
        source["citation_doi"] = gemmi.cif.as_string(citation) if citation else ""
    return source


def _left_out(model: gemmi.Model, chains: tuple[Chain, ...]) -> tuple[str, ...]:
    letters = {chain.letter for chain in chains}
    others = {f"chain {chain.name}" for chain in model if chain.name not in letters}
    small = {r.name for chain in model for r in chain if r.name not in ONE_LETTER}
    return tuple(sorted(others)) + tuple(sorted(small))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
