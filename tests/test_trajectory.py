import shutil

import mdtraj as md
import numpy as np
import pytest
from channel_run import BOX, write_run
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from nmdasim.errors import RunFolderError, SelectionError, TrajectoryDamageError, TrajectoryError
from nmdasim.structures import structures_folder
from nmdasim.trajectory import (
    in_pore_frame,
    molecules_of,
    nearest_images,
    open_run,
    pore_atoms,
    pore_frame,
    read_frames,
)
from nmdasim.trajectory.imaging import inner_radius

RECEPTOR = structures_folder() / "receptors" / "7eu8" / "receptor.cif"
N_FRAMES = 20
STEPS = np.linspace([0, 0, 0], [0.05, -0.02, 0.2], N_FRAMES)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    if not RECEPTOR.is_file():
        pytest.skip("needs the prepared receptor 7eu8 in structures/receptors")
    folder = tmp_path_factory.mktemp("run") / "run"
    return folder, write_run(folder, receptor=RECEPTOR, steps=STEPS)


@pytest.fixture(scope="module")
def run(made):
    return open_run(made[0])


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made[0], tmp_path / "copy")


@pytest.fixture(scope="module")
def frames(run):
    return md.join([chunk.trajectory for chunk in read_frames(run)], check_topology=False)


def test_topology_keeps_what_the_receptor_says(run, made):
    _, channel = made
    for ours, theirs in zip(run.topology.atoms, channel.topology.atoms(), strict=True):
        assert ours.name == theirs.name
        assert ours.residue.name == theirs.residue.name
        assert str(ours.residue.resSeq) == theirs.residue.id
        assert ours.residue.chain.chain_id == theirs.residue.chain.id
    np.testing.assert_allclose(run.start, channel.positions, atol=2e-4)
    np.testing.assert_array_equal(run.ligand_atoms, channel.ligand)
    assert [a.GetAtomicNum() for a in run.ligand.GetAtoms()] == [
        run.topology.atom(i).element.atomic_number for i in run.ligand_atoms
    ]


def test_residues_know_their_subunit_ring_and_origin(run):
    by_place = {(r.chain, r.number): r for r in run.residues if r.status != "cap"}
    leucine = by_place["B", 643]
    assert (leucine.subunit, leucine.name, leucine.ring) == ("GluN2B", "LEU", "hydrophobic_1")
    assert by_place["A", 648].ring == "threonine"
    assert by_place["A", 640].ring is None
    assert run.subunit_of == {"A": "GluN1", "B": "GluN2B", "C": "GluN1", "D": "GluN2B"}
    assert {r.status for r in run.residues} <= {
        "observed",
        "side chain rebuilt",
        "rebuilt",
        "cap",
    }


def test_every_frame_comes_once_and_undone(run, frames):
    """Tumbling, wrapping and the split into segments must leave no trace."""
    assert frames.n_frames == run.n_frames == N_FRAMES
    np.testing.assert_allclose(frames.time, 2.0 * np.arange(1, N_FRAMES + 1))
    want = np.repeat(run.start[None], N_FRAMES, axis=0)
    want[:, run.ligand_atoms] += STEPS[:, None]
    # XTC rounds to 0.001 nm.
    np.testing.assert_allclose(frames.xyz, want[:, run.solute], atol=2e-3)


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_size_of_chunks_does_not_matter(run, frames, chunk):
    chunks = list(read_frames(run, chunk=chunk))
    firsts = [c.first_frame for c in chunks]
    sizes = [c.trajectory.n_frames for c in chunks]
    assert firsts == np.cumsum([0, *sizes[:-1]]).tolist()
    assert max(sizes) <= chunk
    np.testing.assert_array_equal(np.concatenate([c.trajectory.xyz for c in chunks]), frames.xyz)


def test_water_can_be_read_too(run):
    chunk = next(read_frames(run, atoms=np.arange(run.topology.n_atoms)))
    assert chunk.trajectory.n_atoms == run.topology.n_atoms
    water = [a.index for a in run.topology.atoms if a.residue.name == "HOH" and a.name == "O"]
    distances = np.linalg.norm(
        chunk.trajectory.xyz[:, water] - chunk.trajectory.xyz[:, [w + 1 for w in water]], axis=-1
    )
    np.testing.assert_allclose(distances, 0.08, atol=3e-3)


def test_water_and_ions_come_at_the_image_nearest_to_the_pore(run):
    """Of all lattice translates the one that is given must be the nearest to the pore's middle."""
    assert run.ion_names == ("Na",)
    np.testing.assert_array_equal(run.ion_charges, [1.0])
    rings = pore_atoms(run.topology).rings
    middle = 0.5 * sum(run.start[rings[r]].mean(axis=0) for r in ("asparagine", "threonine"))
    cells = np.stack(np.meshgrid(*[range(-2, 3)] * 3), axis=-1).reshape(-1, 3) @ BOX
    want = []
    for place in run.start[np.concatenate([run.water, run.ions])]:
        images = place + cells
        want.append(images[((images - middle) ** 2).sum(axis=1).argmin()])
    for chunk in read_frames(run):
        got = np.concatenate([chunk.water, chunk.ions], axis=1)
        assert got.dtype == np.float32
        assert len(chunk.time_ps) == len(got) == chunk.trajectory.n_frames
        # The box is turned with each frame; a point half-way between images may be either.
        np.testing.assert_allclose(
            np.linalg.norm(got - middle, axis=-1),
            np.linalg.norm(np.array(want) - middle, axis=-1)[None].repeat(len(got), 0),
            atol=3e-3,
        )
        np.testing.assert_allclose(got, np.array(want)[None].repeat(len(got), 0), atol=3e-3)


def test_series_join_the_manifests(run):
    np.testing.assert_array_equal(run.records["potential_kj_mol"], -1e5 + np.arange(N_FRAMES))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_segment_is_refused(copy, share):
    path = copy / "segments" / "00001.xtc"
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(TrajectoryDamageError, match=r"00001.xtc is truncated or damaged"):
        list(read_frames(open_run(copy)))


def test_scrambled_segment_is_refused(copy):
    path = copy / "segments" / "00000.xtc"
    path.write_bytes(b"no trajectory at all" * 100)
    with pytest.raises(TrajectoryDamageError, match="0 of 8 frames"):
        list(read_frames(open_run(copy)))


def test_missing_segment_is_refused(copy):
    (copy / "segments" / "00001.xtc").unlink()
    with pytest.raises(TrajectoryError, match="missing"):
        list(read_frames(open_run(copy)))


@pytest.mark.parametrize("name", ["topology.cif", "ligand.sdf", "receptor.cif"])
def test_missing_file_is_refused(copy, name):
    (copy / name).unlink()
    with pytest.raises(RunFolderError, match=f"{name} is missing"):
        open_run(copy)


def test_damaged_topology_is_refused(copy):
    text = (copy / "topology.cif").read_text()
    (copy / "topology.cif").write_text(text[: len(text) // 2])
    with pytest.raises((RunFolderError, TrajectoryError), match=r"topology.cif"):
        open_run(copy)


def test_no_run_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="holds no run"):
        open_run(tmp_path)


def test_ligand_of_another_run_is_refused(copy):
    from nmdasim.ligand import load_ligand, state_of, write_ligand

    write_ligand(state_of(load_ligand("S-ketamine"), 0), copy / "ligand.sdf")
    with pytest.raises(TrajectoryError, match="not the"):
        open_run(copy)


def test_pore_frame_of_a_tumbled_channel(frames):
    reference = pore_frame(frames)
    turn = Rotation.from_rotvec([0.3, -1.2, 2.0]).as_matrix()
    tumbled = frames[:2]
    tumbled.xyz = frames.xyz[:2] @ turn + np.array([3.0, -2.0, 7.0])
    found = pore_frame(tumbled)
    np.testing.assert_allclose(found.rotation, reference.rotation @ turn, atol=1e-5)
    turned = next(in_pore_frame(tumbled))
    still = next(in_pore_frame(frames[:2]))
    np.testing.assert_allclose(turned.xyz, still.xyz, atol=1e-4)


def test_prepared_receptor_lies_in_its_own_pore_frame(run):
    start = md.Trajectory(run.start[None], run.topology)
    frame = pore_frame(start)
    np.testing.assert_allclose(frame.origin, 0.0, atol=0.02)
    assert frame.rotation[2, 2] > 0.999
    assert frame.rotation[0, 0] > 0.99


def test_numbering_by_another_constant_is_understood(run):
    shifted = run.topology.copy()
    for residue in shifted.residues:
        residue.resSeq -= 26
    np.testing.assert_array_equal(pore_atoms(shifted).fit, pore_atoms(run.topology).fit)


def test_half_a_channel_is_refused(run):
    half = run.topology.subset([a.index for a in run.topology.atoms if a.residue.chain.index < 1])
    with pytest.raises(SelectionError, match="two GluN1 and two GluN2 chains"):
        pore_atoms(half)


def test_no_frame_is_refused(frames):
    with pytest.raises(TrajectoryError, match="no frame"):
        list(in_pore_frame(frames[:0]))


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (np.diag([5.0, 6.0, 7.0]), 2.5),
        (9.0 * np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, np.sqrt(0.5)]]), 4.5),
        # The same lattice by longer vectors.
        (np.array([[5.0, 0, 0], [5.0, 5.0, 0], [10.0, 5.0, 5.0]]), 2.5),
        (np.zeros((3, 3)), np.inf),
    ],
)
def test_cell_is_whole_within_half_its_shortest_vector(box, expected):
    assert inner_radius(box[None]).tolist() == pytest.approx([expected])


@given(seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_images_are_mended_in_any_box(seed):
    generator = np.random.default_rng(seed)
    box = generator.choice([np.eye(3) * 4.0, BOX / 2, np.diag([3.0, 5.0, 4.0])])
    sizes = np.array([30, 4, 1, 7])
    molecules = np.repeat(np.arange(4), sizes)
    reference = generator.uniform(-1.0, 1.0, size=(sizes.sum(), 3))
    moved = reference + 0.2 * generator.normal(size=(4, 3))[molecules]
    cells = generator.integers(-3, 4, size=(5, 4, 3))
    wrapped = moved + (cells @ box)[:, molecules]
    got = nearest_images(
        wrapped, np.repeat(box[None], 5, axis=0), reference=reference, molecules=molecules
    )
    np.testing.assert_allclose(got - got[:, :1], (moved - moved[:1])[None].repeat(5, 0), atol=1e-9)


def test_without_a_box_nothing_moves():
    xyz = np.random.default_rng(0).normal(size=(2, 3, 3))
    for box in (None, np.zeros((2, 3, 3))):
        got = nearest_images(xyz, box, reference=xyz[0], molecules=[0, 1, 2])
        np.testing.assert_array_equal(got, xyz)


def test_pieces_of_a_chain_are_separate_molecules(run):
    molecules = molecules_of(run.topology, run.start)
    ligand = set(molecules[run.ligand_atoms])
    waters = {molecules[a.index] for a in run.topology.atoms if a.residue.name == "HOH"}
    names = ("LIG", "HOH", "NA")
    protein = {molecules[a.index] for a in run.topology.atoms if a.residue.name not in names}
    assert len(ligand) == 1
    assert len(waters) == 5
    assert len(protein) >= 4
    assert not ligand & (waters | protein)
    assert not waters & protein
    assert (np.diff(molecules) >= 0).all()
