"""How long it takes until a ligand is ready: from the library, and when it is new.

    python benchmarks/ligands.py [--library-only]

First every ligand of the library is prepared by name and its shipped parameters are loaded. Then
molecules that the library does not hold get parameters by three ways, one after the other in the
same process with all imports done before: nmdasim, the plain OpenFF toolkit (same force field, its
own single conformer for AM1-BCC), and antechamber with parmchk2 (GAFF2, AM1-BCC), which makes no
file for OpenMM yet. The last line of each molecule is nmdasim again, from its cache. Wall time, and
processor time with that of the programs that were started; sqm runs on one core in all of them.
"""

import argparse
import importlib
import os
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from rdkit import Chem

from nmdasim.ligand import ChargeState, library, load_ligand, state_of
from nmdasim.parameters import FORCE_FIELD, load_parameters
from nmdasim.parameters.charges import programs

NEW = {
    "2-fluorodeschloroketamine": "CN[C@]1(CCCCC1=O)c1ccccc1F",
    "tiletamine, S": "CCN[C@]1(CCCCC1=O)c1cccs1",
    "lanicemine, S": "N[C@@H](Cc1ccccn1)c1ccccc1",
    "ifenprodil, one of four": "C[C@@H]([C@H](O)c1ccc(O)cc1)N1CCC(Cc2ccccc2)CC1",
}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library-only", action="store_true", help="leave new molecules out")
    arguments = parser.parse_args()
    shipped()
    if not arguments.library_only:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")
            # An empty cache, so that every molecule is new.
            os.environ["NMDASIM_CACHE"] = folder
            importlib.import_module("openff.toolkit")
            importlib.import_module("openff.interchange")
            for name, smiles in NEW.items():
                new_molecule(name, smiles)


def shipped() -> None:
    """Time the whole library."""
    load_ligand("CCN")
    wall, used, loading = {}, {}, []
    for entry in library():
        start, start_used = time.perf_counter(), time.process_time()
        ligand = load_ligand(entry.name)
        wall[entry.name] = time.perf_counter() - start
        used[entry.name] = time.process_time() - start_used
        start = time.perf_counter()
        for state in ligand.states:
            load_parameters(state)
        loading.append(time.perf_counter() - start)
    print(f"{len(wall)} library ligands, every charge state, prepared by name:")
    for clock, times in (("wall", wall), ("processor", used)):
        slowest = max(times, key=times.__getitem__)
        print(
            f"  {clock:9} {statistics.median(times.values()):5.2f} s in the median, "
            f"{times[slowest]:5.2f} s at most ({slowest})"
        )
    print(f"  their parameters are loaded in {max(loading):.2f} s at most")


def new_molecule(name: str, smiles: str) -> None:
    """Time one molecule by all ways."""
    state = state_of(load_ligand(smiles))
    print(f"\n{name}: {state.mol.GetNumHeavyAtoms()} heavy atoms, charge {state.charge:+d}")
    ways: dict[str, Callable[[ChargeState], object]] = {
        "nmdasim": load_parameters,
        "OpenFF toolkit alone": by_openff,
        "antechamber and parmchk2 (GAFF2)": by_antechamber,
        "nmdasim, kept": load_parameters,
    }
    for way, make in ways.items():
        wall, used = time.perf_counter(), sum(os.times()[:4])
        make(state)
        wall, used = time.perf_counter() - wall, sum(os.times()[:4]) - used
        print(f"  {way:33} {wall:6.2f} s, {used:6.2f} s of processor", flush=True)


def by_openff(state: ChargeState) -> None:
    """Follow the toolkit's own example: charges, then a system for OpenMM."""
    toolkit = importlib.import_module("openff.toolkit")
    os.environ.update({key: (programs() or {})[key] for key in ("PATH", "OMP_NUM_THREADS")})
    molecule = toolkit.Molecule.from_rdkit(state.mol, allow_undefined_stereo=True)
    ambertools = toolkit.AmberToolsToolkitWrapper()
    molecule.assign_partial_charges("am1bcc", toolkit_registry=ambertools)
    toolkit.ForceField(FORCE_FIELD).create_interchange(
        molecule.to_topology(), charge_from_molecules=[molecule]
    ).to_openmm()


def by_antechamber(state: ChargeState) -> None:
    """Take atom types, charges and missing terms of GAFF2 from AmberTools."""
    with tempfile.TemporaryDirectory() as folder:
        Chem.MolToMolFile(state.mol, str(Path(folder) / "in.sdf"))
        charges = f"-c bcc -nc {state.charge} -at gaff2"
        for command in (
            f"antechamber -i in.sdf -fi sdf -o out.mol2 -fo mol2 {charges}",
            "parmchk2 -i out.mol2 -f mol2 -o out.frcmod -s 2",
        ):
            subprocess.run(
                command.split(), cwd=folder, env=programs(), check=True, capture_output=True
            )


if __name__ == "__main__":
    main()
