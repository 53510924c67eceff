"""Simulate S-ketamine in the human GluN1-GluN2B channel with the public API, step by step.

    python scripts/simulate_ketamine.py runs/S-ketamine
    python scripts/simulate_ketamine.py runs/long --production-ns 1 --seed 2

The same as `nmdasim run S-ketamine -o FOLDER`: each can continue the folder of the other.
Copy this file and change a step, for example `charge=0` or a number of the protocol.
"""

import argparse
from dataclasses import asdict

from rdkit import Chem

import nmdasim
from nmdasim.receptor import receptor_file
from nmdasim.rundir import sha256_of


def main() -> None:
    """Build, simulate, analyse and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="run folder: new, or the one to continue")
    parser.add_argument("--production-ns", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()

    state = nmdasim.state_of(nmdasim.load_ligand("S-ketamine", ph=7.4), charge=+1)
    receptor = nmdasim.load_receptor("7eu8")
    pose = nmdasim.place_ligand(receptor, state)
    print(f"relaxing the deposited pose moved the ligand by {10 * pose.shift_nm:.2f} Angstrom")

    protocol = nmdasim.find_protocol("vestibule")
    system = nmdasim.build_system(pose, protocol, seed=given.seed)
    file = receptor_file("7eu8")
    folder = nmdasim.create_run(
        system,
        given.folder,
        inputs=nmdasim.run_inputs(
            protocol,
            ligand={"name": "S-ketamine", "smiles": state.smiles, "charge": 1, "pose": 1},
            receptor={"name": receptor.name, "sha256": sha256_of(file)},
            production_ns=given.production_ns,
            seed=given.seed,
        ),
        receptor_file=file,
        ligand_sdf=Chem.MolToMolBlock(pose.ligand.mol) + "$$$$\n",
        provenance={"checks": [asdict(check) for check in (*receptor.checks, *pose.checks)]},
    )
    status = nmdasim.simulate(folder)
    if status.state == "interrupted":
        raise SystemExit("interrupted; start this program again to continue")
    for estimate in nmdasim.analyse_run(folder).estimates:
        print(f"{estimate.name:20} {estimate.mean:9.3f} ± {estimate.error:.3f} {estimate.unit}")
    print(nmdasim.write_report(folder, folder / "report.html"))


if __name__ == "__main__":
    main()
