import csv
import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mdtraj as md
import numpy as np
import pytest
from openmm import app, unit
from rdkit import Chem
from scipy.spatial.distance import cdist

from nmdasim.contacts import find_interactions, interaction_sites
from nmdasim.errors import PoseError
from nmdasim.ligand import conformers, library, load_ligand, ring_form, state_of
from nmdasim.pose import (
    DEPOSITED,
    DOCKED,
    SCAFFOLD,
    dock,
    geometry_checks,
    ligand_topology,
    list_poses,
    place_ligand,
    read_poses,
    symmetric_rmsd,
    with_strain,
    write_poses,
)
from nmdasim.pose.checks import check_pose
from nmdasim.pose.clashes import worst_overlap
from nmdasim.pose.scaffold import on_scaffold
from nmdasim.pose.starts import start_poses
from nmdasim.receptor.quality import spheres
from nmdasim.structures import structures_folder

SITE = Path(__file__).parent / "data" / "site_7eu8.csv"
POSES = structures_folder() / "poses" / "7eu8"
# Eleven phenyl rings in a row: 5 nm long.
TOO_BIG = "NCC" + "c1ccc(cc1)" * 11 + "C"
BACKBONE = {"N", "CA", "C", "O"}


def site_rows():
    with SITE.open() as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def heavy_atoms(mol):
    return [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]


def receptor_heavy(receptor):
    return [atom.index for atom in receptor.topology.atoms() if atom.element.symbol != "H"]


def shuffled(receptor, seed, *, name="XYZ"):
    """Give the receptor's blocker its atoms in another order, under another name."""
    mol = receptor.reference_ligand
    order = np.random.default_rng(seed).permutation(mol.GetNumAtoms()).tolist()
    other = Chem.RenumberAtoms(mol, order)
    other.SetProp("_Name", name)
    return replace(receptor, reference_ligand=other)


def isomer(mol):
    mol = Chem.Mol(mol)
    Chem.AssignStereochemistryFrom3D(mol)
    return Chem.MolToSmiles(Chem.RemoveHs(mol))


@pytest.fixture(scope="module")
def unrelaxed_frame(pose):
    """Receptor as prepared with the ligand as deposited, before anything relaxes."""
    modeller = app.Modeller(pose.receptor.topology, pose.receptor.positions * unit.nanometer)
    modeller.add(ligand_topology(pose.ligand.mol), pose.unrelaxed * unit.nanometer)
    xyz = np.vstack([pose.receptor.positions, pose.unrelaxed])
    return md.Trajectory(xyz[None], md.Topology.from_openmm(modeller.topology))


# ---------------------------------------------------------------- the site of the entry


def test_contacts_of_the_deposited_pose_are_found_at_their_distances(pose, unrelaxed_frame):
    n_receptor = len(pose.receptor.positions)
    sites = interaction_sites(
        unrelaxed_frame.topology,
        ligand=pose.ligand.mol,
        ligand_atoms=np.arange(n_receptor, unrelaxed_frame.n_atoms),
    )
    found = find_interactions(unrelaxed_frame, sites=sites)
    close = found.distances[0, :, found.types.index("close contact")]
    distance = {
        (residue.chain, residue.name, residue.number): nearest
        for residue, nearest in zip(found.residues, close, strict=True)
    }
    expected = {}
    for row in site_rows():
        key = (row["chain"], row["residue"], int(row["number"]))
        here = float(row["distance_angstrom"]) / 10
        expected[key] = min(here, expected.get(key, here))
    assert len(expected) == 9
    for key, here in expected.items():
        assert distance[key] == pytest.approx(here, abs=0.03), key


def test_deposited_pairs_of_atoms_keep_their_distances(pose):
    index = {
        (a.residue.chain.id, int(a.residue.id), a.residue.name, a.name): a.index
        for a in pose.receptor.topology.atoms()
    }
    ligand = pose.unrelaxed[heavy_atoms(pose.ligand.mol)]
    for row in site_rows():
        atom = index[row["chain"], int(row["number"]), row["residue"], row["protein_atom"]]
        near = cdist(pose.receptor.positions[[atom]], ligand).min()
        # Some rows name a pair that is not the atom's nearest.
        assert near < float(row["distance_angstrom"]) / 10 + 0.03, row


# ---------------------------------------------------------------- matching


def test_heavy_atoms_start_where_they_were_deposited(pose):
    deposited = pose.receptor.reference_ligand.GetConformer().GetPositions() / 10
    ours = pose.unrelaxed[heavy_atoms(pose.ligand.mol)]
    distances = cdist(ours, deposited)
    np.testing.assert_allclose(distances.min(axis=1), 0, atol=1e-5)
    assert len(set(distances.argmin(axis=1))) == len(deposited)


def test_elements_and_bonds_are_those_of_the_deposited_molecule(pose):
    reference = pose.receptor.reference_ligand
    places = reference.GetConformer().GetPositions() / 10
    mol = pose.ligand.mol
    match = {
        index: int(cdist(pose.unrelaxed[[index]], places).argmin()) for index in heavy_atoms(mol)
    }
    for ours, theirs in match.items():
        element = mol.GetAtomWithIdx(ours).GetAtomicNum()
        assert element == reference.GetAtomWithIdx(theirs).GetAtomicNum()
    bonds = {frozenset((b.GetBeginAtomIdx(), b.GetEndAtomIdx())) for b in reference.GetBonds()}
    ours = {
        frozenset((match[b.GetBeginAtomIdx()], match[b.GetEndAtomIdx()]))
        for b in mol.GetBonds()
        if b.GetBeginAtomIdx() in match and b.GetEndAtomIdx() in match
    }
    assert ours == bonds


def first_start(receptor, state):
    return next(start_poses(receptor, state))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_order_and_name_of_the_deposited_atoms_do_not_matter(receptor, ketamine, pose, seed):
    given = ketamine.mol.GetConformer().GetPositions().copy()
    other = first_start(shuffled(receptor, seed), ketamine)
    np.testing.assert_array_equal(ketamine.mol.GetConformer().GetPositions(), given)
    # The phenyl ring may be matched either way round; its ortho carbon carries the chlorine,
    # so the heavy atoms are unique.
    heavy = heavy_atoms(pose.ligand.mol)
    places = other.mol.GetConformer().GetPositions()[heavy] / 10
    np.testing.assert_allclose(places, pose.unrelaxed[heavy], atol=1e-6)


def test_both_charge_states_take_the_same_place(receptor, pose):
    neutral = state_of(load_ligand("S-ketamine"), 0)
    other = first_start(receptor, neutral).mol
    assert (pose.ligand.charge, Chem.GetFormalCharge(other)) == (1, 0)
    assert len(pose.positions) == other.GetNumAtoms() + 1
    ours = pose.unrelaxed[heavy_atoms(pose.ligand.mol)]
    theirs = other.GetConformer().GetPositions()[heavy_atoms(other)] / 10
    assert cdist(ours, theirs).min(axis=1).max() < 1e-6


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "there is no start pose 0: they are numbered from 1"),
        (-1, "numbered from 1"),
        (9, "memantine.1 has no start pose 9 in 7eu8: choose one from 1 to 3"),
    ],
)
def test_a_pose_number_that_is_not_there_is_refused(receptor, number, words):
    with pytest.raises(PoseError, match=words):
        place_ligand(receptor, state_of(load_ligand("memantine")), pose=number)


def test_a_blocker_without_bonds_is_refused(receptor, ketamine):
    bare = Chem.RWMol(receptor.reference_ligand)
    for bond in list(bare.GetBonds()):
        bare.RemoveBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
    with pytest.raises(PoseError, match="no bonds, because PDB files hold none"):
        place_ligand(replace(receptor, reference_ligand=bare.GetMol()), ketamine)


# ---------------------------------------------------------------- relaxing


def test_the_clash_of_the_entry_is_relaxed_and_the_shift_reported(pose):
    receptor, heavy = pose.receptor, heavy_atoms(pose.ligand.mol)
    protein = receptor_heavy(receptor)
    before = cdist(receptor.positions[protein], pose.unrelaxed[heavy])
    after = cdist(pose.receptor_positions[protein], pose.positions[heavy])
    assert before.min() < 0.27
    assert after.min() >= 0.30
    moved = pose.positions[heavy] - pose.unrelaxed[heavy]
    assert pose.shift_nm == pytest.approx(np.sqrt((moved**2).sum(axis=1).mean()))
    assert 0 < pose.shift_nm < 0.05
    clash, shift, stereo, *geometry = pose.checks
    assert len(geometry) >= 4
    assert all(check.passed for check in pose.checks)
    assert clash.value < clash.limit == 0.04
    assert pose.closest_nm == pytest.approx(after.min(), abs=1e-3)
    assert f"closest heavy atoms {pose.closest_nm:.3f} nm, {before.min():.3f} nm" in clash.detail
    assert "GluN2B LEU B643 CD1" in clash.detail
    assert shift.value == pytest.approx(pose.shift_nm, abs=1e-4)
    assert stereo.value == 0


def test_the_deposited_pose_is_called_a_clash(pose):
    clash, *_ = check_pose(
        pose.receptor,
        start=pose.start.mol,
        relaxed=pose.start.mol,
        receptor_positions=pose.receptor.positions,
        shift_nm=0.0,
    )
    assert not clash.passed
    # 0.257 nm between two carbons of 0.175 nm radius; hydrogens overlap further.
    assert clash.value >= 2 * 0.175 - 0.2572
    assert "GluN2B LEU B643 CD1" in clash.detail


def two_atoms(first, second, *, hydrogen=False):
    """Give the spheres of two heavy atoms, the second with a hydrogen where that is asked."""
    spheres_of = []
    for symbol, with_hydrogen in ((first, False), (second, hydrogen)):
        topology = app.Topology()
        residue = topology.addResidue("X", topology.addChain())
        heavy = topology.addAtom("A", app.Element.getBySymbol(symbol), residue)
        if with_hydrogen:
            bound = topology.addAtom("H", app.Element.getBySymbol("H"), residue)
            topology.addBond(heavy, bound)
        spheres_of.append(spheres(topology))
    return spheres_of


@pytest.mark.parametrize(
    ("first", "second", "apart", "overlap"),
    [("C", "C", 0.31, 0.04), ("C", "O", 0.29, 0.025), ("O", "N", 0.29, 0.005),
     ("S", "Cl", 0.40, -0.045), ("C", "Br", 0.30, 0.06)],
)  # fmt: skip
def test_overlap_is_the_sum_of_the_radii_less_the_distance(first, second, apart, overlap):
    one, other = two_atoms(first, second)
    found = worst_overlap(one, np.zeros((1, 3)), other, np.array([[apart, 0, 0]]))
    assert found.nm == pytest.approx(overlap, abs=1e-9)


def test_a_hydrogen_bond_may_overlap_by_a_clash_more():
    away = np.array([[0.30, 0, 0], [0.20, 0, 0]])
    oxygen, amine = two_atoms("O", "N", hydrogen=True)
    bond = worst_overlap(oxygen, np.zeros((1, 3)), amine, away)
    # Oxygen 0.140, polar hydrogen 0.100 and 0.04 nm allowed.
    assert bond.nm == pytest.approx(0.140 + 0.100 - 0.20 - 0.04, abs=1e-9)
    carbon, amine = two_atoms("C", "N", hydrogen=True)
    none = worst_overlap(carbon, np.zeros((1, 3)), amine, away)
    assert (none.nm, none.ligand) == (pytest.approx(0.175 + 0.100 - 0.20, abs=1e-9), 1)


def test_only_side_chains_near_the_ligand_move(pose):
    receptor = pose.receptor
    shift = np.linalg.norm(pose.receptor_positions - receptor.positions, axis=1)
    moved = {atom.index for atom in receptor.topology.atoms() if shift[atom.index] > 1e-5}
    names = {atom.name for atom in receptor.topology.atoms() if atom.index in moved}
    assert moved
    assert not names & BACKBONE
    near = {
        atom.residue.index
        for atom in receptor.topology.atoms()
        if cdist(receptor.positions[[atom.index]], pose.unrelaxed).min() < 0.6
    }
    assert {a.residue.index for a in receptor.topology.atoms() if a.index in moved} <= near
    # Hydrogens may swing round; heavy atoms are held weakly.
    assert shift[receptor_heavy(receptor)].max() < 0.3


@pytest.mark.parametrize("places", ["unrelaxed", "positions"])
def test_bonds_have_their_lengths(pose, places):
    mol, xyz = pose.ligand.mol, 10 * getattr(pose, places)
    for bond in mol.GetBonds():
        atoms = (bond.GetBeginAtom(), bond.GetEndAtom())
        length = np.linalg.norm(np.subtract(*(xyz[a.GetIdx()] for a in atoms)))
        elements = {atom.GetSymbol() for atom in atoms}
        if "H" in elements:
            assert 0.95 < length < 1.15
        elif "Cl" in elements:
            assert length == pytest.approx(1.74, abs=0.08)
        else:
            assert 1.15 < length < 1.65
    hydrogens = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetSymbol() == "H"]
    apart = cdist(xyz[hydrogens], xyz[hydrogens])[np.triu_indices(len(hydrogens), 1)]
    assert apart.min() > 1.4


def test_it_stays_s_ketamine(pose, ketamine):
    assert isomer(pose.ligand.mol) == isomer(ketamine.mol)
    labels = Chem.FindMolChiralCenters(
        Chem.RemoveHs(pose.ligand.mol), useLegacyImplementation=False
    )
    assert [label for _, label in labels] == ["S"]


def test_the_molecule_carries_the_relaxed_coordinates_in_its_own_order(pose, ketamine):
    np.testing.assert_allclose(
        pose.ligand.mol.GetConformer().GetPositions() / 10, pose.positions, atol=1e-9
    )
    names = [a.GetPDBResidueInfo().GetName().strip() for a in pose.ligand.mol.GetAtoms()]
    before = [a.GetPDBResidueInfo().GetName().strip() for a in ketamine.mol.GetAtoms()]
    assert names == before
    assert [atom.name for atom in ligand_topology(pose.ligand.mol).atoms()] == names


def test_the_amide_under_the_ammonium_turns_its_oxygen_to_it(pose):
    assert "GluN2B ASN D615" in pose.turned_amides
    atoms = {
        atom.name: atom.index
        for atom in pose.receptor.topology.atoms()
        if (atom.residue.chain.id, atom.residue.id) == ("D", "615")
    }
    amine = next(a.GetIdx() for a in pose.ligand.mol.GetAtoms() if a.GetSymbol() == "N")

    def distance(positions, name, ligand):
        return np.linalg.norm(positions[atoms[name]] - ligand[amine])

    receptor = pose.receptor.positions
    assert distance(receptor, "ND2", pose.unrelaxed) < distance(receptor, "OD1", pose.unrelaxed)
    relaxed = pose.receptor_positions
    assert distance(relaxed, "OD1", pose.positions) < distance(relaxed, "ND2", pose.positions)
    # Half a turn exchanges the two ends and leaves the amide's own geometry alone.
    for name, length in (("OD1", 0.123), ("ND2", 0.134)):
        bond = np.linalg.norm(relaxed[atoms[name]] - relaxed[atoms["CG"]])
        assert bond == pytest.approx(length, abs=0.006)


@pytest.mark.slow
def test_strain_is_told_against_the_free_conformers(pose):
    strained = with_strain(pose)
    assert strained.checks[:-1] == pose.checks
    assert pose.strain is None
    check = strained.checks[-1]
    assert check.passed
    assert check.value == pytest.approx(strained.strain.energy_kj_mol, abs=0.05)
    assert strained.strain.best_form in check.detail
    # A free conformer posed as it is costs what it lies above the lowest, no less.
    highest = conformers(pose.ligand.mol)[-1]
    worse = with_strain(replace(pose, ligand=replace(pose.ligand, mol=highest.mol)))
    assert worse.strain.energy_kj_mol == pytest.approx(highest.energy_kj_mol, abs=1)
    assert worse.checks[-1].passed == (worse.strain.energy_kj_mol <= worse.checks[-1].limit)


# ---------------------------------------------------------------- relatives


def positions_of(mol, pattern):
    """Positions in Angstrom of the atoms that match a pattern, in its order."""
    (match, *_) = mol.GetSubstructMatches(Chem.MolFromSmarts(pattern))
    return mol.GetConformer().GetPositions()[list(match)]


# Amine, its carbon, the aryl ring from there to its chlorine.
HELD = "[#7][CX4]c1c(Cl)cccc1"


def candidates(receptor, name, charge=1):
    """What a relative is chosen from, before the receptor is asked."""
    return on_scaffold(state_of(load_ligand(name), charge).mol, receptor.reference_ligand)


@pytest.fixture(scope="module")
def mirrored(receptor):
    return candidates(receptor, "R-ketamine")


def test_every_candidate_keeps_amine_and_aryl_ring_and_is_the_right_isomer(mirrored, receptor):
    assert len(mirrored) >= 2
    for mol in mirrored:
        assert isomer(mol) == isomer(state_of(load_ligand("R-ketamine")).mol)
        off = positions_of(mol, HELD) - positions_of(receptor.reference_ligand, HELD)
        assert np.linalg.norm(off, axis=1).max() < 0.2


def test_candidates_differ_and_a_chair_is_among_them(mirrored):
    for one, other in itertools.combinations(mirrored, 2):
        heavy = heavy_atoms(one)
        apart = (one.GetConformer().GetPositions() - other.GetConformer().GetPositions())[heavy]
        assert np.sqrt((apart**2).sum(axis=1).mean()) > 0.4
    # Distance geometry around the held atoms gives boats; this chair comes from a free conformer.
    assert "chair, aryl axial" in {ring_form(mol) for mol in mirrored}


def test_candidates_are_the_same_on_every_call(mirrored, receptor):
    for once, again in zip(mirrored, candidates(receptor, "R-ketamine"), strict=True):
        np.testing.assert_array_equal(
            once.GetConformer().GetPositions(), again.GetConformer().GetPositions()
        )


def test_the_mirror_image_exchanges_its_carbonyl_with_the_methylene(mirrored, receptor):
    # Carbonyl carbon and its oxygen, seen from the carbon that carries amine and ring.
    carbonyl = "[CX4](c)([#7])C(=O)"
    deposited = positions_of(receptor.reference_ligand, carbonyl)
    # It stands where the CH2 of the deposited enantiomer does.
    methylene = positions_of(receptor.reference_ligand, "[CX4;R](c)([#7])[CH2]")[3]
    for mol in mirrored:
        here = positions_of(mol, carbonyl)
        assert np.linalg.norm(here[3] - deposited[3]) > 2.0
        assert np.linalg.norm(here[3] - methylene) < 0.6


def test_the_mirror_image_keeps_the_direction_of_its_ammonium(mirrored, pose):
    for ours in mirrored:
        for pattern in ("[#7;+][CX4;R]", "[#7;+][CH3]"):
            here, there = (
                np.diff(positions_of(m, pattern), axis=0)[0] for m in (ours, pose.ligand.mol)
            )
            cosine = here @ there / np.linalg.norm(here) / np.linalg.norm(there)
            assert cosine > np.cos(np.radians(20)), pattern


@pytest.fixture(scope="module")
def relatives(receptor):
    """The first start pose of some relatives, by name."""
    names = ("R-ketamine", "S-norketamine", "2R6R-hydroxynorketamine")
    return {name: first_start(receptor, state_of(load_ligand(name))) for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["R-ketamine", "S-norketamine", "2R6R-hydroxynorketamine"])
def test_relatives_start_in_a_chair_with_amine_and_aryl_ring_in_place(relatives, receptor, name):
    start = relatives[name]
    assert start.method == SCAFFOLD
    assert isomer(start.mol) == isomer(state_of(load_ligand(name)).mol)
    off = positions_of(start.mol, HELD) - positions_of(receptor.reference_ligand, HELD)
    assert np.linalg.norm(off, axis=1).max() < 0.15
    assert ring_form(start.mol).startswith("chair, aryl axial")


@pytest.mark.slow
def test_the_same_hand_keeps_its_aliphatic_ring(relatives, receptor):
    carbonyl = "[CX4](c)([#7])C(=O)"
    deposited = positions_of(receptor.reference_ligand, carbonyl)
    same = positions_of(relatives["S-norketamine"].mol, carbonyl)
    assert np.linalg.norm(same - deposited, axis=1).max() < 0.3


def test_s_ketamine_has_more_than_one_start(receptor, ketamine):
    starts = start_poses(receptor, ketamine)
    first, turned, lower = itertools.islice(starts, 3)
    assert [start.number for start in (first, turned, lower)] == [1, 2, 3]
    assert {start.method for start in (first, turned, lower)} == {DEPOSITED}
    at = [start.mol.GetConformer().GetPositions() for start in (first, turned, lower)]
    np.testing.assert_allclose(at[1], at[0] * [-1, -1, 1])
    np.testing.assert_allclose(at[2], at[1] - [0, 0, 1])


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 3])
def test_other_starts_of_s_ketamine_are_free_of_clashes(receptor, ketamine, pose, number):
    other = place_ligand(receptor, ketamine, pose=number)
    assert (pose.start.number, other.start.number) == (1, number)
    assert all(check.passed for check in other.checks), other.checks
    assert symmetric_rmsd(other.ligand.mol, pose.ligand.mol) > 1


def test_a_relative_without_the_scaffold_is_not_laid_over_it(receptor):
    # The rings of phencyclidine carry no carbonyl.
    start = first_start(receptor, state_of(load_ligand("phencyclidine")))
    assert start.method == DOCKED


# ---------------------------------------------------------------- docked poses that ship


def references():
    return [e.name for e in library() if (e.family, e.kind) == ("reference", "molecule")]


@pytest.mark.parametrize("name", references())
def test_poses_of_the_reference_blockers_ship_with_their_origin(receptor, name):
    ligand = load_ligand(name)
    poses = read_poses(POSES / f"{name}.sdf")
    assert 1 <= len(poses) <= 3
    scores = [pose.score_kcal_mol for pose in poses]
    assert scores == sorted(scores)
    assert max(scores) < -3
    for shipped in poses:
        assert isomer(shipped.mol) == isomer(ligand.states[0].mol)
        assert {"program", "seed", "rank", "receptor_sha256"} <= shipped.provenance.keys()
        assert "Vina" in shipped.provenance["program"]
        heavy = shipped.mol.GetConformer().GetPositions()[heavy_atoms(shipped.mol)] / 10
        assert 0.3 < heavy[:, 2].mean() < 1.5
        assert np.hypot(*heavy.mean(axis=0)[:2]) < 0.4
        closest = cdist(heavy, receptor.positions[receptor_heavy(receptor)]).min()
        assert closest > 0.25
        assert all(check.passed for check in geometry_checks(shipped.mol))


def test_both_charge_states_start_from_one_docked_pose(receptor):
    cation, neutral = load_ligand("memantine").states
    first, second = (list_poses(receptor, state)[0] for state in (cation, neutral))
    assert (first.method, second.method) == (DOCKED, DOCKED)
    assert symmetric_rmsd(first.mol, second.mol) < 1e-3
    assert Chem.GetFormalCharge(second.mol) == 0


def test_shipped_poses_belong_to_the_coordinates_they_were_docked_into(receptor, monkeypatch):
    moved = replace(receptor, positions=receptor.positions + 0.01)
    state = state_of(load_ligand("memantine"))
    monkeypatch.setitem(sys.modules, "vina", None)
    with pytest.raises(PoseError, match=r"install the programs with `pip install"):
        list_poses(moved, state)


def test_docked_poses_survive_the_file(tmp_path):
    poses = read_poses(POSES / "amantadine.sdf")
    write_poses(poses, tmp_path / "again.sdf")
    again = read_poses(tmp_path / "again.sdf")
    for before, after in zip(poses, again, strict=True):
        assert after.provenance == before.provenance
        assert after.score_kcal_mol == before.score_kcal_mol
        assert symmetric_rmsd(after.mol, before.mol) < 1e-3


def test_a_damaged_file_of_poses_is_refused(tmp_path):
    text = (POSES / "amantadine.sdf").read_text()
    (tmp_path / "bad.sdf").write_text(text.replace("receptor_sha256", "receptor_sha"))
    with pytest.raises(PoseError, match="not a complete file of docked poses"):
        read_poses(tmp_path / "bad.sdf")


def test_a_new_molecule_without_the_docking_extra_is_told_what_to_install(receptor, monkeypatch):
    monkeypatch.setitem(sys.modules, "vina", None)
    state = state_of(load_ligand("c1ccccc1CCN"))
    with pytest.raises(PoseError, match=r"`pip install \"nmdasim\[docking\]\"`") as caught:
        list_poses(receptor, state)
    assert "\n" not in str(caught.value)


def test_a_receptor_without_a_blocker_leaves_its_relatives_to_docking(
    receptor, ketamine, monkeypatch
):
    monkeypatch.setitem(sys.modules, "vina", None)
    with pytest.raises(PoseError, match=r"no start pose ships for S-ketamine\+1"):
        place_ligand(replace(receptor, reference_ligand=None), ketamine)


@pytest.mark.slow
def test_docking_again_agrees_with_what_ships():
    pytest.importorskip("vina", reason="needs the docking extra")
    script = Path(__file__).parents[1] / "scripts" / "dock_poses.py"
    done = subprocess.run(
        [sys.executable, script, "--only", "amantadine", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shipped = read_poses(POSES / "amantadine.sdf")
    assert done.stdout.count("differs by") == len(shipped)


@pytest.mark.slow
def test_a_molecule_that_is_too_big_is_refused(receptor):
    pytest.importorskip("vina", reason="needs the docking extra")
    state = state_of(load_ligand(TOO_BIG))
    with pytest.raises(PoseError, match="does not fit into the vestibule of 7eu8"):
        dock(receptor, state)


# ---------------------------------------------------------------- symmetry and geometry


def test_symmetric_rmsd_ignores_the_order_of_equal_atoms_and_sees_a_shift():
    mol = state_of(load_ligand("memantine")).mol
    order = np.random.default_rng(1).permutation(mol.GetNumAtoms()).tolist()
    shifted = Chem.RenumberAtoms(mol, order)
    assert symmetric_rmsd(mol, shifted) == pytest.approx(0, abs=1e-6)
    places = shifted.GetConformer().GetPositions()
    shifted.GetConformer().SetPositions(places + np.array([0, 3.0, 4.0]))
    assert symmetric_rmsd(mol, shifted) == pytest.approx(5)


def stretched(mol, factor):
    moved = Chem.Mol(mol)
    moved.GetConformer().SetPositions(mol.GetConformer().GetPositions() * factor)
    return moved


def test_geometry_checks_pass_a_sound_molecule_and_fail_a_broken_one(ketamine):
    sound = [check.passed for check in geometry_checks(ketamine.mol)]
    assert all(sound)
    lengths, angles, _, _ = geometry_checks(stretched(ketamine.mol, 1.4))
    assert not lengths.passed
    assert not angles.passed
    # Each bond is longer by 40 % than it was, and it was within a few percent of its bounds.
    assert lengths.value == pytest.approx(0.4, abs=0.08)
    bent = Chem.Mol(ketamine.mol)
    (ring,) = bent.GetSubstructMatches(Chem.MolFromSmarts("c1ccccc1"))
    at = bent.GetConformer().GetPositions()
    normal = np.cross(at[ring[1]] - at[ring[0]], at[ring[2]] - at[ring[0]])
    at[ring[4]] += 1.2 * normal / np.linalg.norm(normal)
    bent.GetConformer().SetPositions(at)
    assert not geometry_checks(bent)[3].passed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["S-ketamine", "memantine", "plus-MK-801"])
def test_posebusters_agrees_that_the_poses_are_sound(receptor, name):
    posebusters = pytest.importorskip("posebusters", reason="needs the docking extra")
    placed = place_ligand(receptor, state_of(load_ligand(name))).ligand.mol
    verdict = posebusters.PoseBusters(config="mol").bust([placed], None, None).iloc[0]
    assert verdict.all(), verdict[~verdict.astype(bool)]


# ---------------------------------------------------------------- an ion


@pytest.mark.slow
def test_magnesium_starts_with_room_for_its_water_or_between_the_asparagines(receptor):
    state = state_of(load_ligand("magnesium"))
    above, between = list_poses(receptor, state)
    walls = receptor.positions[receptor_heavy(receptor)]
    at = [start.mol.GetConformer().GetPositions() / 10 for start in (above, between)]
    assert cdist(at[0], walls).min() >= 0.47
    assert at[0][0, 2] > at[1][0, 2] > 0
    kept = with_strain(place_ligand(receptor, state))
    assert kept.strain is None
    assert "an ion has no shape" in kept.checks[-1].detail
    np.testing.assert_array_equal(kept.receptor_positions, receptor.positions)
    np.testing.assert_allclose(kept.positions, at[0])
    coordinated = place_ligand(receptor, state, pose=2)
    nearest = [
        atom for atom, near in zip(
            receptor.topology.atoms(),
            cdist(coordinated.receptor_positions, coordinated.positions)[:, 0] < 0.24,
            strict=True,
        ) if near
    ]  # fmt: skip
    assert nearest
    assert {(atom.residue.name, atom.name) for atom in nearest} <= {("ASN", "OD1"), ("ASN", "O")}


# ---------------------------------------------------------------- the whole library


# Every entry, cation and neutral in turn: both of each take twice the time.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "name"), list(enumerate(entry.name for entry in library())), ids=str
)
def test_every_library_entry_is_placed_without_a_clash(receptor, number, name):
    states = load_ligand(name).states
    state = states[number % len(states)]
    placed = place_ligand(receptor, state)
    assert all(check.passed for check in placed.checks), (state.name, placed.checks)
    assert isomer(placed.ligand.mol) == isomer(state.mol)
    depth = placed.positions[heavy_atoms(placed.ligand.mol), 2].mean()
    assert 0.3 < depth < 1.5


def table_of_the_library():
    """Rows of the table in the documents by name of the ligand."""
    text = (Path(__file__).parents[1] / "docs" / "poses.md").read_text()
    rows = text.partition("## The library")[2].partition("\n## ")[0].splitlines()
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows if row[:1] == "|"]
    return {row[0]: row[1:] for row in cells[2:]}


def test_the_table_of_the_documents_has_every_entry():
    assert list(table_of_the_library()) == [entry.name for entry in library()]


@pytest.mark.slow
def test_the_script_prints_the_rows_of_the_documents_and_goes_on_from_those_it_kept(tmp_path):
    script = Path(__file__).parents[1] / "scripts" / "pose_table.py"
    kept = tmp_path / "rows.json"
    command = [sys.executable, script, "--only", "magnesium", "--keep", kept]
    first, again = (subprocess.run(command, capture_output=True, text=True) for _ in range(2))
    assert (first.returncode, first.stderr) == (0, "")
    assert again.stdout == first.stdout
    head, _, row = first.stdout.splitlines()
    text = (Path(__file__).parents[1] / "docs" / "poses.md").read_text()
    assert {head, row} <= set(text.splitlines())
    # A kept row is not made again.
    kept.write_text(kept.read_text().replace("hydrated ion", "kept from before"))
    assert "kept from before" in subprocess.run(command, capture_output=True, text=True).stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ["S-ketamine", "2S6S-hydroxynorketamine", "R-ketamine"])
def test_the_table_of_the_documents_is_what_the_code_gives(receptor, name):
    method, shifts, distances, strains, _ = table_of_the_library()[name]
    cells = (cell.split("; ") for cell in (shifts, distances, strains))
    for state, *cell in zip(load_ligand(name).states, *cells, strict=True):
        placed = with_strain(place_ligand(receptor, state))
        shift, distance, energy = map(float, cell)
        assert placed.start.method == method
        assert placed.shift_nm == pytest.approx(shift, abs=0.002)
        assert placed.closest_nm == pytest.approx(distance, abs=0.002)
        assert placed.strain.energy_kj_mol == pytest.approx(energy, abs=1)
