"""Place every ligand of the library in every charge state: the table of docs/poses.md.

    python scripts/pose_table.py                       the whole table, a line for each ligand
    python scripts/pose_table.py --only R-ketamine     one of them; may be given more than once
    python scripts/pose_table.py --keep rows.json      keep finished rows there and go on from them

Each row is made with one thread, so the same versions give the same row. Checks that fail go to
standard error. The status is 1 where one of them is a clash.
"""

import argparse
import json
import sys
from pathlib import Path

from nmdasim.ligand import LibraryEntry, library, load_ligand
from nmdasim.pose import Pose, place_ligand, read_poses, with_strain
from nmdasim.receptor import Receptor, load_receptor
from nmdasim.structures import structures_folder

RECEPTOR = "7eu8"
HEAD = (
    "ligand",
    "how",
    "shift on relaxing, cation; neutral (nm)",
    "closest heavy atoms, cation; neutral (nm)",
    "strain, cation; neutral (kJ/mol)",
    "docking score (kcal/mol)",
)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="NAME", action="append", help="one library ligand")
    parser.add_argument("--keep", metavar="FILE", type=Path, help="finished rows, to go on from")
    arguments = parser.parse_args()
    receptor = load_receptor(RECEPTOR)
    done = {}
    if arguments.keep and arguments.keep.exists():
        done = json.loads(arguments.keep.read_text())
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    for entry in library():
        if arguments.only and entry.name not in arguments.only:
            continue
        if entry.name not in done:
            done[entry.name] = row(receptor, entry)
            if arguments.keep:
                arguments.keep.write_text(json.dumps(done, indent=1))
        print(f"| {entry.name} | {' | '.join(done[entry.name]['cells'])} |", flush=True)
        for failure in done[entry.name]["failed"]:
            print(f"{entry.name}: {failure}", file=sys.stderr, flush=True)
    return int(any(kept["clashes"] for kept in done.values()))


def row(receptor: Receptor, entry: LibraryEntry) -> dict[str, list[str]]:
    """Place the first start pose of each charge state; give cells and failed checks."""
    poses = [with_strain(place_ligand(receptor, state)) for state in load_ligand(entry.name).states]
    failed = [
        f"{pose.ligand.name}, {check.name}: {check.value} {check.unit} ({check.detail})"
        for pose in poses
        for check in pose.checks
        if not check.passed
    ]
    cells = [
        " and ".join(dict.fromkeys(pose.start.method for pose in poses)),
        "; ".join(f"{pose.shift_nm:.3f}" for pose in poses),
        "; ".join(f"{pose.closest_nm:.3f}" for pose in poses),
        "; ".join(strain_of(pose) for pose in poses),
        best_score(entry),
    ]
    return {"cells": cells, "failed": failed, "clashes": [f for f in failed if "clash" in f]}


def strain_of(pose: Pose) -> str:
    """Round the strain to what it is worth."""
    return f"{pose.strain.energy_kj_mol:.0f}" if pose.strain else "none, an ion"


def best_score(entry: LibraryEntry) -> str:
    """Give the score of the first docked pose that ships; empty where none does."""
    path = structures_folder() / "poses" / RECEPTOR / f"{entry.name}.sdf"
    return f"{read_poses(path)[0].score_kcal_mol:.2f}" if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
