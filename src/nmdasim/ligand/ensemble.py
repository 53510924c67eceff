"""Conformers ranked by energy, the form of their rings, and the strain of a bound pose."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers, rdMolAlign, rdMolDescriptors
from rdkit.ForceField import rdForceField

from nmdasim.errors import LigandError
from nmdasim.ligand.conformers import embedding, keeps_chirality

#: How the energies below are computed, for reports.
ENERGY_MODEL = "MMFF94s without solvent, charges damped by a dielectric constant of 80"
# A vacuum would let an ammonium fold onto the next oxygen, for which water competes.
_DIELECTRIC = 80.0
_KJ_PER_KCAL = 4.184
# The search goes on in batches until this many in a row bring nothing lower.
_QUIET_BATCHES, _MAX_BATCHES = 2, 8
_SMALL_BATCH, _LARGE_BATCH = 10, 40
_LOWER_KJ_MOL = 0.05
_MAX_ITERATIONS = 5000
# Conformers closer than both are the same.
_SAME_KJ_MOL, _SAME_RMSD = 0.5, 0.3
# A pose of 4 Angstrom resolution does not fix an atom to less than this.
_FREE_ANGSTROM = 0.3
_HOLD_KCAL = 100.0
# Between the pole of the sphere, a chair, and its equator, boats (Cremer and Pople).
_CHAIR_BELOW, _HALF_CHAIR_BELOW = np.radians(25.0), np.radians(65.0)
_FLAT_ANGSTROM = 0.15
_AXIAL_BELOW = np.radians(45.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conformer:
    """One minimum of a charge state."""

    mol: Chem.Mol
    """All atoms in the order of the state, with this conformer alone, in Angstrom."""
    energy_kj_mol: float
    """Energy above the lowest conformer that was found, kJ/mol."""
    form: str
    """Shape of its six-membered rings, such as `chair, aryl axial`; empty without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strain:
    """What it costs a ligand, by itself, to take the shape that it has in a pose."""

    energy_kj_mol: float
    """Energy of the relaxed pose above the lowest conformer, kJ/mol: the strain."""
    conformer_kj_mol: float
    """The part of it that the nearest free minimum costs, kJ/mol; the rest is distortion."""
    shift_nm: float
    """RMS shift of the heavy atoms when the pose was relaxed, nm."""
    form: str
    """Form of the rings in the pose."""
    best_form: str
    """Form of the rings in the lowest conformer."""
    n_conformers: int
    """Number of conformers that were found."""
    model: str
    """How the energies were computed."""


def conformers(mol: Chem.Mol, *, seed: int = 1) -> tuple[Conformer, ...]:
    """Search the conformers of a charge state and rank them by energy.

    Ring inversion, axial and equatorial groups and torsions are all conformers: none of
    them is another compound.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        All atoms, as in `ChargeState.mol`; its coordinates are not used.
    seed : int
        Seed of the search.

    Returns
    -------
    conformers : tuple of Conformer
        The lowest first. An atom by itself has one, of no form.

    Raises
    ------
    LigandError
        If MMFF94s cannot describe the molecule, or no structure can be built.

    Notes
    -----
    `ENERGY_MODEL` ranks; it does not weigh. Differences below about 5 kJ/mol mean little,
    and entropy and solvent are left out.

    References
    ----------
    .. [1] T. A. Halgren, J. Comput. Chem. 20, 720 (1999),
       doi:10.1002/(SICI)1096-987X(199905)20:7<720::AID-JCC7>3.0.CO;2-X
    .. [2] S. Wang et al., J. Chem. Inf. Model. 60, 2044 (2020), doi:10.1021/acs.jcim.0c00025
    """
    if mol.GetNumAtoms() == 1:
        return (Conformer(mol=Chem.Mol(mol), energy_kj_mol=0.0, form=""),)
    with rdBase.BlockLogs():
        return tuple(_distinct(*_search(mol, seed)))


def strain(mol: Chem.Mol, *, ensemble: Sequence[Conformer] | None = None, seed: int = 1) -> Strain:
    """Compare a pose with the free conformers of the same charge state.

    The pose is relaxed with its heavy atoms free within 0.03 nm of their places, so that
    bond lengths of another force field or of a poor map do not count.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        All atoms of one charge state, with the pose as its conformer in Angstrom.
    ensemble : sequence of Conformer, optional
        From `conformers` for the same state; searched when left out.
    seed : int
        Seed of that search.

    Returns
    -------
    strain : Strain

    Raises
    ------
    LigandError
        If MMFF94s cannot describe the molecule, or no structure can be built.

    Notes
    -----
    Without solvent and protein: a measure of how far the shape is from a relaxed one, not a
    part of a binding free energy. Zero for an ion.
    """
    ensemble = conformers(mol, seed=seed) if ensemble is None else ensemble
    best = ensemble[0]
    relaxed = Chem.Mol(mol)
    floor = free = held = 0.0
    if mol.GetNumAtoms() > 1:
        with rdBase.BlockLogs():
            floor = _energy(best.mol)
            _relax_in_place(relaxed)
            held = _energy(relaxed)
            free = min(_minimum_from(relaxed), held)
    # The pose may fall into a minimum that the search missed: then this is the lowest.
    floor = min(floor, free)
    return Strain(
        energy_kj_mol=held - floor,
        conformer_kj_mol=free - floor,
        shift_nm=_heavy_shift(mol, relaxed) / 10.0,
        form=ring_form(relaxed),
        best_form=best.form,
        n_conformers=len(ensemble),
        model=ENERGY_MODEL,
    )


def ring_form(mol: Chem.Mol, conformer: int = -1) -> str:
    """Name the shape of the six-membered rings that are neither aromatic nor in a cage.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        With coordinates.
    conformer : int
        Identifier of the conformer.

    Returns
    -------
    form : str
        For each ring chair, half-chair, boat (twisted ones included) or flat, and where its
        aryl, hydroxyl, amine and other groups point. Several rings are named by their
        heteroatoms and joined by `;`. Empty if there is no such ring.

    Notes
    -----
    The polar angle of Cremer and Pople tells chairs (within 25 degrees of a pole) from
    half-chairs (within 65) and boats. A group is axial within 45 degrees of the normal of
    the ring's mean plane. Where one carbon carries two groups, the one named first here
    stands for both: aryl, hydroxyl, amine, alkyl.

    References
    ----------
    .. [1] D. Cremer and J. A. Pople, J. Am. Chem. Soc. 97, 1354 (1975),
       doi:10.1021/ja00839a011
    """
    positions = mol.GetConformer(conformer).GetPositions()
    forms = []
    for ring in _flexible_rings(mol):
        amplitude, polar, normal = _puckering(positions[list(ring)])
        groups = _groups(mol, positions, ring, normal)
        forms.append((_ring_name(mol, ring), ", ".join((_shape(amplitude, polar), *groups))))
    if len(forms) == 1:
        return forms[0][1]
    return "; ".join(f"{name} {form}" for name, form in forms)


def _flexible_rings(mol: Chem.Mol) -> Iterator[tuple[int, ...]]:
    """Give six-membered rings without aromatic atoms, those of cages and bridges left out."""
    rings = [set(ring) for ring in mol.GetRingInfo().AtomRings()]
    for ring in mol.GetRingInfo().AtomRings():
        aromatic = any(mol.GetAtomWithIdx(i).GetIsAromatic() for i in ring)
        bridged = any(2 < len(other & set(ring)) < len(ring) for other in rings)
        if len(ring) == 6 and not aromatic and not bridged:
            yield ring


def _ring_name(mol: Chem.Mol, ring: tuple[int, ...]) -> str:
    """Tell the rings of one molecule apart by what is in them."""
    symbols = {mol.GetAtomWithIdx(i).GetSymbol() for i in ring} - {"C"}
    if symbols:
        return {"N": "aza-ring", "O": "oxa-ring"}.get("".join(sorted(symbols)), "hetero-ring")
    return "carbocycle"


def _puckering(ring: NDArray[np.float64]) -> tuple[float, float, NDArray[np.float64]]:
    """Give amplitude (Angstrom), polar angle (rad, folded to 0..pi/2) and normal of a ring."""
    centred = ring - ring.mean(axis=0)
    turn = 2.0 * np.pi * np.arange(6) / 6.0
    normal = np.cross(np.sin(turn) @ centred, np.cos(turn) @ centred)
    normal /= np.linalg.norm(normal)
    height = centred @ normal
    q3 = (height * (-1.0) ** np.arange(6)).sum() / np.sqrt(6.0)
    q2 = np.hypot((height * np.cos(2 * turn)).sum(), (height * np.sin(2 * turn)).sum())
    q2 /= np.sqrt(3.0)
    return float(np.hypot(q2, q3)), float(np.arctan2(q2, abs(q3))), normal


def _shape(amplitude: float, polar: float) -> str:
    if amplitude < _FLAT_ANGSTROM:
        return "flat"
    if polar < _CHAIR_BELOW:
        return "chair"
    return "half-chair" if polar < _HALF_CHAIR_BELOW else "boat"


def _groups(
    mol: Chem.Mol,
    positions: NDArray[np.float64],
    ring: tuple[int, ...],
    normal: NDArray[np.float64],
) -> Iterator[str]:
    """Name the groups on a ring with their direction, the most telling of each atom."""
    for index in ring:
        atom = mol.GetAtomWithIdx(index)
        outer = [
            a
            for a in atom.GetNeighbors()
            if a.GetAtomicNum() > 1
            and a.GetIdx() not in ring
            and mol.GetBondBetweenAtoms(index, a.GetIdx()).GetBondType() == Chem.BondType.SINGLE
        ]
        if not outer:
            continue
        group = min(outer, key=lambda a: _KINDS.index(_kind(a)))
        bond = positions[group.GetIdx()] - positions[index]
        angle = np.arccos(abs(bond @ normal) / np.linalg.norm(bond))
        yield f"{_kind(group)} {'axial' if angle < _AXIAL_BELOW else 'equatorial'}"


_KINDS = ("aryl", "hydroxyl", "amine", "alkyl", "group")


def _kind(atom: Chem.Atom) -> str:
    if atom.GetIsAromatic():
        return "aryl"
    named = {"O": "hydroxyl" if atom.GetTotalNumHs(includeNeighbors=True) else "group"}
    return {**named, "N": "amine", "C": "alkyl"}.get(atom.GetSymbol(), "group")


def _search(mol: Chem.Mol, seed: int) -> tuple[Chem.Mol, dict[int, float]]:
    """Build and relax batches of conformers; their energies in kJ/mol by conformer."""
    pool = Chem.Mol(mol)
    pool.RemoveAllConformers()
    n_turns = (
        rdMolDescriptors.CalcNumRotatableBonds(mol)
        + rdMolDescriptors.CalcNumHBD(mol)
        + sum(1 for _ in _flexible_rings(mol))
    )
    batch = min(_SMALL_BATCH * (1 + n_turns), _LARGE_BATCH)
    energies: dict[int, float] = {}
    lowest, quiet = np.inf, 0
    for number in range(_MAX_BATCHES):
        for conformer, energy in _relaxed_batch(mol, batch, (seed + number) % 2**31):
            energies[pool.AddConformer(conformer, assignId=True)] = energy
        found = min(energies.values(), default=np.inf)
        quiet = 0 if found < lowest - _LOWER_KJ_MOL else quiet + 1
        lowest = found
        if quiet == _QUIET_BATCHES:
            break
    if not energies:
        raise LigandError(
            "no conformer of this molecule can be built: check its rings and stereocentres"
        )
    return pool, energies


def _relaxed_batch(
    mol: Chem.Mol, n_conformers: int, seed: int
) -> Iterator[tuple[Chem.Conformer, float]]:
    built = Chem.Mol(mol)
    built.RemoveAllConformers()
    rdDistGeom.EmbedMultipleConfs(built, n_conformers, embedding(seed))
    for conformer in built.GetConformers():
        force_field = _force_field(built, conformer.GetId())
        force_field.Minimize(maxIts=_MAX_ITERATIONS)
        if keeps_chirality(built, conformer.GetId()):
            yield conformer, float(force_field.CalcEnergy()) * _KJ_PER_KCAL


def _force_field(mol: Chem.Mol, conformer: int = -1) -> rdForceField.ForceField:
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol, mmffVariant="MMFF94s")
    if properties is None:
        raise LigandError("the MMFF94s force field cannot describe this molecule")
    properties.SetMMFFDielectricConstant(_DIELECTRIC)
    return rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties, confId=conformer)


def _energy(mol: Chem.Mol) -> float:
    return float(_force_field(mol).CalcEnergy()) * _KJ_PER_KCAL


def _relax_in_place(mol: Chem.Mol) -> None:
    """Minimise with every heavy atom free only near its place."""
    force_field = _force_field(mol)
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() > 1:
            force_field.MMFFAddPositionConstraint(atom.GetIdx(), _FREE_ANGSTROM, _HOLD_KCAL)
    force_field.Minimize(maxIts=_MAX_ITERATIONS)


def _minimum_from(mol: Chem.Mol) -> float:
    free = Chem.Mol(mol)
    force_field = _force_field(free)
    force_field.Minimize(maxIts=_MAX_ITERATIONS)
    return float(force_field.CalcEnergy()) * _KJ_PER_KCAL


def _heavy_shift(before: Chem.Mol, after: Chem.Mol) -> float:
    heavy = [atom.GetIdx() for atom in before.GetAtoms() if atom.GetAtomicNum() > 1]
    shift = after.GetConformer().GetPositions() - before.GetConformer().GetPositions()
    return float(np.sqrt((shift[heavy] ** 2).sum(axis=1).mean()))


def _distinct(mol: Chem.Mol, energies: dict[int, float]) -> Iterator[Conformer]:
    """Give each minimum once, the lowest first."""
    heavy = Chem.RemoveHs(mol)
    kept: list[int] = []
    lowest = min(energies.values())
    for number in sorted(energies, key=energies.__getitem__):
        energy = energies[number]
        near = (other for other in kept if energy - energies[other] < _SAME_KJ_MOL)
        if any(rdMolAlign.GetBestRMS(heavy, heavy, number, other) < _SAME_RMSD for other in near):
            continue
        kept.append(number)
        single = Chem.Mol(mol)
        single.RemoveAllConformers()
        single.AddConformer(mol.GetConformer(number), assignId=True)
        yield Conformer(mol=single, energy_kj_mol=energy - lowest, form=ring_form(single))
