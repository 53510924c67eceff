import io
import json
import sys
import warnings
from decimal import Decimal
from xml.etree import ElementTree

import numpy as np
import openmm
import pytest
from openmm import app, unit
from rdkit import Chem

from nmdasim.errors import ParametersError, RunStorageError
from nmdasim.ligand import library, load_ligand
from nmdasim.parameters import (
    cache_file,
    generate_parameters,
    interchange_system,
    load_parameters,
    read_parameters,
    ships,
    write_parameters,
)

STATES = [state for entry in library() for state in load_ligand(entry.name).states if ships(state)]
every_state = pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)

AMBER = ("amber14-all.xml", "amber14/tip3p.xml")


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def generator():
    """Skip where the optional programs that make parameters are not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("openff.toolkit", reason="needs the `parameters` extra")
        pytest.importorskip("openff.interchange", reason="needs the `parameters` extra")


def topology_of(mol, *, order=None, named=True):
    order = range(mol.GetNumAtoms()) if order is None else order
    topology = app.Topology()
    residue = topology.addResidue("LIG" if named else "UNK", topology.addChain("L"), "1")
    atoms = {}
    for place, index in enumerate(order):
        atom = mol.GetAtomWithIdx(int(index))
        name = atom.GetPDBResidueInfo().GetName().strip() if named else f"X{place}"
        element = app.Element.getByAtomicNumber(atom.GetAtomicNum())
        atoms[int(index)] = topology.addAtom(name, element, residue)
    for bond in mol.GetBonds():
        topology.addBond(atoms[bond.GetBeginAtomIdx()], atoms[bond.GetEndAtomIdx()])
    return topology


def positions_of(state, *, seed=1):
    """Coordinates in nm, shaken so that no term rests in its minimum."""
    shake = np.random.default_rng(seed).normal(scale=0.005, size=(state.mol.GetNumAtoms(), 3))
    return state.mol.GetConformer().GetPositions() / 10.0 + shake


def system_of(state, *, parameters=None, order=None, named=True):
    ffxml = (parameters or load_parameters(state)).ffxml
    force_field = app.ForceField(*AMBER, io.StringIO(ffxml))
    return force_field.createSystem(topology_of(state.mol, order=order, named=named))


def nonbonded(system):
    return next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))


def terms(system, positions):
    """Potential energy of each kind of force, kJ/mol."""
    for group, force in enumerate(system.getForces()):
        force.setForceGroup(group)
    context = openmm.Context(
        system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(positions)
    return {
        type(force).__name__: context.getState(getEnergy=True, groups={group})
        .getPotentialEnergy()
        .value_in_unit(unit.kilojoule_per_mole)
        for group, force in enumerate(system.getForces())
        if not isinstance(force, openmm.CMMotionRemover)
    }


@every_state
def test_net_charge_is_exact(state):
    root = ElementTree.fromstring(load_parameters(state).ffxml)
    charges = [Decimal(atom.get("charge")) for atom in root.findall("Residues/Residue/Atom")]
    assert sum(charges) == state.charge
    record = load_parameters(state).record
    assert list(record["charges"].values()) == [float(charge) for charge in charges]
    assert (record["smiles"], record["charge"]) == (state.smiles, state.charge)


@every_state
def test_no_name_or_order_is_needed_to_find_the_template(state):
    reference = terms(system_of(state), positions_of(state))
    order = np.random.default_rng(2).permutation(state.mol.GetNumAtoms())
    found = terms(system_of(state, order=order, named=False), positions_of(state)[order])
    assert found == pytest.approx(reference, abs=1e-9)


@every_state
def test_equivalent_atoms_have_equal_charges(state):
    charges = np.array(list(load_parameters(state).record["charges"].values()))
    ranks = np.array(Chem.CanonicalRankAtoms(state.mol, breakTies=False, includeChirality=False))
    assert len(set(ranks)) < len(ranks)
    for rank in set(ranks):
        assert np.ptp(charges[ranks == rank]) == 0.0


@pytest.mark.parametrize("charge", [0, 1])
def test_mirror_images_have_equal_parameters(charge):
    s, r = (
        next(state for state in STATES if state.name == f"{name}-ketamine{charge:+d}")
        for name in "SR"
    )
    match = np.array(r.mol.GetSubstructMatch(s.mol, useChirality=False))
    of_s, of_r = (np.array(list(load_parameters(x).record["charges"].values())) for x in (s, r))
    np.testing.assert_array_equal(of_s, of_r[match])
    mirrored = np.empty((len(match), 3))
    mirrored[match] = positions_of(s) * [-1.0, 1.0, 1.0]
    assert terms(system_of(r), mirrored) == pytest.approx(
        terms(system_of(s), positions_of(s)), abs=1e-9
    )


@every_state
def test_atoms_three_bonds_apart_are_scaled_as_in_amber(state):
    system = system_of(state)
    force = nonbonded(system)
    particles = [
        [x.value_in_unit_system(unit.md_unit_system) for x in force.getParticleParameters(i)]
        for i in range(force.getNumParticles())
    ]
    distances = Chem.GetDistanceMatrix(state.mol)
    seen = set()
    for index in range(force.getNumExceptions()):
        i, j, *values = force.getExceptionParameters(index)
        product, sigma, epsilon = (v.value_in_unit_system(unit.md_unit_system) for v in values)
        (q1, s1, e1), (q2, s2, e2) = particles[i], particles[j]
        seen.add(distances[i, j])
        if distances[i, j] == 3:
            assert product == pytest.approx(q1 * q2 / 1.2, rel=1e-6)
            assert epsilon == pytest.approx(0.5 * np.sqrt(e1 * e2), rel=1e-9)
            assert sigma == pytest.approx((s1 + s2) / 2, rel=1e-9)
        else:
            assert (product, epsilon) == (0.0, 0.0)
    assert seen == {1.0, 2.0, 3.0}


@every_state
def test_minimised_with_these_parameters_it_keeps_its_chirality(state):
    system = system_of(state)
    context = openmm.Context(
        system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(positions_of(state))
    forces = context.getState(getForces=True).getForces(asNumpy=True)
    assert np.isfinite(forces._value).all()
    before = sum(terms(system, positions_of(state)).values())
    openmm.LocalEnergyMinimizer.minimize(context, 1.0)
    final = context.getState(getPositions=True, getEnergy=True)
    assert final.getPotentialEnergy()._value < before - 10.0
    mol = Chem.Mol(state.mol)
    mol.GetConformer().SetPositions(final.getPositions(asNumpy=True)._value * 10.0)
    Chem.AssignStereochemistryFrom3D(mol)
    assert Chem.MolToSmiles(Chem.RemoveHs(mol)) == state.smiles


def test_states_of_one_ligand_can_be_loaded_together():
    ligand = load_ligand("S-ketamine")
    texts = [io.StringIO(load_parameters(state).ffxml) for state in ligand.states]
    force_field = app.ForceField(*AMBER, *texts)
    for state in ligand.states:
        system = force_field.createSystem(topology_of(state.mol))
        force = nonbonded(system)
        total = sum(
            force.getParticleParameters(i)[0]._value for i in range(force.getNumParticles())
        )
        assert total == pytest.approx(state.charge, abs=1e-9)


def test_all_ligands_have_their_own_atom_types():
    types = [
        atom.get("name")
        for state in STATES
        for atom in ElementTree.fromstring(load_parameters(state).ffxml).iter("Type")
    ]
    assert len(set(types)) == len(types)


def test_shipped_parameters_are_found_by_chemistry(empty_cache):
    written_otherwise = load_ligand("Clc1ccccc1[C@@]1(NC)CCCCC1=O")
    named = load_ligand("S-ketamine" if written_otherwise.cip == "S" else "R-ketamine")
    found = load_parameters(written_otherwise.states[0])
    assert found.record["sha256"] == load_parameters(named.states[0]).record["sha256"]
    assert not cache_file(named.states[0]).exists()


def test_a_new_molecule_without_the_generator_says_what_to_install(empty_cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "openff.toolkit", None)
    with pytest.raises(ParametersError, match=r'pip install "nmdasim\[parameters\]"') as caught:
        load_parameters(load_ligand("CCN").states[0])
    assert "\n" not in str(caught.value)


def test_kept_parameters_are_used_and_damaged_ones_are_not(empty_cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "openff.toolkit", None)
    state = load_ligand("CCN").states[0]
    shipped = load_parameters(STATES[0])
    path = cache_file(state)
    path.parent.mkdir(parents=True)
    record = {**shipped.record, "method": shipped.method, "ffxml": shipped.ffxml}
    path.write_text(json.dumps(record), encoding="utf-8")
    assert load_parameters(state).ffxml == shipped.ffxml

    path.write_text(path.read_text(encoding="utf-8")[:500], encoding="utf-8")
    with (
        pytest.warns(UserWarning, match="generated again"),
        pytest.raises(ParametersError, match="generator"),
    ):
        load_parameters(state)


def test_written_parameters_read_back_and_show_changes(tmp_path):
    shipped = load_parameters(STATES[0])
    write_parameters(shipped, tmp_path / "x+1")
    read = read_parameters(tmp_path / "x+1.json")
    assert (read.ffxml, dict(read.record), read.method) == (
        shipped.ffxml,
        dict(shipped.record),
        shipped.method,
    )
    (tmp_path / "x+1.xml").write_text(shipped.ffxml.replace("0.5", "0.6"), encoding="utf-8")
    with pytest.raises(ParametersError, match="was changed after it was made"):
        read_parameters(tmp_path / "x+1.json")
    (tmp_path / "x+1.xml").unlink()
    with pytest.raises(ParametersError, match="missing or damaged"):
        read_parameters(tmp_path / "x+1.json")
    with pytest.raises(RunStorageError, match="cannot write the parameters"):
        write_parameters(shipped, tmp_path / "missing" / "x+1")


@pytest.mark.slow
@every_state
def test_energies_equal_those_of_openff_interchange(generator, state):
    micro = [round(1e6 * q) for q in load_parameters(state).record["charges"].values()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = interchange_system(state, micro)
    for seed in range(3):
        positions = positions_of(state, seed=seed)
        assert terms(system_of(state), positions) == pytest.approx(
            terms(reference, positions), abs=1e-6
        )


@pytest.mark.slow
def test_generating_again_gives_what_ships(generator):
    state = STATES[0]
    made, shipped = generate_parameters(state), load_parameters(state)
    # sqm's optimiser ends at slightly different geometries on different machines.
    assert dict(made.record["charges"]) == pytest.approx(shipped.record["charges"], abs=0.002)
    assert sum(terms(system_of(state), positions_of(state)).values()) == pytest.approx(
        sum(terms(system_of(state, parameters=made), positions_of(state)).values()), abs=5.0
    )


@pytest.mark.slow
def test_new_mirror_images_are_generated_alike_and_kept(generator, empty_cache):
    s, r = (load_ligand(smiles).states[0] for smiles in ("C[C@H](N)CO", "C[C@@H](N)CO"))
    of_s, of_r = (load_parameters(state).record["charges"] for state in (s, r))
    match = r.mol.GetSubstructMatch(s.mol, useChirality=False)
    assert list(of_s.values()) == [list(of_r.values())[index] for index in match]
    assert sum(Decimal(str(charge)) for charge in of_s.values()) == 1
    assert read_parameters(cache_file(s)).ffxml == load_parameters(s).ffxml
