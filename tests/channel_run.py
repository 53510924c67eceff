"""A run folder of the prepared channel whose frames were moved in known ways.

Structure, ligand and files are real; the motion is made up, so that every observable is known.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openmm
from mdtraj.formats import XTCTrajectoryFile
from openmm import app, unit
from scipy.spatial.transform import Rotation

from nmdasim.ligand import load_ligand, state_of, write_ligand
from nmdasim.rundir import create_run_folder

# A rhombic dodecahedron, as OpenMM writes it; waters and protein fit with room to spare.
BOX = 9.0 * np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, np.sqrt(0.5)]])
INTERVAL_PS = 2.0
INPUTS = {
    "ligand": {"name": "S-ketamine", "charge": 1},
    "receptor": {"name": "7eu8"},
    "protocol": {"name": "vestibule", "temperature_k": 310.0},
    "simulation": {"production_ns": 0.04, "seed": 1, "replica": 1},
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Channel:
    """The atoms of the made-up run, in the pore frame, nm."""

    topology: app.Topology
    positions: np.ndarray
    ligand: np.ndarray
    protein: np.ndarray


def write_run(folder: Path, *, receptor, steps, segments=(8, 12), sodium=None) -> Channel:
    """Write a run; steps (n_frames, 3) move the ligand from its start in each frame, nm.

    sodium (n_frames, 3) is where the ion is in the pore frame, nm; it stays aside by default.
    """
    create_run_folder(folder, INPUTS)
    channel = build_channel(receptor, folder / "ligand.sdf")
    (folder / "receptor.cif").write_bytes(receptor.read_bytes())
    channel.topology.setPeriodicBoxVectors(BOX * unit.nanometer)
    with (folder / "topology.cif").open("w") as file:
        app.PDBxFile.writeFile(
            channel.topology, channel.positions * unit.nanometer, file, keepIds=True
        )
    first = 0
    for index, n_frames in enumerate(segments):
        frames = np.arange(first, first + n_frames)
        write_segment(folder, index, frames, moved_frames(channel, steps, sodium)[frames])
        first += n_frames
    return channel


def build_channel(receptor: Path, ligand_sdf: Path) -> Channel:
    """The whole prepared receptor with ketamine in the vestibule, some water and ions."""
    protein = app.PDBxFile(str(receptor))
    state = state_of(load_ligand("S-ketamine"))
    conformer = state.mol.GetConformer()
    places = conformer.GetPositions() / 10
    places += [0.02, 0.05, 0.9] - places.mean(axis=0)
    for index, place in enumerate(places * 10):
        conformer.SetAtomPosition(index, place.tolist())
    write_ligand(state, ligand_sdf)
    modeller = app.Modeller(protein.topology, protein.positions)
    small = app.Topology()
    residue = small.addResidue("LIG", small.addChain("L"), "1")
    for atom in state.mol.GetAtoms():
        element = app.Element.getByAtomicNumber(atom.GetAtomicNum())
        small.addAtom(atom.GetProp("_Name"), element, residue)
    modeller.add(small, places * unit.nanometer)
    modeller.add(*waters())
    positions = np.array(modeller.positions.value_in_unit(unit.nanometer))
    names = np.array([atom.residue.name for atom in modeller.topology.atoms()])
    return Channel(
        topology=modeller.topology,
        positions=positions,
        ligand=np.flatnonzero(names == "LIG"),
        protein=np.flatnonzero(~np.isin(names, ["LIG", "HOH", "NA"])),
    )


def waters() -> tuple[app.Topology, unit.Quantity]:
    topology, places = app.Topology(), []
    chain = topology.addChain("W")
    for number in range(5):
        water = topology.addResidue("HOH", chain, "1")
        for name, shift in (("O", 0.0), ("H1", 0.08), ("H2", -0.08)):
            topology.addAtom(name, app.Element.getBySymbol(name[0]), water)
            places.append([3.5 + shift, 0.3 * number, 0.0])
    ion = topology.addResidue("NA", topology.addChain("I"), "1")
    topology.addAtom("NA", app.Element.getBySymbol("Na"), ion)
    places.append([3.5, 3.5, 0.0])
    return topology, [openmm.Vec3(*place) for place in places] * unit.nanometer


def moved_frames(channel: Channel, steps, sodium=None) -> np.ndarray:
    """Move the ligand, then tumble and wrap everything: the observables must not notice."""
    generator = np.random.default_rng(5)
    piece = pieces(channel.topology)
    frames = np.repeat(channel.positions[None], len(steps), axis=0)
    frames[:, channel.ligand] += np.asarray(steps)[:, None]
    if sodium is not None:
        frames[:, -1] = sodium
    for frame in frames:
        turn = Rotation.from_rotvec(generator.normal(scale=0.02, size=3)).as_matrix()
        frame[:] = frame @ turn + generator.normal(scale=0.3, size=3) + 4.0
    cells = generator.integers(-1, 2, size=(len(steps), piece.max() + 1, 3)) @ BOX
    return frames + cells[:, piece]


def pieces(topology: app.Topology) -> np.ndarray:
    """Number the pieces: each begins with a chain, a cap ACE, or a residue that is no protein."""
    numbers, current, last = [], -1, None
    for residue in topology.residues():
        alone = residue.name in ("ACE", "LIG", "HOH", "NA")
        if alone or residue.chain is not last:
            current += 1
        last = residue.chain
        numbers += [current] * sum(1 for _ in residue.atoms())
    return np.array(numbers)


def write_segment(folder: Path, index: int, frames: np.ndarray, xyz: np.ndarray) -> None:
    time = INTERVAL_PS * (frames + 1.0)
    path = folder / "segments" / f"{index:05d}.xtc"
    with XTCTrajectoryFile(str(path), "w") as file:
        file.write(
            xyz.astype(np.float32),
            time=time.astype(np.float32),
            step=frames.astype(np.int32),
            box=np.repeat(BOX[None].astype(np.float32), len(frames), axis=0),
        )
    manifest = {
        "index": index,
        "first_frame": int(frames[0]),
        "n_frames": len(frames),
        "time_ps": time.tolist(),
        "potential_kj_mol": (-1e5 + frames).tolist(),
        "temperature_k": (310.0 + np.sin(frames)).tolist(),
        "volume_nm3": [float(np.linalg.det(BOX))] * len(frames),
        "xtc_bytes": path.stat().st_size,
        "sha256": {},
    }
    path.with_suffix(".json").write_text(json.dumps(manifest))
