"""Relaxing a ligand against the receptor around it, with OpenMM."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit
from rdkit import Chem
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from nmdasim.ligand import CHAIN, RESIDUE_NAME, RESIDUE_NUMBER
from nmdasim.parameters import Parameters
from nmdasim.pose.clashes import worst_overlap
from nmdasim.receptor import Receptor
from nmdasim.receptor.quality import CLASH_OVERLAP_NM, Spheres, spheres

PROTEIN_FORCE_FIELD = "amber14/protein.ff14SB.xml"
"""Force field of the receptor wherever nmdasim relaxes or simulates it."""

# Side chains this near to the ligand move with it; all else stays where the map puts it.
_MOBILE_NM = 0.6
_CUTOFF_NM = 0.7
# What no mobile atom can feel is left out: beyond the cut-off, and what they may move by.
_SHELL_NM = _CUTOFF_NM + 0.15
# Only clashes should move atoms, not the missing solvent: heavy atoms are held this much. While
# a clash remains, they are held half as much, and anew where the round before has left them.
_HOLD_KJ_PER_NM2, _MAX_ROUNDS = 4000.0, 8
# In a comparison an atom is known to 0.05 nm: kT at 310 K over the square of that.
_SOFT_HOLD_KJ_PER_NM2 = 1000.0
# RMS force on mobile atoms, kJ/mol/nm. A comparison of candidates needs less than the pose kept.
_TOLERANCE, _COARSE_TOLERANCE = 10.0, 30.0
_MAX_ITERATIONS = 2000
# An amide is turned only for a gain clearly above the error of such a minimisation.
_AMIDE_GAIN_KJ = 5.0
_BACKBONE = {"N", "CA", "C", "O"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surroundings:
    """The receptor around one or several start poses of a ligand, ready to be minimised."""

    context: openmm.Context
    """Forces; all but the mobile atoms are frozen, its last force holds heavy atoms."""
    topology: app.Topology
    """Residues near the mobile atoms, then the ligand."""
    shell: NDArray[np.intp]
    """Atoms of the receptor that are in, shape (n_shell,)."""
    start: NDArray[np.float64]
    """Those atoms as prepared, shape (n_shell, 3), nm."""
    mobile: frozenset[int]
    """Indices in `topology` of the ligand and of the side chains near it."""
    spheres: tuple[Spheres, Spheres]
    """Van der Waals spheres of the shell and of the ligand."""
    alone: openmm.Context
    """The ligand by itself, with the same cut-off."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Settled:
    """Result of relaxing one start pose roughly."""

    mol: Chem.Mol
    """The ligand, Angstrom."""
    energy_kj_mol: float
    """Of the receptor, between it and the ligand, and of both for having moved."""
    clear: bool
    """Whether no clash is left."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Relaxed:
    """Result of relaxing one start pose."""

    receptor_positions: NDArray[np.float64]
    """The whole receptor, shape (n_atoms, 3), nm."""
    positions: NDArray[np.float64]
    """The ligand, shape (n_ligand, 3), nm."""
    turned_amides: tuple[int, ...]
    """An atom of the receptor for each amide that was turned."""


def ligand_topology(mol: Chem.Mol) -> app.Topology:
    """Describe a ligand to OpenMM.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        With hydrogens and atom names in its PDB residue information.

    Returns
    -------
    topology : openmm.app.Topology
        One residue `LIG` in chain `L`; atoms in the order of `mol`.
    """
    topology = app.Topology()
    _add_ligand(topology, mol)
    return topology


def complex_force_field(parameters: Parameters, *files: str) -> app.ForceField:
    """Load the force field of receptor and ligand together.

    Parameters
    ----------
    parameters : Parameters
    *files : str
        More files of OpenMM, such as a water model.

    Returns
    -------
    force_field : openmm.app.ForceField
    """
    return app.ForceField(PROTEIN_FORCE_FIELD, *files, io.StringIO(parameters.ffxml))


def surroundings(
    receptor: Receptor, mols: Sequence[Chem.Mol], parameters: Parameters
) -> Surroundings:
    """Set up the receptor around start poses of one charge state.

    Parameters
    ----------
    receptor : Receptor
    mols : sequence of rdkit.Chem.Mol
        Start poses, Angstrom; side chains near any of them may move.
    parameters : Parameters

    Returns
    -------
    surroundings : Surroundings
    """
    places = np.vstack([nm(mol) for mol in mols])
    atoms = list(receptor.topology.atoms())
    near = KDTree(places).query(receptor.positions)[0] < _MOBILE_NM
    side = np.array([atom.name not in _BACKBONE for atom in atoms])
    residue = np.array([atom.residue.index for atom in atoms])
    moving = side & np.isin(residue, residue[near & side])
    centres = np.vstack([receptor.positions[moving], places])
    within = KDTree(centres).query(receptor.positions)[0] < _SHELL_NM
    shell = np.flatnonzero(np.isin(residue, residue[within]))
    topology = _cut_out(receptor.topology, shell)
    _add_ligand(topology, mols[0])
    ligand = range(len(shell), topology.getNumAtoms())
    mobile = frozenset((*np.flatnonzero(moving[shell]).tolist(), *ligand))
    return Surroundings(
        context=_context(topology, parameters, mobile),
        topology=topology,
        shell=shell,
        start=receptor.positions[shell],
        mobile=mobile,
        spheres=(_first_spheres(topology, len(shell)), spheres(ligand_topology(mols[0]))),
        alone=_on_one_thread(
            _system(app.ForceField(io.StringIO(parameters.ffxml)), ligand_topology(mols[0]))
        ),
    )


def compared(around: Surroundings, mols: Sequence[Chem.Mol]) -> list[Settled]:
    """Minimise start poses roughly in the same surroundings, to compare them.

    Parameters
    ----------
    around : Surroundings
    mols : sequence of rdkit.Chem.Mol
        Start poses, Angstrom.

    Returns
    -------
    settled : list of Settled
        In the order of `mols`. Every candidate is held equally, and what atoms pay for having
        moved counts: else the one that has to move most would win. Amides are as prepared or
        as the first candidate turns them, whichever suits a candidate better.
    """
    n = len(around.shell)
    first = np.vstack([around.start, nm(mols[0])])
    as_turned, turned = _amides_turned(around, first, _SOFT_HOLD_KJ_PER_NM2)
    shells = [around.start, as_turned[:n]] if turned else [around.start]
    return [
        min((_settled(around, shell, mol) for shell in shells), key=lambda s: s.energy_kj_mol)
        for mol in mols
    ]


def _settled(around: Surroundings, shell: NDArray[np.float64], mol: Chem.Mol) -> Settled:
    positions, energy = _minimised(
        around, np.vstack([shell, nm(mol)]), _COARSE_TOLERANCE, hold=_SOFT_HOLD_KJ_PER_NM2
    )
    places = positions[len(shell) :]
    around.alone.setPositions(places * unit.nanometer)
    placed = Chem.Mol(mol)
    placed.GetConformer().SetPositions(10 * places)
    return Settled(
        mol=placed,
        energy_kj_mol=energy - _energy(around.alone.getState(energy=True)),
        clear=not _clashes(around, positions),
    )


def relaxed(receptor: Receptor, mol: Chem.Mol, parameters: Parameters) -> Relaxed:
    """Minimise a ligand and the side chains around it, with the better end of each amide.

    Parameters
    ----------
    receptor : Receptor
    mol : rdkit.Chem.Mol
        Start pose, Angstrom.
    parameters : Parameters

    Returns
    -------
    relaxed : Relaxed

    Notes
    -----
    A map of this resolution does not tell oxygen from nitrogen in an amide: each asparagine
    and glutamine near the ligand is tried both ways round, one after the other.
    """
    around = surroundings(receptor, [mol], parameters)
    start = np.vstack([around.start, nm(mol)])
    start, turned = _amides_turned(around, start, _HOLD_KJ_PER_NM2)
    best = _cleared(around, _minimised(around, start, _TOLERANCE)[0], _TOLERANCE)
    positions = receptor.positions.copy()
    positions[around.shell] = best[: len(around.shell)]
    return Relaxed(
        receptor_positions=positions,
        positions=best[len(around.shell) :],
        turned_amides=tuple(turned),
    )


def as_started(receptor: Receptor, mol: Chem.Mol) -> Relaxed:
    """Leave ligand and receptor as they are.

    Parameters
    ----------
    receptor : Receptor
    mol : rdkit.Chem.Mol
        Start pose, Angstrom.

    Returns
    -------
    relaxed : Relaxed
    """
    return Relaxed(
        receptor_positions=receptor.positions.copy(), positions=nm(mol), turned_amides=()
    )


def nm(mol: Chem.Mol) -> NDArray[np.float64]:
    """Give the coordinates of a molecule in nm, shape (n_atoms, 3)."""
    return np.array(mol.GetConformer().GetPositions()) / 10


def _amides_turned(
    around: Surroundings, start: NDArray[np.float64], hold: float
) -> tuple[NDArray[np.float64], list[int]]:
    """Turn each amide that gains by it; give the start with them turned and an atom of each."""
    lowest = _minimised(around, start, _COARSE_TOLERANCE, hold=hold)[1]
    turned = []
    for amide in _amides(around):
        trial = _with_amide_turned(start, amide)
        energy = _minimised(around, trial, _COARSE_TOLERANCE, hold=hold)[1]
        if energy < lowest - _AMIDE_GAIN_KJ:
            start, lowest = trial, energy
            turned.append(int(around.shell[amide["CB"]]))
    return start, turned


def _cleared(
    around: Surroundings, positions: NDArray[np.float64], tolerance: float
) -> NDArray[np.float64]:
    """Minimise again, each time less tied to the start, until no clash is left."""
    hold = _HOLD_KJ_PER_NM2
    for _ in range(_MAX_ROUNDS):
        if not _clashes(around, positions):
            break
        hold /= 2
        positions, _energy = _minimised(around, positions, tolerance, hold=hold)
    return positions


def _clashes(around: Surroundings, positions: NDArray[np.float64]) -> bool:
    n = len(around.shell)
    shell, ligand = around.spheres
    return worst_overlap(shell, positions[:n], ligand, positions[n:]).nm >= CLASH_OVERLAP_NM


def _first_spheres(topology: app.Topology, n: int) -> Spheres:
    """Give the spheres of the first atoms of a topology."""
    of = spheres(topology)
    return Spheres(radii=of.radii[:n], gives=of.gives[:n], takes=of.takes[:n])


def _cut_out(source: app.Topology, atoms: NDArray[np.intp]) -> app.Topology:
    """Copy whole residues with the bonds among them."""
    topology, copied = app.Topology(), {}
    kept = set(atoms.tolist())
    for chain in source.chains():
        residues = [r for r in chain.residues() if next(r.atoms()).index in kept]
        new_chain = topology.addChain(chain.id) if residues else None
        for residue in residues:
            new = topology.addResidue(residue.name, new_chain, residue.id)
            for atom in residue.atoms():
                copied[atom.index] = topology.addAtom(atom.name, atom.element, new)
    for first, second in source.bonds():
        if first.index in copied and second.index in copied:
            topology.addBond(copied[first.index], copied[second.index])
    return topology


def _add_ligand(topology: app.Topology, mol: Chem.Mol) -> None:
    residue = topology.addResidue(RESIDUE_NAME, topology.addChain(CHAIN), str(RESIDUE_NUMBER))
    atoms = [
        topology.addAtom(
            atom.GetPDBResidueInfo().GetName().strip(),
            app.Element.getByAtomicNumber(atom.GetAtomicNum()),
            residue,
        )
        for atom in mol.GetAtoms()
    ]
    for bond in mol.GetBonds():
        topology.addBond(atoms[bond.GetBeginAtomIdx()], atoms[bond.GetEndAtomIdx()])


def _context(
    topology: app.Topology, parameters: Parameters, mobile: frozenset[int]
) -> openmm.Context:
    """Set up the forces with everything but `mobile` frozen and its heavy atoms held."""
    system = _system(complex_force_field(parameters), topology)
    hold = openmm.CustomExternalForce("0.5*k*((x-x0)^2+(y-y0)^2+(z-z0)^2)")
    hold.addGlobalParameter("k", _HOLD_KJ_PER_NM2)
    for name in ("x0", "y0", "z0"):
        hold.addPerParticleParameter(name)
    for atom in topology.atoms():
        if atom.index not in mobile:
            system.setParticleMass(atom.index, 0.0)  # The minimiser leaves these in place.
        elif atom.element.symbol != "H":
            hold.addParticle(atom.index, [0.0, 0.0, 0.0])
    system.addForce(hold)
    return _on_one_thread(system)


def _system(force_field: app.ForceField, topology: app.Topology) -> openmm.System:
    return force_field.createSystem(
        topology,
        nonbondedMethod=app.CutoffNonPeriodic,
        nonbondedCutoff=_CUTOFF_NM * unit.nanometer,
        removeCMMotion=False,
        # Residues at the edge of the shell lack the neighbours that they are bonded to.
        ignoreExternalBonds=True,
    )


def _on_one_thread(system: openmm.System) -> openmm.Context:
    """Sum forces in one order: the pose is the same, bit for bit, on every start."""
    platform = openmm.Platform.getPlatformByName("CPU")
    return openmm.Context(system, openmm.VerletIntegrator(0.001), platform, {"Threads": "1"})


def _minimised(
    around: Surroundings,
    start: NDArray[np.float64],
    tolerance: float,
    *,
    hold: float = _HOLD_KJ_PER_NM2,
) -> tuple[NDArray[np.float64], float]:
    """Minimise with heavy atoms held where they start; positions in nm, kJ/mol."""
    context = around.context
    context.setParameter("k", hold)
    force = context.getSystem().getForces()[-1]
    for index in range(force.getNumParticles()):
        atom, _ = force.getParticleParameters(index)
        force.setParticleParameters(index, atom, start[atom])
    force.updateParametersInContext(context)
    context.setPositions(start * unit.nanometer)
    # OpenMM's criterion averages over all atoms, frozen ones included.
    share = len(around.mobile) / len(start)
    openmm.LocalEnergyMinimizer.minimize(
        context, tolerance=tolerance * share**0.5, maxIterations=_MAX_ITERATIONS
    )
    state = context.getState(positions=True, energy=True)
    settled = np.array(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
    return settled, _energy(state)


def _energy(state: openmm.State) -> float:
    return float(state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole))


def _amides(around: Surroundings) -> Iterator[dict[str, int]]:
    """Yield the side-chain amides that may move, as atom indices by name."""
    for residue in around.topology.residues():
        atoms = {atom.name: atom.index for atom in residue.atoms()}
        if residue.name in ("ASN", "GLN") and atoms["CB"] in around.mobile:
            yield atoms


def _with_amide_turned(
    positions: NDArray[np.float64], amide: dict[str, int]
) -> NDArray[np.float64]:
    """Turn an amide by half a turn, which exchanges its oxygen and its nitrogen."""
    names = ("CB", "CG", "OD1", "ND2", "HD21", "HD22")
    if "OD1" not in amide:
        names = ("CG", "CD", "OE1", "NE2", "HE21", "HE22")
    inner, carbon, *ends = (amide[name] for name in names)
    axis = positions[carbon] - positions[inner]
    half_turn = Rotation.from_rotvec(np.pi * axis / np.linalg.norm(axis))
    turned = positions.copy()
    turned[ends] = half_turn.apply(positions[ends] - positions[carbon]) + positions[carbon]
    return turned
