"""Generate the force-field parameters in structures/ligands/ for every library ligand.

Needs the `parameters` extra: pip install "nmdasim[parameters]". Run it after a row was
added to structures/ligands/library.toml:

    python scripts/build_ligands.py                     every ligand, replacing what is there
    python scripts/build_ligands.py --missing           those that have no files yet
    python scripts/build_ligands.py --only S-ketamine   one of them
    python scripts/build_ligands.py --check             compare with what ships, write nothing
    python scripts/build_ligands.py --jobs 4            in four processes; the default is one

Stereoisomers are made in one process, because mirror images share their calculation.
"""

import argparse
import re
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import groupby
from multiprocessing import get_context

from rdkit import Chem

from nmdasim.ligand import ChargeState, LibraryEntry, library, load_ligand
from nmdasim.parameters import Parameters, generate_parameters, load_parameters, write_parameters
from nmdasim.structures import structures_folder

# sqm prints charges to 0.001 e, and its optimiser ends somewhere else in every run.
MAX_CHARGE_DIFFERENCE = 0.005


def main() -> int:
    """Generate or compare, one line for each charge state."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="NAME", action="append", help="one library ligand")
    parser.add_argument("--missing", action="store_true", help="only those without files")
    parser.add_argument("--check", action="store_true", help="compare with what ships")
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="processes")
    arguments = parser.parse_args()
    names = [load_ligand(name).name for name in arguments.only or ()]
    groups = stereoisomers([e for e in library() if not names or e.name in names])
    task = partial(build, check=arguments.check, missing=arguments.missing)
    good = True
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        for passed in pool.map(task, groups):
            good &= passed
    return 0 if good else 1


def stereoisomers(entries: Sequence[LibraryEntry]) -> list[list[str]]:
    """Group the names of ligands by what they are without their stereochemistry."""

    def constitution(entry: LibraryEntry) -> str:
        return Chem.MolToSmiles(Chem.MolFromSmiles(entry.smiles), isomericSmiles=False)

    grouped = groupby(sorted(entries, key=constitution), key=constitution)
    return [[entry.name for entry in group] for _, group in grouped]


def build(names: Sequence[str], *, check: bool, missing: bool) -> bool:
    """Generate some ligands, or compare them; say whether all is well."""
    good = True
    for state in states(names):
        name = state.name.removesuffix(f"{state.charge:+d}")
        folder = structures_folder() / "ligands" / name
        if missing and (folder / f"{state.name}.json").exists():
            continue
        start = time.perf_counter()
        parameters = generate_parameters(state)
        if check:
            said, passed = compared(parameters, load_parameters(state))
            good &= passed
        else:
            folder.mkdir(exist_ok=True)
            write_parameters(parameters, folder / state.name)
            said = "written"
        print(f"{state.name}: {said} ({time.perf_counter() - start:.0f} s)", flush=True)
    return good


def states(names: Sequence[str]) -> Iterator[ChargeState]:
    """Go through the charge states of some ligands."""
    for name in names:
        yield from load_ligand(name).states


def compared(made: Parameters, shipped: Parameters) -> tuple[str, bool]:
    """Compare the charges within sqm's precision, and all else to the last digit."""
    old, new = shipped.record["charges"], made.record["charges"]
    worst = max(abs(old[atom] - charge) for atom, charge in new.items())
    rest = [re.sub(r' charge="[^"]*"', "", text) for text in (made.ffxml, shipped.ffxml)]
    same = "equal" if rest[0] == rest[1] else "DIFFERENT"
    said = f"charges differ by at most {worst:.6f} e, all other terms are {same}"
    return said, worst <= MAX_CHARGE_DIFFERENCE and rest[0] == rest[1]


if __name__ == "__main__":
    sys.exit(main())
