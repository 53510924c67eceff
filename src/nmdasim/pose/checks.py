"""Is a pose plausible? Clashes, shift, stereochemistry, geometry, strain."""

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdDistGeom
from scipy.spatial.distance import cdist

from nmdasim.errors import Check, LigandError
from nmdasim.ligand import Strain, strain
from nmdasim.pose.clashes import closest_heavy, worst_overlap
from nmdasim.pose.free import free_conformers
from nmdasim.pose.relax import ligand_topology, nm
from nmdasim.pose.scaffold import heavy_atoms, isomer
from nmdasim.receptor import Receptor
from nmdasim.receptor.quality import CLASH_OVERLAP_NM, spheres

_MAX_SHIFT_NM = 0.15
#: Our choice, a little more than a six-membered ring pays to turn from chair to boat.
MAX_STRAIN_KJ_MOL = 30.0
# Oxygens of a first shell stand 0.21 nm from magnesium; nearer than this is a clash for any ion.
_ION_CLASH_NM = 0.18
# Bounds of distance geometry and tolerances as PoseBusters has them, doi:10.1039/D3SC04185A.
_MAX_OFF_BOUNDS, _LEAST_OF_BOUND, _MAX_BEND_NM = 0.25, 0.70, 0.025


def check_pose(
    receptor: Receptor,
    *,
    start: Chem.Mol,
    relaxed: Chem.Mol,
    receptor_positions: NDArray[np.float64],
    shift_nm: float,
) -> tuple[Check, ...]:
    """Judge a relaxed pose.

    Parameters
    ----------
    receptor : Receptor
    start, relaxed : rdkit.Chem.Mol
        The ligand before and after relaxing, Angstrom.
    receptor_positions : ndarray of float64, shape (n_atoms, 3), nm
        The receptor after relaxing.
    shift_nm : float
        RMSD of the ligand's heavy atoms between the two.

    Returns
    -------
    checks : tuple of Check
    """
    checks = [
        _clash(receptor, start, relaxed, receptor_positions),
        Check(
            name="shift of the ligand from its start pose on relaxing (RMSD of heavy atoms)",
            value=round(shift_nm, 4),
            limit=_MAX_SHIFT_NM,
            unit="nm",
            passed=shift_nm <= _MAX_SHIFT_NM,
        ),
    ]
    if relaxed.GetNumAtoms() > 1:
        checks += [_stereo(start, relaxed), *geometry_checks(relaxed)]
    return tuple(checks)


def geometry_checks(mol: Chem.Mol) -> tuple[Check, ...]:
    """Hold bonds, angles, rings and contacts inside a molecule against what is usual.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        All atoms with one conformer, Angstrom.

    Returns
    -------
    checks : tuple of Check
        Off the bounds of distance geometry by at most a quarter for bonds and for angles (as
        1-3 distances), no other pair of heavy atoms nearer than 70 % of its lower bound, aromatic
        rings and double bonds flat to 0.025 nm.

    References
    ----------
    .. [1] M. Buttenschoen, G. M. Morris, C. M. Deane, Chem. Sci. 15, 3130 (2024),
       doi:10.1039/D3SC04185A
    """
    heavy = heavy_atoms(mol)
    bounds = rdDistGeom.GetMoleculeBoundsMatrix(mol)
    at = np.array(mol.GetConformer().GetPositions())
    apart = cdist(at, at)
    separation = Chem.GetDistanceMatrix(mol)
    off = {1: (0.0, ""), 2: (0.0, "")}
    near = (9.99, "")
    for i, j in itertools.combinations(heavy, 2):
        lower, upper = bounds[max(i, j), min(i, j)], bounds[min(i, j), max(i, j)]
        label = f"{_atom_name(mol, i)} {_atom_name(mol, j)}"
        steps = int(separation[i, j])
        if steps in off:
            excess = max(lower / apart[i, j], apart[i, j] / upper) - 1
            off[steps] = max(off[steps], (float(max(excess, 0)), label))
        else:
            near = min(near, (float(apart[i, j] / lower), label))
    bend, ring = max(_bends(mol, at), default=(0.0, ""))
    return (
        _off_check("bond lengths", *off[1]),
        _off_check("bond angles", *off[2]),
        Check(
            name="nearest unbonded atoms of the ligand, share of the usual least distance",
            value=round(near[0], 3),
            limit=_LEAST_OF_BOUND,
            passed=near[0] >= _LEAST_OF_BOUND,
            detail=near[1],
        ),
        Check(
            name="aromatic rings and double bonds of the ligand out of plane",
            value=round(bend, 4),
            limit=_MAX_BEND_NM,
            unit="nm",
            passed=bend <= _MAX_BEND_NM,
            detail=ring,
        ),
    )


def strain_check(mol: Chem.Mol) -> tuple[Strain | None, Check]:
    """Compare a pose with the free conformers of the same charge state.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        All atoms with the pose as conformer, Angstrom.

    Returns
    -------
    found : Strain or None
        None for an ion, and where the force field does not know the molecule.
    check : Check
        Says so in its detail where there is no strain to be told.
    """
    found, value, passed = None, 0.0, True
    if mol.GetNumAtoms() == 1:
        detail = "does not apply: an ion has no shape"
    else:
        try:
            found = strain(mol, ensemble=free_conformers(mol))
        except LigandError as error:
            passed, detail = False, f"not known: {error}"
        else:
            value = round(found.energy_kj_mol, 1)
            passed = found.energy_kj_mol <= MAX_STRAIN_KJ_MOL
            detail = f"{found.form or 'no flexible ring'}; lowest of {found.n_conformers} " + (
                f"conformers: {found.best_form or 'the same'}"
            )
    check = Check(
        name="strain of the pose above the lowest free conformer of the ligand",
        value=value,
        limit=MAX_STRAIN_KJ_MOL,
        unit="kJ/mol",
        passed=passed,
        detail=detail,
    )
    return found, check


def _clash(
    receptor: Receptor,
    start: Chem.Mol,
    relaxed: Chem.Mol,
    receptor_positions: NDArray[np.float64],
) -> Check:
    near_before, pair = closest(receptor, receptor.positions, start)
    near, _ = closest(receptor, receptor_positions, relaxed)
    if relaxed.GetNumAtoms() == 1:
        return Check(
            name="closest heavy atom of the receptor to the ion",
            value=round(near, 4),
            limit=_ION_CLASH_NM,
            unit="nm",
            passed=near >= _ION_CLASH_NM,
            detail=f"{near_before:.3f} nm at the start, {pair}",
        )
    before = _overlap(receptor, receptor.positions, start)
    after = _overlap(receptor, receptor_positions, relaxed)
    return Check(
        name="worst clash: overlap of van der Waals spheres of ligand and receptor",
        value=round(after, 4),
        limit=CLASH_OVERLAP_NM,
        unit="nm",
        passed=after < CLASH_OVERLAP_NM,
        detail=(
            f"{before:.3f} nm at the start; closest heavy atoms {near:.3f} nm, "
            f"{near_before:.3f} nm at the start, {pair}"
        ),
    )


def _stereo(start: Chem.Mol, relaxed: Chem.Mol) -> Check:
    right = isomer(relaxed) == isomer(start)
    return Check(
        name="stereochemistry of the pose differs from the input",
        value=float(not right),
        limit=0,
        passed=right,
    )


def _off_check(what: str, value: float, pair: str) -> Check:
    return Check(
        name=f"{what} of the ligand beyond the usual range, as a share",
        value=round(value, 3),
        limit=_MAX_OFF_BOUNDS,
        passed=value <= _MAX_OFF_BOUNDS,
        detail=pair,
    )


def _bends(mol: Chem.Mol, at: NDArray[np.float64]) -> Iterator[tuple[float, str]]:
    """Yield how far each aromatic ring and each double bond is from its plane, nm."""
    groups = [
        list(ring)
        for ring in mol.GetRingInfo().AtomRings()
        if all(mol.GetAtomWithIdx(i).GetIsAromatic() for i in ring)
    ]
    for bond in mol.GetBonds():
        if bond.GetBondType() == Chem.BondType.DOUBLE and not bond.GetIsAromatic():
            ends = (bond.GetBeginAtom(), bond.GetEndAtom())
            groups.append(sorted({n.GetIdx() for end in ends for n in end.GetNeighbors()}))
    for group in groups:
        centred = at[group] - at[group].mean(axis=0)
        normal = np.linalg.svd(centred)[2][-1]
        names = " ".join(_atom_name(mol, i) for i in group)
        yield float(np.abs(centred @ normal).max()) / 10, names


def closest(
    receptor: Receptor, positions: NDArray[np.float64], ligand: Chem.Mol
) -> tuple[float, str]:
    """Give the distance in nm to the receptor's heavy atom nearest to the ligand, and its name."""
    atoms = list(receptor.topology.atoms())
    pair = closest_heavy(
        [atom.element.symbol for atom in atoms],
        positions,
        [atom.GetSymbol() for atom in ligand.GetAtoms()],
        nm(ligand),
    )
    return pair.nm, f"{residue_label(receptor, pair.receptor)} {atoms[pair.receptor].name}"


def _overlap(receptor: Receptor, positions: NDArray[np.float64], ligand: Chem.Mol) -> float:
    return worst_overlap(
        spheres(receptor.topology), positions, spheres(ligand_topology(ligand)), nm(ligand)
    ).nm


def residue_label(receptor: Receptor, index: int) -> str:
    """Name the residue of an atom of the receptor."""
    atom = next(itertools.islice(receptor.topology.atoms(), index, None))
    residue = receptor.residues[atom.residue.index]
    return f"{residue.subunit} {residue.name} {residue.chain}{residue.number}"


def _atom_name(mol: Chem.Mol, index: int) -> str:
    atom = mol.GetAtomWithIdx(index)
    info = atom.GetPDBResidueInfo()
    return info.GetName().strip() if info else f"{atom.GetSymbol()}{index + 1}"
