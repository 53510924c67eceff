"""Frames on which ProLIF's answers were recorded, the same on every machine.

S-ketamine is thrown rigidly at residues of every kind, with noise on all atoms and waters put
between what they can bond with, so that contacts of every type occur.
"""

from pathlib import Path

import mdtraj as md
import numpy as np
from rdkit import Chem

DATA = Path(__file__).parent / "data"
N_FRAMES, N_WATERS, SEED = 120, 16, 20261125
NOISE_NM = 0.01
# TIP3P.
OH_NM, HOH_DEG = 0.09572, 104.52


def read_residues():
    """Residues of 7EU8 with the ligand, waters far away; the molecule; the ligand's atoms."""
    dry = md.load(str(DATA / "prolif_residues.pdb"))
    mol = Chem.MolFromMolFile(str(DATA / "interactions_ligand.sdf"), removeHs=False)
    topology = dry.topology.copy()
    chain = topology.add_chain("W")
    xyz = [dry.xyz[0]]
    for i in range(N_WATERS):
        residue = topology.add_residue("HOH", chain, resSeq=i + 1)
        for name in ("O", "H1", "H2"):
            topology.add_atom(name, md.element.get_by_symbol(name[0]), residue)
        xyz.append(water(dry.xyz[0].max(axis=0) + 2.0 + i, np.eye(3)))
    frame = md.Trajectory(np.concatenate(xyz)[None].astype(np.float32), topology)
    return frame, mol, dry.topology.select("resname JC9")


def water(oxygen, turn):
    """A water whose first hydrogen points along the first column of `turn`."""
    angle = np.radians(HOH_DEG)
    local = np.array([[0, 0, 0], [1, 0, 0], [np.cos(angle), np.sin(angle), 0]]) * OH_NM
    return oxygen + local @ turn.T


def rotation(rng):
    """A random rotation, from a normal quaternion."""
    w, x, y, z = (q := rng.normal(size=4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def along(direction, rng):
    """A rotation whose first column is a direction."""
    first = direction / np.linalg.norm(direction)
    second = np.cross(first, rng.normal(size=3))
    second /= np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)], axis=1)


def make_frames(frame, ligand, *, n_frames=N_FRAMES, seed=SEED):
    """Throw the ligand at residues in turn and put waters between polar atoms."""
    rng = np.random.default_rng(seed)
    residues = [r for r in frame.topology.residues if r.is_protein]
    xyz = frame.xyz.astype(float).repeat(n_frames, axis=0)
    solute = np.arange(frame.n_atoms - 3 * N_WATERS)
    shape = frame.xyz[0, ligand] - frame.xyz[0, ligand].mean(axis=0)
    polar = [i for i in solute if frame.topology.atom(i).element.symbol in "NO"]
    for i in range(n_frames):
        side = [
            a.index
            for a in residues[i % len(residues)].atoms
            if a.name not in ("N", "CA", "C", "O")
        ]
        direction = rng.normal(size=3)
        throw = rng.uniform(0.25, 0.6) * direction / np.linalg.norm(direction)
        centre = frame.xyz[0, side].mean(axis=0) + throw
        xyz[i, ligand] = shape @ rotation(rng).T + centre
        xyz[i, solute] += rng.normal(0.0, NOISE_NM, (len(solute), 3))
        _put_waters(xyz[i], ligand, polar, rng)
    return md.Trajectory(xyz.astype(np.float32), frame.topology)


def _put_waters(xyz, ligand, polar, rng):
    """Put each water midway between a polar atom of the ligand and a near one of a residue."""
    own = [i for i in polar if i in set(ligand)]
    others = np.array([i for i in polar if i not in set(ligand)])
    first = len(xyz) - 3 * N_WATERS
    for w in range(N_WATERS):
        start = xyz[own[w % len(own)]]
        apart = np.linalg.norm(xyz[others] - start, axis=1)
        near = others[np.argsort(np.where(apart > 0.4, apart, np.inf))[:N_WATERS]]
        end = xyz[near[w // len(own)]]
        place = (start + end) / 2 + rng.normal(0.0, 0.05, 3)
        # Every other water gives its hydrogen to the residue, the rest to the ligand.
        target = end if w % 4 < 2 else start
        xyz[first + 3 * w : first + 3 * w + 3] = water(place, along(target - place, rng))
