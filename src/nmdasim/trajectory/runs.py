"""Opening the folder of a run."""

from collections.abc import Sequence
from pathlib import Path

import gemmi
import mdtraj as md
import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from nmdasim.errors import RunFolderError, TrajectoryError
from nmdasim.ligand import read_ligand_sdf
from nmdasim.rundir import LIGAND, RECEPTOR, TOPOLOGY, Segment, read_inputs, read_segments
from nmdasim.subunits import ONE_LETTER, ring_of
from nmdasim.trajectory.model import CAPS, LIGAND_NAME, Piece, Run, RunResidue
from nmdasim.trajectory.names import ions_of, water_oxygens

_RECORDED = ("potential_kj_mol", "temperature_k", "volume_nm3")


def open_run(folder: str | Path) -> Run:
    """Open a run folder for reading.

    Parameters
    ----------
    folder : str or pathlib.Path

    Returns
    -------
    run : Run

    Raises
    ------
    RunFolderError
        If the folder holds no run, or one of its files is missing or damaged.
    TrajectoryError
        If ligand and topology do not fit each other.
    RunStorageError
        If a manifest is damaged or missing.
    """
    folder = Path(folder)
    inputs = read_inputs(folder)
    topology, start = _read_topology(_existing(folder / TOPOLOGY))
    ligand = read_ligand_sdf(_existing(folder / LIGAND))
    ligand_atoms = _find_ligand(topology, ligand, folder)
    protein = [
        atom.index
        for atom in topology.atoms
        if atom.residue.name in ONE_LETTER or atom.residue.name in CAPS
    ]
    start.flags.writeable = False
    ions, ion_names, ion_charges = ions_of(topology)
    segments = read_segments(folder)
    _check_manifests(segments)
    return Run(
        folder=folder,
        inputs=inputs,
        topology=topology,
        start=start,
        solute=np.sort(np.concatenate([np.array(protein, dtype=np.intp), ligand_atoms])),
        ligand=ligand,
        ligand_atoms=ligand_atoms,
        residues=_read_residues(topology, _existing(folder / RECEPTOR)),
        pieces=_pieces(segments),
        records=_records(segments),
        water=water_oxygens(topology),
        ions=ions,
        ion_names=ion_names,
        ion_charges=ion_charges,
    )


def _check_manifests(segments: Sequence[Segment]) -> None:
    for segment in segments:
        for name in ("time_ps", *_RECORDED):
            n_values = len(segment.manifest.get(name, ()))
            if n_values != segment.n_frames and name in segment.manifest:
                raise RunFolderError(
                    f"{segment.trajectory.with_suffix('.json')} is damaged: it announces "
                    f"{segment.n_frames} frames and {n_values} values of {name}; restore it from "
                    "a copy, or move it and later segments away and run again"
                )


def _pieces(segments: Sequence[Segment]) -> tuple[Piece, ...]:
    return tuple(
        Piece(
            path=segment.trajectory,
            first_frame=segment.first_frame,
            n_frames=segment.n_frames,
            time_ps=np.array(segment.manifest["time_ps"], dtype=np.float64),
        )
        for segment in segments
    )


def _records(segments: Sequence[Segment]) -> dict[str, NDArray[np.float64]]:
    """Join what the manifests record of every frame."""
    return {
        name: np.concatenate([[], *(segment.manifest[name] for segment in segments)])
        for name in _RECORDED
        if all(name in segment.manifest for segment in segments)
    }


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise RunFolderError(
            f"{path} is missing: repeat the `nmdasim run` command that made this folder"
        )
    return path


def _read_cif(path: Path) -> gemmi.cif.Block:
    try:
        return gemmi.cif.read(str(path)).sole_block()
    except (ValueError, RuntimeError, OSError) as error:
        raise RunFolderError(
            f"{path} is damaged ({error}): restore it from a copy, or start the run in a new folder"
        ) from error


def _read_topology(path: Path) -> tuple[md.Topology, NDArray[np.float64]]:
    """Read atoms in the order of the file, with letters and numbers as the author gave them."""
    tags = [
        "type_symbol", "label_atom_id", "auth_comp_id", "auth_asym_id", "auth_seq_id",
        "label_asym_id", "Cartn_x", "Cartn_y", "Cartn_z",
    ]  # fmt: skip
    table = _read_cif(path).find("_atom_site.", tags)
    if not len(table):
        raise RunFolderError(f"{path} holds no atoms: restore it from a copy")
    columns = [[gemmi.cif.as_string(cell) for cell in table.column(i)] for i in range(len(tags))]
    topology = md.Topology()
    chain = residue = None
    last_chain = last_residue = None
    names: set[str] = set()
    for symbol, name, comp, letter, number, part in zip(*columns[:6], strict=True):
        if (letter, part) != last_chain:
            chain = topology.add_chain(chain_id=letter)
            last_chain, last_residue = (letter, part), None
        # Waters may share a number: a name that comes again begins a residue, too.
        if (comp, number) != last_residue or name in names:
            residue = topology.add_residue(comp, chain, resSeq=int(number))
            last_residue, names = (comp, number), set()
        names.add(name)
        topology.add_atom(name, md.element.get_by_symbol(symbol.capitalize()), residue)
    return topology, np.array(columns[6:], dtype=np.float64).T / 10


def _find_ligand(topology: md.Topology, ligand: Chem.Mol, folder: Path) -> NDArray[np.intp]:
    atoms = [atom for atom in topology.atoms if atom.residue.name == LIGAND_NAME]
    if [atom.element.atomic_number for atom in atoms] != [
        atom.GetAtomicNum() for atom in ligand.GetAtoms()
    ]:
        raise TrajectoryError(
            f"{folder / LIGAND} has {ligand.GetNumAtoms()} atoms that are not the {len(atoms)} "
            f"atoms of {LIGAND_NAME} in {TOPOLOGY}; both must list the same atoms in the same "
            "order: restore the files of this run from a copy"
        )
    return np.array([atom.index for atom in atoms], dtype=np.intp)


def _read_residues(topology: md.Topology, receptor: Path) -> tuple[RunResidue, ...]:
    tags = ["chain", "subunit", "number", "name", "status"]
    rows = [
        [gemmi.cif.as_string(cell) for cell in row]
        for row in _read_cif(receptor).find("_nmdasim_residue.", tags)
    ]
    subunit_of = {chain: subunit for chain, subunit, *_ in rows}
    status_of = {(chain, int(number)): status for chain, _, number, name, status in rows
                 if name not in CAPS}  # fmt: skip
    residues = []
    for residue in topology.residues:
        chain, number = residue.chain.chain_id, residue.resSeq
        cap = residue.name in CAPS
        if not cap and residue.name not in ONE_LETTER:
            continue
        if chain not in subunit_of or not (cap or (chain, number) in status_of):
            raise RunFolderError(
                f"{residue.name}{number} of chain {chain} in {TOPOLOGY} is not in the table of "
                f"residues of {receptor}: restore the files of this run from a copy"
            )
        residues.append(
            RunResidue(
                chain=chain,
                subunit=subunit_of[chain],
                number=number,
                name=residue.name,
                status="cap" if cap else status_of[chain, number],
                ring=None if cap else ring_of(subunit_of[chain], number),
            )
        )
    return tuple(residues)
