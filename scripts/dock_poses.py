"""Dock the reference blockers: make structures/poses/ again, or compare with what ships.

Needs the `docking` extra: pip install "nmdasim[docking]".

    python scripts/dock_poses.py                     every blocker outside the ketamine scaffold
    python scripts/dock_poses.py --only memantine    one of them
    python scripts/dock_poses.py --check             compare with what ships, write nothing
    python scripts/dock_poses.py --redock            dock S-ketamine without its deposited pose
"""

import argparse
import sys
import time

from nmdasim.ligand import library, load_ligand
from nmdasim.pose import (
    dock,
    place_ligand,
    read_poses,
    score_in_place,
    symmetric_rmsd,
    write_poses,
)
from nmdasim.receptor import Receptor, load_receptor
from nmdasim.structures import structures_folder

RECEPTOR = "7eu8"
# The same versions give the same poses; another processor may differ in the last digits.
REFERENCES = ("reference", "molecule")
MAX_RMSD_ANGSTROM, MAX_SCORE_DIFFERENCE = 0.5, 0.1


def main() -> int:
    """Dock or compare, one line for each pose."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="NAME", action="append", help="one library ligand")
    parser.add_argument("--check", action="store_true", help="compare with what ships")
    parser.add_argument("--redock", action="store_true", help="redock S-ketamine and rank its pose")
    arguments = parser.parse_args()
    receptor = load_receptor(RECEPTOR)
    if arguments.redock:
        return redock(receptor)
    names = arguments.only or [e.name for e in library() if (e.family, e.kind) == REFERENCES]
    agreed = [make(receptor, name, check=arguments.check) for name in names]
    return 0 if all(agreed) else 1


def make(receptor: Receptor, name: str, *, check: bool) -> bool:
    """Dock one blocker in its most positive state; say whether it agrees with what ships."""
    start = time.perf_counter()
    ligand = load_ligand(name)
    poses = dock(receptor, ligand.states[0])
    seconds = time.perf_counter() - start
    path = structures_folder() / "poses" / receptor.name / f"{ligand.name}.sdf"
    for pose in poses:
        depth = pose.mol.GetConformer().GetPositions()[:, 2].mean() / 10
        print(f"{name}: {pose.score_kcal_mol:.2f} kcal/mol, depth {depth:.2f} nm ({seconds:.0f} s)")
    if not check:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_poses(poses, path)
        return True
    good = True
    for new, old in zip(poses, read_poses(path), strict=True):
        rmsd = symmetric_rmsd(new.mol, old.mol)
        difference = abs(new.score_kcal_mol - old.score_kcal_mol)
        good &= rmsd <= MAX_RMSD_ANGSTROM and difference <= MAX_SCORE_DIFFERENCE
        print(f"  differs by {rmsd:.3f} Angstrom and {difference:.3f} kcal/mol")
    return good


def redock(receptor: Receptor) -> int:
    """Print where the deposited pose ranks when S-ketamine is docked from a free conformer."""
    state = load_ligand("S-ketamine").states[0]
    reference = receptor.reference_ligand
    placed = place_ligand(receptor, state)
    for title, positions in (
        ("as prepared", receptor.positions),
        ("relaxed around it", placed.receptor_positions),
    ):
        print(f"receptor {title}")
        score = score_in_place(receptor, placed.ligand, positions=positions)
        print(f"  deposited pose, minimised by Vina where it lies: {score:.2f} kcal/mol")
        poses = dock(receptor, state, positions=positions, n_poses=9)
        for pose in poses:
            rmsd = symmetric_rmsd(pose.mol, reference)
            print(f"  rank {pose.provenance['rank']}: {pose.score_kcal_mol:.2f} kcal/mol, "
                  f"{rmsd:.2f} Angstrom from the deposited pose")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
