"""Generate the force-field parameters in structures/ligands/ for every library ligand.

Needs the `parameters` extra: pip install "nmdasim[parameters]". Run it after a row was
added to structures/ligands/library.toml:

    python scripts/build_ligands.py                     every ligand, replacing what is there
    python scripts/build_ligands.py --only S-ketamine   one of them
    python scripts/build_ligands.py --check             compare with what ships, write nothing
"""

import argparse
import sys
import time

from nmdasim.ligand import library, load_ligand
from nmdasim.parameters import generate_parameters, load_parameters, write_parameters
from nmdasim.structures import structures_folder

# sqm's optimiser stops at slightly different geometries on different machines.
MAX_CHARGE_DIFFERENCE = 0.002


def main() -> int:
    """Generate or compare, one line for each charge state."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="NAME", action="append", help="one library ligand")
    parser.add_argument("--check", action="store_true", help="compare with what ships")
    arguments = parser.parse_args()
    good = True
    for name in arguments.only or [entry.name for entry in library()]:
        ligand = load_ligand(name)
        folder = structures_folder() / "ligands" / ligand.name
        for state in ligand.states:
            start = time.perf_counter()
            parameters = generate_parameters(state)
            seconds = time.perf_counter() - start
            if arguments.check:
                charges = load_parameters(state).record["charges"]
                worst = max(abs(charges[a] - q) for a, q in parameters.record["charges"].items())
                good &= worst <= MAX_CHARGE_DIFFERENCE
                print(f"{state.name}: charges differ by at most {worst:.6f} e ({seconds:.0f} s)")
            else:
                folder.mkdir(exist_ok=True)
                write_parameters(parameters, folder / state.name)
                print(f"{state.name}: written ({seconds:.0f} s)")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
