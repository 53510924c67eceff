"""Build what the deposited model lacks: gaps, caps and side chains."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from openmm.app import Topology
from openmm.app.topology import Residue as TopologyResidue
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
from scipy.optimize import least_squares
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from nmdasim.errors import ReceptorError
from nmdasim.receptor.entry import Chain, Residue
from nmdasim.receptor.quality import dihedral_angle
from nmdasim.subunits import ONE_LETTER

# No bond can turn between an atom and others that are at most this many bonds away, apart from
# the bond that places it.
_RIGID_BONDS = 3
# Residues on either side of a gap that fix the two-fold operation.
_AROUND = 20
_BACKBONE = ("N", "CA", "C")
# Ideal peptide geometry, Angstrom and degrees: R. A. Engh and R. Huber, Acta Cryst. A 47,
# 392 (1991), doi:10.1107/S0108767391001071.
_C_N, _CA_C, _N_CA, _C_O = 1.329, 1.525, 1.458, 1.231
_CA_C_N, _C_N_CA, _CA_C_O = 116.2, 121.7, 120.8
# Distances of a trans peptide that follow from these, and of CB, Angstrom: first atom, second
# atom, residues between them, distance.
_PEPTIDE = (
    ("N", "CA", 0, _N_CA), ("CA", "C", 0, _CA_C), ("C", "O", 0, _C_O), ("C", "N", 1, _C_N),
    ("N", "C", 0, 2.46), ("CA", "O", 0, 2.40), ("CA", "N", 1, 2.43), ("O", "N", 1, 2.25),
    ("C", "CA", 1, 2.44), ("CA", "CA", 1, 3.80), ("O", "CA", 1, 2.78),
    ("CA", "CB", 0, 1.53), ("N", "CB", 0, 2.45), ("C", "CB", 0, 2.50),
)  # fmt: skip
_MAIN_CHAIN = ("N", "CA", "C", "O", "CB")
# Triple product of the bonds from CA to N, C and CB in an L-amino acid, cubic Angstrom.
_L_VOLUME = 2.57
# How far a copied backbone stays from atoms that are not its neighbours; CB needs room for
# what follows it.
_NEAR_ANGSTROM, _CLEAR, _CLEAR_CB = 8.0, 3.3, 4.2
# Backbone angles tried where the neighbour of a cap was not seen, degrees: helix to strand.
_CAP_PHI = tuple(range(-60, -161, -20))

# Atoms about which each side chain turns, IUPAC names.
_CHI = {
    "ARG": ["N CA CB CG", "CA CB CG CD", "CB CG CD NE", "CG CD NE CZ"],
    "ASN": ["N CA CB CG", "CA CB CG OD1"],
    "ASP": ["N CA CB CG", "CA CB CG OD1"],
    "CYS": ["N CA CB SG"],
    "GLN": ["N CA CB CG", "CA CB CG CD", "CB CG CD OE1"],
    "GLU": ["N CA CB CG", "CA CB CG CD", "CB CG CD OE1"],
    "HIS": ["N CA CB CG", "CA CB CG ND1"],
    "ILE": ["N CA CB CG1", "CA CB CG1 CD1"],
    "LEU": ["N CA CB CG", "CA CB CG CD1"],
    "LYS": ["N CA CB CG", "CA CB CG CD", "CB CG CD CE", "CG CD CE NZ"],
    "MET": ["N CA CB CG", "CA CB CG SD", "CB CG SD CE"],
    "PHE": ["N CA CB CG", "CA CB CG CD1"],
    "SER": ["N CA CB OG"],
    "THR": ["N CA CB OG1"],
    "TRP": ["N CA CB CG", "CA CB CG CD1"],
    "TYR": ["N CA CB CG", "CA CB CG CD1"],
    "VAL": ["N CA CB CG1"],
}
# Between two sp3 atoms the staggered positions and 20 degrees to either side; towards a flat
# group a full turn in steps.
_STAGGERED = tuple(
    base + shake for base in (-60.0, 180.0, 60.0) for shake in (-20.0, -10.0, 0.0, 10.0, 20.0)
)
_STAGGERED_LONG = (-60.0, 180.0, 60.0)
_TURN = tuple(np.arange(-180.0, 180.0, 30.0))
_FLAT_CHI = {("ASN", 1), ("ASP", 1), ("GLN", 2), ("GLU", 2), ("HIS", 1), ("PHE", 1), ("TRP", 1),
             ("TYR", 1)}  # fmt: skip

# Distances of closest approach of heavy atoms (half of the minimum of the pair potential), nm,
# rounded from the Lennard-Jones radii of ff14SB: J. A. Maier et al., J. Chem. Theory Comput. 11,
# 3696 (2015), doi:10.1021/acs.jctc.5b00255.
_CONTACT_RADIUS = {"C": 0.19, "N": 0.18, "O": 0.17, "S": 0.20, "Cl": 0.19}
_POLAR = {"N", "O"}
_POLAR_CONTACT = 0.28
_WELL_KJ, _CAP_KJ = 0.4, 40.0
_REACH_NM = 0.9
_MAX_SWEEPS, _N_ORDERS, _SEED = 10, 8, 1
# Side chains wait here until they are placed.
_FAR_NM = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A stretch that the deposited model lacks, closed from its two-fold partner."""

    chain: str
    """Chain that lacks it."""
    template: str
    """Chain it was copied from."""
    numbers: range
    """UniProt numbers."""
    bend_nm: float
    """How far the copy had to be bent at its worse end to meet the chain."""


def close_gaps(
    chain: Chain, partner: Chain, piece: range, atoms: NDArray[np.float64]
) -> tuple[dict[int, Residue], tuple[Gap, ...]]:
    """Close the gaps of one piece with residues of the two-fold related chain.

    Parameters
    ----------
    chain, partner : Chain
        The incomplete chain and the other copy of the same subunit.
    piece : range
        UniProt numbers that must be there in the end.
    atoms : ndarray of float64, shape (n_atoms, 3), Angstrom
        Every atom of the entry; copies keep clear of those that are not their neighbours.

    Returns
    -------
    residues : dict of int to Residue
        All residues of the piece; copied ones end at CB.
    gaps : tuple of Gap
        What was copied.

    Raises
    ------
    ReceptorError
        If the partner lacks the same residues.
    """
    residues = {number: chain.residues[number] for number in piece if number in chain.residues}
    gaps = []
    for numbers in _runs([number for number in piece if number not in residues]):
        if not all(number in partner.residues for number in numbers):
            raise ReceptorError(
                f"residues {numbers[0]}-{numbers[-1]} are missing in both {chain.letter} and "
                f"{partner.letter}: no two-fold copy to rebuild them from; use another entry"
            )
        copies, bend = _lay_on(chain, partner, numbers)
        residues |= copies
        ends = [residues[numbers[0] - 1], residues[numbers.stop]]
        own = np.array([place for end in ends for place in end.atoms.values()])
        others = atoms[cdist(atoms, own).min(axis=1) > 0.01]
        residues |= _regularise(residues, numbers, others)
        gaps.append(
            Gap(
                chain=chain.letter,
                template=partner.letter,
                numbers=numbers,
                bend_nm=bend / 10,
            )
        )
    return dict(sorted(residues.items())), tuple(gaps)


def cap_before(first: Residue, previous: Residue | None, obstacles: NDArray[np.float64]) -> Residue:
    """Build the acetyl group (ACE) in front of a piece.

    Parameters
    ----------
    first : Residue
        First residue of the piece.
    previous : Residue or None
        The residue before it where it was seen; its backbone becomes the cap.
    obstacles : ndarray of float64, shape (n_obstacles, 3), Angstrom
        Atoms to keep clear of where the cap must be built.

    Returns
    -------
    cap : Residue
    """
    if previous is not None:
        atoms = {"CH3": previous.atoms["CA"], "C": previous.atoms["C"], "O": previous.atoms["O"]}
    else:
        trials = [_acetyl(first, phi) for phi in _CAP_PHI]
        distances = [
            cdist([t["CH3"], t["C"], t["O"]], obstacles).min(initial=np.inf) for t in trials
        ]
        atoms = trials[int(np.argmax(distances))]
    return Residue(number=first.number - 1, name="ACE", atoms=atoms)


def _acetyl(first: Residue, phi: float) -> dict[str, NDArray[np.float64]]:
    n, ca, c = (first.atoms[name] for name in _BACKBONE)
    carbon = place_atom(c, ca, n, _C_N, _C_N_CA, phi)
    return {
        "CH3": place_atom(ca, n, carbon, _CA_C, _CA_C_N, 180.0),
        "C": carbon,
        "O": place_atom(ca, n, carbon, _C_O, 360.0 - _CA_C_N - _CA_C_O, 0.0),
    }


def cap_after(last: Residue, following: Residue | None) -> Residue:
    """Build the N-methyl amide (NME) behind a piece.

    Parameters
    ----------
    last : Residue
        Last residue of the piece.
    following : Residue or None
        The residue after it where it was seen; its backbone becomes the cap.

    Returns
    -------
    cap : Residue
    """
    if following is not None:
        atoms = {"N": following.atoms["N"], "C": following.atoms["CA"]}
    else:
        ca, c, o = (last.atoms[name] for name in ("CA", "C", "O"))
        nitrogen = place_atom(o, ca, c, _C_N, _CA_C_N, 180.0)
        atoms = {"N": nitrogen, "C": place_atom(ca, c, nitrogen, _N_CA, _C_N_CA, 180.0)}
    return Residue(number=last.number + 1, name="NME", atoms=atoms)


def complete_side_chain(residue: Residue) -> Residue:
    """Add the heavy atoms that a residue lacks.

    Parameters
    ----------
    residue : Residue
        With a whole backbone.

    Returns
    -------
    complete : Residue
        Observed atoms where they were; the others from an ideal residue laid on three or four
        observed atoms that are near them by bonds.
    """
    template, bonds = _ideal_residue(residue.name)
    missing = [name for name in template if name not in residue.atoms]
    if not missing:
        return residue
    reference = list(template).index(missing[0])
    names = list(template)
    # Atoms beyond the next bond that turns lie elsewhere in the ideal residue, O always.
    shared = [name for name in names if name in residue.atoms and name != "O"]
    away = {name: bonds[reference, names.index(name)] for name in shared}
    nearest = sorted(shared, key=lambda name: away[name])
    anchors = nearest[:3] + [name for name in nearest[3:4] if away[name] <= _RIGID_BONDS]
    target = np.array([residue.atoms[name] for name in anchors])
    mobile = np.array([template[name] for name in anchors])
    rotation, _ = Rotation.align_vectors(target - target.mean(axis=0), mobile - mobile.mean(axis=0))
    added = {
        name: rotation.apply(template[name] - mobile.mean(axis=0)) + target.mean(axis=0)
        for name in missing
    }
    return replace(residue, atoms={**residue.atoms, **added})


@cache
def _ideal_residue(name: str) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64]]:
    """Build one L-amino acid: heavy atoms in Angstrom, and bonds between each two of them."""
    mol = Chem.AddHs(Chem.MolFromSequence(ONE_LETTER[name]))
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    rdForceFieldHelpers.MMFFOptimizeMolecule(mol)
    mol = Chem.RemoveHs(mol)
    names = [atom.GetPDBResidueInfo().GetName().strip() for atom in mol.GetAtoms()]
    places = mol.GetConformer().GetPositions()
    if name == "ILE":  # RDKit gives the ethyl branch the name of the methyl branch.
        swap = {"CG1": "CG2", "CG2": "CG1"}
        names = [swap.get(n, n) for n in names]
    atoms = {n: place for n, place in zip(names, places, strict=True) if n != "OXT"}
    keep = [index for index, n in enumerate(names) if n != "OXT"]
    return atoms, Chem.GetDistanceMatrix(mol)[np.ix_(keep, keep)]


def place_atom(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    c: NDArray[np.float64],
    length: float,
    angle: float,
    dihedral: float,
) -> NDArray[np.float64]:
    """Place an atom by its distance to c, its angle with b-c and its dihedral a-b-c.

    Parameters
    ----------
    a, b, c : ndarray of float64, shape (3,)
    length : float
        In the unit of the positions.
    angle, dihedral : float
        Degrees. When `a` and `b` both bind `c`, the dihedral is an improper one.

    Returns
    -------
    position : ndarray of float64, shape (3,)
    """
    theta, phi = np.radians([angle, dihedral])
    axis = (c - b) / np.linalg.norm(c - b)
    normal = np.cross(b - a, axis)
    normal /= np.linalg.norm(normal)
    local = np.array([-np.cos(theta), np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi)])
    return c + length * local @ np.array([axis, np.cross(normal, axis), normal])


def choose_rotamers(
    topology: Topology,
    positions: NDArray[np.float64],
    rebuilt: Mapping[int, frozenset[str]],
    obstacles: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Turn rebuilt side chains until they fit.

    Each side chain takes the staggered conformation of lowest steric energy against
    everything else, one after another, until none changes; of several random orders the one
    with the lowest energy is kept.

    Parameters
    ----------
    topology : openmm.app.Topology
        Heavy atoms only.
    positions : ndarray of float64, shape (n_atoms, 3), nm
    rebuilt : mapping of int to frozenset of str
        Residue index to the names of its atoms that were not observed. Only dihedral angles
        that move nothing but such atoms are turned.
    obstacles : ndarray of float64, shape (n_obstacles, 3), nm
        Atoms of the bound blocker, treated as carbon, that side chains must not fill.

    Returns
    -------
    positions : ndarray of float64, shape (n_atoms, 3), nm

    Notes
    -----
    The energy is a 12-6 potential of the heavy atoms with a cap, so that a side chain can pass
    through another on its way; it knows no electrostatics. Minimisation follows.
    """
    residues = list(topology.residues())
    sides = [_side_chain(residues[index], missing, positions) for index, missing in rebuilt.items()]
    sides = [side for side in sides if len(side.moving)]
    elements = [atom.element.symbol for atom in topology.atoms()] + ["C"] * len(obstacles)
    start = np.vstack([positions, obstacles.reshape(-1, 3)])
    random = np.random.default_rng(_SEED)
    best, lowest = start, np.inf
    for _ in range(_N_ORDERS):
        space = _Space(
            positions=start.copy(),
            radii=np.array([_CONTACT_RADIUS[element] for element in elements]),
            polar=np.array([element in _POLAR for element in elements]),
        )
        energy = _pack([sides[index] for index in random.permutation(len(sides))], space)
        if energy < lowest:
            best, lowest = space.positions, energy
    return best[: len(positions)]


def _pack(sides: Sequence["_SideChain"], space: "_Space") -> float:
    """Place side chains one after another, then improve each until none changes."""
    shapes = [space.positions[side.moving].copy() for side in sides]
    for side in sides:
        space.positions[side.moving] += _FAR_NM
    for side, shape in zip(sides, shapes, strict=True):
        space.positions[side.moving] = shape
        _improve(side, space)
    for _ in range(_MAX_SWEEPS):
        if not any([_improve(side, space) for side in sides]):  # noqa: C419 - improve them all
            break
    return sum(
        float(_steric_energy(space.positions[side.moving][None], side, space)[0]) for side in sides
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Space:
    """All atoms that side chains see; `positions` is updated in place as they turn."""

    positions: NDArray[np.float64]
    radii: NDArray[np.float64]
    polar: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _SideChain:
    """One side chain that may turn, as atom indices."""

    moving: NDArray[np.intp]
    """Atoms behind the first angle that may turn."""
    conformers: NDArray[np.float64]
    """Positions of the moving atoms to try, shape (n_conformers, n_moving, 3), nm."""
    own: NDArray[np.intp]
    """Atoms of the residue that its moving atoms do not feel."""


def _side_chain(
    residue: TopologyResidue, missing: frozenset[str], positions: NDArray[np.float64]
) -> _SideChain:
    index = {atom.name: atom.index for atom in residue.atoms()}
    chis = [
        (number, chi.split())
        for number, chi in enumerate(_CHI.get(residue.name, []))
        if chi.split()[3] in missing
    ]
    dihedrals = [[index[name] for name in chi] for _, chi in chis]
    behind = [
        np.array([atom for name, atom in index.items() if _depth(name) > _depth(chi[2])])
        for _, chi in chis
    ]
    angles = [_angles(residue.name, number, len(chis)) for number, _ in chis]
    conformers = [
        _turned(dihedrals, behind, positions, choice) for choice in itertools.product(*angles)
    ]
    # The carbonyl oxygen is four bonds from the first atom that turns, so it is felt; N, C and
    # CB are nearer.
    return _SideChain(
        moving=behind[0] if behind else np.array([], dtype=int),
        conformers=np.array(conformers),
        own=np.array([atom for name, atom in index.items() if name != "O"]),
    )


def _angles(name: str, number: int, n_chis: int) -> tuple[float, ...]:
    if (name, number) in _FLAT_CHI:
        return _TURN
    return _STAGGERED if n_chis <= 2 else _STAGGERED_LONG


def _depth(name: str) -> int:
    """Tell how far along the side chain an atom lies: CA 0, CB 1, CG 2; backbone 0."""
    return max("ABGDEZH".find(name[1:2]), 0) if len(name) > 1 else 0


def _improve(side: _SideChain, space: _Space) -> bool:
    """Put one side chain into its best conformation; say whether that changed it."""
    candidates = np.concatenate([space.positions[side.moving][None], side.conformers])
    energies = _steric_energy(candidates, side, space)
    best = int(np.argmin(energies))
    # A new conformation must be clearly better, or two equal ones would alternate.
    if energies[best] > energies[0] - 0.1:
        return False
    space.positions[side.moving] = candidates[best]
    return True


def _turned(
    dihedrals: Sequence[Sequence[int]],
    behind: Sequence[NDArray[np.intp]],
    positions: NDArray[np.float64],
    angles: Sequence[float],
) -> NDArray[np.float64]:
    """Set the dihedral angles in turn; give the atoms behind the first one."""
    if not dihedrals:
        return np.empty((0, 3))
    atoms = sorted({int(atom) for atom in np.concatenate([*behind, *dihedrals])})
    row = {atom: number for number, atom in enumerate(atoms)}
    local = positions[atoms].copy()
    for dihedral, moving, angle in zip(dihedrals, behind, angles, strict=True):
        a, b, c, d = (local[row[atom]] for atom in dihedral)
        turn = np.radians(angle - dihedral_angle(a, b, c, d))
        rotation = Rotation.from_rotvec(turn * (c - b) / np.linalg.norm(c - b))
        rows = [row[atom] for atom in moving]
        local[rows] = rotation.apply(local[rows] - c) + c
    return local[[row[atom] for atom in behind[0]]]


def _steric_energy(
    candidates: NDArray[np.float64], side: _SideChain, space: _Space
) -> NDArray[np.float64]:
    """Give the energy of each candidate, shape (n_candidates,), kJ/mol."""
    moving = side.moving
    centre = candidates.mean(axis=(0, 1))
    reach = np.linalg.norm(candidates - centre, axis=-1).max() + _REACH_NM
    near = np.flatnonzero(np.linalg.norm(space.positions - centre, axis=1) < reach)
    near = near[~np.isin(near, side.own)]
    contact = space.radii[moving][:, None] + space.radii[near]
    contact[np.outer(space.polar[moving], space.polar[near])] = _POLAR_CONTACT
    distance = np.linalg.norm(candidates[:, :, None] - space.positions[near], axis=-1)
    sixth = (contact / np.maximum(distance, 0.1)) ** 6
    return np.minimum(_WELL_KJ * (sixth**2 - 2 * sixth), _CAP_KJ).sum(axis=(1, 2))


def _runs(numbers: Sequence[int]) -> list[range]:
    """Split sorted numbers into runs of consecutive ones."""
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return [range(start, end + 1) for start, end in zip(starts, ends, strict=True)]


def _lay_on(chain: Chain, partner: Chain, numbers: range) -> tuple[dict[int, Residue], float]:
    """Carry residues over by the two-fold axis and bend them to meet both ends of the gap.

    The two copies differ where the loop begins and ends. The offset at each end is spread
    linearly over the loop, so that neither junction is torn.
    """
    common = [number for number in chain.residues if number in partner.residues]
    near = [n for n in common if numbers[0] - _AROUND <= n < numbers.stop + _AROUND]
    target, mobile = _backbone_of(chain, near), _backbone_of(partner, near)
    goal, middle = target.mean(axis=0), mobile.mean(axis=0)
    rotation, _ = Rotation.align_vectors(target - goal, mobile - middle)

    def carried(place: NDArray[np.float64]) -> NDArray[np.float64]:
        return rotation.apply(place - middle) + goal

    ends = [numbers[0] - 1, numbers.stop]
    offsets = [
        (_backbone_of(chain, [end]) - carried(_backbone_of(partner, [end]))).mean(axis=0)
        for end in ends
    ]
    copies = {}
    for step, number in enumerate(numbers, start=1):
        share = step / (len(numbers) + 1)
        offset = (1 - share) * offsets[0] + share * offsets[1]
        template = partner.residues[number]
        copies[number] = Residue(
            number=number,
            name=template.name,
            atoms={name: carried(place) + offset for name, place in template.atoms.items()},
        )
    return copies, float(max(np.linalg.norm(offset) for offset in offsets))


def _regularise(
    residues: dict[int, Residue], numbers: range, obstacles: NDArray[np.float64]
) -> dict[int, Residue]:
    """Give a bent stretch ideal peptide geometry between its fixed neighbours.

    Only distances are asked for: bonds, angles and trans peptides are distances between atoms
    up to three bonds apart. What lies beyond CB is dropped, to be rebuilt.
    """
    slots = [(n, name) for n in numbers for name in _MAIN_CHAIN if name in residues[n].atoms]
    fixed = [(n, name) for n in (numbers[0] - 1, numbers.stop) for name in residues[n].atoms]
    row = {slot: index for index, slot in enumerate([*slots, *fixed])}
    start = np.array([residues[n].atoms[name] for n, name in slots])
    ends = np.array([residues[n].atoms[name] for n, name in fixed])
    pairs = [
        (row[n, first], row[n + step, second], length)
        for n in range(numbers[0] - 1, numbers.stop)
        for first, second, step, length in _PEPTIDE
        if first in residues[n].atoms and second in residues[n + step].atoms
    ]
    pairs = [pair for pair in pairs if min(pair[:2]) < len(slots)]
    one, other = np.array([pair[:2] for pair in pairs]).T
    lengths = np.array([pair[2] for pair in pairs])
    centres = np.array(
        [[row[n, name] for name in ("CA", "N", "C", "CB")] for n in numbers if (n, "CB") in row]
    ).reshape(-1, 4)
    near = obstacles[cdist(obstacles, start).min(axis=1) < _NEAR_ANGSTROM]
    clear = np.array([_CLEAR_CB if name == "CB" else _CLEAR for _, name in slots])

    def misfit(flat: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = flat.reshape(-1, 3)
        places = np.vstack([moved, ends])
        bonded = np.linalg.norm(places[one] - places[other], axis=1) - lengths
        overlap = 3 * np.maximum(clear[:, None] - cdist(moved, near), 0).ravel()
        handed = _volumes(places[centres]) - _L_VOLUME
        drift = 0.02 * (flat - start.ravel())
        return np.concatenate([10 * bonded, overlap, handed, drift])

    places = least_squares(misfit, start.ravel()).x.reshape(-1, 3)
    return {
        n: replace(
            residues[n],
            atoms={name: places[row[n, name]] for name in _MAIN_CHAIN if (n, name) in row},
        )
        for n in numbers
    }


def _volumes(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the signed volume at each centre, (n, 4, 3) with the centre first, shape (n,)."""
    a, b, c = (places[:, index] - places[:, 0] for index in (1, 2, 3))
    return (np.cross(a, b) * c).sum(axis=1)


def _backbone_of(chain: Chain, numbers: Sequence[int]) -> NDArray[np.float64]:
    return np.array([chain.residues[n].atoms[name] for n in numbers for name in _BACKBONE])
