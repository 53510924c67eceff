"""Charges of the whole library by two methods that share no program, side by side.

    python benchmarks/charge_methods.py                 compare, print the table of the documents
    python benchmarks/charge_methods.py --compute       first compute the second method again

What ships is AM1-BCC by sqm from one conformer. The second method is OpenFF NAGL with the model
openff-gnn-am1bcc-1.0.0, a graph neural network: it sees no coordinates, runs no quantum chemistry,
and was trained on the AM1-BCC ELF10 charges of OpenEye's program (doi:10.5281/zenodo.15770227). Its
charges are kept beside this script in charge_methods.json, because PyTorch alone outweighs
everything else in this project. --compute needs an environment of its own with, besides nmdasim and
the `parameters` extra, the packages torch, pytorch-lightning, acellera-openff-nagl and
acellera-openff-nagl-models.

Columns: root mean square and largest difference over all atoms, both methods averaged over
equivalent atoms; that atom; length of the dipole moment (of cations from the centre of mass) and of
the difference of the two dipole vectors, which depends on no origin, in one conformer of ETKDG and
MMFF94. Mirror images share their charges and a row; the conformer is that of the first.
"""

import argparse
import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from nmdasim.ligand import ChargeState, library, load_ligand
from nmdasim.structures import structures_folder

KEPT = Path(__file__).with_suffix(".json")
MODEL = "openff-gnn-am1bcc-1.0.0.pt"
DEBYE_PER_E_ANGSTROM = 4.80320
HEADER = (
    "| species | RMS (e) | largest (e) | at | dipole (D) | difference (D) |",
    "|---|---|---|---|---|---|",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How the charges of one species differ between the methods."""

    name: str
    """Charge state, with its mirror image where that is in the library."""
    rms_e: float
    """Root mean square over the atoms."""
    largest_e: float
    """Second method minus what ships, where it is largest."""
    atom: str
    """That atom: its element and what it is bonded to."""
    dipole_debye: float
    """Dipole moment with the charges that ship."""
    dipole_difference_debye: float
    """Length of the difference of the dipole vectors."""

    def row(self) -> str:
        """Write one line of the table."""
        return (
            f"| {self.name} | {self.rms_e:.3f} | {self.largest_e:+.3f} | {self.atom} | "
            f"{self.dipole_debye:.2f} | {self.dipole_difference_debye:.2f} |"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compute", action="store_true", help="run NAGL and keep its charges")
    states = library_states()
    if parser.parse_args().compute:
        keep_second_method(states)
    differences = compare(states, json.loads(KEPT.read_text(encoding="utf-8"))["charges"])
    print("\n".join((*HEADER, *(difference.row() for difference in differences))))
    print("\n" + summary(differences))


def library_states() -> list[ChargeState]:
    """Prepare every molecule of the library in every charge state."""
    names = [entry.name for entry in library() if entry.kind == "molecule"]
    return [state for name in names for state in load_ligand(name).states]


def keep_second_method(states: list[ChargeState]) -> None:
    """Compute the charges of the second method and keep them."""
    from openff.nagl import GNNModel
    from openff.nagl_models import get_model
    from openff.toolkit import Molecule

    model = GNNModel.load(get_model(MODEL), eval_mode=True)
    charges = {}
    for state in states:
        molecule = Molecule.from_rdkit(state.mol, allow_undefined_stereo=True)
        raw = model.compute_property(molecule, as_numpy=True, check_lookup_table=False)
        charges[state.name] = [round(float(charge), 5) for charge in averaged(state.mol, raw)]
    packages = ("acellera-openff-nagl", "acellera-openff-nagl-models", "torch", "rdkit")
    versions = {package: importlib.metadata.version(package) for package in packages}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(q)}" for name, q in charges.items())
    KEPT.write_text(
        f'{{\n "model": {json.dumps(MODEL)},\n "versions": {json.dumps(versions)},\n'
        f' "charges": {{\n{lines}\n }}\n}}\n',
        encoding="utf-8",
    )


def compare(states: list[ChargeState], second: dict[str, list[float]]) -> list[Difference]:
    """Hold the second method's charges against those that ship."""
    hands: dict[str, list[ChargeState]] = {}
    for state in states:
        hands.setdefault(handless(state), []).append(state)
    return [
        difference(
            " and ".join(state.name for state in both),
            both[0],
            shipped_charges(both[0]),
            np.array(second[both[0].name]),
        )
        for both in hands.values()
    ]


def handless(state: ChargeState) -> str:
    """Name a species and its mirror image alike."""
    mirrored = Chem.MolFromSmiles(state.smiles)
    for atom in mirrored.GetAtoms():
        atom.InvertChirality()
    return min(state.smiles, Chem.MolToSmiles(mirrored))


def shipped_charges(state: ChargeState) -> NDArray[np.float64]:
    """Read the charges from the record that ships, e."""
    folder = structures_folder() / "ligands" / state.name.rpartition(f"{state.charge:+d}")[0]
    record = json.loads((folder / f"{state.name}.json").read_text(encoding="utf-8"))
    names = (atom.GetPDBResidueInfo().GetName().strip() for atom in state.mol.GetAtoms())
    return np.array([record["charges"][name] for name in names])


def difference(
    name: str,
    state: ChargeState,
    shipped: NDArray[np.float64],
    second: NDArray[np.float64],
) -> Difference:
    """Compare the charges of one species."""
    change = averaged(state.mol, second) - averaged(state.mol, shipped)
    where = int(np.abs(change).argmax())
    places = conformer(state.mol)
    masses = np.array([atom.GetMass() for atom in state.mol.GetAtoms()])
    centred = places - masses @ places / masses.sum()
    return Difference(
        name=name,
        rms_e=float(np.sqrt(np.mean(change**2))),
        largest_e=float(change[where]),
        atom=surroundings(state.mol.GetAtomWithIdx(where)),
        dipole_debye=float(np.linalg.norm(shipped @ centred)) * DEBYE_PER_E_ANGSTROM,
        dipole_difference_debye=float(np.linalg.norm(change @ places)) * DEBYE_PER_E_ANGSTROM,
    )


def conformer(mol: Chem.Mol) -> NDArray[np.float64]:
    """Build one conformer that does not depend on how nmdasim chooses its own, Angstrom."""
    built = Chem.Mol(mol)
    rdDistGeom.EmbedMolecule(built, randomSeed=1)
    rdForceFieldHelpers.MMFFOptimizeMolecule(built, maxIters=2000)
    return built.GetConformer().GetPositions()


def averaged(mol: Chem.Mol, charges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give equivalent atoms their common mean."""
    classes = np.array(Chem.CanonicalRankAtoms(mol, breakTies=False, includeChirality=False))
    _, members = np.unique(classes, return_inverse=True)
    return (np.bincount(members, charges) / np.bincount(members))[members]


def surroundings(atom: Chem.Atom) -> str:
    """Say what an atom is by its element, its charge and its neighbours' elements."""
    neighbours = "".join(sorted(neighbour.GetSymbol() for neighbour in atom.GetNeighbors()))
    ring = "aromatic " if atom.GetIsAromatic() else ""
    return f"{ring}{atom.GetSymbol()}{'+' * (atom.GetFormalCharge() > 0)}({neighbours})"


def summary(differences: list[Difference]) -> str:
    """Sum the table up in one sentence."""
    worst = max(differences, key=lambda each: each.rms_e)
    rms = np.sqrt(np.mean([each.rms_e**2 for each in differences]))
    dipoles = [each.dipole_difference_debye for each in differences]
    return (
        f"{len(differences)} species, mirror images counted once: RMS {rms:.3f} e over all, at "
        f"most {worst.rms_e:.3f} e ({worst.name}); dipoles differ by {np.median(dipoles):.2f} D "
        f"in the median, at most {max(dipoles):.2f} D."
    )


if __name__ == "__main__":
    main()
