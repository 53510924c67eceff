from collections import Counter
from dataclasses import FrozenInstanceError, asdict, replace

import numpy as np
import openmm
import pytest
from openmm import unit
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from nmdasim.errors import ProtocolError
from nmdasim.subunits import RING_NAMES, subunits
from nmdasim.system import PROTOCOLS, VESTIBULE, build_system, find_protocol, lining_residues

CAPS, SOLVENT = ("ACE", "NME"), ("HOH", "NA", "CL")
GAS_CONSTANT = 0.00831446261815324


def force_of(system, kind):
    (force,) = (f for f in system.openmm_system.getForces() if isinstance(f, kind))
    return force


def charges(system):
    nonbonded = force_of(system, openmm.NonbondedForce)
    return np.array(
        [
            nonbonded.getParticleParameters(i)[0].value_in_unit(unit.elementary_charge)
            for i in range(nonbonded.getNumParticles())
        ]
    )


def wrapped(positions, edges):
    """Put positions into the box; rounding may leave one exactly on its upper face."""
    inside = np.mod(positions, edges)
    return np.where(inside >= edges, 0.0, inside)


def restraints(system):
    """Parameters k, e, x0, y0, z0 of each restrained particle."""
    force = force_of(system, openmm.CustomExternalForce)
    return {
        particle: np.array(parameters)
        for particle, parameters in (
            force.getParticleParameters(i) for i in range(force.getNumParticles())
        )
    }


def context_of(system, platform="CPU", integrator=None):
    integrator = integrator or openmm.VerletIntegrator(0.001)
    context = openmm.Context(
        system.openmm_system, integrator, openmm.Platform.getPlatformByName(platform)
    )
    context.setPeriodicBoxVectors(*(openmm.Vec3(*row) for row in system.box_vectors))
    context.setPositions(system.positions)
    return context


@pytest.fixture(scope="module")
def atoms(system):
    return list(system.topology.atoms())


@pytest.fixture(scope="module")
def residues(system):
    return list(system.topology.residues())


@pytest.fixture(scope="module")
def solute(atoms):
    return np.array([atom.index for atom in atoms if atom.residue.name not in SOLVENT])


# ---------------------------------------------------------------- what is in it


def test_size_is_what_a_laptop_simulates(system):
    assert 5000 <= system.topology.getNumAtoms() <= 9000
    assert len(system.positions) == system.openmm_system.getNumParticles()


def test_the_box_is_neutral_and_salted(system, residues):
    assert charges(system).sum() == pytest.approx(0, abs=1e-4)
    count = Counter(residue.name for residue in residues)
    # Beyond what neutralises, one pair for each 55.4 / 0.15 waters.
    pairs = min(count["NA"], count["CL"])
    assert pairs / count["HOH"] * 55.4 == pytest.approx(0.15, abs=0.03)


def test_the_protein_has_the_charge_of_its_residues(system, residues):
    charge = charges(system)
    names = Counter(r.name for r in residues)
    expected = names["ARG"] + names["LYS"] - names["ASP"] - names["GLU"]
    protein = [a.index for r in residues if r.name not in (*SOLVENT, "LIG") for a in r.atoms()]
    assert charge[protein].sum() == pytest.approx(expected, abs=1e-3)
    assert charge[system.ligand].sum() == pytest.approx(1.0, abs=1e-5)
    for residue in residues:
        own = charge[[atom.index for atom in residue.atoms()]].sum()
        assert own == pytest.approx(round(own), abs=1e-4)


def test_protonation_is_that_of_the_receptor(system, pose):
    hydrogens = {
        (r.chain.id, r.id, r.name): sorted(a.name for a in r.atoms() if a.element.symbol == "H")
        for r in pose.receptor.topology.residues()
    }
    checked = 0
    for residue in system.topology.residues():
        if residue.name not in (*SOLVENT, *CAPS, "LIG"):
            ours = sorted(a.name for a in residue.atoms() if a.element.symbol == "H")
            assert ours == hydrogens[residue.chain.id, residue.id, residue.name]
            checked += 1
    assert checked > 80


def test_residues_keep_chain_number_and_coordinates(system, pose):
    theirs = {
        (a.residue.chain.id, a.residue.id, a.residue.name, a.name): pose.receptor_positions[a.index]
        for a in pose.receptor.topology.atoms()
    }
    kept = [
        (
            (a.residue.chain.id, a.residue.id, a.residue.name, a.name),
            system.positions[a.index],
        )
        for a in system.topology.atoms()
        if a.residue.name not in (*SOLVENT, *CAPS, "LIG")
    ]
    assert len(kept) > 1000
    for key, place in kept:
        np.testing.assert_allclose(place, theirs[key], atol=1e-6)
    np.testing.assert_allclose(system.positions[system.ligand], pose.positions, atol=1e-6)


def test_every_residue_of_every_ring_is_there(system, pose):
    subunit_of = {r.chain: r.subunit for r in pose.receptor.residues}
    present = {(r.chain.id, int(r.id)) for r in system.topology.residues()}
    # vivi lies above the part of the lumen that is kept.
    for ring in RING_NAMES[:4]:
        for chain, subunit in subunit_of.items():
            assert (chain, subunits()[subunit].rings[ring]) in present


def test_lining_is_what_lies_near_the_lumen(pose):
    kept = {index for stretch in lining_residues(pose, VESTIBULE) for index in stretch}
    axis = np.zeros((200, 3))
    axis[:, 2] = np.linspace(VESTIBULE.lumen_below_nm, VESTIBULE.lumen_above_nm, 200)
    heavy = [a.GetIdx() for a in pose.ligand.mol.GetAtoms() if a.GetAtomicNum() > 1]
    lumen = np.vstack([axis, pose.positions[heavy]])
    for residue in pose.receptor.topology.residues():
        if residue.name in CAPS:
            assert residue.index not in kept
            continue
        own = [a.index for a in residue.atoms() if a.element.symbol != "H"]
        near = cdist(pose.receptor_positions[own], lumen).min()
        if near < VESTIBULE.lining_radius_nm - 0.005:
            assert residue.index in kept, residue
    wider = replace(VESTIBULE, lining_radius_nm=VESTIBULE.lining_radius_nm + 0.2)
    assert kept < {index for stretch in lining_residues(pose, wider) for index in stretch}


def test_the_lumen_is_hydrated_around_the_ligand(system, atoms):
    # A lattice of water alone leaves none within 0.5 nm; the ligand then leaves its pose.
    oxygens = [a.index for a in atoms if a.residue.name == "HOH" and a.element.symbol == "O"]
    heavy = [index for index in system.ligand if atoms[index].element.symbol != "H"]
    distance = cdist(system.positions[oxygens], system.positions[heavy]).min(axis=1)
    assert (distance < 0.5).sum() >= 5
    assert distance.min() > 0.25
    near = system.positions[oxygens][distance < 0.5]
    assert (np.sort(cdist(near, near), axis=1)[:, 1] >= 0.28 - 1e-6).all()


def test_every_cut_is_capped(system):
    for chain in system.topology.chains():
        own = [r for r in chain.residues() if r.name not in (*SOLVENT, "LIG")]
        open_ = False
        previous = None
        for residue in own:
            assert (residue.name == "ACE") == (not open_)
            if open_ and residue.name != "NME" and previous.name != "ACE":
                assert int(residue.id) == int(previous.id) + 1
            open_ = residue.name != "NME"
            previous = residue
        assert not open_


def test_ligand_is_one_residue_in_the_order_of_its_molecule(system, atoms, pose):
    own = [atoms[index] for index in system.ligand]
    assert {(a.residue.name, a.residue.chain.id, a.residue.id) for a in own} == {("LIG", "L", "1")}
    assert [a.element.atomic_number for a in own] == [
        a.GetAtomicNum() for a in pose.ligand.mol.GetAtoms()
    ]


# ---------------------------------------------------------------- box and contacts


def test_box_holds_two_cutoffs_and_the_padding(system, solute):
    edges = np.diag(system.box_vectors)
    np.testing.assert_array_equal(system.box_vectors, np.diag(edges))
    assert (edges >= 2 * VESTIBULE.cutoff_nm).all()
    extent = np.ptp(system.positions[solute], axis=0)
    assert (edges - extent >= VESTIBULE.padding_nm - 0.01).all()
    density = (
        sum(
            system.openmm_system.getParticleMass(i)._value
            for i in range(system.openmm_system.getNumParticles())
        )
        * 1.66053906660e-3
        / edges.prod()
    )
    assert 0.85 < density < 1.2


def test_no_water_lies_in_the_solute(system, atoms, solute):
    edges = np.diag(system.box_vectors)
    heavy = [index for index in solute if atoms[index].element.symbol != "H"]
    oxygens = [a.index for a in atoms if a.residue.name == "HOH" and a.name == "O"]
    ions = [a.index for a in atoms if a.residue.name in ("NA", "CL")]
    tree = cKDTree(wrapped(system.positions[heavy], edges), boxsize=edges)
    distance, _ = tree.query(wrapped(system.positions[oxygens + ions], edges))
    assert distance.min() > 0.2
    water = cKDTree(wrapped(system.positions[oxygens], edges), boxsize=edges)
    # Nearer than the distance at which OpenMM joins the edges of its box of water, 0.177 nm.
    assert not water.query_pairs(0.17)


# ---------------------------------------------------------------- restraints


def test_restraints_cost_nothing_at_the_start(system):
    force = force_of(system, openmm.CustomExternalForce)
    force.setForceGroup(7)
    try:
        context = context_of(system, "Reference")
        context.setParameter("restraint_extra", 1000.0)

        def energy():
            return context.getState(energy=True, groups={7}).getPotentialEnergy()._value

        assert energy() == pytest.approx(0, abs=1e-9)
        # Once through the box and back changes nothing; 0.1 nm aside costs k d^2 / 2.
        context.setPositions(system.positions + system.box_vectors[0])
        assert energy() == pytest.approx(0, abs=1e-6)
        context.setPositions(system.positions + np.array([0.1, 0.0, 0.0]))
        k, e, *_ = np.sum(list(restraints(system).values()), axis=0)
        assert energy() == pytest.approx(0.5 * (k + 1000.0 * e) * 0.01, rel=1e-6)
        context.setParameter("restraint_scale", 0.0)
        context.setParameter("restraint_extra", 0.0)
        assert energy() == 0
    finally:
        force.setForceGroup(0)


def test_production_restraints_are_on_and_extra_ones_off(system):
    force = force_of(system, openmm.CustomExternalForce)
    defaults = {
        force.getGlobalParameterName(i): force.getGlobalParameterDefaultValue(i)
        for i in range(force.getNumGlobalParameters())
    }
    assert defaults == {"restraint_scale": 1.0, "restraint_extra": 0.0}


def test_restraints_grow_with_the_distance_from_the_ligand(system, atoms):
    ligand = system.positions[system.ligand]
    by_distance = []
    for index, (k, *_, x0, y0, z0) in restraints(system).items():
        np.testing.assert_allclose([x0, y0, z0], system.positions[index])
        distance = cdist(system.positions[[index]], ligand).min()
        backbone = atoms[index].name in ("N", "CA", "C", "O") and index not in system.ligand
        if not backbone or distance <= VESTIBULE.restraint_free_nm:
            assert k == 0
        elif distance >= VESTIBULE.restraint_full_nm:
            assert k == VESTIBULE.restraint_k
        else:
            assert 0 < k < VESTIBULE.restraint_k
        if backbone:
            by_distance.append((distance, k))
    distances, ks = np.array(sorted(by_distance)).T
    assert (np.diff(ks) >= -1e-6).all()
    assert (distances < VESTIBULE.restraint_free_nm).sum() > 10
    halfway = (VESTIBULE.restraint_free_nm + VESTIBULE.restraint_full_nm) / 2
    assert np.interp(halfway, distances, ks) == pytest.approx(VESTIBULE.restraint_k / 2, rel=0.05)


def test_extra_restraints_hold_every_heavy_atom_of_the_solute(system, atoms, solute):
    held = restraints(system)
    heavy = {index for index in solute.tolist() if atoms[index].element.symbol != "H"}
    assert held.keys() == heavy
    assert {parameters[1] for parameters in held.values()} == {1.0}
    assert all(held[index][0] == 0 for index in system.ligand.tolist() if index in held)


# ---------------------------------------------------------------- forces


def test_repartitioning_conserves_mass(system, atoms):
    masses = np.array(
        [system.openmm_system.getParticleMass(a.index)._value for a in atoms], dtype=float
    )
    natural = np.array([a.element.mass._value for a in atoms])
    assert masses.sum() == pytest.approx(natural.sum(), rel=1e-5)
    hydrogens = np.array(
        [a.element.symbol == "H" and a.residue.name != "HOH" for a in atoms], dtype=bool
    )
    np.testing.assert_allclose(masses[hydrogens], VESTIBULE.hydrogen_mass_da, atol=1e-6)
    assert masses.min() > 0.9


def test_forces_are_those_of_the_protocol(system, atoms):
    nonbonded = force_of(system, openmm.NonbondedForce)
    assert nonbonded.getNonbondedMethod() == openmm.NonbondedForce.PME
    assert nonbonded.getCutoffDistance()._value == pytest.approx(VESTIBULE.cutoff_nm)
    constrained = system.openmm_system.getNumConstraints()
    n_water = sum(r.name == "HOH" for r in system.topology.residues())
    hydrogens = sum(a.element.symbol == "H" and a.residue.name != "HOH" for a in atoms)
    assert constrained == 3 * n_water + hydrogens
    assert not any("Barostat" in type(f).__name__ for f in system.openmm_system.getForces())


def test_forces_are_finite_and_agree_with_reference_arithmetic(system):
    force = [
        context_of(system, platform)
        .getState(forces=True)
        .getForces(asNumpy=True)
        .value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
        for platform in ("CPU", "Reference")
    ]
    assert np.isfinite(force[0]).all()
    difference = np.linalg.norm(force[0] - force[1]) / np.linalg.norm(force[1])
    # Single precision, in a box that nothing has relaxed yet.
    assert difference < 5e-3


# ---------------------------------------------------------------- repeatability and refusals


@pytest.mark.slow
def test_a_seed_decides_the_build(system, pose):
    before = pose.receptor_positions.copy(), pose.positions.copy()
    again, other = (build_system(pose, seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(pose.receptor_positions, before[0])
    np.testing.assert_array_equal(pose.positions, before[1])
    np.testing.assert_array_equal(again.positions, system.positions)
    np.testing.assert_array_equal(again.box_vectors, system.box_vectors)
    assert openmm.XmlSerializer.serialize(again.openmm_system) == openmm.XmlSerializer.serialize(
        system.openmm_system
    )
    assert other.positions.shape != system.positions.shape or not np.array_equal(
        other.positions, system.positions
    )


def test_protocols_are_found_by_name_and_cannot_change():
    assert find_protocol("vestibule") is VESTIBULE
    assert all(name == protocol.name for name, protocol in PROTOCOLS.items())
    with pytest.raises(FrozenInstanceError):
        VESTIBULE.timestep_fs = 5.0
    numbers = asdict(VESTIBULE)
    assert (numbers["temperature_k"], numbers["timestep_fs"]) == (310.0, 4.0)
    assert numbers["ionic_strength_m"] == 0.15


def test_an_unknown_protocol_is_refused():
    with pytest.raises(ProtocolError, match=r"unknown protocol 'vestibul'.* vestibule"):
        find_protocol("vestibul")


def test_methods_name_what_was_done_with_sources(system, pose):
    text = " ".join(system.methods)
    for words in ("7EU8", "ff14SB", "TIP3P", "mesh Ewald", "0.15 M", pose.ligand.smiles):
        assert words in text
    assert text.count("doi:10.") >= 5
    assert f"{10 * pose.shift_nm:.2f} Angstrom" in text


@pytest.mark.slow
def test_short_dynamics_stay_finite_and_warm(system):
    integrator = openmm.LangevinMiddleIntegrator(310.0, 10.0, 0.002)
    integrator.setRandomNumberSeed(1)
    context = context_of(system, "CPU", integrator)
    openmm.LocalEnergyMinimizer.minimize(context, 50.0, 100)
    context.setVelocitiesToTemperature(310.0, 1)
    n_degrees = (
        3 * system.openmm_system.getNumParticles() - system.openmm_system.getNumConstraints() - 3
    )
    temperatures = []
    for step in range(20):
        integrator.step(50)
        state = context.getState(energy=True, positions=step == 19)
        kinetic = state.getKineticEnergy().value_in_unit(unit.kilojoule_per_mole)
        temperatures.append(2 * kinetic / n_degrees / GAS_CONSTANT)
    assert np.mean(temperatures[10:]) == pytest.approx(310.0, abs=10)
    places = state.getPositions(asNumpy=True)._value
    assert np.isfinite(places).all()
    moved = np.linalg.norm(places[system.ligand] - system.positions[system.ligand], axis=1)
    assert moved.max() < 0.4
