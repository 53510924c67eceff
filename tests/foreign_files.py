"""Files of the made-up channel as other programs would have written them."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import mdtraj as md
import numpy as np
from channel_run import BOX, INTERVAL_PS, Channel, moved_frames

_MASS = {"H": 1.008, "C": 12.011, "N": 14.007, "O": 15.999, "S": 32.06, "Cl": 35.45, "Na": 22.99}
_CHARMM = {"HIS": "HSD", "HID": "HSD", "HIE": "HSE", "HOH": "TIP3", "NA": "SOD", "LIG": "KET"}
_GROMACS = {"HIS": "HISD", "HOH": "SOL"}
_AMBER = {"HIS": "HID", "HOH": "WAT", "NA": "Na+", "LIG": "UNL"}


@dataclass(frozen=True, kw_only=True)
class Written:
    """What one program left."""

    topology: Path
    trajectory: Path
    options: dict


def torn_frames(channel: Channel, steps, sodium=None) -> np.ndarray:
    """Tumble the channel as in the run and cut it at the box, atom by atom."""
    frames = moved_frames(channel, steps, sodium)
    shares = frames @ np.linalg.inv(BOX)
    return frames - np.floor(shares) @ BOX


def as_mdtraj(channel: Channel) -> md.Topology:
    """The channel's topology; its residues keep the numbers of the receptor."""
    return md.Topology.from_openmm(channel.topology)


def trajectory_of(topology: md.Topology, xyz: np.ndarray) -> md.Trajectory:
    frames = md.Trajectory(xyz.astype(np.float32), topology)
    frames.time = INTERVAL_PS * (1.0 + np.arange(len(xyz)))
    frames.unitcell_vectors = np.repeat(BOX[None].astype(np.float32), len(xyz), axis=0)
    return frames


def write_gromacs(folder: Path, channel: Channel, xyz: np.ndarray) -> Written:
    """A GRO file, without chains and numbered through, and XTC."""
    topology = renamed(as_mdtraj(channel), _GROMACS)
    for number, residue in enumerate(topology.residues, 1):
        residue.resSeq = number
    frames = trajectory_of(topology, xyz)
    frames[0].save_gro(str(folder / "system.gro"))
    frames.save_xtc(str(folder / "md.xtc"))
    return Written(topology=folder / "system.gro", trajectory=folder / "md.xtc", options={})


def write_openmm(folder: Path, channel: Channel, xyz: np.ndarray) -> Written:
    """A PDB file with letters of its own, numbered from an offset, and DCD without times."""
    topology = as_mdtraj(channel)
    for residue in topology.residues:
        residue.resSeq -= 18
    for chain, letter in zip(topology.chains, "QWERTYUIOP" * 10, strict=False):
        chain.chain_id = letter
    frames = trajectory_of(topology, xyz)
    frames[0].save_pdb(str(folder / "system.pdb"))
    frames.save_dcd(str(folder / "out.dcd"))
    options = {"frame_ps": INTERVAL_PS}
    return Written(topology=folder / "system.pdb", trajectory=folder / "out.dcd", options=options)


def write_namd(folder: Path, channel: Channel, xyz: np.ndarray) -> Written:
    """A PSF file with CHARMM's names, one segment for each piece, and DCD."""
    topology = renamed(as_mdtraj(channel), _CHARMM)
    ligand = next(residue for residue in topology.residues if residue.name == "KET")
    write_psf(folder / "system.psf", topology, bonds_of(channel, ligand))
    trajectory_of(topology, xyz).save_dcd(str(folder / "out.dcd"))
    options = {"frame_ps": INTERVAL_PS}
    return Written(topology=folder / "system.psf", trajectory=folder / "out.dcd", options=options)


def write_amber(folder: Path, channel: Channel, xyz: np.ndarray) -> Written:
    """A prmtop file, numbered through, and NetCDF."""
    topology = renamed(as_mdtraj(channel), _AMBER)
    ligand = next(residue for residue in topology.residues if residue.name == "UNL")
    write_prmtop(folder / "system.prmtop", topology, bonds_of(channel, ligand))
    with warnings.catch_warnings():
        # mdtraj says that another package would write faster.
        warnings.simplefilter("ignore", UserWarning)
        trajectory_of(topology, xyz).save_netcdf(str(folder / "prod.nc"))
    return Written(topology=folder / "system.prmtop", trajectory=folder / "prod.nc", options={})


def renamed(topology: md.Topology, names: dict[str, str]) -> md.Topology:
    for residue in topology.residues:
        residue.name = names.get(residue.name, residue.name)
        for atom in residue.atoms:
            if residue.name == "ILE" and atom.name == "CD1":
                atom.name = "CD"
            if residue.name != "KET" and atom.name == "H":
                atom.name = "HN"
    return topology


def bonds_of(channel: Channel, ligand: md.core.topology.Residue) -> np.ndarray:
    """Bonds of protein and water from their names, of the ligand from distances."""
    bonds = [(a.index, b.index) for a, b in channel.topology.bonds()]
    atoms = np.array([atom.index for atom in ligand.atoms])
    symbols = np.array([atom.element.symbol for atom in ligand.atoms])
    gaps = np.linalg.norm(channel.positions[atoms][:, None] - channel.positions[atoms], axis=-1)
    limit = np.where((symbols[:, None] == "H") | (symbols == "H"), 0.125, 0.19)
    limit[(symbols[:, None] == "H") & (symbols == "H")] = 0.0
    near = np.argwhere(np.triu(gaps < limit, 1))
    return np.array([*bonds, *atoms[near].tolist()])


def write_psf(path: Path, topology: md.Topology, bonds: np.ndarray) -> None:
    lines = ["PSF EXT", "", "         1 !NTITLE", " REMARKS made for a test", "",
             f"{topology.n_atoms:10d} !NATOM"]  # fmt: skip
    for atom in topology.atoms:
        residue = atom.residue
        lines.append(
            f"{atom.index + 1:10d} S{residue.chain.index:<7d} {residue.resSeq:<8d} "
            f"{residue.name:<8s} {atom.name:<8s} X        0.000000 "
            f"{_MASS[atom.element.symbol]:13.4f}           0"
        )
    lines += ["", f"{len(bonds):10d} !NBOND: bonds"]
    flat = (bonds + 1).ravel()
    lines += ["".join(f"{i:10d}" for i in flat[k : k + 8]) for k in range(0, len(flat), 8)]
    path.write_text("\n".join([*lines, "", ""]))


def write_prmtop(path: Path, topology: md.Topology, bonds: np.ndarray) -> None:
    starts = [residue.atom(0).index + 1 for residue in topology.residues]
    pointers = [0] * 31
    pointers[0], pointers[11] = topology.n_atoms, topology.n_residues
    triples = np.concatenate([bonds * 3, np.ones((len(bonds), 1), int)], axis=1).ravel()
    blocks = [
        ("POINTERS", "10I8", [f"{i:8d}" for i in pointers], 10),
        ("ATOM_NAME", "20a4", [f"{a.name[:4]:4s}" for a in topology.atoms], 20),
        ("ATOMIC_NUMBER", "10I8", [f"{a.element.number:8d}" for a in topology.atoms], 10),
        ("RESIDUE_LABEL", "20a4", [f"{r.name:4s}" for r in topology.residues], 20),
        ("RESIDUE_POINTER", "10I8", [f"{i:8d}" for i in starts], 10),
        ("BONDS_INC_HYDROGEN", "10I8", [], 10),
        ("BONDS_WITHOUT_HYDROGEN", "10I8", [f"{i:8d}" for i in triples], 10),
    ]
    text = "%VERSION  VERSION_STAMP = V0001.000  DATE = 01/01/26  00:00:00\n"
    for name, form, items, width in blocks:
        rows = ["".join(items[k : k + width]) for k in range(0, len(items), width)] or [""]
        text += f"%FLAG {name:<75s}\n%FORMAT({form})\n" + "\n".join(rows) + "\n"
    path.write_text(text)


WRITERS = {
    "GROMACS": write_gromacs,
    "NAMD": write_namd,
    "Amber": write_amber,
    "OpenMM": write_openmm,
}
