from pathlib import Path

import mdtraj as md
import numpy as np
import pytest
from channel_run import write_run
from rdkit import Chem
from scipy.spatial.transform import Rotation

from nmdasim.channel_block import (
    blockade,
    blockade_sites,
    measure_blockade,
    merge_blockades,
    pore_profile,
)
from nmdasim.errors import SelectionError, TrajectoryError
from nmdasim.pore import clearance, radii_of
from nmdasim.structures import structures_folder
from nmdasim.trajectory import open_run, read_frames

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
        tolerance = {"ligand_tilt_deg": 0.1, "filled_share": 0.03}.get(name, 1e-3)
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
