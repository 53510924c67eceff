"""From a pose to a solvated system with restraints: the protocols of nmdasim."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from nmdasim.errors import ProtocolError
from nmdasim.pose import HYDRATED_ION, Pose, complex_force_field, ligand_topology, origin_sentence

_WATER_FORCE_FIELD = "amber14/tip3p.xml"
_BACKBONE = ("N", "CA", "C", "O")
_CAPS = ("ACE", "NME")
# Shorter stretches between kept residues are kept too: two caps are as large as they are.
_MAX_BRIDGED = 3
# Where water may stand in the lumen: this far from heavy atoms (a hydrogen bond from polar ones,
# the first shell from Mg2+, van der Waals contact from others) and from each other (a little less
# than the first peak of liquid water, which minimisation restores), nm.
_WATER_CLEAR_NM = {"N": 0.27, "O": 0.26, "Mg": 0.20}
_WATER_CLEAR_OTHER_NM, _WATER_APART_NM = 0.31, 0.28
_WATER_GRID_NM, _LUMEN_RADIUS_NM = 0.05, 0.9
# O, H, H of a TIP3P molecule: 0.09572 nm, 104.52 degrees (doi:10.1063/1.445869).
_TIP3P_NM = 0.09572 * np.array(
    [[0, 0, 0], [1, 0, 0], [np.cos(np.radians(104.52)), np.sin(np.radians(104.52)), 0]]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of the equilibration."""

    name: str
    """What it is for."""
    ps: float
    """Length, ps."""
    timestep_fs: float
    """Time step, fs."""
    restraint_extra: float
    """Force constant on every heavy atom of receptor and ligand on top of the production
    restraints, kJ/mol/nm^2."""
    barostat: bool
    """Whether the volume adapts to the pressure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """Every number that decides how a system is built and simulated."""

    name: str
    """Word that users type."""
    temperature_k: float
    """Temperature of the thermostat, K."""
    friction_per_ps: float
    """Friction of the Langevin thermostat, 1/ps."""
    pressure_bar: float
    """Pressure of stages with a barostat, bar."""
    timestep_fs: float
    """Time step of production, fs."""
    hydrogen_mass_da: float
    """Mass given to hydrogens by repartitioning, Da."""
    cutoff_nm: float
    """Cut-off of the direct-space non-bonded forces, nm."""
    ionic_strength_m: float
    """Concentration of NaCl besides the neutralising ions, mol/l."""
    padding_nm: float
    """Least distance between periodic images of the solute, nm."""
    lining_radius_nm: float
    """Residues with an atom this near to the lumen are kept, nm."""
    lumen_below_nm: float
    """Lower end of the lumen that is kept, height in the pore frame, nm."""
    lumen_above_nm: float
    """Upper end of the lumen that is kept, height in the pore frame, nm."""
    restraint_free_nm: float
    """Backbone nearer than this to the ligand is free, nm."""
    restraint_full_nm: float
    """Backbone farther than this from the ligand feels the whole restraint, nm."""
    restraint_k: float
    """Force constant of the whole restraint, kJ/mol/nm^2."""
    minimise_tolerance: float
    """RMS force at which minimisation ends, kJ/mol/nm."""
    minimise_max_iterations: int
    """Most iterations in each round of the minimiser; a round tightens the constraints."""
    equilibration: tuple[Stage, ...]
    """Stages in order."""
    frame_interval_ps: float
    """Time between two frames, ps."""
    segment_ps: float
    """Length of one segment, ps."""


VESTIBULE = Protocol(
    name="vestibule",
    temperature_k=310.0,
    friction_per_ps=1.0,
    pressure_bar=1.0,
    timestep_fs=4.0,
    hydrogen_mass_da=3.0,
    cutoff_nm=0.9,
    ionic_strength_m=0.15,
    padding_nm=0.9,
    lining_radius_nm=0.88,
    lumen_below_nm=-0.3,
    lumen_above_nm=1.5,
    restraint_free_nm=0.7,
    restraint_full_nm=1.5,
    restraint_k=500.0,
    minimise_tolerance=10.0,
    minimise_max_iterations=50,
    equilibration=(
        Stage(
            name="warm the water", ps=1.0, timestep_fs=1.0, restraint_extra=2000.0, barostat=False
        ),
        Stage(
            name="settle the density",
            ps=3.0,
            timestep_fs=2.0,
            restraint_extra=1000.0,
            barostat=True,
        ),
        Stage(
            name="release the side chains",
            ps=4.0,
            timestep_fs=4.0,
            restraint_extra=200.0,
            barostat=True,
        ),
        Stage(
            name="release the ligand", ps=4.0, timestep_fs=4.0, restraint_extra=20.0, barostat=True
        ),
        Stage(name="free", ps=4.0, timestep_fs=4.0, restraint_extra=0.0, barostat=False),
    ),
    frame_interval_ps=0.5,
    segment_ps=10.0,
)
"""Pore-lining residues around the lumen in explicit water: minutes on a laptop."""

PROTOCOLS = {protocol.name: protocol for protocol in (VESTIBULE,)}
"""Protocols by the word that users type."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class System:
    """What is simulated, before its first minimisation."""

    topology: app.Topology
    """All atoms; receptor residues keep chain letters and UniProt numbers."""
    positions: NDArray[np.float64]
    """Coordinates in the pore frame, shape (n_atoms, 3), nm."""
    box_vectors: NDArray[np.float64]
    """Periodic box, shape (3, 3), rows are vectors, nm."""
    openmm_system: openmm.System
    """Forces and constraints, with the restraints and without a barostat."""
    protocol: Protocol
    """The numbers it was built from."""
    ligand: NDArray[np.intp]
    """Indices of the ligand's atoms, shape (n_ligand,)."""
    methods: tuple[str, ...]
    """Sentences for a methods paragraph, with citations."""


def find_protocol(name: str) -> Protocol:
    """Find a protocol by its name.

    Parameters
    ----------
    name : str

    Returns
    -------
    protocol : Protocol

    Raises
    ------
    ProtocolError
        If there is none of that name.
    """
    if name not in PROTOCOLS:
        raise ProtocolError(
            f"unknown protocol {name!r}: this version has {', '.join(PROTOCOLS)}; choose one"
        )
    return PROTOCOLS[name]


def build_system(pose: Pose, protocol: Protocol = VESTIBULE, *, seed: int = 1) -> System:
    """Cut the pore lining out of the receptor, solvate it and set up its forces.

    Parameters
    ----------
    pose : Pose
    protocol : Protocol
    seed : int
        Decides where ions and added hydrogens start.

    Returns
    -------
    system : System

    Notes
    -----
    Restraints hold the backbone harmonically at its start; their force constant grows smoothly
    from zero at `restraint_free_nm` from the ligand to `restraint_k` at `restraint_full_nm`.
    The global parameters `restraint_scale` and `restraint_extra` of the restraint force scale
    it and add an equal force constant on every heavy atom of receptor and ligand.
    """
    random.seed(seed)  # OpenMM's Modeller draws from here.
    force_field = complex_force_field(pose.parameters, _WATER_FORCE_FIELD)
    modeller = _pore_lining(pose, protocol, force_field)
    n_protein = modeller.topology.getNumAtoms()
    modeller.add(ligand_topology(pose.ligand.mol), pose.positions * unit.nanometer)
    n_solute = modeller.topology.getNumAtoms()
    _fill_lumen(modeller, protocol)
    modeller.addSolvent(
        force_field,
        model="tip3p",
        boxSize=openmm.Vec3(*_box_edges(modeller, protocol)) * unit.nanometer,
        ionicStrength=protocol.ionic_strength_m * unit.molar,
    )
    openmm_system = force_field.createSystem(
        modeller.topology,
        nonbondedMethod=app.PME,
        nonbondedCutoff=protocol.cutoff_nm * unit.nanometer,
        constraints=app.HBonds,
        hydrogenMass=protocol.hydrogen_mass_da * unit.dalton,
    )
    positions = _nm(modeller.positions)
    ligand = np.arange(n_protein, n_solute)
    openmm_system.addForce(_restraints(modeller.topology, positions, ligand, protocol))
    return System(
        topology=modeller.topology,
        positions=positions,
        box_vectors=_nm(modeller.topology.getPeriodicBoxVectors()),
        openmm_system=openmm_system,
        protocol=protocol,
        ligand=ligand,
        methods=_methods(pose, protocol, modeller.topology),
    )


def _fill_lumen(modeller: app.Modeller, protocol: Protocol) -> None:
    """Hydrate the lumen, which a lattice of water misses and which fills too slowly by itself.

    Oxygens go where they clear every heavy atom, those nearest to a wall first, each at least
    `_WATER_APART_NM` from the others. The closed gate and the filter keep bulk water from
    coming in within nanoseconds; an empty vestibule would push the ligand out of its pose.
    """
    heavy = [a for a in modeller.topology.atoms() if a.element.symbol != "H"]
    solute = _nm(modeller.positions)[[a.index for a in heavy]]
    clear = np.array([_WATER_CLEAR_NM.get(a.element.symbol, _WATER_CLEAR_OTHER_NM) for a in heavy])
    width = np.arange(-_LUMEN_RADIUS_NM, _LUMEN_RADIUS_NM, _WATER_GRID_NM)
    height = np.arange(protocol.lumen_below_nm, protocol.lumen_above_nm, _WATER_GRID_NM)
    grid = np.stack(np.meshgrid(width, width, height, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[np.hypot(grid[:, 0], grid[:, 1]) < _LUMEN_RADIUS_NM]
    room = (cdist(grid, solute) - clear).min(axis=1)
    grid, room = grid[room > 0], room[room > 0]
    oxygens: list[NDArray[np.float64]] = []
    for point in grid[np.argsort(room, kind="stable")]:
        if not oxygens or cdist([point], oxygens).min() >= _WATER_APART_NM:
            oxygens.append(point)
    if oxygens:
        modeller.add(*_waters(oxygens))


def _waters(oxygens: Sequence[NDArray[np.float64]]) -> tuple[app.Topology, unit.Quantity]:
    """Build one rigid TIP3P molecule on each oxygen, turned at random."""
    topology, positions = app.Topology(), []
    chain = topology.addChain()
    for oxygen in oxygens:
        residue = topology.addResidue("HOH", chain)
        atoms = [
            topology.addAtom(name, app.Element.getBySymbol(name[0]), residue)
            for name in ("O", "H1", "H2")
        ]
        topology.addBond(atoms[0], atoms[1])
        topology.addBond(atoms[0], atoms[2])
        turn = Rotation.random(rng=random.getrandbits(32))
        positions += [*(turn.apply(_TIP3P_NM) + oxygen)]
    return topology, np.array(positions) * unit.nanometer


def _box_edges(modeller: app.Modeller, protocol: Protocol) -> NDArray[np.float64]:
    """Fit a rectangular box; the restraints keep the solute from turning in it."""
    return np.ptp(_nm(modeller.positions), axis=0) + protocol.padding_nm


def _nm(quantity: unit.Quantity) -> NDArray[np.float64]:
    return np.array(quantity.value_in_unit(unit.nanometer))


def lining_residues(pose: Pose, protocol: Protocol) -> tuple[range, ...]:
    """Choose the residues that line the lumen.

    Parameters
    ----------
    pose : Pose
    protocol : Protocol
        `lining_radius_nm`, `lumen_below_nm` and `lumen_above_nm` decide.

    Returns
    -------
    stretches : tuple of range
        Indices of residues in the receptor's topology, consecutive in sequence. A residue is
        in when one of its heavy atoms lies within the lining radius of the lumen's axis or of
        the ligand; stretches of up to three residues between such residues are in as well.
    """
    axis = np.zeros((50, 3))
    axis[:, 2] = np.linspace(protocol.lumen_below_nm, protocol.lumen_above_nm, len(axis))
    heavy = [atom.GetIdx() for atom in pose.ligand.mol.GetAtoms() if atom.GetAtomicNum() > 1]
    lumen = np.vstack([axis, pose.positions[heavy]])
    near = []
    for residue in pose.receptor.topology.residues():
        atoms = [atom.index for atom in residue.atoms() if atom.element.symbol != "H"]
        if residue.name not in _CAPS:
            distance = cdist(pose.receptor_positions[atoms], lumen).min()
            near.append(residue.index if distance < protocol.lining_radius_nm else None)
    kept = [index for index in near if index is not None]
    return tuple(_stretches(kept, pose))


def _stretches(kept: Sequence[int], pose: Pose) -> Iterator[range]:
    """Join residues into stretches, over short gaps within one piece of a chain."""
    residues = pose.receptor.residues
    first = last = kept[0]
    for index in kept[1:]:
        same_chain = residues[index].chain == residues[last].chain
        consecutive = residues[index].number - residues[last].number == index - last
        bridged = same_chain and consecutive and index - last - 1 <= _MAX_BRIDGED
        if not bridged:
            yield range(first, last + 1)
            first = index
        last = index
    yield range(first, last + 1)


def _pore_lining(pose: Pose, protocol: Protocol, force_field: app.ForceField) -> app.Modeller:
    """Copy the lining out of the receptor with a cap at every cut."""
    source = list(pose.receptor.topology.residues())
    topology, positions = app.Topology(), []
    chain = None
    for stretch in lining_residues(pose, protocol):
        if chain is None or chain.id != source[stretch[0]].chain.id:
            chain = topology.addChain(source[stretch[0]].chain.id)
        around = [stretch[0] - 1, *stretch, stretch[-1] + 1]
        for index in around:
            names = _cap_atoms(source[index], index - stretch[0], len(stretch))
            name = {-1: "ACE", len(stretch): "NME"}.get(index - stretch[0], source[index].name)
            residue = topology.addResidue(name, chain, source[index].id)
            for atom in source[index].atoms():
                if atom.name in names:
                    topology.addAtom(names[atom.name], atom.element, residue)
                    positions.append(pose.receptor_positions[atom.index])
    topology.createStandardBonds()
    modeller = app.Modeller(topology, np.array(positions) * unit.nanometer)
    # Reference is exact: the build is a function of its inputs, to the last bit.
    reference = openmm.Platform.getPlatformByName("Reference")
    modeller.addHydrogens(force_field, variants=_variants(topology), platform=reference)
    return modeller


def _cap_atoms(residue: app.topology.Residue, place: int, length: int) -> dict[str, str]:
    """Say which atoms of a residue are kept and under which name.

    The residues before and after a stretch lend their backbone to its caps.
    """
    if 0 <= place < length:
        return {atom.name: atom.name for atom in residue.atoms()}
    if residue.name in _CAPS:
        return {atom.name: atom.name for atom in residue.atoms() if atom.element.symbol != "H"}
    return {"CA": "CH3", "C": "C", "O": "O"} if place < 0 else {"N": "N", "CA": "C"}


def _variants(topology: app.Topology) -> list[str | None]:
    """Read each residue's protonation from the hydrogens it has, so that none is added."""
    variants: list[str | None] = []
    for residue in topology.residues():
        names = {atom.name for atom in residue.atoms()}
        variant = None
        if residue.name == "HIS":
            variant = {(True, True): "HIP", (True, False): "HID"}.get(
                ("HD1" in names, "HE2" in names), "HIE"
            )
        elif residue.name in ("ASP", "GLU"):
            acid = {"ASP": ("HD2", "ASH"), "GLU": ("HE2", "GLH")}[residue.name]
            variant = acid[1] if acid[0] in names else residue.name
        elif residue.name == "LYS":
            variant = "LYS" if "HZ3" in names else "LYN"
        variants.append(variant)
    return variants


def _restraints(
    topology: app.Topology,
    positions: NDArray[np.float64],
    ligand: NDArray[np.intp],
    protocol: Protocol,
) -> openmm.CustomExternalForce:
    force = openmm.CustomExternalForce(
        "0.5*(restraint_scale*k + restraint_extra*e)*periodicdistance(x, y, z, x0, y0, z0)^2"
    )
    force.addGlobalParameter("restraint_scale", 1.0)
    force.addGlobalParameter("restraint_extra", 0.0)
    for name in ("k", "e", "x0", "y0", "z0"):
        force.addPerParticleParameter(name)
    for atom in topology.atoms():
        solute = atom.residue.name not in ("HOH", "NA", "CL")
        if solute and atom.element.symbol != "H":
            backbone = atom.name in _BACKBONE and atom.index not in ligand
            distance = cdist(positions[[atom.index]], positions[ligand]).min()
            k = _restraint_k(float(distance), protocol) if backbone else 0.0
            force.addParticle(atom.index, [k, 1.0, *positions[atom.index]])
    return force


def _restraint_k(distance: float, protocol: Protocol) -> float:
    """Grow smoothly (cubic, flat at both ends) from zero to the full force constant."""
    width = protocol.restraint_full_nm - protocol.restraint_free_nm
    share = min(max((distance - protocol.restraint_free_nm) / width, 0.0), 1.0)
    return protocol.restraint_k * share**2 * (3 - 2 * share)


def _relaxed_sentences(pose: Pose) -> str:
    if pose.start.method == HYDRATED_ION:
        return "it was surrounded by water before anything was relaxed."
    return (
        f"relaxing its clashes moved its heavy atoms by {10 * pose.shift_nm:.2f} Angstrom (RMSD). "
        "Side-chain amides near it that were turned round for a lower energy: "
        f"{', '.join(pose.turned_amides) or 'none'}."
    )


def _methods(pose: Pose, protocol: Protocol, topology: app.Topology) -> tuple[str, ...]:
    receptor = pose.receptor.source
    n_residues = sum(r.name not in (*_CAPS, "LIG", "HOH", "NA", "CL") for r in topology.residues())
    citation = f", doi:{receptor['citation_doi']}" if receptor.get("citation_doi") else ""
    return (
        f"The receptor was prepared from PDB entry {receptor['entry']} "
        f"(doi:{receptor['doi']}{citation}); {n_residues} residues within "
        f"{protocol.lining_radius_nm:g} nm of the lumen were cut out and capped with ACE and NME.",
        f"The ligand ({pose.ligand.smiles}, charge {pose.ligand.charge:+d}) "
        f"{origin_sentence(pose.start)}; {_relaxed_sentences(pose)}",
        "Protein: ff14SB (doi:10.1021/acs.jctc.5b00255). Water: TIP3P (doi:10.1063/1.445869).",
        pose.parameters.method,
        f"The model was solvated in a rectangular box with {protocol.ionic_strength_m:g} M "
        f"NaCl ({topology.getNumAtoms()} particles), without a membrane. Electrostatics: particle "
        f"mesh Ewald (doi:10.1063/1.470117), direct-space cut-off {protocol.cutoff_nm:g} nm. "
        f"Bonds to hydrogen were constrained and hydrogens given {protocol.hydrogen_mass_da:g} Da.",
        f"Backbone atoms farther than {protocol.restraint_free_nm:g} nm from the ligand were "
        f"restrained to their start, with a force constant that grows to "
        f"{protocol.restraint_k:g} kJ/mol/nm^2 at {protocol.restraint_full_nm:g} nm.",
    )
