"""Quality of a prepared receptor: clashes, backbone, chirality, shift from the deposited model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from openmm.app import Topology
from openmm.app.topology import Atom
from scipy.spatial import cKDTree

from nmdasim.errors import Check
from nmdasim.receptor.model import CAP, OBSERVED, REBUILT, ReceptorResidue

# Van der Waals radii and the overlap that counts as a clash, nm: J. M. Word et al.,
# J. Mol. Biol. 285, 1711 (1999), doi:10.1006/jmbi.1998.2400; halogens, which that work lacks:
# A. Bondi, J. Phys. Chem. 68, 441 (1964), doi:10.1021/j100785a001.
_RADII = {"C": 0.175, "N": 0.155, "O": 0.140, "S": 0.180, "P": 0.180, "H": 0.117}
_RADII |= {"F": 0.147, "Cl": 0.175, "Br": 0.185, "I": 0.198}
_POLAR_HYDROGEN = 0.100
#: From this overlap on two atoms clash, nm; two that share a hydrogen bond may overlap by as
#: much again.
CLASH_OVERLAP_NM, HYDROGEN_BOND_ALLOWANCE_NM = 0.04, 0.04
_HYDROGEN_BOND_ELEMENTS = ("N", "O", "S")
# Limits of the checks. The clash limit is about the median of deposited cryo-EM models between
# 3 and 4 Angstrom; the shift is the contract of the receptors that ship.
_MAX_CLASHES_PER_1000 = 20.0
_MAX_CA_SHIFT_ANGSTROM = 0.5
_CIS_DEGREES, _TWISTED_DEGREES = 30.0, 30.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spheres:
    """Van der Waals spheres of atoms, and which of them can share a hydrogen bond."""

    radii: NDArray[np.float64]
    """Radius of each atom, shape (n_atoms,), nm."""
    gives: NDArray[np.bool_]
    """Polar hydrogens, shape (n_atoms,)."""
    takes: NDArray[np.bool_]
    """Atoms that a polar hydrogen may bind to, shape (n_atoms,)."""


def spheres(topology: Topology) -> Spheres:
    """Give the atoms of a topology their van der Waals spheres.

    Parameters
    ----------
    topology : openmm.app.Topology
        With hydrogens and bonds.

    Returns
    -------
    spheres : Spheres
        All carbons have the radius of an aliphatic one, all hydrogens at carbon that of an
        aliphatic one: the largest of their kind in [1]_. A metal ion has none, because what
        it touches coordinates it.

    References
    ----------
    .. [1] J. M. Word et al., J. Mol. Biol. 285, 1711 (1999), doi:10.1006/jmbi.1998.2400
    .. [2] A. Bondi, J. Phys. Chem. 68, 441 (1964), doi:10.1021/j100785a001
    """
    symbols = [atom.element.symbol for atom in topology.atoms()]
    takes = np.isin(symbols, _HYDROGEN_BOND_ELEMENTS)
    gives = np.zeros(len(symbols), dtype=bool)
    for first, second in topology.bonds():
        for one, other in ((first.index, second.index), (second.index, first.index)):
            gives[one] |= symbols[one] == "H" and takes[other]
    radii = np.array([_RADII.get(symbol, 0.0) for symbol in symbols])
    radii[gives] = _POLAR_HYDROGEN
    return Spheres(radii=radii, gives=gives, takes=takes)


def check_receptor(
    topology: Topology,
    positions: NDArray[np.float64],
    residues: Sequence[ReceptorResidue],
    deposited: Mapping[tuple[str, int], Mapping[str, NDArray[np.float64]]],
) -> tuple[Check, ...]:
    """Check a receptor after its preparation.

    Parameters
    ----------
    topology : openmm.app.Topology
        With hydrogens.
    positions : ndarray of float64, shape (n_atoms, 3), nm
        In the frame of `deposited`.
    residues : sequence of ReceptorResidue
        One for each residue of `topology`.
    deposited : mapping of (chain, number) to atom positions
        Atoms as deposited, shape (3,), nm.

    Returns
    -------
    checks : tuple of Check
    """
    return (
        _check_clashes(topology, positions),
        *_check_backbone(topology, positions, residues, deposited),
        _check_chirality(topology, positions),
        *_check_shift(topology, positions, residues, deposited),
    )


def clashes(topology: Topology, positions: NDArray[np.float64]) -> list[tuple[int, int, float]]:
    """Find pairs of atoms that overlap too much.

    Parameters
    ----------
    topology : openmm.app.Topology
        With hydrogens and bonds.
    positions : ndarray of float64, shape (n_atoms, 3), nm

    Returns
    -------
    pairs : list of (int, int, float)
        Atom indices and overlap in Angstrom, for pairs more than three bonds apart whose van
        der Waals spheres overlap by at least 0.4 Angstrom (0.8 where they can form a hydrogen
        bond) [1]_.

    References
    ----------
    .. [1] J. M. Word et al., J. Mol. Biol. 285, 1711 (1999), doi:10.1006/jmbi.1998.2400
    """
    bonded = _neighbours(topology)
    of = spheres(topology)
    found = []
    for i, j in cKDTree(positions).query_pairs(2 * of.radii.max()):
        overlap = of.radii[i] + of.radii[j] - np.linalg.norm(positions[i] - positions[j])
        if overlap < CLASH_OVERLAP_NM or j in _within_three_bonds(i, bonded):
            continue
        bridge = (of.gives[i] and of.takes[j]) or (of.gives[j] and of.takes[i])
        if overlap >= CLASH_OVERLAP_NM + HYDROGEN_BOND_ALLOWANCE_NM * bridge:
            found.append((i, j, 10 * float(overlap)))
    return found


def _check_clashes(topology: Topology, positions: NDArray[np.float64]) -> Check:
    found = clashes(topology, positions)
    score = 1000 * len(found) / len(positions)
    worst = max(found, key=lambda clash: clash[2], default=None)
    atoms = list(topology.atoms())
    detail = (
        f"worst: {_label(atoms[worst[0]])} to {_label(atoms[worst[1]])}, overlap {worst[2]:.2f} A"
        if worst
        else ""
    )
    return Check(
        name="clashes of all atoms (overlap of at least 0.4 A) per 1000 atoms",
        value=round(score, 2),
        limit=_MAX_CLASHES_PER_1000,
        passed=score <= _MAX_CLASHES_PER_1000,
        detail=detail,
    )


def _check_backbone(
    topology: Topology,
    positions: NDArray[np.float64],
    residues: Sequence[ReceptorResidue],
    deposited: Mapping[tuple[str, int], Mapping[str, NDArray[np.float64]]],
) -> tuple[Check, ...]:
    prepared = {
        (r.chain, r.number): {a.name: positions[a.index] for a in t.atoms()}
        for r, t in zip(residues, topology.residues(), strict=True)
        if r.status != CAP
    }
    names = {(r.chain, r.number): r.name for r in residues}
    now = [key for key, phi, psi in _backbone_angles(prepared) if _outlier(names[key], phi, psi)]
    before = {
        key
        for key, phi, psi in _backbone_angles(deposited)
        if key in names and _outlier(names[key], phi, psi)
    }
    rebuilt = {(r.chain, r.number) for r in residues if r.status == REBUILT}
    built = [(c, n) for c, n in now if {(c, n - 1), (c, n), (c, n + 1)} & rebuilt]
    seen = [key for key in now if key not in built]
    omegas = dict(_omegas(prepared))
    cis = [k for k, w in omegas.items() if abs(w) < _CIS_DEGREES and names[k] != "PRO"]
    twisted = [k for k, w in omegas.items() if _CIS_DEGREES <= abs(w) < 180 - _TWISTED_DEGREES]
    return (
        _count(
            "Ramachandran outliers (coarse regions) of observed residues, against the deposit",
            _keys(seen),
            limit=len(before),
        ),
        _count(
            "Ramachandran outliers (coarse regions) in and beside rebuilt stretches", _keys(built)
        ),
        _count("cis peptides other than before proline", _keys(cis)),
        _count("peptides twisted by more than 30 degrees", _keys(twisted)),
    )


def _check_chirality(topology: Topology, positions: NDArray[np.float64]) -> Check:
    wrong = []
    for residue in topology.residues():
        atoms = {atom.name: positions[atom.index] for atom in residue.atoms()}
        centres = [("CA", "N", "C", "CB")]
        centres += [("CB", "CA", "CG2", "OG1")] if residue.name == "THR" else []
        centres += [("CB", "CA", "CG2", "CG1")] if residue.name == "ILE" else []
        for centre, *around in centres:
            if not {centre, *around} <= atoms.keys():
                continue
            a, b, c = (atoms[name] - atoms[centre] for name in around)
            if np.dot(np.cross(a, b), c) * (1 if centre == "CA" else -1) <= 0:
                wrong.append(f"{residue.name} {residue.chain.id}{residue.id} {centre}")
    return _count("residues of wrong chirality", wrong)


def _count(name: str, found: Sequence[str], *, limit: int = 0) -> Check:
    """Hold how many were found against how many may be."""
    return Check(
        name=name,
        value=len(found),
        limit=limit,
        passed=len(found) <= limit,
        detail=", ".join(found),
    )


def _check_shift(
    topology: Topology,
    positions: NDArray[np.float64],
    residues: Sequence[ReceptorResidue],
    deposited: Mapping[tuple[str, int], Mapping[str, NDArray[np.float64]]],
) -> tuple[Check, ...]:
    shifts, labels = [], []
    for ours, theirs in zip(residues, topology.residues(), strict=True):
        if ours.status in (CAP, REBUILT):
            continue
        ca = next(atom.index for atom in theirs.atoms() if atom.name == "CA")
        place = deposited[ours.chain, ours.number]["CA"]
        shifts.append(10 * np.linalg.norm(positions[ca] - place))
        labels.append(f"{ours.subunit} {ours.name} {ours.chain}{ours.number}")
    n_observed = sum(r.status == OBSERVED for r in residues)
    n_all = sum(r.status != CAP for r in residues)
    return (
        Check(
            name="largest shift of an observed CA from the deposited model",
            value=round(float(max(shifts)), 3),
            limit=_MAX_CA_SHIFT_ANGSTROM,
            unit="A",
            passed=bool(max(shifts) <= _MAX_CA_SHIFT_ANGSTROM),
            detail=labels[int(np.argmax(shifts))],
        ),
        Check(
            name="share of residues with every heavy atom observed",
            value=round(n_observed / n_all, 3),
            limit=0.5,
            passed=n_observed / n_all >= 0.5,
            detail=f"{n_observed} of {n_all}",
        ),
    )


def _backbone_angles(
    residues: Mapping[tuple[str, int], Mapping[str, NDArray[np.float64]]],
) -> Iterator[tuple[tuple[str, int], float, float]]:
    for (chain, number), here in residues.items():
        before, after = residues.get((chain, number - 1)), residues.get((chain, number + 1))
        if before is None or after is None:
            continue
        phi = dihedral_angle(before["C"], here["N"], here["CA"], here["C"])
        psi = dihedral_angle(here["N"], here["CA"], here["C"], after["N"])
        yield (chain, number), phi, psi


def _omegas(
    residues: Mapping[tuple[str, int], Mapping[str, NDArray[np.float64]]],
) -> Iterator[tuple[tuple[str, int], float]]:
    for (chain, number), here in residues.items():
        before = residues.get((chain, number - 1))
        if before is not None:
            yield (chain, number), dihedral_angle(before["CA"], before["C"], here["N"], here["CA"])


def _outlier(name: str, phi: float, psi: float) -> bool:
    """Tell whether backbone angles lie outside coarse allowed regions.

    The regions are rectangles around those of Lovell et al., Proteins 50, 437 (2003),
    doi:10.1002/prot.10286, and wider than them: they find impossible backbones only.
    """
    if name == "GLY":
        return False
    if name == "PRO":
        return not -115 <= phi <= -35
    left_handed = 30 <= phi <= 90 and -30 <= psi <= 100
    right_side = -180 <= phi <= -35 and not -160 < psi < -90
    return not (left_handed or right_side)


def dihedral_angle(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    c: NDArray[np.float64],
    d: NDArray[np.float64],
) -> float:
    """Measure the dihedral angle of four points.

    Parameters
    ----------
    a, b, c, d : ndarray of float64, shape (3,)

    Returns
    -------
    angle : float
        Degrees, -180 to 180, IUPAC sign.
    """
    axis = (c - b) / np.linalg.norm(c - b)
    first, last = a - b, d - c
    first, last = first - (first @ axis) * axis, last - (last @ axis) * axis
    return float(np.degrees(np.arctan2(np.cross(axis, first) @ last, first @ last)))


def _neighbours(topology: Topology) -> list[set[int]]:
    bonded: list[set[int]] = [set() for _ in range(topology.getNumAtoms())]
    for a, b in topology.bonds():
        bonded[a.index].add(b.index)
        bonded[b.index].add(a.index)
    return bonded


def _within_three_bonds(start: int, bonded: list[set[int]]) -> set[int]:
    reached, edge = {start}, {start}
    for _ in range(3):
        edge = {n for atom in edge for n in bonded[atom]} - reached
        reached |= edge
    return reached


def _label(atom: Atom) -> str:
    residue = atom.residue
    return f"{residue.name} {residue.chain.id}{residue.id} {atom.name}"


def _keys(keys: Sequence[tuple[str, int]]) -> list[str]:
    return [f"{chain}{number}" for chain, number in keys]
