import csv
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
from nmdasim.ligand import load_ligand, state_of
from nmdasim.pose import ligand_topology, place_ligand

SITE = Path(__file__).parent / "data" / "site_7eu8.csv"
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


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_order_and_name_of_the_deposited_atoms_do_not_matter(receptor, ketamine, pose, seed):
    given = ketamine.mol.GetConformer().GetPositions().copy()
    other = place_ligand(shuffled(receptor, seed), ketamine)
    np.testing.assert_array_equal(ketamine.mol.GetConformer().GetPositions(), given)
    # The phenyl ring may be matched either way round; its ortho carbon carries the chlorine,
    # so the heavy atoms are unique.
    heavy = heavy_atoms(pose.ligand.mol)
    np.testing.assert_allclose(other.unrelaxed[heavy], pose.unrelaxed[heavy], atol=1e-6)
    assert other.shift_nm == pytest.approx(pose.shift_nm, abs=2e-3)


def test_both_charge_states_take_the_same_place(receptor, pose):
    neutral = state_of(load_ligand("S-ketamine"), 0)
    other = place_ligand(receptor, neutral)
    assert (pose.ligand.charge, other.ligand.charge) == (1, 0)
    assert len(pose.positions) == len(other.positions) + 1
    ours, theirs = (p.unrelaxed[heavy_atoms(p.ligand.mol)] for p in (pose, other))
    assert cdist(ours, theirs).min(axis=1).max() < 1e-6


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("R-ketamine", "the other stereoisomer"),
        ("S-norketamine", "another molecule"),
        ("c1ccccc1", "another molecule"),
        # Same heavy atoms and rings, chlorine in para.
        ("CN[C@@]1(CCCCC1=O)c1ccc(Cl)cc1", "another molecule"),
    ],
)
def test_another_molecule_is_refused(receptor, given, words):
    state = state_of(load_ligand(given))
    with pytest.raises(PoseError, match=words) as caught:
        place_ligand(receptor, state)
    message = str(caught.value)
    assert "\n" not in message
    assert receptor.name in message
    assert state.name in message


def test_a_receptor_without_a_blocker_is_refused(receptor, ketamine):
    with pytest.raises(PoseError, match="no deposited blocker"):
        place_ligand(replace(receptor, reference_ligand=None), ketamine)


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
    closest, shift, stereo = pose.checks
    assert all(check.passed for check in pose.checks)
    assert closest.value == pytest.approx(after.min(), abs=1e-3)
    assert f"{before.min():.3f} nm as deposited, GluN2B LEU B643 CD1" in closest.detail
    assert shift.value == pytest.approx(pose.shift_nm, abs=1e-4)
    assert stereo.value == 0


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
