"""The places where a ligand may start, in the order of their numbers."""

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Geometry import Point3D
from scipy.spatial.distance import cdist

from nmdasim.errors import LigandError, PoseError
from nmdasim.ligand import ChargeState, strain
from nmdasim.parameters import load_parameters
from nmdasim.pose.checks import MAX_STRAIN_KJ_MOL
from nmdasim.pose.docking import Docked, dock, shipped_poses
from nmdasim.pose.free import free_conformers
from nmdasim.pose.model import DEPOSITED, DOCKED, HYDRATED_ION, ION, SCAFFOLD, StartPose
from nmdasim.pose.relax import compared, surroundings
from nmdasim.pose.scaffold import (
    heavy_places,
    heavy_rmsd,
    on_reference,
    on_scaffold,
    with_heavy_atoms,
)
from nmdasim.receptor import Receptor

# The two-fold axis of the channel is z; the model obeys it only roughly. Lowering by 0.1 nm
# brings the ammonium towards GluN1 N616, as far as no clash arises.
_HALF_TURN, _LOWERED = np.array([-1.0, -1.0, 1.0]), np.array([0.0, 0.0, -1.0])
_N_FORMS, _OTHER_FORM_ANGSTROM = 2, 0.4
# Energies of a piece of a 4 Angstrom model in a vacuum tell candidates apart no better than this.
_EQUAL_KJ_MOL = 25.0
# An ion of the first kind keeps its water (Mg-O 0.21 nm, O to the wall 0.26 nm).
_HYDRATED_CLEAR_NM = 0.47
_ION_GRID_NM, _ION_RADIUS_NM, _ION_HEIGHT_NM = 0.04, 0.3, 1.5
_ASPARAGINE_RING_NM = 0.6


def start_poses(receptor: Receptor, state: ChargeState) -> Iterator[StartPose]:
    """Yield the places where a charge state may start, the first choice first.

    Parameters
    ----------
    receptor : Receptor
    state : ChargeState

    Yields
    ------
    start : StartPose
        Later ones cost time only when they are asked for.

    Raises
    ------
    PoseError
        If there is no way to place the molecule.
    """
    for number, start in enumerate(_unnumbered(receptor, state), start=1):
        name, method, mol, docked = start
        yield StartPose(
            number=number,
            name=name,
            method=method,
            mol=mol,
            score_kcal_mol=docked.score_kcal_mol if docked else float("nan"),
            provenance=docked.provenance if docked else {},
        )


_Start = tuple[str, str, Chem.Mol, Docked | None]


def _unnumbered(receptor: Receptor, state: ChargeState) -> Iterator[_Start]:
    if state.mol.GetNumAtoms() == 1:
        yield from _ion_poses(receptor, state)
        return
    found = 0
    for found, start in enumerate(_from_reference(receptor, state), start=1):  # noqa: B007
        yield start
    shipped = shipped_poses(receptor, state)
    for docked in shipped or (() if found else dock(receptor, state)):
        places = heavy_places(state.mol, docked.mol)
        if places is not None:
            mol = with_heavy_atoms(state.mol, places)
            yield f"docked, rank {docked.provenance['rank']}", DOCKED, mol, docked


def _from_reference(receptor: Receptor, state: ChargeState) -> Iterator[_Start]:
    """Yield starts at the deposited blocker's place, for itself and for its relatives."""
    reference = receptor.reference_ligand
    if reference is None:
        return
    if not reference.GetNumBonds():
        raise PoseError(
            f"the blocker of receptor {receptor.name} has no bonds, because PDB files hold none: "
            "prepare the receptor from the mmCIF file of its entry"
        )
    deposited = on_reference(state.mol, reference)
    if deposited is not None:
        yield "as deposited", DEPOSITED, deposited, None
        yield from _beside(deposited, DEPOSITED)
    forms = on_scaffold(state.mol, reference)
    forms = _ranked(receptor, state, forms)[:_N_FORMS]
    if deposited is not None:
        forms = [f for f in forms if heavy_rmsd(f, deposited) > _OTHER_FORM_ANGSTROM]
    for rank, form in enumerate(forms, start=2 if deposited is not None else 1):
        yield f"common scaffold, form {rank} of its ring", SCAFFOLD, form, None
    if deposited is None and forms:
        yield from _beside(forms[0], SCAFFOLD)


def _beside(mol: Chem.Mol, method: str) -> Iterator[_Start]:
    """Yield the same pose turned by the two-fold axis, and that nearer to the asparagine ring."""
    turned = np.array(mol.GetConformer().GetPositions()) * _HALF_TURN
    for name, places in (
        ("turned by half a turn about the axis", turned),
        ("turned by half a turn and 0.1 nm nearer to the asparagine ring", turned + _LOWERED),
    ):
        moved = Chem.Mol(mol)
        moved.GetConformer().SetPositions(places)
        yield name, method, moved, None


def _ranked(receptor: Receptor, state: ChargeState, forms: list[Chem.Mol]) -> list[Chem.Mol]:
    """Sort candidates: without those that clash, the least strained of the best first.

    The ligand's own share of the energy is its strain: in the force field's vacuum, an ammonium
    that folds onto an oxygen of the ligand would pay for a boat. The candidate of least energy
    stays even where none is free of clashes: its check says so.
    """
    strains = {id(form): _strain(form) for form in forms}
    forms = [form for form in forms if strains[id(form)] <= MAX_STRAIN_KJ_MOL] or forms
    if len(forms) < 2:
        return forms
    around = surroundings(receptor, forms, load_parameters(state))
    settled = list(zip(compared(around, forms), forms, strict=True))
    clear = [pair for pair in settled if pair[0].clear]
    energies = {
        id(form): found.energy_kj_mol + _strain(found.mol) for found, form in clear or settled
    }
    least = min(energies.values())

    def place(form: Chem.Mol) -> tuple[bool, float]:
        energy = energies[id(form)]
        equal = energy < least + _EQUAL_KJ_MOL
        return not equal, strains[id(form)] if equal else energy

    ranked = sorted((form for _, form in clear or settled), key=place)
    return ranked if clear else ranked[:1]


def _strain(mol: Chem.Mol) -> float:
    """Give the strain of a pose, kJ/mol; none where the force field does not know the molecule."""
    try:
        return strain(mol, ensemble=free_conformers(mol)).energy_kj_mol
    except LigandError:
        return 0.0


def _ion_poses(receptor: Receptor, state: ChargeState) -> Iterator[_Start]:
    """Yield the two places that experiments give to Mg2+: they disagree, so both are starts.

    Hydrated outside the filter: the lowest level above the asparagine ring where water fits
    between ion and wall (doi:10.1038/s41593-026-02283-3). Coordinated by the asparagine ring:
    at the level of its side-chain amides (doi:10.1016/j.neuron.2025.01.021). In either level
    the ion takes the point with most room.
    """
    heavy = [a for a in receptor.topology.atoms() if a.element.symbol != "H"]
    walls = receptor.positions[[a.index for a in heavy]]
    for height in np.arange(0.0, _ION_HEIGHT_NM, 0.05):
        place, room = _roomiest(walls, float(height))
        if room >= _HYDRATED_CLEAR_NM:
            yield "above the asparagine ring", HYDRATED_ION, _ion_at(state.mol, place), None
            break
    near = np.abs(walls[:, 2]) < _ASPARAGINE_RING_NM
    near &= np.hypot(walls[:, 0], walls[:, 1]) < _ASPARAGINE_RING_NM
    amides = [
        z for a, z, in_ring in zip(heavy, walls[:, 2], near, strict=True)
        if in_ring and a.residue.name == "ASN" and a.name in ("OD1", "ND2")
    ]  # fmt: skip
    if amides:
        place, _ = _roomiest(walls, float(np.mean(amides)))
        yield "coordinated by the asparagine ring", ION, _ion_at(state.mol, place), None


def _roomiest(walls: NDArray[np.float64], height: float) -> tuple[NDArray[np.float64], float]:
    """Find the point near the axis that is farthest from heavy atoms, and that distance, nm."""
    steps = np.arange(-_ION_RADIUS_NM, _ION_RADIUS_NM + 1e-9, _ION_GRID_NM)
    points = np.array([(x, y, height) for x, y in itertools.product(steps, steps)])
    points = points[np.hypot(points[:, 0], points[:, 1]) <= _ION_RADIUS_NM]
    room = cdist(points, walls).min(axis=1)
    best = int(room.argmax())
    return points[best], float(room[best])


def _ion_at(mol: Chem.Mol, place: NDArray[np.float64]) -> Chem.Mol:
    placed = Chem.Mol(mol)
    placed.GetConformer().SetAtomPosition(0, Point3D(*map(float, 10 * place)))
    return placed
