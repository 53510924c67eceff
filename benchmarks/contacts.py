"""Speed of typed contacts and their agreement with ProLIF, side by side on the same frames.

    python benchmarks/contacts.py [COMPLEX.pdb LIGAND.sdf] [--frames N] [--prolif-frames N]
    python benchmarks/contacts.py --record

The complex holds a protein and one ligand, with hydrogens; the molecule lists the ligand's atoms
in the order of the complex. By default the reference complex of 7EU8 with S-ketamine beside the
checkout is taken. ProLIF is optional (`pip install prolif`): without it only nmdasim is timed.

Frames are made in memory. "thermal": Gaussian noise of 0.01 nm on all atoms. "thrown": the frames
of `tests/prolif_frames.py`, where all types of contact occur, water bridges included. `--record`
writes ProLIF's answers on these for the tests. Times are of the processor, on one core: run with
OMP_NUM_THREADS=1.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path

import mdtraj as md
import numpy as np
from mdtraj.formats import XTCTrajectoryFile
from rdkit import Chem

from nmdasim.contacts import (
    PLIP,
    PROLIF,
    Interactions,
    find_interactions,
    interaction_sites,
    interactions,
)

ROOT = Path(__file__).parents[1]
ORACLES = ROOT.parent / "shared" / "reference" / "oracles"
RECORD = ROOT / "tests" / "data" / "prolif_contacts.json"
SEED = 20240607
#: Oxygens of a vestibule system, and of one with a membrane, at the density of water.
WATERS, WATERS_PER_NM3 = (1_500, 15_000), 33.4

# Names of ProLIF for each of our types; directions are not told apart here.
PROLIF_NAMES = {
    "hydrogen bond": ("HBDonor", "HBAcceptor"),
    "water bridge": ("WaterBridge",),
    "salt bridge": ("Cationic", "Anionic"),
    "cation-pi": ("CationPi", "PiCation"),
    "pi-stacking": ("PiStacking",),
    "hydrophobic": ("Hydrophobic",),
    "halogen": ("XBDonor",),
}


def main() -> None:
    """Time and compare, and print the numbers."""
    arguments = parse()
    sys.path.insert(0, str(ROOT / "tests"))
    if arguments.record:
        record()
        return
    frame = md.load(str(arguments.complex))
    mol = Chem.MolFromMolFile(str(arguments.ligand), removeHs=False)
    ligand = frame.topology.select(f"resname {ligand_name(frame)}")
    rng = np.random.default_rng(SEED)
    pocket = residues_within(frame, ligand, 0.8)
    print(f"{frame.n_atoms} atoms, ligand {len(ligand)}, pocket of {len(pocket)} residues")
    thermal = thermal_frames(frame, arguments.frames, rng)
    rates = speeds(thermal, mol, ligand, pocket, rng)
    if importlib.util.find_spec("prolif") is None:
        print("ProLIF is not installed here: no comparison (pip install prolif).")
        return
    n = arguments.prolif_frames
    rate = compare("thermal", thermal[:n], frame, mol, ligand, pocket)
    for label, own in rates.items():
        print(f"{label} against ProLIF's pocket, without its water: {own / rate:.0f} times")
    from prolif_frames import make_frames, read_residues

    frame, mol, ligand = read_residues()
    residues = [r.index for r in frame.topology.residues if r.is_protein]
    compare("thrown", make_frames(frame, ligand), frame, mol, ligand, residues)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    stem = "7eu8_TMD_S-ketamine"
    parser.add_argument("complex", nargs="?", default=ORACLES / f"{stem}_complex.pdb")
    parser.add_argument("ligand", nargs="?", default=ORACLES / f"{stem}_ligand.sdf")
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--prolif-frames", type=int, default=100)
    parser.add_argument("--record", action="store_true")
    return parser.parse_args()


def record() -> None:
    """Write ProLIF's contacts on the frames of the tests, with the atoms it saw them on."""
    from prolif_frames import make_frames, read_residues

    frame, _, ligand = read_residues()
    residues = [r.index for r in frame.topology.residues if r.is_protein]
    found, _ = prolif_contacts(
        make_frames(frame, ligand), frame, ligand, atoms_of(frame.topology, residues)
    )
    rows = {
        kind: [[i, residue, sorted(atoms)] for (i, residue), atoms in sorted(contacts.items())]
        for kind, contacts in found.items()
    }
    versions = {n: importlib.metadata.version(n) for n in ("prolif", "MDAnalysis", "rdkit")}
    about = "ProLIF's default thresholds, count=True, WaterBridge order=1; tests/prolif_frames.py"
    lines = [f"{json.dumps(kind)}: {json.dumps(row)}" for kind, row in rows.items()]
    RECORD.write_text(
        f'{{"about": {json.dumps(about)},\n"versions": {json.dumps(versions)},\n'
        + ",\n".join(lines)
        + "}\n"
    )


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


def atoms_of(topology: md.Topology, residues: list[int]) -> list[int]:
    """List the atoms of residues."""
    return [atom.index for i in residues for atom in topology.residue(i).atoms]


def speed(frames: md.Trajectory, sites: object, water: np.ndarray | None = None) -> float:
    """Frames per second, best of five, after compiling."""
    find_interactions(frames[:2], sites=sites, water=None if water is None else water[:2])
    return len(frames) / best_of_five(lambda: find_interactions(frames, sites=sites, water=water))


def best_of_five(work: object) -> float:
    """Least seconds of the processor."""
    best = np.inf
    for _ in range(5):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def speeds(
    frames: md.Trajectory,
    mol: Chem.Mol,
    ligand: np.ndarray,
    pocket: list[int],
    rng: np.random.Generator,
) -> dict[str, float]:
    """Print the frames per second of nmdasim and of reading the frames; return the former."""
    with tempfile.TemporaryDirectory() as folder:
        frames.save_xtc(f"{folder}/frames.xtc")

        def read() -> None:
            with XTCTrajectoryFile(f"{folder}/frames.xtc") as file:
                file.read()

        reading = len(frames) / best_of_five(read)
    print(f"reading the XTC: {reading:.0f} frames/s")
    rates = {}
    for label, protein in (("pocket", atoms_of(frames.topology, pocket)), ("whole protein", None)):
        for thresholds in (PLIP, PROLIF):
            sites = interaction_sites(
                frames.topology,
                ligand=mol,
                ligand_atoms=ligand,
                protein=protein,
                thresholds=thresholds,
            )
            name = f"{label}, {thresholds.name} thresholds"
            rates[name] = speed(frames, sites)
            for n_waters in WATERS:
                wet = waters_around(frames, ligand, n_waters, rng)
                rates[f"{name}, {n_waters} waters"] = speed(frames[: len(wet)], sites, wet)
    for name, rate in rates.items():
        cost = reading / rate
        print(f"nmdasim, {name}: {rate:.0f} frames/s, {1e3 / rate:.3f} ms, {cost:.2f} of the XTC")
    return rates


def waters_around(
    frames: md.Trajectory, ligand: np.ndarray, n_waters: int, rng: np.random.Generator
) -> np.ndarray:
    """Oxygens at random in a cube about the ligand with the density of water, for 200 frames."""
    edge = (n_waters / WATERS_PER_NM3) ** (1 / 3)
    centre = frames.xyz[:200, ligand].mean(axis=1)[:, None]
    return (centre + rng.uniform(-edge / 2, edge / 2, (len(centre), n_waters, 3))).astype(
        np.float32
    )


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
    ours = by_type(
        interactions(frames, ligand=mol, ligand_atoms=ligand, protein=protein, thresholds=PROLIF)
    )
    theirs, rate = prolif_contacts(frames, reference, ligand, protein)
    print(f"\n{label}: {len(frames)} frames, {len(residues)} residues: ProLIF {rate:.1f} frames/s")
    print(f"{'type':14s} {'both':>6s} {'ours':>6s} {'ProLIF':>6s} {'precision':>9s} {'recall':>7s}")
    for kind, mine in ours.items():
        yours = theirs[kind].keys()
        both = len(mine & yours)
        precision = both / len(mine) if mine else float("nan")
        recall = both / len(yours) if yours else float("nan")
        print(
            f"{kind:14s} {both:6d} {len(mine - yours):6d} {len(yours - mine):6d} "
            f"{precision:9.4f} {recall:7.4f}"
        )
        for i, residue in sorted(mine ^ yours):
            atoms = ", ".join(sorted(theirs[kind].get((i, residue), ())))
            whose = f"ProLIF alone ({atoms})" if atoms else "nmdasim alone"
            print(f"    {whose}: frame {i}, {residue}")
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
) -> tuple[dict[str, dict[tuple[int, str], set[str]]], float]:
    """Run ProLIF on the same coordinates; its contacts and its frames per second.

    Each contact comes with the residue's atoms that it was seen on. Bonds are guessed from the
    reference, whose geometry is not disturbed.
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
        water = universe.select_atoms("resname HOH")
        names = [name for group in PROLIF_NAMES.values() for name in group]
        if not len(water):
            names.remove("WaterBridge")
        fingerprint = prolif.Fingerprint(
            names, count=True, parameters={"WaterBridge": {"water": water}} if len(water) else {}
        )
        small, large = universe.atoms[ligand], universe.atoms[protein]
        start = time.process_time()
        fingerprint.run(universe.trajectory, small, large, residues="all", n_jobs=1, progress=False)
        rate = len(frames) / (time.process_time() - start)
    kinds = {name: kind for kind, group in PROLIF_NAMES.items() for name in group}
    result: dict[str, dict[tuple[int, str], set[str]]] = {kind: {} for kind in PROLIF_NAMES}
    for frame, contacts in fingerprint.ifp.items():
        for (_, residue), found in contacts.items():
            for name, sightings in found.items():
                atoms = result[kinds[name]].setdefault((int(frame), str(residue)), set())
                for sighting in sightings:
                    places = sighting["parent_indices"]["protein"]
                    atoms.add("-".join(frames.topology.atom(int(i)).name for i in places))
    return result, rate


if __name__ == "__main__":
    main()
