import dataclasses
import itertools
from pathlib import Path

import mdtraj as md
import numpy as np
import pytest
from channel_run import BOX, write_run
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from nmdasim.channel_block import (
    GATE_PAIRS,
    BlockThresholds,
    block_states,
    blockade,
    blockade_sites,
    dwell_times,
    dwell_times_table,
    lifetime,
    measure_blockade,
    merge_blockades,
    pore_profile,
    states_table,
)
from nmdasim.errors import SelectionError, TrajectoryError
from nmdasim.pore import clearance, radii_of
from nmdasim.structures import structures_folder
from nmdasim.subunits import RING_NAMES
from nmdasim.trajectory import open_run, pore_atoms, read_frames

RECEPTOR = structures_folder() / "receptors" / "7eu8" / "receptor.cif"
ORACLES = Path(__file__).parents[2] / "shared" / "reference" / "oracles"
LEVELS = np.arange(0.0, 2.0, 0.05)
STEPS = np.array([[0, 0, 0], [0.0, 0, 0.1], [0.03, -0.04, 0.0], [0, 0, 0.3]])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    if not RECEPTOR.is_file():
        pytest.skip("needs the prepared receptor 7eu8 in structures/receptors")
    folder = tmp_path_factory.mktemp("blockade") / "run"
    write_run(folder, receptor=RECEPTOR, steps=STEPS, segments=(4,))
    return open_run(folder)


@pytest.fixture(scope="module")
def trajectory(run):
    return next(read_frames(run)).trajectory


@pytest.fixture(scope="module")
def ligand_atoms(run):
    return np.searchsorted(run.solute, run.ligand_atoms)


@pytest.fixture(scope="module")
def measured(run, trajectory, ligand_atoms):
    return blockade(trajectory, ligand=run.ligand, ligand_atoms=ligand_atoms, levels=LEVELS)


def heavy(run):
    chosen = [a.GetIdx() for a in run.ligand.GetAtoms() if a.GetAtomicNum() > 1]
    return run.start[run.ligand_atoms[chosen]]


def test_depth_offset_and_rmsd_follow_the_motion(run, measured):
    centroid = heavy(run).mean(axis=0)
    np.testing.assert_allclose(measured.depth, (centroid + STEPS)[:, 2], atol=0.02)
    np.testing.assert_allclose(np.diff(measured.depth), np.diff(STEPS[:, 2]), atol=2e-3)
    offset = np.hypot(*(centroid + STEPS)[:, :2].T)
    np.testing.assert_allclose(measured.offset, offset, atol=0.02)
    np.testing.assert_allclose(measured.rmsd, np.linalg.norm(STEPS, axis=1), atol=2e-3)


def test_ammonium_and_tilt_are_those_of_ketamine(run, measured):
    nitrogen = next(a.GetIdx() for a in run.ligand.GetAtoms() if a.GetAtomicNum() == 7)
    ring = [a.GetIdx() for a in run.ligand.GetAtoms() if a.GetIsAromatic()]
    start = run.start[run.ligand_atoms]
    line = start[ring].mean(axis=0) - start[nitrogen]
    tilt = np.arccos(line[2] / np.linalg.norm(line))
    np.testing.assert_allclose(measured.tilt, tilt, atol=0.02)
    np.testing.assert_allclose(
        measured.ammonium_depth - measured.depth,
        start[nitrogen, 2] - heavy(run)[:, 2].mean(),
        atol=5e-3,
    )
    assert measured.to_columns()["ligand_tilt_deg"][0] == pytest.approx(np.degrees(tilt), abs=1)


def test_tumbling_does_not_count(run, trajectory, ligand_atoms, measured):
    turn = Rotation.from_rotvec([1.0, 2.0, -0.5]).as_matrix()
    tumbled = trajectory[:]
    tumbled.xyz = trajectory.xyz @ turn + np.array([5.0, -3.0, 1.0])
    got = blockade(tumbled, ligand=run.ligand, ligand_atoms=ligand_atoms, levels=LEVELS)
    for name, column in got.to_columns().items():
        tolerance = {
            "ligand_tilt_deg": 0.1, "ammonium_angle_deg": 0.2, "filled_share": 0.03,
            "vestibule_volume_nm3": 0.06, "vestibule_filled_share": 0.02, "lumen_area_nm2": 0.02,
        }.get(name, 1e-3)  # fmt: skip
        np.testing.assert_allclose(
            column, measured.to_columns()[name], atol=tolerance, err_msg=name
        )


def test_chunks_join_to_the_whole(run, trajectory, ligand_atoms, measured):
    got = blockade(
        [trajectory[:1], trajectory[1:3], trajectory[3:]],
        ligand=run.ligand,
        ligand_atoms=ligand_atoms,
        levels=LEVELS,
    )
    np.testing.assert_allclose(got.radius_ligand, measured.radius_ligand, atol=1e-6)
    np.testing.assert_allclose(got.rmsd, measured.rmsd, atol=1e-6)


def test_ligand_narrows_the_pore_only_where_it_is(run, measured):
    assert (measured.radius_ligand <= measured.radius_open).all()
    low = heavy(run)[:, 2].min() - 0.8
    far = low > LEVELS
    np.testing.assert_array_equal(measured.radius_ligand[0, far], measured.radius_open[0, far])
    assert (measured.radius_past < measured.radius_at).all()
    assert ((measured.filled_share > 0.1) & (measured.filled_share < 1.0)).all()


def test_spheres_past_the_ligand_touch_nothing(run, trajectory, ligand_atoms):
    blocker = ligand_atoms
    profile = pore_profile(trajectory, blocker=blocker, levels=LEVELS)
    wall = [a.index for a in trajectory.topology.atoms if a.element.symbol != "H"]
    radii = radii_of([trajectory.topology.atom(i).element.symbol for i in wall])
    fits = profile.radius[0] > 0
    points = np.column_stack([profile.centre[0], LEVELS])[fits]
    room = clearance(points, coordinates=trajectory.xyz[0, wall], radii=radii)
    # The profile's own fit moves the frame by up to the rounding of the file.
    assert (room >= profile.radius[0][fits] - 3e-3).all()


def test_ligand_far_away_blocks_nothing(run, trajectory, ligand_atoms):
    away = trajectory[:1]
    away.xyz[:, ligand_atoms] += np.array([0.0, 0.0, 9.0], dtype=np.float32)
    got = blockade(away, ligand=run.ligand, ligand_atoms=ligand_atoms, levels=LEVELS)
    np.testing.assert_array_equal(got.radius_ligand, got.radius_open)
    assert np.isnan([got.radius_at[0], got.radius_past[0], got.filled_share[0]]).all()
    assert got.depth[0] > 9.0


@pytest.mark.parametrize(
    ("smiles", "nitrogen"),
    [
        ("C[NH2+]C1(CCCCC1=O)c1ccccc1Cl", 1),
        ("CNC1(CCCCC1=O)c1ccccc1Cl", 1),
        ("NC12CC3CC(CC(C3)C1)C2", 0),
        ("CC(=O)Nc1ccc(O)cc1", None),
        ("c1ccccc1N", None),
        ("CN(C)CCC(=O)NC", 1),
        ("CS(=O)(=O)NC", None),
    ],
)
def test_basic_nitrogen_by_chemistry(run, smiles, nitrogen):
    molecule = Chem.MolFromSmiles(smiles)
    topology = run.topology.subset(run.solute)
    guest = topology.add_residue("XXX", topology.add_chain())
    atoms = [
        topology.add_atom(f"X{i}", md.element.get_by_symbol(atom.GetSymbol()), guest).index
        for i, atom in enumerate(molecule.GetAtoms())
    ]
    sites = blockade_sites(topology, ligand=molecule, ligand_atoms=atoms)
    assert sites.amine.tolist() == ([] if nitrogen is None else [atoms[nitrogen]])
    assert len(sites.aryl) == (6 if "c1" in smiles else 0)


def test_ligand_without_amine_or_ring_has_no_tilt(run, trajectory, ligand_atoms):
    sites = blockade_sites(trajectory.topology, ligand=run.ligand, ligand_atoms=ligand_atoms)
    plain = type(sites)(
        **{name: getattr(sites, name) for name in sites.__slots__ if name != "amine"},
        amine=np.empty(0, dtype=np.intp),
    )
    got = measure_blockade(trajectory.xyz[:1], sites=plain, reference=heavy(run), levels=LEVELS)
    assert np.isnan([got.tilt[0], got.ammonium_depth[0]]).all()


def test_bad_input_is_refused(run, trajectory, ligand_atoms):
    with pytest.raises(SelectionError, match="33 atoms and the selection 3"):
        blockade(trajectory, ligand=run.ligand, ligand_atoms=ligand_atoms[:3])
    with pytest.raises(TrajectoryError, match="no frame"):
        blockade(trajectory[:0], ligand=run.ligand, ligand_atoms=ligand_atoms)
    with pytest.raises(TrajectoryError, match="no frames"):
        merge_blockades([])


def test_completed_7eu8_has_the_radius_that_hole_finds():
    """Another model than the deposit; only levels where HOLE stays in the lumen."""
    model = ORACLES / "7eu8_TMD_S-ketamine_complex.pdb"
    if not model.is_file():
        pytest.skip("needs the reference complex in ../shared/reference/oracles")
    hole = np.genfromtxt(
        ORACLES / "7EU8_TMD_completed_hole_pore_radius.csv", delimiter=",", names=True
    )
    inside = hole["off_axis_angstrom"] < 3.0
    assert inside.sum() > 140
    profile = pore_profile(md.load(str(model)), levels=hole["z_angstrom"] / 10)
    apart = profile.radius[0, inside] - hole["radius_angstrom"][inside] / 10
    assert np.sqrt((apart**2).mean()) < 0.005


def test_deposited_pose_lies_where_it_was_measured():
    """The ammonium of the deposited (S)-ketamine is 0.40 nm from GluN2B N615 of chain D."""
    model = ORACLES / "7eu8_TMD_S-ketamine_complex.pdb"
    if not model.is_file():
        pytest.skip("needs the reference complex in ../shared/reference/oracles")
    complex_ = md.load(str(model))
    ligand = Chem.MolFromMolFile(str(ORACLES / "7eu8_TMD_S-ketamine_ligand.sdf"), removeHs=False)
    atoms = [a.index for a in complex_.topology.atoms if a.residue.name == "JC9"]
    got = blockade(complex_, ligand=ligand, ligand_atoms=atoms, levels=LEVELS)
    # Between the asparagine ring (0) and the threonine ring (1.5 nm), amine towards the former.
    assert 0.0 < got.ammonium_depth[0] < got.depth[0] < 1.5
    assert 0.1 < got.filled_share[0] < 0.9


# ------------------------------------------------------------- the ammonium, gate and paths


def test_ammonium_points_where_its_hydrogens_are(run, measured):
    nitrogen = next(a for a in run.ligand.GetAtoms() if a.GetAtomicNum() == 7)
    hydrogens = [a.GetIdx() for a in nitrogen.GetNeighbors() if a.GetAtomicNum() == 1]
    assert len(hydrogens) == 2
    start = run.start[run.ligand_atoms]
    bonds = start[hydrogens] - start[nitrogen.GetIdx()]
    along = (bonds / np.linalg.norm(bonds, axis=1, keepdims=True)).sum(axis=0)
    angle = np.degrees(np.arccos(along[2] / np.linalg.norm(along)))
    np.testing.assert_allclose(measured.to_columns()["ammonium_angle_deg"], angle, atol=1.5)
    ring = run.start[pore_atoms(run.topology).rings["asparagine"], 2].mean()
    np.testing.assert_allclose(
        measured.ammonium_above_ring, measured.ammonium_depth - ring, atol=2e-3
    )


def test_angle_of_the_ammonium_follows_a_turn_of_the_ligand(run, trajectory, ligand_atoms):
    """Turned about an axis across the bond by a known angle."""
    nitrogen = ligand_atoms[next(a.GetIdx() for a in run.ligand.GetAtoms() if a.GetSymbol() == "N")]
    sites = blockade_sites(trajectory.topology, ligand=run.ligand, ligand_atoms=ligand_atoms)
    frames = trajectory.xyz[:1].copy()
    before = measure_blockade(frames, sites=sites, reference=heavy(run), levels=LEVELS)
    bonds = frames[0, sites.amine_hydrogens] - frames[0, nitrogen]
    along = (bonds / np.linalg.norm(bonds, axis=1, keepdims=True)).sum(axis=0)
    across = np.cross([0.0, 0.0, 1.0], along)
    turn = Rotation.from_rotvec(0.3 * across / np.linalg.norm(across))
    frames[0, ligand_atoms] = frames[0, nitrogen] + turn.apply(
        frames[0, ligand_atoms] - frames[0, nitrogen]
    )
    after = measure_blockade(frames, sites=sites, reference=heavy(run), levels=LEVELS)
    assert after.ammonium_angle - before.ammonium_angle == pytest.approx([0.3], abs=1e-4)


@pytest.mark.parametrize(
    ("smiles", "n_hydrogens", "n_neighbours"),
    [
        ("C[NH2+]C1(CCCCC1=O)c1ccccc1Cl", 2, 0),
        ("CNC1(CCCCC1=O)c1ccccc1Cl", 0, 3),
        ("CN(C)CCC", 0, 3),
        ("C[NH+](C)CCC", 1, 0),
        ("C[N+](C)(C)CCC", 0, 0),
        ("CC(=O)Nc1ccc(O)cc1", 0, 0),
    ],
)
def test_lone_pair_or_hydrogens_tell_the_direction(run, smiles, n_hydrogens, n_neighbours):
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    topology = run.topology.subset(run.solute)
    guest = topology.add_residue("XXX", topology.add_chain())
    atoms = [
        topology.add_atom(f"X{i}", md.element.get_by_symbol(atom.GetSymbol()), guest).index
        for i, atom in enumerate(molecule.GetAtoms())
    ]
    sites = blockade_sites(topology, ligand=molecule, ligand_atoms=atoms)
    assert (len(sites.amine_hydrogens), len(sites.amine_neighbours)) == (n_hydrogens, n_neighbours)


def test_lone_pair_points_away_from_the_neighbours(run, trajectory, ligand_atoms):
    """Three bonds whose sum is known: the lone pair is opposite."""
    sites = blockade_sites(trajectory.topology, ligand=run.ligand, ligand_atoms=ligand_atoms)
    others = np.setdiff1d(ligand_atoms, sites.amine)[:3]
    neutral = dataclasses.replace(
        sites, amine_hydrogens=np.empty(0, dtype=np.intp), amine_neighbours=others
    )
    frames = trajectory.xyz[:1].copy()
    # All below the nitrogen; to the sides they cancel.
    bonds = np.array([[0.0, 0.0, -0.15], [0.1, 0.0, -0.1], [-0.1, 0.0, -0.1]])
    frames[0, others] = frames[0, sites.amine] + bonds
    got = measure_blockade(frames, sites=neutral, reference=heavy(run), levels=LEVELS)
    assert np.degrees(got.ammonium_angle) == pytest.approx([0.0], abs=1e-3)
    frames[0, others] = frames[0, sites.amine] + bonds[:, [2, 1, 0]]
    got = measure_blockade(frames, sites=neutral, reference=heavy(run), levels=LEVELS)
    assert np.degrees(got.ammonium_angle) == pytest.approx([90.0], abs=1e-3)


def test_ion_between_two_levels_leaves_the_radius_beside_it(run, trajectory, ligand_atoms):
    """One atom spans no level; what it leaves is told at the next one."""
    sites = blockade_sites(trajectory.topology, ligand=run.ligand, ligand_atoms=ligand_atoms)
    ion = dataclasses.replace(sites, ligand=sites.ligand[:1], ligand_radii=sites.ligand_radii[:1])
    frames = trajectory.xyz[:1].copy()
    frames[0, ion.ligand] = [[0.0, 0.0, 0.92]]
    got = measure_blockade(frames, sites=ion, reference=frames[0, ion.ligand], levels=LEVELS)
    beside = got.radius_ligand[0, np.abs(LEVELS - 0.92).argmin()]
    assert got.radius_past[0] == pytest.approx(beside, abs=1e-6)
    assert got.radius_past[0] < got.radius_at[0]


def test_gate_is_as_wide_as_in_the_deposited_7eu8(measured):
    """Distances of opposite CA in the deposit (map at 4.07 Angstrom), by ring and subunit."""
    deposited = {
        "threonine_glun1": 1.173, "threonine_glun2": 1.055,
        "a652_glun1": 1.062, "a652_glun2": 0.879,
        "vivi_glun1": 1.214, "vivi_glun2": 1.243,
    }  # fmt: skip
    columns = measured.to_columns()
    for pair in GATE_PAIRS:
        assert columns[f"gate_{pair}_ca_nm"][0] == pytest.approx(deposited[pair], abs=0.06), pair
        assert columns[f"gate_{pair}_heavy_nm"][0] < columns[f"gate_{pair}_ca_nm"][0]
    assert 0.1 < measured.gate_radius[0] < 0.2
    assert 0.1 < measured.filter_radius[0] < 0.25


def test_rings_and_vestibule_are_those_of_the_profile(gated, measured):
    """The vestibule by its discs: the lumen is wider than its largest spheres."""
    columns = gated.to_columns()
    for column, ring in enumerate(RING_NAMES):
        near = np.abs(gated.levels - gated.ring_heights[0, column]) <= 0.15
        assert columns[f"radius_{ring}_nm"][0] == pytest.approx(gated.radius_open[0, near].min())
    inside = (gated.levels > 0.0) & (gated.levels < 1.5)
    discs = np.pi * (gated.radius_open[0, inside] ** 2).sum() * 0.05
    assert discs < gated.vestibule_volume[0] < 2.5 * discs
    # A gate that opens widens its upper end; far away the ligand fills nothing.
    assert gated.vestibule_volume[0] < gated.vestibule_volume[1] < 2 * gated.vestibule_volume[0]
    assert 0.1 < gated.vestibule_filled[0] < 0.6
    assert gated.vestibule_filled[2] == 0.0
    assert gated.lumen_area[0] > np.pi * gated.radius_at[0] ** 2
    assert (measured.vestibule_volume[0] > 0.0) or np.isnan(measured.vestibule_volume[0])


def test_nearest_heavy_atoms_are_nearest_of_all_pairs(trajectory, run, ligand_atoms, measured):
    sites = blockade_sites(trajectory.topology, ligand=run.ligand, ligand_atoms=ligand_atoms)
    pair = sites.gate["a652_glun2"]
    names = [trajectory.topology.atom(int(i)).residue.name for i in pair.ca]
    assert names == ["ALA", "ALA"]
    table = np.array([(i, j) for i in pair.heavy[0] for j in pair.heavy[1]])
    assert len(table) == 25
    apart = md.compute_distances(trajectory[:1], table, periodic=False).min()
    column = GATE_PAIRS.index("a652_glun2")
    assert measured.gate_heavy[0, column] == pytest.approx(apart, abs=2e-3)


def widened(trajectory, by):
    """Move everything above the hydrophobic rings away from the axis, as in an open gate."""
    frames = trajectory.xyz.astype(float)
    gate = [a.index for a in trajectory.topology.atoms if a.residue.name != "LIG"]
    offset = np.linalg.norm(frames[:, gate, :2], axis=2, keepdims=True)
    high = np.clip((frames[:, gate, 2:] - 1.1) / 0.3, 0.0, 1.0)
    frames[:, gate, :2] += by * high * frames[:, gate, :2] / offset
    # In the precision of files, for which everything is compiled already.
    return frames.astype(np.float32)


@pytest.fixture(scope="module")
def gated(run, trajectory, ligand_atoms):
    """Gate closed and open with the ligand in the vestibule, then the same with it far away."""
    sites = blockade_sites(trajectory.topology, ligand=run.ligand, ligand_atoms=ligand_atoms)
    one = trajectory[:1]
    frames = np.concatenate([widened(one, by) for by in (0.0, 0.3)] * 2)
    frames[2:, ligand_atoms] += [0.0, 0.0, 9.0]
    levels = np.arange(-0.5, 3.2, 0.05)
    return measure_blockade(frames, sites=sites, reference=heavy(run), levels=levels)


def test_trapped_and_foot_in_the_door_are_told_apart(gated):
    states = block_states(gated)
    assert states.to_columns()["gate_state"].tolist() == [
        "trapped", "foot in the door", "closed", "open",
    ]  # fmt: skip
    assert states.to_columns()["state"].tolist() == ["blocked", "blocked", "left", "left"]
    assert states.in_site.tolist() == [True, True, False, False]
    assert gated.gate_radius[1] == pytest.approx(gated.gate_radius[0] + 0.3, abs=0.05)
    strict = block_states(gated, thresholds=BlockThresholds(gate_open_nm=0.6))
    assert strict.to_columns()["gate_state"][1] == "trapped"


def series(measured, n_frames=1, **values):
    """A measurement whose frames all are its first, but for the given values."""
    first = {
        field.name: np.repeat(getattr(measured, field.name)[:1], n_frames, axis=0)
        for field in dataclasses.fields(measured)
        if field.name != "levels"
    }
    first.update({name: np.array(value, dtype=float) for name, value in values.items()})
    return type(measured)(levels=measured.levels.copy(), **first)


def test_block_follows_the_gap_and_the_waters(measured):
    gap = [0.05, 0.139, 0.141, 0.274, 0.276, 0.05, np.nan]
    past = [0, np.nan, 0, 1, 0, 1, 0]
    states = block_states(series(measured, 7, radius_past=gap, water_path_past=past))
    assert states.to_columns()["state"].tolist() == [
        "blocked", "blocked", "partial", "partial", "unblocked", "partial", None,
    ]  # fmt: skip
    np.testing.assert_array_equal(states.paths["bare_ion_past_ligand"], [0, 1, 1, 1, 1, 0, np.nan])
    assert states.paths["hydrated_ion_past_ligand"][4] == 0.0


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"depth": [0.7]}, True),
        ({"depth": [-0.25]}, True),
        ({"depth": [-0.4]}, False),
        ({"depth": [1.7]}, True),
        ({"depth": [1.9]}, False),
        ({"offset": [1.1]}, False),
    ],
)
def test_site_is_the_vestibule_with_a_margin(measured, where, expected):
    states = block_states(series(measured, **where))
    assert states.in_site.tolist() == [expected]
    assert (states.to_columns()["state"][0] == "left") is not expected


def test_conduction_is_that_of_the_narrowest_place(measured):
    states = block_states(series(measured, 3, path_radius=[0.1, 0.2, 0.3]))
    assert states.to_columns()["conduction"].tolist() == ["closed", "water", "ions"]


def test_gate_without_walls_is_not_known(measured):
    states = block_states(series(measured, gate_radius=[np.nan], path_radius=[np.nan]))
    assert states.to_columns()["gate_state"].tolist() == [None]
    assert states.to_columns()["conduction"].tolist() == [None]
    assert np.isnan(states.paths["hydrated_ion_path"][0])


def test_water_beside_the_ligand_is_seen_through_blockade(run, trajectory, ligand_atoms):
    """A chain of waters far in another periodic image, wherever the channel tumbles."""
    topology = trajectory.topology.copy()
    chain = topology.add_chain()
    sites = blockade_sites(topology, ligand=run.ligand, ligand_atoms=ligand_atoms)
    dry = measure_blockade(trajectory.xyz[:1], sites=sites, reference=heavy(run))
    heights = np.arange(-1.1, 3.3, 0.02)
    middle = dry.centre_open[0]
    column = [np.interp(heights, dry.levels, middle[:, axis]) for axis in (0, 1)]
    waters = np.column_stack([*column, heights])
    for _ in waters:
        topology.add_atom("O", md.element.oxygen, topology.add_residue("HOH", chain))
    xyz = np.concatenate([trajectory.xyz[:2], np.repeat(waters[None], 2, axis=0)], axis=1)
    xyz[1, (trajectory.n_atoms + np.flatnonzero(np.abs(heights - 2.0) < 0.4))] = [4.0, 0.0, 0.0]
    turn = Rotation.from_rotvec([0.4, -1.0, 0.3]).as_matrix()
    xyz = xyz @ turn + [1.0, 2.0, 3.0]
    xyz[:, trajectory.n_atoms :] += [2, -1, 1] @ BOX
    wet = md.Trajectory(xyz.astype(np.float32), topology, time=[0.0, 1.0])
    wet.unitcell_vectors = np.repeat(BOX[None].astype(np.float32), 2, axis=0)
    got = blockade(wet, ligand=run.ligand, ligand_atoms=ligand_atoms)
    assert got.water_path.tolist() == [1.0, 0.0]
    assert got.water_path_past.tolist() == [1.0, 1.0]
    assert got.water_from_outside[1] == pytest.approx(2.4, abs=0.05)
    assert np.isnan(dry.water_path).all()


def test_order_of_the_chains_does_not_matter(run, trajectory, ligand_atoms, measured):
    """The same two frames with the chains of the file in another order."""
    chains = [np.array([a.index for a in chain.atoms]) for chain in trajectory.topology.chains]
    order = np.random.default_rng(3).permutation(len(chains))
    shuffled = trajectory[:2].atom_slice(chains[order[0]])
    for index in order[1:]:
        shuffled = shuffled.stack(trajectory[:2].atom_slice(chains[index]))
    place = np.argsort(np.concatenate([chains[index] for index in order]))
    got = blockade(
        shuffled, ligand=run.ligand, ligand_atoms=place[ligand_atoms], levels=LEVELS
    ).to_columns()
    for name, column in measured.to_columns().items():
        tolerance = {
            "ligand_tilt_deg": 0.1, "ammonium_angle_deg": 0.1, "filled_share": 0.03,
            "vestibule_volume_nm3": 0.06, "vestibule_filled_share": 0.02, "lumen_area_nm2": 0.02,
        }  # fmt: skip
        np.testing.assert_allclose(
            got[name], column[:2], atol=tolerance.get(name, 1e-3), err_msg=name
        )


# --------------------------------------------------------------------------- how long


WORDS = st.lists(st.sampled_from(["in", "out", None]), min_size=1, max_size=40)


@given(labels=WORDS, interval=st.floats(0.1, 100.0))
def test_visits_add_up_to_the_time_that_was_watched(labels, interval):
    times = interval * np.arange(len(labels))
    visits = dwell_times(labels, times)
    known = sum(interval for label, _ in itertools.pairwise(labels) if label is not None)
    assert sum(visit.duration_ps for visit in visits) == pytest.approx(known)
    changes = sum(a != b for a, b in itertools.pairwise(labels))
    assert len(visits) + sum(not_known(labels)) == changes + 1
    exits = sum(a != b and None not in (a, b) for a, b in itertools.pairwise(labels))
    assert sum(not visit.censored_right for visit in visits) == exits
    assert sum(not visit.censored_left for visit in visits) == exits


def not_known(labels):
    """True for each run of frames whose state is not known."""
    return [key is None for key, _ in itertools.groupby(labels)]


def test_lifetime_is_time_over_exits():
    labels = ["in"] * 3 + ["out"] * 2 + ["in"] * 4 + ["out"] + ["in"] * 2
    visits = dwell_times(labels, 10.0 * np.arange(len(labels)))
    stay = lifetime(visits, "in")
    assert (stay.n_visits, stay.n_exits, stay.time_ps) == (3, 2, 80.0)
    assert stay.mean_ps == 40.0
    assert stay.low_ps == pytest.approx(80.0 * 2 / chi2.ppf(0.975, 6))
    assert stay.high_ps == pytest.approx(80.0 * 2 / chi2.ppf(0.025, 4))


def test_lifetime_of_a_two_state_process_comes_back():
    """Exponential waiting times of 50 and 20 frames, cut off at both ends."""
    generator = np.random.default_rng(11)
    waits = generator.exponential([50.0, 20.0], size=(400, 2)).ravel()
    ends = np.cumsum(waits)
    times = np.arange(7.0, ends[-1] - 9.0, 0.05)
    labels = np.where(np.searchsorted(ends, times) % 2 == 0, "in", "out")
    visits = dwell_times(labels, times)
    for state, expected in (("in", 50.0), ("out", 20.0)):
        stay = lifetime(visits, state)
        assert stay.low_ps < expected < stay.high_ps
        assert stay.mean_ps == pytest.approx(expected, rel=0.15)


def test_ligand_that_never_leaves_has_a_lower_bound_only():
    stay = lifetime(dwell_times(["in"] * 101, np.arange(101.0)), "in")
    assert np.isnan(stay.mean_ps)
    assert stay.low_ps == pytest.approx(100.0 / -np.log(0.025))
    assert stay.high_ps == np.inf
    assert "not enough data" in stay.note
    never = lifetime(dwell_times(["in"] * 101, np.arange(101.0)), "out")
    assert never.note == "never visited"
    assert np.isnan([never.mean_ps, never.low_ps, never.high_ps]).all()


def test_times_that_do_not_rise_are_refused():
    with pytest.raises(TrajectoryError, match="one rising time for each frame"):
        dwell_times(["in", "in"], [1.0, 1.0])
    with pytest.raises(TrajectoryError, match="2 states and 3 times"):
        dwell_times(["in", "in"], [1.0, 2.0, 3.0])


def test_table_of_states_holds_shares_and_stays(measured):
    n_frames = 200
    generator = np.random.default_rng(5)
    gap = generator.choice([0.05, 0.2, 0.3], size=n_frames)
    frames = series(measured, n_frames, radius_past=gap, water_path_past=np.zeros(n_frames))
    states = block_states(frames)
    times = np.arange(float(n_frames))
    table = states_table(frames, states, times)
    rows = {
        (group, state): {name: column[at] for name, column in table.items()}
        for at, (group, state) in enumerate(zip(table["group"], table["state"], strict=True))
    }
    assert list(dict.fromkeys(table["group"])) == ["block", "gate", "site", "path"]
    for state, value in (("blocked", 0.05), ("partial", 0.2), ("unblocked", 0.3)):
        row = rows["block", state]
        assert row["share"] == pytest.approx((gap == value).mean())
        assert 0.02 < row["share_error"] < 0.06
        assert row["lifetime_ns"] * 1000 == pytest.approx(1.5, rel=0.2)
    assert rows["block", "left"]["share"] == 0.0
    assert rows["site", "in the site"]["share"] == 1.0
    assert "only a lower bound" in rows["site", "in the site"]["note"]
    assert "not known in 200 of 200" in rows["path", "water_path"]["note"]
    visits = dwell_times_table(states, times)
    mine = np.array(visits["group"]) == "block"
    assert np.array(visits["duration_ps"])[mine].sum() == pytest.approx(199.0)
    assert sum(visits["censored_left"]) == sum(visits["censored_right"]) == 3


def test_snippet_of_the_documents_runs(run, trajectory, ligand_atoms, tmp_path, monkeypatch):
    page = Path(__file__).parents[1] / "docs" / "pore-and-blockade.md"
    snippet = page.read_text().split("```python\n")[1].split("```")[0]
    trajectory[:2].save_xtc(str(tmp_path / "channel.xtc"))
    trajectory[0].save_pdb(str(tmp_path / "channel.pdb"))
    monkeypatch.chdir(tmp_path)
    names = {"molecule": run.ligand, "atoms": ligand_atoms}
    exec(snippet, names)
    np.testing.assert_allclose(
        names["measured"].depth[1] - names["measured"].depth[0], 0.1, atol=0.01
    )
    assert names["profile"].radius.shape == (2, 181)
