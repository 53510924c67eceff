"""Where the ligand starts: the deposited blocker's place, relaxed against the receptor."""

import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers
from rdkit.Geometry import Point3D
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from nmdasim.errors import Check, PoseError
from nmdasim.ligand import CHAIN, RESIDUE_NAME, RESIDUE_NUMBER, ChargeState
from nmdasim.parameters import Parameters, load_parameters
from nmdasim.receptor import Receptor

PROTEIN_FORCE_FIELD = "amber14/protein.ff14SB.xml"
"""Force field of the receptor wherever nmdasim relaxes or simulates it."""

# Side chains this near to the ligand move with it; all else stays where the map puts it.
_MOBILE_NM = 0.6
# Only clashes should move atoms, not the missing solvent: heavy atoms are held this much.
_HOLD_KJ_PER_NM2 = 1000.0
_MAX_ITERATIONS = 500
# An amide is turned only for a gain clearly above the error of such a minimisation.
_AMIDE_GAIN_KJ = 5.0
_CLASH_NM, _MAX_SHIFT_NM = 0.30, 0.15
_BACKBONE = {"N", "CA", "C", "O"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pose:
    """A ligand in its receptor, ready to be put into a simulation."""

    receptor: Receptor
    """Receptor as prepared."""
    receptor_positions: NDArray[np.float64]
    """Receptor after relaxing against the ligand, shape (n_atoms, 3), nm."""
    ligand: ChargeState
    """The simulated state; its molecule holds the relaxed coordinates in the pore frame."""
    parameters: Parameters
    """Force field of the ligand."""
    positions: NDArray[np.float64]
    """Relaxed ligand, shape (n_ligand, 3), nm."""
    unrelaxed: NDArray[np.float64]
    """Ligand as deposited with hydrogens added, shape (n_ligand, 3), nm."""
    shift_nm: float
    """RMSD of the ligand's heavy atoms between the two."""
    turned_amides: tuple[str, ...]
    """Asparagines and glutamines near the ligand whose amide was turned round."""
    checks: tuple[Check, ...]
    """Clashes, shift and chirality."""


def place_ligand(receptor: Receptor, state: ChargeState) -> Pose:
    """Place a ligand where the receptor's deposited blocker lies and relax its clashes.

    The blocker is matched by its graph of elements and bonds, whatever its residue is called.
    Its heavy atoms keep their deposited coordinates, hydrogens are added, and the ligand and
    the side chains around it are minimised with their heavy atoms held weakly. A map of this
    resolution does not tell oxygen from nitrogen in an amide: each asparagine and glutamine
    near the ligand is also tried the other way round, and the lower energy is kept.

    Parameters
    ----------
    receptor : Receptor
        With a reference ligand.
    state : ChargeState
        Charge state to place.

    Returns
    -------
    pose : Pose

    Raises
    ------
    PoseError
        If the receptor has no deposited blocker, or this one is another molecule or the other
        enantiomer.
    """
    placed = _on_reference(receptor, state)
    parameters = load_parameters(state)
    unrelaxed = _nm(placed)
    receptor_positions, positions, turned = _relax(receptor, placed, parameters, unrelaxed)
    relaxed = _with_positions(placed, positions)
    heavy = [atom.GetIdx() for atom in placed.GetAtoms() if atom.GetAtomicNum() > 1]
    shift = float(np.sqrt(((positions - unrelaxed)[heavy] ** 2).sum(axis=1).mean()))
    return Pose(
        receptor=receptor,
        receptor_positions=receptor_positions,
        ligand=replace(state, mol=relaxed),
        parameters=parameters,
        positions=positions,
        unrelaxed=unrelaxed,
        shift_nm=shift,
        turned_amides=turned,
        checks=_check_pose(receptor, relaxed, receptor_positions, unrelaxed, shift, state),
    )


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


def _on_reference(receptor: Receptor, state: ChargeState) -> Chem.Mol:
    """Give the state the coordinates of the deposited blocker, hydrogens added."""
    reference = receptor.reference_ligand
    if reference is None:
        raise PoseError(
            f"receptor {receptor.name} has no deposited blocker to start from: "
            "use a receptor with one, such as 7eu8"
        )
    if not reference.GetNumBonds():
        raise PoseError(
            f"the blocker of receptor {receptor.name} has no bonds, because PDB files hold none: "
            "prepare the receptor from the mmCIF file of its entry"
        )
    same_graph = False
    for places in _matches(state.mol, reference):
        same_graph = True
        placed = _add_hydrogens(state.mol, places)
        if _isomer(placed) == _isomer(state.mol):
            return placed
    problem = "the other stereoisomer" if same_graph else "another molecule"
    raise PoseError(
        f"the blocker deposited in {receptor.name} is {problem} than {state.name}: only its own "
        f"molecule ({Chem.MolToSmiles(reference)}) can start from the deposited pose"
    )


def _matches(mol: Chem.Mol, reference: Chem.Mol) -> Iterator[dict[int, NDArray[np.float64]]]:
    """Yield positions in Angstrom of the heavy atoms of `mol` for each way to lay it over."""
    ours, theirs = _skeleton(mol), _skeleton(reference)
    if ours.GetNumAtoms() != theirs.GetNumAtoms() or ours.GetNumBonds() != theirs.GetNumBonds():
        return
    heavy = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    places = reference.GetConformer().GetPositions()
    for match in theirs.GetSubstructMatches(ours, uniquify=False):
        yield {index: places[other] for index, other in zip(heavy, match, strict=True)}


def _skeleton(mol: Chem.Mol) -> Chem.Mol:
    """Strip a molecule to elements and bonds, so that charge and bond orders do not matter."""
    skeleton = Chem.RWMol()
    heavy = [atom for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    index = {atom.GetIdx(): skeleton.AddAtom(Chem.Atom(atom.GetAtomicNum())) for atom in heavy}
    for bond in mol.GetBonds():
        begin, end = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if begin in index and end in index:
            skeleton.AddBond(index[begin], index[end], Chem.BondType.SINGLE)
    return skeleton.GetMol()


def _add_hydrogens(mol: Chem.Mol, places: dict[int, NDArray[np.float64]]) -> Chem.Mol:
    """Fix the heavy atoms and turn the hydrogens to where they fit."""
    placed = Chem.Mol(mol)
    conformer = placed.GetConformer()
    for index, place in places.items():
        conformer.SetAtomPosition(index, Point3D(*map(float, place)))
    for atom in placed.GetAtoms():
        if atom.GetAtomicNum() == 1:
            Chem.SetTerminalAtomCoords(placed, atom.GetIdx(), atom.GetNeighbors()[0].GetIdx())
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(placed)
    field = rdForceFieldHelpers.MMFFGetMoleculeForceField(placed, properties)
    for index in places:
        field.AddFixedPoint(index)
    field.Minimize(maxIts=1000)
    return placed


def _isomer(mol: Chem.Mol) -> str:
    """Read the stereochemistry from the coordinates."""
    copy = Chem.Mol(mol)
    Chem.AssignStereochemistryFrom3D(copy)
    return Chem.MolToSmiles(Chem.RemoveHs(copy))


def _relax(
    receptor: Receptor,
    placed: Chem.Mol,
    parameters: Parameters,
    unrelaxed: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[str, ...]]:
    """Minimise the ligand and the side chains around it, with the better end of each amide.

    Returns receptor and ligand, nm, and the amides that were turned.
    """
    modeller = app.Modeller(receptor.topology, receptor.positions * unit.nanometer)
    modeller.add(ligand_topology(placed), unrelaxed * unit.nanometer)
    start = np.vstack([receptor.positions, unrelaxed])
    mobile = _mobile_atoms(modeller.topology, start, len(unrelaxed))
    context = _relaxation(modeller.topology, parameters, mobile)
    best, lowest = _minimised(context, start)
    turned = []
    for amide in _amides(modeller.topology, mobile):
        trial = _with_amide_turned(start, amide)
        relaxed, energy = _minimised(context, trial)
        if energy < lowest - _AMIDE_GAIN_KJ:
            start, best, lowest = trial, relaxed, energy
            turned.append(_residue_label(receptor, amide["CB"]))
    return best[: -len(unrelaxed)], best[-len(unrelaxed) :], tuple(turned)


def _relaxation(
    topology: app.Topology, parameters: Parameters, mobile: frozenset[int]
) -> openmm.Context:
    """Set up the forces with everything but `mobile` frozen and its heavy atoms held."""
    system = complex_force_field(parameters).createSystem(
        topology,
        nonbondedMethod=app.CutoffNonPeriodic,
        nonbondedCutoff=0.9 * unit.nanometer,
        removeCMMotion=False,
    )
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
    # One thread sums forces in one order: the pose is the same, bit for bit, on every start.
    platform = openmm.Platform.getPlatformByName("CPU")
    return openmm.Context(system, openmm.VerletIntegrator(0.001), platform, {"Threads": "1"})


def _minimised(
    context: openmm.Context, start: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Minimise with heavy atoms held where they start; positions in nm, kJ/mol."""
    hold = context.getSystem().getForces()[-1]
    for index in range(hold.getNumParticles()):
        atom, _ = hold.getParticleParameters(index)
        hold.setParticleParameters(index, atom, start[atom])
    hold.updateParametersInContext(context)
    context.setPositions(start * unit.nanometer)
    openmm.LocalEnergyMinimizer.minimize(context, maxIterations=_MAX_ITERATIONS)
    state = context.getState(positions=True, energy=True)
    relaxed = np.array(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
    return relaxed, state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)


def _amides(topology: app.Topology, mobile: frozenset[int]) -> Iterator[dict[str, int]]:
    """Yield the side-chain amides that may move, as atom indices by name."""
    for residue in topology.residues():
        atoms = {atom.name: atom.index for atom in residue.atoms()}
        if residue.name in ("ASN", "GLN") and atoms["CB"] in mobile:
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


def _mobile_atoms(
    topology: app.Topology, positions: NDArray[np.float64], n_ligand: int
) -> frozenset[int]:
    """Choose the ligand and the side chains near it."""
    first = len(positions) - n_ligand
    near = cdist(positions[:first], positions[first:]).min(axis=1) < _MOBILE_NM
    mobile = set(range(first, len(positions)))
    for residue in topology.residues():
        side = [a.index for a in residue.atoms() if a.name not in _BACKBONE and a.index < first]
        if near[side].any():
            mobile.update(side)
    return frozenset(mobile)


def _check_pose(
    receptor: Receptor,
    relaxed: Chem.Mol,
    receptor_positions: NDArray[np.float64],
    unrelaxed: NDArray[np.float64],
    shift: float,
    state: ChargeState,
) -> tuple[Check, ...]:
    heavy = [atom.GetIdx() for atom in relaxed.GetAtoms() if atom.GetAtomicNum() > 1]
    before, pair = _closest(receptor, receptor.positions, unrelaxed[heavy])
    after, _ = _closest(receptor, receptor_positions, _nm(relaxed)[heavy])
    right = _isomer(relaxed) == _isomer(state.mol)
    return (
        Check(
            name="closest heavy atoms of ligand and receptor after relaxing",
            value=round(after, 4),
            limit=_CLASH_NM,
            unit="nm",
            passed=after >= _CLASH_NM,
            detail=f"{before:.3f} nm as deposited, {pair}",
        ),
        Check(
            name="shift of the ligand from its deposited pose on relaxing (RMSD of heavy atoms)",
            value=round(shift, 4),
            limit=_MAX_SHIFT_NM,
            unit="nm",
            passed=shift <= _MAX_SHIFT_NM,
        ),
        Check(
            name="stereochemistry of the pose differs from the input",
            value=float(not right),
            limit=0,
            passed=right,
        ),
    )


def _closest(
    receptor: Receptor, positions: NDArray[np.float64], ligand: NDArray[np.float64]
) -> tuple[float, str]:
    """Find the receptor's heavy atom nearest to the ligand and its distance, nm."""
    heavy = [atom for atom in receptor.topology.atoms() if atom.element.symbol != "H"]
    distances = cdist(positions[[atom.index for atom in heavy]], ligand).min(axis=1)
    atom = heavy[int(np.argmin(distances))]
    return float(distances.min()), f"{_residue_label(receptor, atom.index)} {atom.name}"


def _residue_label(receptor: Receptor, index: int) -> str:
    """Name the residue of an atom of the receptor."""
    atom = next(itertools.islice(receptor.topology.atoms(), index, None))
    residue = receptor.residues[atom.residue.index]
    return f"{residue.subunit} {residue.name} {residue.chain}{residue.number}"


def _nm(mol: Chem.Mol) -> NDArray[np.float64]:
    return np.array(mol.GetConformer().GetPositions()) / 10


def _with_positions(mol: Chem.Mol, positions: NDArray[np.float64]) -> Chem.Mol:
    moved = Chem.Mol(mol)
    moved.GetConformer().SetPositions(10 * positions)
    return moved
