import copy
import io
import itertools
import json
import re
import runpy
import sys
import warnings
from dataclasses import replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import openmm
import pytest
from openmm import app, unit
from rdkit import Chem
from rdkit.Chem import rdDetermineBonds, rdDistGeom

from nmdasim.errors import ParametersError, RunStorageError
from nmdasim.ligand import library, load_ligand
from nmdasim.parameters import (
    METHOD_VERSION,
    cache_file,
    cache_folder,
    generate_parameters,
    interchange_system,
    load_parameters,
    read_parameters,
    ships,
    write_parameters,
)
from nmdasim.structures import structures_folder

FOLDER = structures_folder() / "ligands"
ION = "magnesium"
RECORDS = sorted(path for path in FOLDER.glob("*/*.json") if path.parent.name != ION)
#: Always tested: both states, two stereocentres, a cage. The others are marked slow.
QUICK = {"S-ketamine+1", "S-ketamine+0", "2R6R-hydroxynorketamine+1", "memantine+1"}
PROTEIN_AND_WATER = ("amber14/protein.ff14SB.xml", "amber14/tip3p.xml")

every_species = pytest.mark.parametrize(
    "record",
    [
        pytest.param(path, id=path.stem, marks=() if path.stem in QUICK else pytest.mark.slow)
        for path in RECORDS
    ],
)


@cache
def ligand_of(name):
    return load_ligand(name)


def state_of(record):
    """The charge state that a record is named after."""
    states = ligand_of(record.parent.name).states
    (state,) = (state for state in states if state.name == record.stem)
    return state


def shipped(name):
    return state_of(FOLDER / name.rpartition("+")[0] / f"{name}.json")


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NMDASIM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def no_generator(monkeypatch):
    """As on a machine without the `parameters` extra."""
    monkeypatch.setitem(sys.modules, "openff.toolkit", None)


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


def system_of(state, *, parameters=None, order=None, named=True, files=(), **options):
    """Describe a charge state with OpenMM alone, or beside other force-field files."""
    ffxml = (parameters or load_parameters(state)).ffxml
    force_field = app.ForceField(*files, io.StringIO(ffxml))
    topology = topology_of(state.mol, order=order, named=named)
    return force_field.createSystem(topology, **options)


def force_of(system, kind):
    """The force of a kind; it dies with the system."""
    (force,) = (force for force in system.getForces() if isinstance(force, kind))
    return force


def numbers(quantities):
    return [quantity.value_in_unit_system(unit.md_unit_system) for quantity in quantities]


def split(system):
    """The terms of a force field, each as a force of its own."""
    bonds = force_of(system, openmm.HarmonicBondForce)
    bonded = {frozenset(bonds.getBondParameters(i)[:2]) for i in range(bonds.getNumBonds())}
    constrained = (system.getConstraintParameters(i)[:2] for i in range(system.getNumConstraints()))
    bonded |= {frozenset(pair) for pair in constrained}
    torsions = force_of(system, openmm.PeriodicTorsionForce)
    propers, impropers = openmm.PeriodicTorsionForce(), openmm.PeriodicTorsionForce()
    for i in range(torsions.getNumTorsions()):
        *atoms, periodicity, phase, k = torsions.getTorsionParameters(i)
        proper = all(frozenset(pair) in bonded for pair in itertools.pairwise(atoms))
        (propers if proper else impropers).addTorsion(*atoms, periodicity, phase, k)
    everything = force_of(system, openmm.NonbondedForce)
    return {
        "bonds": copy.deepcopy(bonds),
        "angles": copy.deepcopy(force_of(system, openmm.HarmonicAngleForce)),
        "proper torsions": propers,
        "improper torsions": impropers,
        "coulomb": _only(everything, charge=1, pairs=0),
        "coulomb 1-4": _only(everything, charge=1, pairs=1),
        "lennard-jones": _only(everything, charge=0, pairs=0),
        "lennard-jones 1-4": _only(everything, charge=0, pairs=1),
    }


def _only(force, *, charge, pairs):
    """Keep one of the two nonbonded interactions, either of 1-4 pairs or of all others."""
    force, lj = copy.deepcopy(force), 1 - charge
    for i in range(force.getNumParticles()):
        q, sigma, epsilon = force.getParticleParameters(i)
        keep = 1 - pairs
        force.setParticleParameters(i, q * charge * keep, sigma, epsilon * lj * keep)
    for i in range(force.getNumExceptions()):
        a, b, product, sigma, epsilon = force.getExceptionParameters(i)
        force.setExceptionParameters(i, a, b, product * charge * pairs, sigma, epsilon * lj * pairs)
    return force


def energies(system, conformations):
    """Energy of each term in each conformation, kJ/mol: a list for each term."""
    parts = split(system)
    apart = openmm.System()
    for i in range(system.getNumParticles()):
        apart.addParticle(system.getParticleMass(i))
    for group, force in enumerate(parts.values()):
        force.setForceGroup(group)
        apart.addForce(force)
    context = reference_context(apart)
    found = {name: [] for name in parts}
    for positions in conformations:
        context.setPositions(positions)
        for group, name in enumerate(parts):
            energy = context.getState(getEnergy=True, groups={group}).getPotentialEnergy()
            found[name].append(energy.value_in_unit(unit.kilojoule_per_mole))
    return found


def reference_context(system, integrator=None):
    platform = openmm.Platform.getPlatformByName("Reference")
    return openmm.Context(system, integrator or openmm.VerletIntegrator(0.001), platform)


def assert_same_terms(one, other, tolerance):
    assert one.keys() == other.keys()
    for name in one:
        allowed = tolerance.get(name, tolerance["else"])
        assert one[name] == pytest.approx(other[name], abs=allowed), name


def assert_intact(mol, positions_nm):
    """Every bond is there and no other, every stereocentre is as it was."""
    seen = Chem.Mol(mol)
    seen.GetConformer().SetPositions(np.asarray(positions_nm) * 10.0)
    bare = Chem.RWMol(seen)
    for bond in mol.GetBonds():
        bare.RemoveBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
    rdDetermineBonds.DetermineConnectivity(bare)
    pairs = [
        {frozenset((b.GetBeginAtomIdx(), b.GetEndAtomIdx())) for b in m.GetBonds()}
        for m in (mol, bare)
    ]
    assert pairs[0] == pairs[1]
    Chem.AssignAtomChiralTagsFromStructure(seen, replaceExistingTags=True)
    for atom, now in zip(mol.GetAtoms(), seen.GetAtoms(), strict=True):
        if atom.GetChiralTag() != Chem.ChiralType.CHI_UNSPECIFIED:
            assert now.GetChiralTag() == atom.GetChiralTag(), atom.GetIdx()


# --- what ships ----------------------------------------------------------------------


def test_every_state_of_the_library_ships():
    records = {path.stem: path.parent.name for path in FOLDER.glob("*/*.json")}
    wanted = {
        f"{entry.name}{charge:+d}": entry.name
        for entry in library()
        for charge in ((2,) if entry.kind == "ion" else (0, 1))
    }
    assert records == wanted
    assert {path.with_suffix(".xml").is_file() for path in FOLDER.glob("*/*.json")} == {True}


@every_species
def test_net_charge_is_exact(record):
    state, parameters = state_of(record), load_parameters(state_of(record))
    root = ElementTree.fromstring(parameters.ffxml)
    charges = [Decimal(atom.get("charge")) for atom in root.findall("Residues/Residue/Atom")]
    assert sum(charges) == state.charge
    assert list(parameters.record["charges"].values()) == [float(charge) for charge in charges]
    assert (parameters.record["smiles"], parameters.record["charge"]) == (
        state.smiles,
        state.charge,
    )
    assert ships(state)
    assert parameters.record["method_version"] == METHOD_VERSION
    assert set(parameters.record["versions"]) > {"openmm", "rdkit"}


@every_species
def test_no_name_or_order_is_needed_to_find_the_template(record):
    state = state_of(record)
    order = np.random.default_rng(2).permutation(state.mol.GetNumAtoms())
    found = energies(system_of(state, order=order, named=False), [positions_of(state)[order]])
    assert_same_terms(found, energies(system_of(state), [positions_of(state)]), {"else": 1e-9})


@every_species
def test_equivalent_atoms_have_equal_charges(record):
    state = state_of(record)
    charges = np.array(list(load_parameters(state).record["charges"].values()))
    ranks = np.array(Chem.CanonicalRankAtoms(state.mol, breakTies=False, includeChirality=False))
    assert len(set(ranks)) < len(ranks)
    for rank in set(ranks):
        assert np.ptp(charges[ranks == rank]) == 0.0


def mirror_pairs():
    """Names of the pairs of mirror images among what ships."""
    by_smiles = {json.loads(path.read_text())["smiles"]: path for path in RECORDS}
    for smiles, path in by_smiles.items():
        mol = Chem.MolFromSmiles(smiles)
        for atom in mol.GetAtoms():
            atom.InvertChirality()
        mirrored = by_smiles.get(Chem.MolToSmiles(mol))
        if mirrored is not None and path < mirrored:
            yield path, mirrored


PAIRS = list(mirror_pairs())


def test_the_library_holds_both_hands_of_its_families():
    assert {name.parent.name for pair in PAIRS for name in pair} >= {
        "S-ketamine", "R-norketamine", "S-dehydronorketamine", "2R6R-hydroxynorketamine",
        "2S6R-hydroxynorketamine", "2R4S-hydroxynorketamine", "2S5S-hydroxynorketamine",
        "2S6S-hydroxyketamine", "plus-MK-801", "R-methoxetamine",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(
            *pair, id=pair[0].stem, marks=() if pair[1].stem in QUICK else pytest.mark.slow
        )
        for pair in PAIRS
    ],
)
def test_mirror_images_have_equal_parameters(first, second):
    one, other = state_of(first), state_of(second)
    match = np.array(other.mol.GetSubstructMatch(one.mol, useChirality=False))
    charges, of_other = (
        np.array(list(load_parameters(x).record["charges"].values())) for x in (one, other)
    )
    np.testing.assert_array_equal(charges, of_other[match])
    mirrored = np.empty((len(match), 3))
    mirrored[match] = positions_of(one) * [-1.0, 1.0, 1.0]
    assert_same_terms(
        energies(system_of(other), [mirrored]),
        energies(system_of(one), [positions_of(one)]),
        {"else": 1e-9},
    )


@pytest.mark.parametrize("charge", [0, 1])
def test_diastereomers_have_charges_of_their_own(charge):
    of = {
        name: read_parameters(FOLDER / f"{name}-hydroxynorketamine" / f"{name}-{rest}").record
        for name in ("2R6R", "2R6S", "2R4R", "2R4S", "2R5R", "2R5S")
        for rest in (f"hydroxynorketamine{charge:+d}.json",)
    }
    for one, other in (("2R6R", "2R6S"), ("2R4R", "2R4S"), ("2R5R", "2R5S")):
        assert sorted(of[one]["charges"].values()) != sorted(of[other]["charges"].values())


@every_species
def test_atoms_three_bonds_apart_are_scaled_as_in_amber(record):
    state = state_of(record)
    system = system_of(state, files=PROTEIN_AND_WATER)
    force = force_of(system, openmm.NonbondedForce)
    particles = [numbers(force.getParticleParameters(i)) for i in range(force.getNumParticles())]
    distances = Chem.GetDistanceMatrix(state.mol)
    seen = set()
    for index in range(force.getNumExceptions()):
        i, j, *values = force.getExceptionParameters(index)
        product, sigma, epsilon = numbers(values)
        (q1, s1, e1), (q2, s2, e2) = particles[i], particles[j]
        seen.add(distances[i, j])
        if distances[i, j] == 3:
            assert product == pytest.approx(q1 * q2 / 1.2, rel=1e-6)
            assert epsilon == pytest.approx(0.5 * np.sqrt(e1 * e2), rel=1e-9)
            assert sigma == pytest.approx((s1 + s2) / 2, rel=1e-9)
        else:
            assert (product, epsilon) == (0.0, 0.0)
    assert seen == {1.0, 2.0, 3.0}


@every_species
def test_minimised_with_these_parameters_it_keeps_its_bonds_and_chirality(record):
    state = state_of(record)
    context = reference_context(system_of(state))
    context.setPositions(positions_of(state))
    start = context.getState(getForces=True, getEnergy=True)
    assert np.isfinite(start.getForces(asNumpy=True)._value).all()
    openmm.LocalEnergyMinimizer.minimize(context, 1.0)
    final = context.getState(getPositions=True, getEnergy=True)
    assert final.getPotentialEnergy()._value < start.getPotentialEnergy()._value - 10.0
    assert_intact(state.mol, final.getPositions(asNumpy=True)._value)


@every_species
def test_it_stays_whole_in_vacuum_at_the_time_step_of_production(record):
    state = state_of(record)
    system = system_of(state, constraints=app.HBonds, hydrogenMass=3.0 * unit.dalton)
    integrator = openmm.LangevinMiddleIntegrator(310.0, 1.0, 0.004)
    integrator.setRandomNumberSeed(1)
    context = reference_context(system, integrator)
    context.setPositions(state.mol.GetConformer().GetPositions() / 10.0)
    openmm.LocalEnergyMinimizer.minimize(context, 10.0)
    context.setVelocitiesToTemperature(310.0, 1)
    degrees = 3 * system.getNumParticles() - system.getNumConstraints()
    temperatures = []
    for _ in range(40):
        integrator.step(10)
        kinetic = context.getState(getEnergy=True).getKineticEnergy()._value
        temperatures.append(2.0 * kinetic / (degrees * 0.00831446))
    assert max(temperatures) < 620.0
    assert 200.0 < np.mean(temperatures) < 420.0
    # A stretched bond of a hot molecule is no other molecule.
    openmm.LocalEnergyMinimizer.minimize(context, 10.0)
    assert_intact(state.mol, context.getState(getPositions=True).getPositions(asNumpy=True)._value)


def test_states_of_one_ligand_can_be_loaded_together():
    ligand = ligand_of("S-ketamine")
    texts = [io.StringIO(load_parameters(state).ffxml) for state in ligand.states]
    force_field = app.ForceField(*PROTEIN_AND_WATER, *texts)
    for state in ligand.states:
        system = force_field.createSystem(topology_of(state.mol))
        force = force_of(system, openmm.NonbondedForce)
        total = sum(
            numbers(force.getParticleParameters(i))[0] for i in range(force.getNumParticles())
        )
        assert total == pytest.approx(state.charge, abs=1e-9)


def test_all_ligands_have_their_own_atom_types():
    types = [
        kind.get("name")
        for path in RECORDS
        for kind in ElementTree.parse(path.with_suffix(".xml")).iter("Type")
    ]
    assert len(set(types)) == len(types)


# --- a second method -----------------------------------------------------------------

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_second_method_agrees_and_the_documents_say_how_well():
    script = runpy.run_path(str(ROOT / "benchmarks" / "charge_methods.py"))
    second = json.loads((ROOT / "benchmarks" / "charge_methods.json").read_text())["charges"]
    assert second.keys() == {path.stem for path in RECORDS}
    states = script["library_states"]()
    for state in states:
        assert sum(second[state.name]) == pytest.approx(state.charge, abs=0.001)
    page = (ROOT / "docs" / "ligand-parameters.md").read_text()
    found = script["compare"](states, second)
    # The dipoles stand on conformers, which other releases of RDKit build otherwise.
    row = r"^\| (\S+\+.+) \| (.+) \| (.+) \| (.+) \| [\d.]+ \| [\d.]+ \|$"
    documented = set(re.findall(row, page, re.MULTILINE))
    assert documented == {(d.name, f"{d.rms_e:.3f}", f"{d.largest_e:+.3f}", d.atom) for d in found}
    # MMFF94 and Gasteiger charges are off by 0.12 e.
    assert max(d.rms_e for d in found) < 0.02


# --- the ion -------------------------------------------------------------------------


def test_magnesium_has_the_numbers_of_its_paper():
    (state,) = ligand_of(ION).states
    force_field = app.ForceField(io.StringIO(load_parameters(state).ffxml))
    system = force_field.createSystem(topology_of(state.mol))
    force = force_of(system, openmm.NonbondedForce)
    charge, sigma, epsilon = numbers(force.getParticleParameters(0))
    # Compromise set for TIP3P of doi:10.1021/ct400146w: Rmin/2 1.360 A, 0.01020237 kcal/mol.
    assert charge == 2.0
    assert sigma == pytest.approx(2 * 0.1360 / 2 ** (1 / 6), rel=1e-7)
    assert epsilon == pytest.approx(0.01020237 * 4.184, rel=1e-7)


@pytest.mark.parametrize("last", [True, False])
def test_magnesium_is_the_same_alone_and_beside_the_file_of_the_water(last):
    (state,) = ligand_of(ION).states
    alone = io.StringIO(load_parameters(state).ffxml)
    files = (*PROTEIN_AND_WATER, alone) if last else (alone, *PROTEIN_AND_WATER)
    topology = topology_of(state.mol)
    systems = [app.ForceField(*f).createSystem(topology) for f in (files, PROTEIN_AND_WATER)]
    here, there = (
        numbers(force_of(system, openmm.NonbondedForce).getParticleParameters(0))
        for system in systems
    )
    assert here == there


def test_magnesium_ships_as_it_is_made():
    (state,) = ligand_of(ION).states
    made, found = generate_parameters(state), load_parameters(state)
    assert (made.ffxml, made.method) == (found.ffxml, found.method)
    assert found.record["charges"] == {"Mg1": 2.0}


def test_an_ion_without_parameters_is_refused():
    (state,) = ligand_of(ION).states
    mol = Chem.RWMol(state.mol)
    mol.GetAtomWithIdx(0).SetAtomicNum(30)
    with pytest.raises(ParametersError, match=r"the ion \[Zn\+2\].*\[Mg\+2\]"):
        generate_parameters(replace(state, mol=mol, smiles="[Zn+2]"))


# --- finding and keeping -------------------------------------------------------------


def test_shipped_parameters_are_found_by_chemistry(empty_cache):
    written_otherwise = load_ligand("Clc1ccccc1[C@@]1(NC)CCCCC1=O")
    named = ligand_of("S-ketamine" if written_otherwise.cip == "S" else "R-ketamine")
    found = load_parameters(written_otherwise.states[0])
    assert found.record["sha256"] == load_parameters(named.states[0]).record["sha256"]
    assert not cache_folder().exists()


def test_the_mirror_image_of_what_ships_needs_no_generator(empty_cache, no_generator):
    other = load_ligand("COc1ccc2C[C@H]3N(C)CC[C@@]4(CCCC[C@@H]34)c2c1")
    assert (other.cip, ships(other.states[0])) == ("R,R,R", True)
    for state in other.states:
        one = shipped(f"dextromethorphan{state.charge:+d}")
        found = load_parameters(state)
        assert found.record["mirror_image_of"] == one.smiles
        assert found.record["smiles"] == state.smiles
        match = np.array(state.mol.GetSubstructMatch(one.mol, useChirality=False))
        mirrored = np.empty((len(match), 3))
        mirrored[match] = positions_of(one) * [1.0, 1.0, -1.0]
        assert_same_terms(
            energies(system_of(state), [mirrored]),
            energies(system_of(one), [positions_of(one)]),
            {"else": 1e-9},
        )
        names = [atom.GetPDBResidueInfo().GetName().strip() for atom in state.mol.GetAtoms()]
        assert list(found.record["charges"]) == names
        charges = dict.fromkeys(names, 0.0)
        for atom in ElementTree.fromstring(found.ffxml).findall("Residues/Residue/Atom"):
            charges[atom.get("name")] = float(atom.get("charge"))
        assert found.record["charges"] == charges


def test_a_new_molecule_without_the_generator_says_what_to_install(empty_cache, no_generator):
    with pytest.raises(ParametersError, match=r'pip install "nmdasim\[parameters\]"') as caught:
        load_parameters(load_ligand("CCN").states[0])
    assert "\n" not in str(caught.value)


def keep(state, **changes):
    """Put an entry for a charge state into the cache."""
    ketamine = load_parameters(shipped("S-ketamine+1"))
    record = {**ketamine.record, "smiles": state.smiles, **changes}
    path = cache_file(state)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {**record, "method": ketamine.method, "ffxml": ketamine.ffxml}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_kept_parameters_are_used(empty_cache, no_generator):
    state = load_ligand("CCN").states[0]
    keep(state)
    assert load_parameters(state).ffxml == load_parameters(shipped("S-ketamine+1")).ffxml


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"smiles": "CO"}, "are those of CO"),
        ({"smiles": None}, "missing or damaged|was changed"),
        ({"sha256": "0"}, "was changed after it was made"),
        ({"method_version": "older"}, "was made by another method"),
    ],
)
def test_entries_that_do_not_belong_are_made_again(empty_cache, no_generator, changes, says):
    state = load_ligand("CCN").states[0]
    keep(state, **changes)
    with (
        pytest.warns(UserWarning, match=f"({says}).*it is generated again"),
        pytest.raises(ParametersError, match="generator"),
    ):
        load_parameters(state)


@pytest.mark.parametrize("n_bytes", [0, 1, 500])
def test_a_torn_entry_is_made_again(empty_cache, no_generator, n_bytes):
    state = load_ligand("CCN").states[0]
    path = keep(state)
    path.write_bytes(path.read_bytes()[:n_bytes])
    with (
        pytest.warns(UserWarning, match="damaged; it is generated again"),
        pytest.raises(ParametersError, match="generator"),
    ):
        load_parameters(state)


def test_the_cache_lies_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("NMDASIM_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "common"))
    assert cache_folder() == tmp_path / "own" / "parameters"
    monkeypatch.delenv("NMDASIM_CACHE")
    assert cache_folder() == tmp_path / "common" / "nmdasim" / "parameters"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache" / "nmdasim" / "parameters"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "nmdasim" / "parameters"


def test_the_cache_tells_chemistry_apart_and_mirror_images_not():
    def names(*texts):
        return {cache_file(s).name for text in texts for s in load_ligand(text).states}

    # Morpholine as cation and as amine; a ketone and its enol, each with states of its own.
    assert len(names("C1COCCN1")) == 2
    ketone, enol = names("CC(=O)CN"), names("C=C(O)CN")
    assert ketone.isdisjoint(enol)
    assert len(ketone) == 2
    assert len(enol) >= 2
    assert names("C[C@H](N)CO") == names("C[C@@H](N)CO") == names("OC[C@H](C)N")


def test_written_parameters_read_back_and_show_changes(tmp_path):
    found = load_parameters(shipped("S-ketamine+1"))
    write_parameters(found, tmp_path / "x+1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x+1.json", "x+1.xml"]
    read = read_parameters(tmp_path / "x+1.json")
    assert (read.ffxml, dict(read.record), read.method) == (
        found.ffxml,
        dict(found.record),
        found.method,
    )
    (tmp_path / "x+1.xml").write_text(found.ffxml.replace("0.5", "0.6"), encoding="utf-8")
    with pytest.raises(ParametersError, match="was changed after it was made"):
        read_parameters(tmp_path / "x+1.json")
    (tmp_path / "x+1.xml").unlink()
    with pytest.raises(ParametersError, match="missing or damaged"):
        read_parameters(tmp_path / "x+1.json")
    with pytest.raises(RunStorageError, match="cannot write the parameters"):
        write_parameters(found, tmp_path / "missing" / "x+1")


# --- making them ---------------------------------------------------------------------


@pytest.mark.slow
@every_species
def test_terms_equal_those_of_openff_interchange(generator, record):
    state = state_of(record)
    micro = [round(1e6 * q) for q in load_parameters(state).record["charges"].values()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = interchange_system(state, micro)
    shaken = [positions_of(state, seed=seed) for seed in range(3)]
    assert_same_terms(
        energies(system_of(state), shaken), energies(reference, shaken), {"else": 1e-6}
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["S-ketamine+1", "amantadine+1"])
def test_generating_again_gives_what_ships_term_by_term(generator, name):
    state = shipped(name)
    made, found = generate_parameters(state), load_parameters(state)
    # sqm prints charges to 0.001 e, and its optimiser ends somewhere else in every run.
    assert dict(made.record["charges"]) == pytest.approx(found.record["charges"], abs=0.005)
    built = Chem.Mol(state.mol)
    rdDistGeom.EmbedMultipleConfs(built, 6, randomSeed=2)
    shapes = [conformer.GetPositions() / 10.0 for conformer in built.GetConformers()]
    shapes += [positions_of(state, seed=seed) for seed in range(3)]
    again = energies(system_of(state, parameters=made), shapes)
    assert_same_terms(
        again,
        energies(system_of(state), shapes),
        {"else": 1e-9, "coulomb": 8.0, "coulomb 1-4": 8.0},
    )
    # A cage has no planar atoms; every other term takes part in the comparison.
    cage = {"improper torsions"} if name.startswith("amantadine") else set()
    assert {term for term, values in again.items() if np.ptp(values) < 0.01} == cage
    if made.record["charges"] == found.record["charges"]:
        assert made.record["sha256"] == found.record["sha256"]


@pytest.mark.slow
def test_a_new_molecule_is_kept_for_both_hands(generator, empty_cache, monkeypatch):
    s, r = (load_ligand(smiles).states[0] for smiles in ("C[C@H](N)CO", "C[C@@H](N)CO"))
    of_s = load_parameters(s)
    assert read_parameters(cache_file(s)).ffxml == of_s.ffxml
    assert [path.name for path in cache_folder().iterdir()] == [cache_file(s).name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = generate_parameters(r)
    monkeypatch.setitem(sys.modules, "openff.toolkit", None)
    of_r = load_parameters(r)
    assert of_r.record["charges"] == made.record["charges"]
    assert_same_terms(
        energies(system_of(r, parameters=of_r), [positions_of(r)]),
        energies(system_of(r, parameters=made), [positions_of(r)]),
        {"else": 1e-9},
    )
    assert sum(Decimal(str(charge)) for charge in of_r.record["charges"].values()) == 1


@pytest.mark.slow
def test_a_calculation_that_fails_is_one_sentence(generator):
    ethylamine = load_ligand("CCN").states[0]
    with pytest.raises(ParametersError, match=r"sqm did not finish within 0\.05 s$"):
        generate_parameters(ethylamine, timeout_s=0.05)
    with pytest.raises(ParametersError, match=r"leaves an unpaired electron$"):
        generate_parameters(replace(ethylamine, charge=0))


@pytest.mark.slow
def test_a_zwitterion_that_am1_neutralises_is_refused(generator):
    zwitterion = load_ligand("[NH3+]CCC(=O)[O-]").states[0]
    assert zwitterion.charge == 0
    with pytest.raises(ParametersError, match="AM1 breaks a bond between N and H"):
        generate_parameters(zwitterion)


@pytest.mark.slow
def test_unwritable_cache_is_said(generator, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setenv("NMDASIM_CACHE", str(tmp_path / "cache"))
    with pytest.warns(UserWarning, match="cannot be kept in"):
        load_parameters(load_ligand("CN").states[0])
