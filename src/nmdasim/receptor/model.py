"""A prepared receptor: its type, and the mmCIF file it is kept in."""

import difflib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray
from openmm import unit
from openmm.app import PDBxFile, Topology
from rdkit import Chem, rdBase

from nmdasim.errors import Check, ReceptorError
from nmdasim.structures import structures_folder

#: How much of a residue was seen in the deposited entry.
OBSERVED, SIDE_CHAIN_REBUILT, REBUILT, CAP = "observed", "side chain rebuilt", "rebuilt", "cap"

_RESIDUE_TAGS = ["chain", "subunit", "number", "name", "status"]
_CHECK_TAGS = ["name", "value", "limit", "unit", "passed", "detail"]
# Written last: a file cut between two lines may still be readable, and lacks this.
_END = "_nmdasim_end.complete"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceptorResidue:
    """One residue of a prepared receptor and where it comes from."""

    chain: str
    """Chain letter of the deposited entry."""
    subunit: str
    """GluN1, GluN2A or GluN2B."""
    number: int
    """UniProt number; a cap carries the number next to its piece."""
    name: str
    """Three-letter name, ACE or NME for a cap."""
    status: str
    """`observed`, `side chain rebuilt`, `rebuilt` or `cap`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Receptor:
    """Membrane domain of an NMDA receptor, complete, protonated and in the pore frame."""

    name: str
    """Short name, usually the lower-case PDB id."""
    topology: Topology
    """Atoms, residues in UniProt numbering and bonds, hydrogens included."""
    positions: NDArray[np.float64]
    """Coordinates in the pore frame, shape (n_atoms, 3), nm."""
    residues: tuple[ReceptorResidue, ...]
    """One entry for each residue of `topology`, in its order."""
    reference_ligand: Chem.Mol | None
    """Heavy atoms of the blocker in the deposited pore, pore frame, Angstrom."""
    checks: tuple[Check, ...]
    """Quality checks made after preparation."""
    source: Mapping[str, str]
    """Entry, revision, DOI, hash of the deposited file and how it was treated."""


def receptor_names() -> tuple[str, ...]:
    """List the receptors that ship with nmdasim.

    Returns
    -------
    names : tuple of str
    """
    folder = structures_folder() / "receptors"
    return tuple(sorted(path.parent.name for path in folder.glob("*/receptor.cif")))


def receptor_file(name: str | Path) -> Path:
    """Find the file of a prepared receptor.

    Parameters
    ----------
    name : str or pathlib.Path
        Name of a shipped receptor, or a prepared `receptor.cif` or its folder.

    Returns
    -------
    path : pathlib.Path

    Raises
    ------
    ReceptorError
        If there is no such receptor; the message lists what ships.
    """
    shipped = receptor_names()
    if str(name).lower() in shipped:
        return structures_folder() / "receptors" / str(name).lower() / "receptor.cif"
    path = Path(name)
    path = path / "receptor.cif" if path.is_dir() else path
    if path.is_file():
        return path
    near = difflib.get_close_matches(str(name).lower(), shipped, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ReceptorError(
        f"unknown receptor {str(name)!r}: {hint}nmdasim ships {', '.join(shipped) or 'none'}; "
        "for another structure run `nmdasim receptor FILE -o DIR` and give DIR"
    )


def load_receptor(name: str | Path = "7eu8") -> Receptor:
    """Load a prepared receptor.

    Parameters
    ----------
    name : str or pathlib.Path
        Name of a shipped receptor, or a prepared `receptor.cif` or its folder.

    Returns
    -------
    receptor : Receptor

    Raises
    ------
    ReceptorError
        If there is no such receptor, or the file is damaged or was not written by nmdasim.

    Examples
    --------
    >>> load_receptor("7eu8").source["entry"]
    '7EU8'
    """
    path = receptor_file(name)
    block = _read_block(path)
    try:
        category = block.get_mmcif_category("_nmdasim_source.")
        source = {key: str(values[0] or "") for key, values in category.items()}
        residues = tuple(
            _read_residue(row) for row in block.find("_nmdasim_residue.", _RESIDUE_TAGS)
        )
        checks = tuple(_read_check(row) for row in block.find("_nmdasim_check.", _CHECK_TAGS))
        model = PDBxFile(io.StringIO(path.read_text()))
        positions = np.array(model.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
        short_name = source["name"]
    except (ValueError, RuntimeError, IndexError, KeyError, AttributeError) as error:
        raise ReceptorError(_damaged(path)) from error
    complete = checks and block.find_value(_END) == "yes"
    if not complete or len(residues) != model.topology.getNumResidues():
        raise ReceptorError(_damaged(path))
    positions.flags.writeable = False
    ligand_file = path.parent / "reference_ligand.sdf"
    return Receptor(
        name=short_name,
        topology=model.topology,
        positions=positions,
        residues=residues,
        reference_ligand=_read_reference_ligand(ligand_file) if ligand_file.exists() else None,
        checks=checks,
        source=source,
    )


def write_receptor(receptor: Receptor, folder: Path) -> Path:
    """Write a receptor as `receptor.cif`, with its deposited blocker beside it.

    Parameters
    ----------
    receptor : Receptor
    folder : pathlib.Path
        Made when it does not exist.

    Returns
    -------
    path : pathlib.Path
        The mmCIF file. Besides the atoms it holds the tables `_nmdasim_residue` (origin of
        every residue), `_nmdasim_check` and the items `_nmdasim_source`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    PDBxFile.writeFile(
        receptor.topology,
        receptor.positions * unit.nanometer,
        text,
        keepIds=True,
        entry=receptor.name,
    )
    document = gemmi.cif.read_string(text.getvalue())
    block = document.sole_block()
    for key, value in receptor.source.items():
        block.set_pair(f"_nmdasim_source.{key}", gemmi.cif.quote(value))
    _write_loop(block, "_nmdasim_residue.", _RESIDUE_TAGS, receptor.residues)
    _write_loop(block, "_nmdasim_check.", _CHECK_TAGS, receptor.checks)
    block.set_pair(_END, "yes")
    path = folder / "receptor.cif"
    document.write_file(str(path))
    if receptor.reference_ligand is not None:
        with Chem.SDWriter(str(folder / "reference_ligand.sdf")) as writer:
            writer.write(receptor.reference_ligand)
    return path


def _read_block(path: Path) -> gemmi.cif.Block:
    try:
        return gemmi.cif.read(str(path)).sole_block()
    except (ValueError, RuntimeError, IndexError, OSError) as error:
        raise ReceptorError(_damaged(path)) from error


def _damaged(path: Path) -> str:
    return (
        f"{path} is not a complete receptor file of nmdasim: prepare it again with "
        "`nmdasim receptor FILE -o DIR`"
    )


def _read_residue(row: gemmi.cif.Table.Row) -> ReceptorResidue:
    chain, subunit, number, name, status = (gemmi.cif.as_string(cell) for cell in row)
    return ReceptorResidue(
        chain=chain, subunit=subunit, number=int(number), name=name, status=status
    )


def _read_check(row: gemmi.cif.Table.Row) -> Check:
    name, value, limit, unit_name, passed, detail = (gemmi.cif.as_string(cell) for cell in row)
    return Check(
        name=name,
        value=float(value),
        limit=float(limit),
        unit=unit_name,
        passed=passed == "True",
        detail=detail,
    )


def _write_loop(block: gemmi.cif.Block, prefix: str, tags: list[str], rows: tuple) -> None:
    loop = block.init_loop(prefix, tags)
    for row in rows:
        loop.add_row([gemmi.cif.quote(str(getattr(row, tag))) for tag in tags])


def _read_reference_ligand(path: Path) -> Chem.Mol:
    with rdBase.BlockLogs():
        mol = Chem.MolFromMolBlock(path.read_text(errors="replace"))
    if mol is None or not mol.GetNumAtoms():
        raise ReceptorError(f"{path} holds no readable molecule: prepare the receptor again")
    return mol
