"""Speed of typed contacts and their agreement with ProLIF, side by side on the same frames.

    python benchmarks/interactions.py [COMPLEX.pdb LIGAND.sdf] [--frames N] [--prolif-frames N]

The complex holds a protein and one ligand, with hydrogens; the molecule lists the ligand's atoms
in the order of the complex. By default the reference complex of 7EU8 with S-ketamine beside the
checkout is taken. ProLIF is optional (`pip install prolif`): without it only nmdasim is timed.

Two trajectories are made in memory. "thermal": Gaussian noise of 0.01 nm on all atoms. "thrown":
the ligand is thrown rigidly, in random directions, at residues of every kind, so that all types of
contact occur. Run with OMP_NUM_THREADS=1 for one core.
"""

import argparse
import importlib.util
import tempfile
import time
import warnings
from pathlib import Path

import mdtraj as md
import numpy as np
from rdkit import Chem
from scipy.spatial.transform import Rotation

from nmdasim.contacts import (
    PLIP,
    PROLIF,
    Interactions,
    find_interactions,
    interaction_sites,
)

ORACLES = Path(__file__).parents[2] / "shared" / "reference" / "oracles"
SEED = 20240607

# Names of ProLIF for each of our types; directions are not told apart here.
PROLIF_NAMES = {
    "hydrogen bond": ("HBDonor", "HBAcceptor"),
    "salt bridge": ("Cationic", "Anionic"),
    "cation-pi": ("CationPi", "PiCation"),
    "pi-stacking": ("PiStacking",),
    "hydrophobic": ("Hydrophobic",),
    "halogen": ("XBDonor",),
}


def main() -> None:
    """Time and compare, and print the numbers."""
    arguments = parse()
    frame = md.load(str(arguments.complex))
    mol = Chem.MolFromMolFile(str(arguments.ligand), removeHs=False)
    ligand = frame.topology.select(f"resname {ligand_name(frame)}")
    rng = np.random.default_rng(SEED)
    pocket = residues_within(frame, ligand, 0.8)
    print(f"{frame.n_atoms} atoms, ligand {len(ligand)}, pocket of {len(pocket)} residues")
    thermal = thermal_frames(frame, arguments.frames, rng)
    speeds(thermal, mol, ligand, pocket)
    if importlib.util.find_spec("prolif") is None:
        print("ProLIF is not installed here: no comparison (pip install prolif).")
        return
    n = arguments.prolif_frames
    rate = compare("thermal", thermal[:n], frame, mol, ligand, pocket)
    thrown, targets = thrown_frames(frame, ligand, 2 * n, rng)
    compare("thrown", thrown, frame, mol, ligand, targets)
    sites = interaction_sites(frame.topology, ligand=mol, ligand_atoms=ligand, thresholds=PROLIF)
    print(f"whole protein against ProLIF's pocket: {speed(thermal, sites) / rate:.0f} times faster")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    stem = "7eu8_TMD_S-ketamine"
    parser.add_argument("complex", nargs="?", default=ORACLES / f"{stem}_complex.pdb")
    parser.add_argument("ligand", nargs="?", default=ORACLES / f"{stem}_ligand.sdf")
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--prolif-frames", type=int, default=100)
    return parser.parse_args()


def ligand_name(frame: md.Trajectory) -> str:
    """Name of the last residue that is neither protein nor water."""
    return [r.name for r in frame.topology.residues if not r.is_protein and not r.is_water][-1]


def residues_within(frame: md.Trajectory, ligand: np.ndarray, distance: float) -> list[int]:
    """Residues with an atom within a distance (nm) of a heavy atom of the ligand."""
    heavy = [i for i in ligand if frame.topology.atom(i).element.symbol != "H"]
    near = md.compute_neighbors(frame, distance, np.array(heavy), periodic=False)[0]
    found = {frame.topology.atom(i).residue for i in near if i not in set(ligand)}
    return sorted(residue.index for residue in found if residue.is_protein)


def thermal_frames(frame: md.Trajectory, n: int, rng: np.random.Generator) -> md.Trajectory:
    """Copy the frame n times and add noise of 0.01 nm."""
    noise = rng.normal(0.0, 0.01, (n, frame.n_atoms, 3)).astype(np.float32)
    return md.Trajectory(frame.xyz + noise, frame.topology)


def thrown_frames(
    frame: md.Trajectory, ligand: np.ndarray, n: int, rng: np.random.Generator
) -> tuple[md.Trajectory, list[int]]:
    """Frames with the ligand thrown at polar, charged and aromatic residues; and these."""
    names = ("PHE", "TYR", "TRP", "ASP", "GLU", "LYS", "ARG", "ASN", "SER", "LEU")
    targets = []
    for name in names:
        same = [r for r in frame.topology.residues if r.name == name and len(list(r.atoms)) > 4]
        targets += [same[i] for i in rng.permutation(len(same))[:6]]
    xyz = np.repeat(frame.xyz, n, axis=0)
    shape = frame.xyz[0, ligand] - frame.xyz[0, ligand].mean(axis=0)
    for i in range(n):
        residue = targets[i % len(targets)]
        side = [a.index for a in residue.atoms if a.name not in ("N", "CA", "C", "O")]
        direction = rng.normal(size=3)
        throw = rng.uniform(0.3, 0.55) * direction / np.linalg.norm(direction)
        turn = Rotation.random(rng=rng).as_matrix()
        xyz[i, ligand] = shape @ turn.T + frame.xyz[0, side].mean(axis=0) + throw
    return md.Trajectory(xyz, frame.topology), sorted(r.index for r in targets)


def atoms_of(topology: md.Topology, residues: list[int]) -> list[int]:
    """List the atoms of residues."""
    return [atom.index for i in residues for atom in topology.residue(i).atoms]


def speed(frames: md.Trajectory, sites: object) -> float:
    """Frames per second, best of five."""
    best = np.inf
    for _ in range(5):
        start = time.perf_counter()
        find_interactions(frames, sites=sites)
        best = min(best, time.perf_counter() - start)
    return len(frames) / best


def speeds(frames: md.Trajectory, mol: Chem.Mol, ligand: np.ndarray, pocket: list[int]) -> None:
    """Print the frames per second of nmdasim."""
    for label, protein in (
        ("pocket", atoms_of(frames.topology, pocket)),
        ("whole protein", None),
    ):
        for thresholds in (PLIP, PROLIF):
            sites = interaction_sites(
                frames.topology,
                ligand=mol,
                ligand_atoms=ligand,
                protein=protein,
                thresholds=thresholds,
            )
            rate = speed(frames, sites)
            print(f"nmdasim, {label}, {thresholds.name} thresholds: {rate:.0f} frames/s")


def compare(
    label: str,
    frames: md.Trajectory,
    reference: md.Trajectory,
    mol: Chem.Mol,
    ligand: np.ndarray,
    residues: list[int],
) -> float:
    """Print speed and agreement on the given residues; return ProLIF's frames per second."""
    protein = atoms_of(frames.topology, residues)
    sites = interaction_sites(
        frames.topology, ligand=mol, ligand_atoms=ligand, protein=protein, thresholds=PROLIF
    )
    ours = by_type(find_interactions(frames, sites=sites))
    theirs, rate = prolif_contacts(frames, reference, ligand, protein)
    print(f"\n{label}: {len(frames)} frames, {len(residues)} residues: ProLIF {rate:.1f} frames/s")
    print(f"{'type':14s} {'both':>6s} {'ours':>6s} {'ProLIF':>6s} {'precision':>9s} {'recall':>7s}")
    for kind, mine in ours.items():
        yours = theirs[kind]
        both = len(mine & yours)
        precision = both / len(mine) if mine else float("nan")
        recall = both / len(yours) if yours else float("nan")
        print(
            f"{kind:14s} {both:6d} {len(mine - yours):6d} {len(yours - mine):6d} "
            f"{precision:9.4f} {recall:7.4f}"
        )
        for frame, residue in sorted(mine ^ yours)[:5]:
            whose = "nmdasim" if (frame, residue) in mine else "ProLIF"
            print(f"    {whose} alone: frame {frame}, {residue}")
    return rate


def by_type(found: Interactions) -> dict[str, set[tuple[int, str]]]:
    """(frame, residue) pairs of each type that ProLIF knows too."""
    result: dict[str, set[tuple[int, str]]] = {kind: set() for kind in PROLIF_NAMES}
    for frame, place, kind in zip(found.frame, found.residue, found.type, strict=True):
        if found.types[kind] in result:
            residue = found.residues[place]
            result[found.types[kind]].add(
                (int(frame), f"{residue.name}{residue.number}.{residue.chain}")
            )
    return result


def prolif_contacts(
    frames: md.Trajectory, reference: md.Trajectory, ligand: np.ndarray, protein: list[int]
) -> tuple[dict[str, set[tuple[int, str]]], float]:
    """Run ProLIF on the same coordinates; its contacts and its frames per second.

    Bonds are guessed from the reference, whose geometry is not disturbed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import MDAnalysis
        import prolif

        with tempfile.TemporaryDirectory() as folder:
            reference.save_pdb(f"{folder}/reference.pdb")
            universe = MDAnalysis.Universe(f"{folder}/reference.pdb")
        universe.atoms.guess_bonds()
        universe.load_new(frames.xyz * 10.0, order="fac")
        names = [name for group in PROLIF_NAMES.values() for name in group]
        fingerprint = prolif.Fingerprint(names)
        small, large = universe.atoms[ligand], universe.atoms[protein]
        start = time.perf_counter()
        fingerprint.run(universe.trajectory, small, large, residues="all", n_jobs=1, progress=False)
        rate = len(frames) / (time.perf_counter() - start)
    kinds = {name: kind for kind, group in PROLIF_NAMES.items() for name in group}
    result: dict[str, set[tuple[int, str]]] = {kind: set() for kind in PROLIF_NAMES}
    for frame, contacts in fingerprint.ifp.items():
        for (_, residue), found in contacts.items():
            for name in found:
                result[kinds[name]].add((int(frame), str(residue)))
    return result, rate


if __name__ == "__main__":
    main()
