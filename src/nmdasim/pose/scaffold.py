"""Start poses from the deposited blocker: its own place, and that of its relatives."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers, rdMolAlign
from rdkit.Chem.Scaffolds import MurckoScaffold
from rdkit.Geometry import Point3D

from nmdasim.errors import LigandError
from nmdasim.pose.free import free_conformers
from nmdasim.pose.relax import nm

_N_EMBEDDED, _SEED, _MAX_EMBEDDING_S = 12, 1, 20
# The core is tied to the deposited places this strongly while the rest relaxes in MMFF94.
_TETHER_KCAL_PER_A2 = 100.0
# Farther from the deposited places, on average, is another arrangement of aryl and ammonium.
_MAX_CORE_RMSD = 0.35
# Candidates differ by their heavy atoms, or by where a hydroxyl points.
_DISTINCT_RMSD, _OTHER_HYDROXYL = 0.4, 1.0
_HALOGENS = (9, 17, 35, 53)
_HYDROXYL_HYDROGEN = Chem.MolFromSmarts("[$([#1][OX2])]")


def on_reference(mol: Chem.Mol, reference: Chem.Mol) -> Chem.Mol | None:
    """Lay a molecule over the deposited one that it is, hydrogens added.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        With hydrogens and a conformer.
    reference : rdkit.Chem.Mol
        Heavy atoms of the deposited blocker with their coordinates.

    Returns
    -------
    placed : rdkit.Chem.Mol or None
        None where it is another molecule or another stereoisomer.
    """
    for places in _matches(mol, reference):
        placed = with_heavy_atoms(mol, places)
        if isomer(placed) == isomer(mol):
            return placed
    return None


def on_scaffold(mol: Chem.Mol, reference: Chem.Mol) -> list[Chem.Mol]:
    """Lay a relative of the deposited blocker over what the two have in common.

    Aryl ring, nitrogen and the carbon between them take their deposited places, with the
    substituents that both molecules carry there; where the handedness is the same, the aliphatic
    ring too. The rest is relaxed around them from many starts that have the stereochemistry: from
    embeddings around those atoms, and from every free conformer laid over them. A mirror image
    thus has its aliphatic ring mirrored, and its ammonium and aryl ring stay.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        With hydrogens.
    reference : rdkit.Chem.Mol
        Heavy atoms of the deposited blocker with their coordinates.

    Returns
    -------
    placed : list of rdkit.Chem.Mol
        Distinct candidates, the least energy of shape and of tether first; empty where the
        molecule lacks the scaffold.

    Notes
    -----
    Embeddings alone find few chairs, above all of a mirror image: distance geometry likes a boat
    where the places of some atoms are given.
    """
    mapped = _mapped(mol, reference)
    if not mapped:
        return []
    places = reference.GetConformer().GetPositions()
    anchors = _anchors(reference, mapped)
    # The other chair of the same enantiomer is a candidate, too, hence both in turn.
    rounds = [mapped, anchors] if _same_hand(mol, reference, mapped) else [anchors]
    candidates: list[tuple[float, Chem.Mol]] = []
    for anchored in rounds:
        targets = {ours: places[theirs] for ours, theirs in anchored.items()}
        for energy, placed in _laid_over(mol, targets):
            off = rmsd(placed.GetConformer().GetPositions()[list(targets)], [*targets.values()])
            if off < _MAX_CORE_RMSD and isomer(placed) == isomer(mol):
                candidates.append((energy, placed))
    candidates.sort(key=lambda pair: pair[0])
    distinct: list[Chem.Mol] = []
    for _, placed in candidates:
        if all(_differ(placed, other) for other in distinct):
            distinct.append(placed)
    return distinct


def with_heavy_atoms(mol: Chem.Mol, places: dict[int, NDArray[np.float64]]) -> Chem.Mol:
    """Fix the heavy atoms at given places, Angstrom, and turn the hydrogens to where they fit."""
    placed = Chem.Mol(mol)
    conformer = placed.GetConformer()
    for index, place in places.items():
        conformer.SetAtomPosition(index, Point3D(*map(float, place)))
    for atom in placed.GetAtoms():
        if atom.GetAtomicNum() == 1:
            Chem.SetTerminalAtomCoords(placed, atom.GetIdx(), atom.GetNeighbors()[0].GetIdx())
    field = _field(placed)
    for index in places:
        field.AddFixedPoint(index)
    field.Minimize(maxIts=1000)
    return placed


def heavy_places(mol: Chem.Mol, other: Chem.Mol) -> dict[int, NDArray[np.float64]] | None:
    """Give the heavy atoms of `mol` the places of the same molecule in another charge state."""
    places = next(_matches(mol, other), None)
    if places is None:
        return None
    # Of the ways to lay it over, one shows the stereochemistry of the molecule.
    for candidate in _matches(mol, other):
        if isomer(with_heavy_atoms(mol, candidate)) == isomer(mol):
            return candidate
    return None


def isomer(mol: Chem.Mol) -> str:
    """Read the stereochemistry from the coordinates."""
    copy = Chem.Mol(mol)
    Chem.AssignStereochemistryFrom3D(copy)
    return Chem.MolToSmiles(Chem.RemoveHs(copy))


def heavy_rmsd(mol: Chem.Mol, other: Chem.Mol) -> float:
    """Compare two placements of one molecule without moving them, Angstrom."""
    heavy = heavy_atoms(mol)
    return rmsd(10 * nm(mol)[heavy], 10 * nm(other)[heavy])


def rmsd(points: NDArray[np.float64], others: Any) -> float:  # noqa: ANN401
    """Root mean square distance of paired points, in their unit."""
    return float(np.sqrt(((points - np.asarray(others)) ** 2).sum(axis=1).mean()))


def _differ(mol: Chem.Mol, other: Chem.Mol) -> bool:
    if heavy_rmsd(mol, other) > _DISTINCT_RMSD:
        return True
    hydroxyls = [h for (h,) in mol.GetSubstructMatches(_HYDROXYL_HYDROGEN)]
    return any(10 * np.linalg.norm((nm(mol) - nm(other))[hydroxyls], axis=1) > _OTHER_HYDROXYL)


def heavy_atoms(mol: Chem.Mol) -> list[int]:
    """List the atoms that are no hydrogens."""
    return [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]


def _matches(mol: Chem.Mol, reference: Chem.Mol) -> Iterator[dict[int, NDArray[np.float64]]]:
    """Yield positions in Angstrom of the heavy atoms of `mol` for each way to lay it over."""
    ours, theirs = skeleton(mol), skeleton(reference)
    if ours.GetNumAtoms() != theirs.GetNumAtoms() or ours.GetNumBonds() != theirs.GetNumBonds():
        return
    heavy = heavy_atoms(mol)
    places = reference.GetConformer().GetPositions()[heavy_atoms(reference)]
    for match in theirs.GetSubstructMatches(ours, uniquify=False):
        yield {index: places[other] for index, other in zip(heavy, match, strict=True)}


def skeleton(mol: Chem.Mol) -> Chem.Mol:
    """Strip a molecule to elements and bonds, so that charge and bond orders do not matter."""
    bare = Chem.RWMol()
    index = {i: bare.AddAtom(Chem.Atom(mol.GetAtomWithIdx(i).GetAtomicNum()))
             for i in heavy_atoms(mol)}  # fmt: skip
    for bond in mol.GetBonds():
        begin, end = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if begin in index and end in index:
            bare.AddBond(index[begin], index[end], Chem.BondType.SINGLE)
    return bare.GetMol()


def _mapped(mol: Chem.Mol, reference: Chem.Mol) -> dict[int, int]:
    """Map atoms of `mol` to those of the reference; empty where it lacks the scaffold.

    The scaffold is the reference's rings with what is doubly bonded to them, and its nitrogens.
    Of its matches the one that shares most further substituents is taken.
    """
    core = _core(reference)
    query = _query(reference, core)
    best: dict[int, int] = {}
    for match in mol.GetSubstructMatches(query, uniquify=False):
        mapped = dict(zip(match, core, strict=True))
        mapped |= _shared_substituents(mol, reference, mapped)
        best = max(best, mapped, key=len)
    return best


def _anchors(reference: Chem.Mol, mapped: dict[int, int]) -> dict[int, int]:
    """Keep aryl ring, nitrogen, the carbon that joins them, and what both molecules carry."""
    core = _core(reference)
    aryl = {a.GetIdx() for a in reference.GetAtoms() if a.GetIsAromatic()}
    nitrogen = {a.GetIdx() for a in reference.GetAtoms() if a.GetAtomicNum() == 7}
    kept = aryl | nitrogen | {_joint(reference)} | (set(mapped.values()) - set(core))
    return {ours: theirs for ours, theirs in mapped.items() if theirs in kept}


def _joint(reference: Chem.Mol) -> int:
    """Find the carbon that carries both the aryl ring and the nitrogen."""
    for atom in reference.GetAtoms():
        beside = list(atom.GetNeighbors())
        if any(n.GetAtomicNum() == 7 for n in beside) and any(n.GetIsAromatic() for n in beside):
            return atom.GetIdx()
    return -1


def _same_hand(mol: Chem.Mol, reference: Chem.Mol, mapped: dict[int, int]) -> bool:
    """Tell whether the joint has the handedness of the deposited one."""
    ours = {theirs: index for index, theirs in mapped.items()}
    beside = [n.GetIdx() for n in reference.GetAtomWithIdx(_joint(reference)).GetNeighbors()][:3]
    volumes = []
    for shown, centre, corners in (
        (reference, _joint(reference), beside),
        (mol, ours[_joint(reference)], [ours[i] for i in beside]),
    ):
        at = shown.GetConformer().GetPositions()
        volumes.append(np.linalg.det(at[corners] - at[centre]))
    return bool(np.prod(volumes) > 0)


def _core(reference: Chem.Mol) -> list[int]:
    framework = MurckoScaffold.GetScaffoldForMol(reference)
    core = set(reference.GetSubstructMatch(framework))
    beside = (n for i in core for n in reference.GetAtomWithIdx(i).GetNeighbors())
    return sorted(core | {n.GetIdx() for n in beside if n.GetAtomicNum() == 7})


def _query(reference: Chem.Mol, core: list[int]) -> Chem.Mol:
    """Ask for elements and aromaticity; single bonds of the core may be double in `mol`."""
    query = Chem.RWMol()
    for index in core:
        atom = reference.GetAtomWithIdx(index)
        kind = "a" if atom.GetIsAromatic() else "A"
        query.AddAtom(Chem.AtomFromSmarts(f"[#{atom.GetAtomicNum()};{kind}]"))
    for bond in reference.GetBonds():
        ends = (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
        if set(ends) <= set(core):
            first, second = map(core.index, ends)
            query.AddBond(first, second, Chem.BondType.SINGLE)
            exact = bond.GetBondType() == Chem.BondType.DOUBLE and not bond.GetIsAromatic()
            pattern = Chem.BondFromSmarts("=" if exact else "~")
            query.ReplaceBond(query.GetNumBonds() - 1, pattern)
    return query.GetMol()


def _shared_substituents(
    mol: Chem.Mol, reference: Chem.Mol, mapped: dict[int, int]
) -> dict[int, int]:
    """Map heavy atoms beside the core that both molecules carry; one halogen is like another."""
    shared: dict[int, int] = {}
    for ours, theirs in mapped.items():
        free = [
            n for n in reference.GetAtomWithIdx(theirs).GetNeighbors()
            if n.GetIdx() not in mapped.values()
        ]  # fmt: skip
        for neighbour in mol.GetAtomWithIdx(ours).GetNeighbors():
            if neighbour.GetIdx() in mapped or not free:
                continue
            if _kind(neighbour) == _kind(free[0]):
                shared[neighbour.GetIdx()] = free.pop(0).GetIdx()
    return shared


def _kind(atom: Chem.Atom) -> int:
    number = atom.GetAtomicNum()
    return _HALOGENS[0] if number in _HALOGENS else number


def _laid_over(
    mol: Chem.Mol, targets: dict[int, NDArray[np.float64]]
) -> Iterator[tuple[float, Chem.Mol]]:
    """Lay many starts over where some atoms should be, relax the rest; energies to rank them."""
    probe = Chem.Mol(mol)
    for index, at in targets.items():
        probe.GetConformer().SetAtomPosition(index, Point3D(*map(float, at)))
    pairs = [(index, index) for index in targets]
    for start in itertools.chain(_embedded_around(mol, targets), _free(mol)):
        placed = Chem.Mol(mol)
        placed.GetConformer().SetPositions(start)
        rdMolAlign.AlignMol(placed, probe, atomMap=pairs)
        field = _field(placed)
        for index, at in targets.items():
            anchor = field.AddExtraPoint(*map(float, at), True) - 1
            field.AddDistanceConstraint(anchor, index, 0, 0, _TETHER_KCAL_PER_A2)
        field.Initialize()
        field.Minimize(maxIts=1000)
        yield field.CalcEnergy(), placed


def _embedded_around(
    mol: Chem.Mol, targets: dict[int, NDArray[np.float64]]
) -> Iterator[NDArray[np.float64]]:
    """Yield structures in which some atoms have the distances that they should have."""
    parameters: Any = rdDistGeom.ETKDGv3()
    parameters.randomSeed = _SEED
    parameters.timeout = _MAX_EMBEDDING_S
    parameters.SetCoordMap({index: Point3D(*map(float, at)) for index, at in targets.items()})
    many = Chem.Mol(mol)
    for number in rdDistGeom.EmbedMultipleConfs(many, _N_EMBEDDED, parameters):
        yield many.GetConformer(number).GetPositions()


def _free(mol: Chem.Mol) -> Iterator[NDArray[np.float64]]:
    """Yield the free conformers; none where no force field ranks them, which no pose needs."""
    try:
        found = free_conformers(mol)
    except LigandError:
        return
    for conformer in found:
        yield conformer.mol.GetConformer().GetPositions()


def _field(mol: Chem.Mol) -> Any:  # noqa: ANN401
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
    if properties is None:
        return rdForceFieldHelpers.UFFGetMoleculeForceField(mol)
    return rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
