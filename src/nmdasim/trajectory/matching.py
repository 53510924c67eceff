"""The ligand of a trajectory, found by the graph of the given molecule.

Bond orders and charges always come from the molecule. From the trajectory come only elements and
which atoms are bonded: stated by the topology, or told from distances, which is safe for whether
there is a bond and would not be for its order.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import mdtraj as md
import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, Geometry

from nmdasim.errors import SelectionError
from nmdasim.subunits import ONE_LETTER
from nmdasim.trajectory.model import CAPS
from nmdasim.trajectory.names import LIPID_NAMES, WATER_NAMES, ion_of

# Lone pairs and other sites that are no atoms.
_NO_ATOM = re.compile(r"(LP|MW|EP|VS)[A-Z0-9]*")
_MAX_MATCHES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoundLigand:
    """A molecule laid on atoms of a topology."""

    mol: Chem.Mol
    """The molecule as it is in the frames, one conformer in Angstrom; without hydrogens where
    the frames have none."""
    atoms: NDArray[np.intp]
    """Its atoms in the topology, in the molecule's order, shape (n_ligand,)."""
    label: str
    """Residue name and number in the topology."""


def find_ligand(
    topology: md.Topology,
    positions: NDArray[np.float64],
    bonds: NDArray[np.intp],
    *,
    states: Sequence[Chem.Mol],
    residue: str | None = None,
) -> FoundLigand:
    """Find the one molecule in a topology whose graph is that of the given molecule.

    Parameters
    ----------
    topology : mdtraj.Topology
    positions : ndarray of float64, shape (n_atoms, 3), nm
        The molecules whole.
    bonds : ndarray of int, shape (n_bonds, 2)
        Bonds of the atoms that are neither water nor ion.
    states : sequence of rdkit.Chem.Mol
        Charge states of the ligand with all hydrogens; the first that has as many hydrogens on
        each atom as the topology is taken.
    residue : str, optional
        Which residue it is, where there are several: name, name and number (LIG401), or with
        #k the k-th of those that are called the same.

    Returns
    -------
    found : FoundLigand

    Raises
    ------
    SelectionError
        If there is none, more than one, or its hydrogens or handedness are those of another
        molecule.
    """
    candidates = _candidates(topology, bonds, single=states[0].GetNumAtoms() == 1)
    if not candidates:
        raise SelectionError(
            "the topology holds no molecule besides protein, lipids, water and ions: give the "
            "topology and trajectory with the ligand"
        )
    fitting = {
        label: found
        for label, atoms in candidates.items()
        if (found := _heavy_matches(topology, atoms, bonds, states[0]))
    }
    chosen = _chosen(fitting, candidates, residue)
    matches, hydrogens = fitting[chosen]
    mol, matches = _with_hydrogens(chosen, matches, hydrogens, states)
    for match in matches:
        atoms = _all_atoms(mol, match, hydrogens)
        laid = placed(mol, positions[atoms])
        if _handedness(laid) == _handedness(mol):
            return FoundLigand(mol=laid, atoms=atoms, label=chosen)
    raise SelectionError(
        f"{chosen} has the bonds of the given molecule but is another stereoisomer of it: give "
        "the molecule that was simulated, such as its mirror image"
    )


# ------------------------------------------------------------------------------ the candidates


def _candidates(
    topology: md.Topology, bonds: NDArray[np.intp], *, single: bool
) -> dict[str, list[int]]:
    """Give the atoms of each molecule that could be a ligand, by a label of its own."""
    ours = [
        residue
        for residue in topology.residues
        if residue.name not in ONE_LETTER
        and residue.name not in CAPS
        and residue.name.upper() not in WATER_NAMES
        and (ion_of(residue) is None or single)
    ]
    residue_of = {atom.index: residue.index for residue in ours for atom in residue.atoms}
    # A ligand may be cut into residues; what is bonded to the protein is no ligand.
    group = {residue.index: residue.index for residue in ours}
    barred: set[int] = set()
    for i, j in bonds.tolist():
        a, b = residue_of.get(i), residue_of.get(j)
        if a is not None and b is not None and group[a] != group[b]:
            old, new = group[b], group[a]
            group = {key: new if value == old else value for key, value in group.items()}
        elif a is None and b is not None:
            barred.add(b)
        elif b is None and a is not None:
            barred.add(a)
    parts: dict[int, list[md.core.topology.Residue]] = {}
    for residue in ours:
        parts.setdefault(group[residue.index], []).append(residue)
    kept = [p for p in parts.values() if not barred & {residue.index for residue in p}]
    names = [f"{p[0].name}{p[0].resSeq}" for p in kept]
    labels = [
        f"{name}#{names[: place + 1].count(name)}" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]
    return {
        label: [atom.index for residue in part for atom in residue.atoms]
        for label, part in zip(labels, kept, strict=True)
    }


def _chosen(fitting: Mapping[str, object], candidates: Iterable[str], residue: str | None) -> str:
    """Choose the one that is asked for, or the only one; say what there is otherwise."""
    if not fitting:
        names = dict.fromkeys(re.sub(r"-?\d+(#\d+)?$", "", label) for label in candidates)
        small = [name for name in names if name.upper() not in LIPID_NAMES]
        listed = ", ".join((small or list(names))[:10])
        raise SelectionError(
            f"none of the molecules {listed} has the bonds of the given ligand: give the molecule "
            "that was simulated, or check the topology"
        )
    if residue is None:
        asked = list(fitting)
    else:
        asked = [
            label for label in fitting
            if residue in (label, label.split("#")[0], re.sub(r"-?\d+(#\d+)?$", "", label))
        ]  # fmt: skip
    if len(asked) == 1:
        return asked[0]
    which = f"called {residue} " if residue is not None else ""
    found = ", ".join(asked or fitting)
    raise SelectionError(
        f"{len(asked)} molecules {which}fit the ligand; those that fit are {found}: choose one "
        "of them by --ligand-residue (ligand_residue=)"
    )


# ----------------------------------------------------------------------------------- the graph


def _heavy_matches(
    topology: md.Topology, atoms: Sequence[int], bonds: NDArray[np.intp], mol: Chem.Mol
) -> tuple[list[dict[int, int]], dict[int, list[int]]] | None:
    """Lay the heavy atoms on each other in every way; give the hydrogens of each as well."""
    query, heavy = _graph_of(mol)
    wanted = {mol.GetAtomWithIdx(i).GetSymbol() for i in heavy}
    inside = set(atoms)
    pairs = [(i, j) for i, j in bonds.tolist() if i in inside and j in inside]
    for elements in (_stated(topology, atoms), _named(topology, atoms, wanted)):
        ours = [index for index in atoms if elements[index] not in ("H", "")]
        if len(ours) != len(heavy):
            continue
        place = {index: row for row, index in enumerate(ours)}
        inner = [(place[i], place[j]) for i, j in pairs if i in place and j in place]
        target = _graph([elements[i] for i in ours], inner)
        if target.GetNumBonds() != query.GetNumBonds():
            continue
        found = target.GetSubstructMatches(query, uniquify=False, maxMatches=_MAX_MATCHES)
        if not found:
            continue
        hydrogens: dict[int, list[int]] = {index: [] for index in ours}
        for i, j in pairs:
            for own, other in ((i, j), (j, i)):
                if own in hydrogens and elements[other] == "H":
                    hydrogens[own].append(other)
        matches = [
            {heavy[row]: ours[target_row] for row, target_row in enumerate(match)}
            for match in found
        ]
        return matches, hydrogens
    return None


def _graph_of(mol: Chem.Mol) -> tuple[Chem.Mol, list[int]]:
    """Reduce a molecule to elements and which heavy atoms are bonded."""
    heavy = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    place = {index: row for row, index in enumerate(heavy)}
    bonds = [
        (place[bond.GetBeginAtomIdx()], place[bond.GetEndAtomIdx()])
        for bond in mol.GetBonds()
        if bond.GetBeginAtomIdx() in place and bond.GetEndAtomIdx() in place
    ]
    return _graph([mol.GetAtomWithIdx(i).GetSymbol() for i in heavy], bonds), heavy


def _graph(symbols: Sequence[str], bonds: Iterable[tuple[int, int]]) -> Chem.Mol:
    graph = Chem.RWMol()
    for symbol in symbols:
        atom = Chem.Atom(symbol)
        atom.SetNoImplicit(True)
        graph.AddAtom(atom)
    for i, j in {(min(pair), max(pair)) for pair in bonds}:
        graph.AddBond(i, j, Chem.BondType.SINGLE)
    graph.UpdatePropertyCache(strict=False)
    Chem.FastFindRings(graph)
    return graph.GetMol()


def _stated(topology: md.Topology, atoms: Sequence[int]) -> dict[int, str]:
    """Elements as the topology states them; empty for sites that are no atoms."""
    elements = {}
    for index in atoms:
        element = topology.atom(index).element
        number = 0 if element is None else element.atomic_number
        elements[index] = Chem.GetPeriodicTable().GetElementSymbol(number) if number else ""
    return elements


def _named(topology: md.Topology, atoms: Sequence[int], wanted: set[str]) -> dict[int, str]:
    """Elements from atom names, among those of the molecule: CL1 is chlorine where it has one."""
    elements = {}
    for index in atoms:
        name = topology.atom(index).name.upper().lstrip("0123456789")
        two, one = name[:2].capitalize(), name[:1]
        if _NO_ATOM.fullmatch(name):
            elements[index] = ""
        else:
            elements[index] = two if two in wanted else one
    return elements


# --------------------------------------------------------------------- hydrogens and handedness


def _with_hydrogens(
    label: str,
    matches: list[dict[int, int]],
    hydrogens: Mapping[int, list[int]],
    states: Sequence[Chem.Mol],
) -> tuple[Chem.Mol, list[dict[int, int]]]:
    """Choose the charge state with the hydrogens of the topology, and the ways that fit it."""
    if not any(hydrogens.values()):
        bare = Chem.RemoveHs(states[0])
        order = {index: row for row, index in enumerate(
            atom.GetIdx() for atom in states[0].GetAtoms() if atom.GetAtomicNum() > 1)}  # fmt: skip
        return bare, [{order[i]: atom for i, atom in match.items()} for match in matches]
    for state in states:
        counts = {
            atom.GetIdx(): sum(n.GetAtomicNum() == 1 for n in atom.GetNeighbors())
            for atom in state.GetAtoms()
            if atom.GetAtomicNum() > 1
        }
        fitting = [
            match
            for match in _carried(matches, states[0], state)
            if all(len(hydrogens[atom]) == counts[index] for index, atom in match.items())
        ]
        if fitting:
            return state, fitting
    there = sum(len(bonded) for bonded in hydrogens.values())
    known = " or ".join(
        f"{sum(a.GetAtomicNum() == 1 for a in state.GetAtoms())} (charge "
        f"{Chem.GetFormalCharge(state):+d})"
        for state in states
    )
    raise SelectionError(
        f"{label} has {there} hydrogens where the given ligand has {known}, or has them on other "
        "atoms: give the molecule in the state that was simulated, or strip all its hydrogens"
    )


def _carried(
    matches: list[dict[int, int]], first: Chem.Mol, state: Chem.Mol
) -> list[dict[int, int]]:
    """Carry matches from one charge state to another, whose atoms may have another order."""
    if state is first:
        return matches
    query, heavy = _graph_of(first)
    other, other_heavy = _graph_of(state)
    order = other.GetSubstructMatch(query)
    return [
        {other_heavy[order[row]]: match[index] for row, index in enumerate(heavy)}
        for match in matches
    ]


def _all_atoms(
    mol: Chem.Mol, match: Mapping[int, int], hydrogens: Mapping[int, list[int]]
) -> NDArray[np.intp]:
    """Atoms in the molecule's order; equivalent hydrogens in the order of the file."""
    left = {index: list(bonded) for index, bonded in hydrogens.items()}
    atoms = []
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() > 1:
            atoms.append(match[atom.GetIdx()])
        else:
            (parent,) = atom.GetNeighbors()
            atoms.append(left[match[parent.GetIdx()]].pop(0))
    return np.array(atoms, dtype=np.intp)


def placed(mol: Chem.Mol, positions: NDArray[np.float64]) -> Chem.Mol:
    """Put a molecule at given positions.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
    positions : ndarray of float64, shape (n_atoms, 3), nm

    Returns
    -------
    placed : rdkit.Chem.Mol
        A copy with one conformer, in Angstrom as RDKit has it.
    """
    conformer = Chem.Conformer(mol.GetNumAtoms())
    for index, (x, y, z) in enumerate((positions * 10).tolist()):
        conformer.SetAtomPosition(index, Geometry.Point3D(x, y, z))
    copy = Chem.Mol(mol)
    copy.RemoveAllConformers()
    copy.AddConformer(conformer, assignId=True)
    return copy


def _handedness(mol: Chem.Mol) -> list[tuple[int, str]]:
    """Sign of the stereocentres as the conformer has them, in the order of the heavy atoms."""
    copy = Chem.Mol(mol)
    Chem.AssignStereochemistryFrom3D(copy)
    centres = Chem.FindMolChiralCenters(copy, useLegacyImplementation=False)
    # Amines turn over.
    return [(i, sign) for i, sign in centres if copy.GetAtomWithIdx(i).GetSymbol() != "N"]
