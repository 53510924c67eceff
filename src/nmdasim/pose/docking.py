"""Docking into the vestibule with AutoDock Vina and Meeko, and the docked poses that ship."""

import hashlib
import importlib
import importlib.metadata
import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openmm import app, unit
from rdkit import Chem, rdBase
from rdkit.Chem import AllChem

from nmdasim.errors import PoseError
from nmdasim.ligand import ChargeState
from nmdasim.pore import lumen_volume, radii_of, radius_profile
from nmdasim.pose.scaffold import heavy_atoms, isomer, rmsd, skeleton
from nmdasim.receptor import Receptor
from nmdasim.structures import structures_folder

#: The box: the vestibule between filter and gate, in the pore frame, Angstrom.
BOX_CENTRE, BOX_EDGES = (0.0, 0.0, 7.5), (18.0, 18.0, 20.0)
#: The ligand's centre lies between asparagine and threonine ring, not in the gate, Angstrom.
CENTRE_BELOW, CENTRE_ABOVE = 14.0, 0.0
SEED, EXHAUSTIVENESS = 1, 16
_N_SEARCHED, _N_KEPT, _DISTINCT_ANGSTROM = 9, 3, 1.5
# Not even equal spheres, packed as densely as they can be, fill more of a space (0.7405).
_MAX_FILLED = 0.74


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Docked:
    """One pose of a docking run."""

    mol: Chem.Mol
    """The docked charge state with hydrogens, pore frame, Angstrom."""
    score_kcal_mol: float
    """Vina's score: ranks poses of one molecule, is no affinity."""
    provenance: Mapping[str, str]
    """Programs, versions, seed, box and the hash of the receptor."""


def dock(
    receptor: Receptor,
    state: ChargeState,
    *,
    positions: NDArray[np.float64] | None = None,
    seed: int = SEED,
    n_poses: int = _N_KEPT,
) -> tuple[Docked, ...]:
    """Dock a charge state into the vestibule of a rigid receptor.

    Parameters
    ----------
    receptor : Receptor
    state : ChargeState
        Its conformer only starts the search; rings keep their conformation.
    positions : ndarray of float64, shape (n_atoms, 3), nm, optional
        Other coordinates of the receptor than those as prepared.
    seed : int
    n_poses : int
        Most poses to keep; they differ by at least 1.5 Angstrom (RMSD, symmetry-corrected) and
        have their centre between asparagine and threonine ring.

    Returns
    -------
    docked : tuple of Docked
        The best score first. The same versions and seed give the same poses: Vina runs on one
        thread.

    Raises
    ------
    PoseError
        If the `docking` extra is not installed, the molecule is larger than 74 % of the
        vestibule, or no pose has a favourable score.

    References
    ----------
    .. [1] J. Eberhardt et al., J. Chem. Inf. Model. 61, 3891 (2021),
       doi:10.1021/acs.jcim.1c00203
    .. [2] O. Trott, A. J. Olson, J. Comput. Chem. 31, 455 (2010), doi:10.1002/jcc.21334
    """
    places = receptor.positions if positions is None else positions
    search, meeko = _search(receptor, state, places, seed)
    _check_size(receptor, state, places)
    with rdBase.BlockLogs():
        search.dock(exhaustiveness=EXHAUSTIVENESS, n_poses=_N_SEARCHED)
        found = search.poses(n_poses=_N_SEARCHED)
        scores = search.energies(n_poses=_N_SEARCHED)[:, 0] if found else np.empty(0)
        if not len(scores) or scores[0] >= 0:
            best = f"the best score is {scores[0]:+.1f} kcal/mol" if len(scores) else "none fits"
            raise PoseError(_does_not_fit(receptor, state, best))
        poses = meeko.PDBQTMolecule(found, skip_typing=True)
        mol = meeko.RDKitMolCreate.from_pdbqt_mol(poses)[0]
    record = _record(receptor, places, state, seed)
    kept = _distinct(_in_order_of(state.mol, mol), n_poses)
    if not kept:
        raise PoseError(_does_not_fit(receptor, state, "the docked ones lie in the gate"))
    return tuple(
        Docked(
            mol=placed,
            score_kcal_mol=round(float(scores[rank]), 3),
            provenance={**record, "rank": str(rank + 1)},
        )
        for rank, placed in kept
    )


def score_in_place(
    receptor: Receptor, state: ChargeState, *, positions: NDArray[np.float64] | None = None
) -> float:
    """Score a pose where it lies, after Vina's own minimisation there.

    Parameters
    ----------
    receptor : Receptor
    state : ChargeState
        Its molecule holds the pose, Angstrom.
    positions : ndarray of float64, shape (n_atoms, 3), nm, optional
        Other coordinates of the receptor than those as prepared.

    Returns
    -------
    score : float, kcal/mol
        On the same scale as the scores of `dock`.

    Raises
    ------
    PoseError
        If the `docking` extra is not installed.
    """
    places = receptor.positions if positions is None else positions
    search, _ = _search(receptor, state, places, SEED)
    return float(search.optimize()[0])


def shipped_poses(receptor: Receptor, state: ChargeState) -> tuple[Docked, ...]:
    """Find the docked poses that ship for a molecule in a receptor.

    Parameters
    ----------
    receptor : Receptor
        Poses belong to the very coordinates that they were docked into.
    state : ChargeState
        Any charge state of the molecule.

    Returns
    -------
    docked : tuple of Docked
        In the charge state that was docked; empty where none ships.
    """
    folder = structures_folder() / "poses" / receptor.name
    paths = sorted(folder.glob("*.sdf"))
    if not paths:
        return ()
    wanted, here = isomer_without_charge(state.mol), receptor_hash(receptor, receptor.positions)
    for path in paths:
        poses = read_poses(path)
        if isomer_without_charge(poses[0].mol) == wanted:
            return poses if poses[0].provenance["receptor_sha256"] == here else ()
    return ()


def read_poses(path: Path) -> tuple[Docked, ...]:
    """Read docked poses from an SD file that `write_poses` wrote.

    Parameters
    ----------
    path : pathlib.Path

    Returns
    -------
    docked : tuple of Docked

    Raises
    ------
    PoseError
        If the file is damaged.
    """
    poses = []
    with rdBase.BlockLogs():
        for mol in Chem.SDMolSupplier(str(path), removeHs=False):
            values = mol.GetPropsAsDict(autoConvertStrings=False) if mol is not None else {}
            if "score_kcal_mol" not in values or "receptor_sha256" not in values:
                raise PoseError(f"{path} is not a complete file of docked poses: make it again")
            score = float(values.pop("score_kcal_mol"))
            poses.append(Docked(mol=mol, score_kcal_mol=score, provenance=values))
    return tuple(poses)


def write_poses(poses: tuple[Docked, ...], path: Path) -> None:
    """Write docked poses as an SD file, their provenance as its properties.

    Parameters
    ----------
    poses : tuple of Docked
    path : pathlib.Path
    """
    with Chem.SDWriter(str(path)) as writer:
        for pose in poses:
            mol = Chem.Mol(pose.mol)
            mol.SetProp("_Name", pose.provenance["ligand"])
            mol.SetProp("score_kcal_mol", f"{pose.score_kcal_mol:.3f}")
            for key, value in pose.provenance.items():
                mol.SetProp(key, value)
            writer.write(mol)


def receptor_hash(receptor: Receptor, positions: NDArray[np.float64]) -> str:
    """Hash the atoms of a receptor and their places, in steps of 1e-4 nm."""
    names = "".join(
        f"{a.residue.chain.id}{a.residue.id}{a.name}" for a in receptor.topology.atoms()
    )
    places = np.round(positions * 1e4).astype("<i8").tobytes()
    return hashlib.sha256(names.encode() + places).hexdigest()


def isomer_without_charge(mol: Chem.Mol) -> str:
    """Read the stereochemistry from the coordinates, protons on nitrogen and oxygen left out."""
    bare = Chem.RWMol(Chem.RemoveHs(mol))
    for atom in bare.GetAtoms():
        if atom.GetAtomicNum() in (7, 8) and atom.GetFormalCharge():
            atom.SetFormalCharge(0)
            atom.SetNumExplicitHs(0)
            atom.SetNoImplicit(False)
    bare.UpdatePropertyCache()
    Chem.AssignStereochemistryFrom3D(bare)
    for atom in bare.GetAtoms():
        if atom.GetAtomicNum() == 7:
            atom.SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
    return Chem.MolToSmiles(bare)


def symmetric_rmsd(mol: Chem.Mol, reference: Chem.Mol) -> float:
    """Compare two placements of one molecule without moving them, symmetry corrected.

    Parameters
    ----------
    mol, reference : rdkit.Chem.Mol
        The same molecule; charges, bond orders and hydrogens do not matter.

    Returns
    -------
    rmsd : float, Angstrom
        Root mean square distance of heavy atoms, the least over all ways to match the graphs.
    """
    ours = mol.GetConformer().GetPositions()[heavy_atoms(mol)]
    theirs = reference.GetConformer().GetPositions()[heavy_atoms(reference)]
    matches = skeleton(reference).GetSubstructMatches(skeleton(mol), uniquify=False)
    return min(rmsd(ours, theirs[list(match)]) for match in matches)


def _programs(state: ChargeState) -> tuple[Any, Any]:
    """Import Vina and Meeko, or say what to install."""
    try:
        return importlib.import_module("vina"), importlib.import_module("meeko")
    except ImportError as error:
        raise PoseError(
            f"no start pose ships for {state.name} in this receptor, nor does it share the "
            "scaffold of a deposited blocker there, so it has to be docked: install the programs "
            'with `pip install "nmdasim[docking]"`'
        ) from error


def _search(
    receptor: Receptor, state: ChargeState, positions: NDArray[np.float64], seed: int
) -> tuple[Any, Any]:
    """Give receptor, ligand and box to Vina; return it and Meeko."""
    vina, meeko = _programs(state)
    search = vina.Vina(sf_name="vina", cpu=1, seed=seed, verbosity=0)
    with rdBase.BlockLogs():
        _give_receptor(search, meeko, receptor, positions)
        setup = meeko.MoleculePreparation().prepare(Chem.Mol(state.mol))[0]
        text, good, problem = meeko.PDBQTWriterLegacy.write_string(setup)
    if not good:
        raise PoseError(f"{state.name} cannot be prepared for docking: {problem.strip()}")
    search.set_ligand_from_string(text)
    search.compute_vina_maps(center=list(BOX_CENTRE), box_size=list(BOX_EDGES))
    return search, meeko


def _give_receptor(
    search: Any,  # noqa: ANN401
    meeko: Any,  # noqa: ANN401
    receptor: Receptor,
    positions: NDArray[np.float64],
) -> None:
    """Type the receptor's atoms with Meeko and hand them to Vina."""
    text = io.StringIO()
    app.PDBFile.writeFile(receptor.topology, positions * unit.nanometer, text, keepIds=True)
    polymer = meeko.Polymer.from_pdb_string(text.getvalue())
    rigid, _ = meeko.PDBQTWriterLegacy.write_from_polymer(polymer)
    with tempfile.NamedTemporaryFile("w", suffix=".pdbqt") as file:
        file.write(rigid)
        file.flush()
        search.set_receptor(file.name)


def _check_size(receptor: Receptor, state: ChargeState, places: NDArray[np.float64]) -> None:
    """Refuse at once what has no room, for which a search would take very long."""
    radii = radii_of([atom.element.symbol for atom in receptor.topology.atoms()])
    profile = radius_profile(places, radii=radii)
    height = CENTRE_BELOW / 10
    (room,), _ = lumen_volume(profile, places, radii=radii, low=CENTRE_ABOVE / 10, high=height)
    volume = AllChem.ComputeMolVolume(state.mol) / 1000
    if volume > _MAX_FILLED * room:
        why = f"it measures {volume:.2f} nm^3, the vestibule {room:.2f} nm^3"
        raise PoseError(_does_not_fit(receptor, state, why))


def _does_not_fit(receptor: Receptor, state: ChargeState, why: str) -> str:
    return (
        f"{state.name} does not fit into the vestibule of {receptor.name} ({why}): "
        "choose a smaller molecule"
    )


def _in_order_of(wanted: Chem.Mol, docked: Chem.Mol) -> list[Chem.Mol]:
    """Give every docked conformer the atom order and names of the charge state."""
    order = docked.GetSubstructMatch(wanted)
    placed = []
    for conformer in docked.GetConformers():
        mol = Chem.Mol(wanted)
        mol.GetConformer().SetPositions(conformer.GetPositions()[list(order)])
        placed.append(mol)
    return placed


def _distinct(mols: list[Chem.Mol], n_poses: int) -> list[tuple[int, Chem.Mol]]:
    """Keep the best poses in the vestibule that differ from each other, with their ranks."""
    kept: list[tuple[int, Chem.Mol]] = []
    for rank, mol in enumerate(mols):
        height = mol.GetConformer().GetPositions()[heavy_atoms(mol), 2].mean()
        if not CENTRE_ABOVE < height < CENTRE_BELOW:
            continue
        apart = all(symmetric_rmsd(mol, other) >= _DISTINCT_ANGSTROM for _, other in kept)
        if len(kept) < n_poses and apart:
            kept.append((rank, mol))
    return kept


def _record(
    receptor: Receptor, positions: NDArray[np.float64], state: ChargeState, seed: int
) -> dict[str, str]:
    version = importlib.metadata.version
    return {
        "ligand": state.name,
        "smiles": state.smiles,
        "receptor": receptor.name,
        "receptor_sha256": receptor_hash(receptor, positions),
        "program": f"AutoDock Vina {version('vina')}, prepared by Meeko {version('meeko')}",
        "seed": str(seed),
        "exhaustiveness": str(EXHAUSTIVENESS),
        "box_centre_angstrom": " ".join(f"{x:g}" for x in BOX_CENTRE),
        "box_edges_angstrom": " ".join(f"{x:g}" for x in BOX_EDGES),
        "isomer": isomer(state.mol),
    }
