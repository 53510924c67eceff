"""Trajectories of other programs give what the run folder of the same frames gives."""

import json
import re
from pathlib import Path

import mdtraj as md
import numpy as np
import pyarrow.parquet as pq
import pytest
from channel_run import BOX, INTERVAL_PS, write_run
from foreign_files import WRITERS, as_mdtraj, torn_frames, trajectory_of, write_gromacs
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from mdtraj.formats import TRRTrajectoryFile
from scipy.spatial.transform import Rotation

from nmdasim import cli
from nmdasim.analysis import analyse_run
from nmdasim.errors import SelectionError, TrajectoryDamageError, TrajectoryError
from nmdasim.structures import structures_folder
from nmdasim.subunits import ONE_LETTER, subunits
from nmdasim.trajectory import in_pore_frame, open_run, open_trajectory, read_frames
from nmdasim.trajectory.chains import find_chains

RECEPTOR = structures_folder() / "receptors" / "7eu8" / "receptor.cif"
N_FRAMES = 6
STEPS = np.linspace([0, 0, 0], [0.05, -0.02, 0.2], N_FRAMES)


@pytest.fixture(scope="module")
def channel(tmp_path_factory):
    if not RECEPTOR.is_file():
        pytest.skip("needs the prepared receptor 7eu8 in structures/receptors")
    folder = tmp_path_factory.mktemp("foreign") / "run"
    return write_run(folder, receptor=RECEPTOR, steps=STEPS, segments=(N_FRAMES,)), folder


@pytest.fixture(scope="module")
def own(channel):
    """The run folder's frames, turned by the rings of the first of them."""
    run = open_run(channel[1])
    frames = md.join([chunk.trajectory for chunk in read_frames(run)], check_topology=False)
    return run, next(in_pore_frame(frames))


@pytest.fixture(scope="module")
def torn(channel):
    return torn_frames(channel[0], STEPS)


@pytest.fixture(scope="module")
def system(channel, torn):
    """The frames as mdtraj has them, atom by atom in the box."""
    return trajectory_of(as_mdtraj(channel[0]), torn)


@pytest.fixture(
    scope="module",
    params=[
        "GROMACS",
        pytest.param("NAMD", marks=pytest.mark.slow),
        pytest.param("Amber", marks=pytest.mark.slow),
        pytest.param("OpenMM", marks=pytest.mark.slow),
    ],
)
def opened(request, channel, torn, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    written = WRITERS[request.param](folder, channel[0], torn)
    return open_trajectory(
        written.trajectory, topology=written.topology, ligand="S-ketamine", **written.options
    )


@pytest.fixture(scope="module")
def gromacs(channel, torn, tmp_path_factory):
    """Files that no test changes."""
    written = write_gromacs(tmp_path_factory.mktemp("gromacs"), channel[0], torn)
    return written.trajectory, written.topology


def test_frames_are_those_of_the_run_folder(opened, own):
    _, frames = own
    chunks = list(read_frames(opened))
    got = np.concatenate([chunk.trajectory.xyz for chunk in chunks])
    np.testing.assert_array_equal(np.sort(opened.ligand_atoms), own[0].ligand_atoms)
    # XTC rounds to 0.001 nm, and the first frame defines the pore frame.
    np.testing.assert_allclose(got, frames.xyz, atol=8e-3)
    times = np.concatenate([chunk.time_ps for chunk in chunks])
    np.testing.assert_allclose(np.diff(times), INTERVAL_PS)


def test_residues_have_their_subunits_and_numbers(opened, own):
    ours = [(r.subunit, r.number, r.ring) for r in opened.residues]
    theirs = [(r.subunit, r.number, r.ring) for r in own[0].residues]
    assert ours == theirs
    assert sorted(opened.subunit_of.values()) == ["GluN1", "GluN1", "GluN2B", "GluN2B"]


def test_water_and_ions_have_their_places(opened, own):
    assert (opened.ion_names, len(opened.water)) == (("Na",), 5)
    ours, theirs = (
        np.concatenate([np.concatenate([c.water, c.ions], axis=1) for c in read_frames(run)])
        for run in (opened, own[0])
    )
    # Distances, because the two pore frames differ a little.
    np.testing.assert_allclose(
        np.linalg.norm(ours - ours[:, :1], axis=-1),
        np.linalg.norm(theirs - theirs[:, :1], axis=-1),
        atol=4e-3,
    )


def test_chemistry_is_that_of_the_molecule(opened, own):
    assert opened.ligand.GetNumAtoms() == own[0].ligand.GetNumAtoms()
    for atom, index in zip(opened.ligand.GetAtoms(), opened.ligand_atoms, strict=True):
        element = opened.topology.atom(int(index)).element
        assert element.symbol == atom.GetSymbol()
    assert sum(atom.GetFormalCharge() for atom in opened.ligand.GetAtoms()) == 1


def test_bonded_atoms_of_the_molecule_are_near_each_other(opened):
    places = opened.start[opened.ligand_atoms]
    for bond in opened.ligand.GetBonds():
        a, b = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        assert np.linalg.norm(places[a] - places[b]) < 0.19


def test_stride_picks_frames(gromacs):
    trajectory, topology = gromacs
    every, third = (
        open_trajectory(trajectory, topology=topology, ligand="S-ketamine", stride=stride)
        for stride in (1, 3)
    )
    assert (every.n_frames, third.n_frames) == (N_FRAMES, 2)
    all_frames, picked = (
        np.concatenate([c.trajectory.xyz for c in read_frames(run, chunk=2)])
        for run in (every, third)
    )
    np.testing.assert_array_equal(picked, all_frames[::3])


def test_frames_that_two_files_share_come_once(gromacs, tmp_path):
    whole = md.load(str(gromacs[0]), top=str(gromacs[1]))
    whole[:3].save_xtc(str(tmp_path / "part1.xtc"))
    whole[2:].save_xtc(str(tmp_path / "part2.xtc"))
    parts = [tmp_path / "part1.xtc", tmp_path / "part2.xtc"]
    run = open_trajectory(parts, topology=gromacs[1], ligand="S-ketamine")
    assert [piece.n_frames for piece in run.pieces] == [3, 3]
    times = np.concatenate([chunk.time_ps for chunk in read_frames(run)])
    np.testing.assert_allclose(times, INTERVAL_PS * (1 + np.arange(N_FRAMES)))
    with pytest.raises(TrajectoryError, match="in the file before, but must rise"):
        open_trajectory(parts[::-1], topology=gromacs[1], ligand="S-ketamine")


def test_files_whose_clock_begins_anew_are_refused_or_numbered_through(gromacs, tmp_path):
    """The second part runs from 0 again, and further than the first: no frame is shared."""
    whole = md.load(str(gromacs[0]), top=str(gromacs[1]))
    parts = [tmp_path / "part1.xtc", tmp_path / "part2.xtc"]
    for part, frames in zip(parts, (whole[:2], whole[2:]), strict=True):
        frames.time = INTERVAL_PS * np.arange(len(frames))
        frames.save_xtc(str(part))
    asked = {"topology": gromacs[1], "ligand": "S-ketamine"}
    with pytest.raises(TrajectoryError, match=r"from 0 to 6 ps after 0 to 2 ps .* begins anew"):
        open_trajectory(parts, **asked)
    run = open_trajectory(parts, frame_ps=INTERVAL_PS, **asked)
    times = np.concatenate([chunk.time_ps for chunk in read_frames(run)])
    np.testing.assert_allclose(times, INTERVAL_PS * np.arange(N_FRAMES))


def test_clock_set_back_within_a_file_is_refused(gromacs, tmp_path):
    joined = md.load(str(gromacs[0]), top=str(gromacs[1]))
    joined.time = [0.0, 2.0, 4.0, 0.0, 2.0, 6.0]
    joined.save_xtc(str(tmp_path / "joined.xtc"))
    run = open_trajectory(
        tmp_path / "joined.xtc", topology=gromacs[1], ligand="S-ketamine", folder=tmp_path / "out"
    )
    for chunk in (1, 3, 6):
        with pytest.raises(TrajectoryError, match=r"joined\.xtc has a frame at 0 ps after .* 4 ps"):
            list(read_frames(run, chunk=chunk))
    with pytest.raises(TrajectoryError, match="must rise"):
        analyse_run(run)
    assert not (tmp_path / "out").exists()


def test_ligand_without_hydrogens_is_found(system, tmp_path):
    heavy = [a.index for a in system.topology.atoms if a.element.symbol != "H"]
    frames = system.atom_slice(heavy)
    frames[0].save_pdb(str(tmp_path / "heavy.pdb"))
    frames.save_xtc(str(tmp_path / "heavy.xtc"))
    run = open_trajectory(
        tmp_path / "heavy.xtc", topology=tmp_path / "heavy.pdb", ligand="S-ketamine"
    )
    assert run.ligand.GetNumAtoms() == run.ligand.GetNumHeavyAtoms() == len(run.ligand_atoms)
    assert next(read_frames(run)).trajectory.n_atoms == len(run.solute)


@pytest.mark.parametrize(
    ("ligand", "message"),
    [
        ("R-ketamine", "another stereoisomer"),
        ("memantine", "none of the molecules LIG has the bonds"),
        ("CN[C@@]1(CCCCC1=O)c1ccccc1Br", "none of the molecules"),
    ],
)
def test_another_molecule_is_refused(gromacs, ligand, message):
    trajectory, topology = gromacs
    with pytest.raises(SelectionError, match=message):
        open_trajectory(trajectory, topology=topology, ligand=ligand)


def test_another_charge_state_is_refused(gromacs):
    trajectory, topology = gromacs
    with pytest.raises(SelectionError, match="has 17 hydrogens where the given ligand has 16"):
        open_trajectory(trajectory, topology=topology, ligand="S-ketamine", charge=0)


def test_of_two_ligands_one_must_be_chosen(channel, system, tmp_path):
    ligand = system.atom_slice(channel[0].ligand)
    second = ligand[:]
    second.xyz = ligand.xyz + np.float32(2.0)
    both = system.stack(second)
    both.unitcell_vectors = np.repeat(BOX[None].astype(np.float32), len(both), axis=0)
    both[0].save_gro(str(tmp_path / "two.gro"))
    both.save_xtc(str(tmp_path / "two.xtc"))
    files = {"topology": tmp_path / "two.gro", "ligand": "S-ketamine"}
    with pytest.raises(SelectionError, match=r"LIG1#1, LIG1#2: choose one"):
        open_trajectory(tmp_path / "two.xtc", **files)
    first, other = (
        open_trajectory(tmp_path / "two.xtc", ligand_residue=label, **files)
        for label in ("LIG1#1", "LIG1#2")
    )
    np.testing.assert_array_equal(np.sort(first.ligand_atoms), channel[0].ligand)
    assert other.ligand_atoms.min() > system.n_atoms - 1


def test_ligand_cut_into_two_residues_is_one_molecule(system, channel, tmp_path):
    """As programs that build molecules from fragments write it."""
    topology = system.topology.copy()
    residue = topology.atom(int(channel[0].ligand[0])).residue
    second = topology.add_residue("FRG", residue.chain, resSeq=2)
    for atom in list(residue.atoms)[5:]:
        # Atoms keep their places in the file and change the residue alone.
        residue._atoms.remove(atom)
        second._atoms.append(atom)
        atom.residue = second
    frames = md.Trajectory(system.xyz, topology, time=system.time)
    frames.unitcell_vectors = system.unitcell_vectors
    frames[0].save_gro(str(tmp_path / "two.gro"))
    frames.save_xtc(str(tmp_path / "two.xtc"))
    run = open_trajectory(tmp_path / "two.xtc", topology=tmp_path / "two.gro", ligand="S-ketamine")
    names = {run.topology.atom(int(i)).residue.name for i in run.ligand_atoms}
    assert names == {"LIG", "FRG"}
    np.testing.assert_array_equal(np.sort(run.ligand_atoms), channel[0].ligand)


def with_magnesium(system, channel, folder):
    """Files in which Mg2+ takes the place of the ligand, and another one is in the water."""
    keep = [a.index for a in system.topology.atoms if a.residue.name != "LIG"]
    topology = system.topology.subset(keep)
    for number in (900, 901):
        residue = topology.add_residue("MG", topology.add_chain(), resSeq=number)
        topology.add_atom("MG", md.element.magnesium, residue)
    bound = system.xyz[:, channel[0].ligand[:1]]
    away = bound + np.float32([4.0, 1.0, 2.0])
    # The pore's middle on a corner of the box, so that ion and chains come from different cells.
    xyz = np.concatenate([system.xyz[:, keep], bound, away], axis=1) + BOX.sum(axis=0) / 2
    shares = xyz @ np.linalg.inv(BOX)
    frames = trajectory_of(topology, xyz - np.floor(shares) @ BOX)
    frames[0].save_gro(str(folder / "ion.gro"))
    frames.save_xtc(str(folder / "ion.xtc"))
    return folder / "ion.xtc", folder / "ion.gro"


@pytest.fixture(scope="module")
def magnesium(system, channel, tmp_path_factory):
    return with_magnesium(system, channel, tmp_path_factory.mktemp("magnesium"))


def test_magnesium_is_a_ligand_where_it_is_said_which(magnesium, own):
    trajectory, topology = magnesium
    with pytest.raises(SelectionError, match="MG900, MG901: choose one"):
        open_trajectory(trajectory, topology=topology, ligand="magnesium")
    run = open_trajectory(trajectory, topology=topology, ligand="magnesium", ligand_residue="MG900")
    assert [a.GetSymbol() for a in run.ligand.GetAtoms()] == ["Mg"]
    # The other one is an ion of the solution, and the ligand is none.
    assert run.ion_names == ("Na", "Mg")
    assert not np.isin(run.ligand_atoms, run.ions).any()
    # It was written in another cell than the channel: it comes back to its place in the pore.
    atom = own[0].ligand_atoms[0]
    place = np.searchsorted(own[0].solute, atom)
    got = np.concatenate([c.trajectory.xyz[:, -1] for c in read_frames(run)])
    np.testing.assert_allclose(got, own[1].xyz[:, place], atol=8e-3)
    np.testing.assert_allclose(run.start[run.ligand_atoms[0]], got[0], atol=3e-3)


@pytest.mark.slow
def test_magnesium_is_analysed_from_the_terminal(magnesium, channel, tmp_path, monkeypatch):
    trajectory, topology = magnesium
    monkeypatch.chdir(tmp_path)
    words = ["--topology", str(topology), "--trajectory", str(trajectory), "--ligand", "magnesium"]
    assert cli.main(["analyse", *words, "--ligand-residue", "MG900", "-o", "mg"]) == 0
    tables = {
        name: pq.read_table(tmp_path / "mg" / "analysis" / f"{name}.parquet")
        for name in ("frames", "contacts", "permeation_rates")
    }
    depth = tables["frames"]["ligand_depth_nm"].to_numpy()
    np.testing.assert_allclose(depth - depth[0], STEPS[:, 2], atol=5e-3)
    np.testing.assert_allclose(tables["frames"]["ammonium_depth_nm"].to_numpy(), np.nan)
    kinds = {row["type"] for row in tables["contacts"].to_pylist()}
    assert kinds <= {"metal coordination", "water bridge", "salt bridge", "close contact"}
    # The ligand is not counted among the ions that pass.
    assert set(tables["permeation_rates"]["kind"].to_pylist()) == {"water", "Na", "Mg"}
    about = json.loads((tmp_path / "mg" / "foreign.json").read_text())
    assert (about["ligand"]["charge"], about["ligand"]["residue"]) == (2, "MG900")
    assert cli.main(["report", "mg", "-o", "mg.html"]) == 0
    assert "magnesium (charge +2)" in (tmp_path / "mg.html").read_text()


def test_trajectory_without_the_ligand_is_refused(system, tmp_path):
    bare = system.atom_slice([a.index for a in system.topology.atoms if a.residue.name != "LIG"])
    bare[0].save_gro(str(tmp_path / "bare.gro"))
    bare.save_xtc(str(tmp_path / "bare.xtc"))
    with pytest.raises(SelectionError, match="holds no molecule besides"):
        open_trajectory(tmp_path / "bare.xtc", topology=tmp_path / "bare.gro", ligand="S-ketamine")


def test_protein_without_the_pore_is_refused(system, tmp_path):
    """One subunit with its ligand is a protein and no channel."""
    first = [
        a.index
        for a in system.topology.atoms
        if a.residue.name == "LIG" or a.residue.chain.index == 0
    ]
    part = system.atom_slice(first)
    part[0].save_gro(str(tmp_path / "one.gro"))
    part.save_xtc(str(tmp_path / "one.xtc"))
    with pytest.raises(SelectionError, match="two GluN1 and two GluN2 chains"):
        open_trajectory(tmp_path / "one.xtc", topology=tmp_path / "one.gro", ligand="S-ketamine")


def test_frames_turned_after_they_were_cut_are_refused(system, tmp_path):
    turn = np.array([[0.6, 0.8, 0.0], [-0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    frames = trajectory_of(system.topology, system.xyz.astype(float) @ turn)
    frames[0].save_gro(str(tmp_path / "turned.gro"))
    frames.save_xtc(str(tmp_path / "turned.xtc"))
    with pytest.raises(TrajectoryError, match="stays torn"):
        open_trajectory(
            tmp_path / "turned.xtc", topology=tmp_path / "turned.gro", ligand="S-ketamine"
        )


@pytest.fixture(scope="module")
def wet(own):
    """The channel whole in a cube of 9 nm, its heavy atoms and a lattice of water 0.9 nm wide."""
    _, frames = own
    heavy = [a.index for a in frames.topology.atoms if a.element.symbol != "H"]
    topology = frames.topology.subset(heavy)
    lattice = np.stack(np.meshgrid(*[0.9 * np.arange(10)] * 3), axis=-1).reshape(-1, 3)
    chain = topology.add_chain()
    for _ in lattice:
        topology.add_atom("OW", md.element.oxygen, topology.add_residue("SOL", chain))
    return md.Trajectory(np.concatenate([frames.xyz[0, heavy], lattice])[None], topology)


@pytest.mark.parametrize(
    ("box_nm", "failed"),
    [
        (8.1, {"share of water that overlaps when folded into the box"}),
        (None, {"frames with water and without a box"}),
        pytest.param(9.0, set(), marks=pytest.mark.slow),
    ],
    ids=["too small", "missing", "right"],
)
def test_box_that_is_not_that_of_the_frames_fails_its_check(wet, tmp_path, box_nm, failed):
    frames = wet[:]
    wet.save_gro(str(tmp_path / "wet.gro"))
    if box_nm:
        frames.unitcell_vectors = np.eye(3, dtype=np.float32)[None] * box_nm
    frames.save_xtc(str(tmp_path / "wet.xtc"))
    files = {"topology": tmp_path / "wet.gro", "ligand": "S-ketamine"}
    checks = open_trajectory(tmp_path / "wet.xtc", **files).source["checks"]
    assert {check["name"] for check in checks if not check["passed"]} == failed


def test_frames_without_water_need_no_box(own, tmp_path):
    _, frames = own
    heavy = [a.index for a in frames.topology.atoms if a.element.symbol != "H"]
    frames[0].atom_slice(heavy).save_gro(str(tmp_path / "dry.gro"))
    run = open_trajectory(tmp_path / "dry.gro", topology=tmp_path / "dry.gro", ligand="S-ketamine")
    assert all(check["passed"] for check in run.source["checks"])
    assert not any("box" in check["name"] for check in run.source["checks"])


def test_times_that_are_not_in_the_file_must_be_given(channel, torn, tmp_path):
    written = WRITERS["OpenMM"](tmp_path, channel[0], torn)
    with pytest.raises(TrajectoryError, match="--frame-ps"):
        open_trajectory(written.trajectory, topology=written.topology, ligand="S-ketamine")


def test_one_frame_needs_no_time(gromacs):
    _, topology = gromacs
    run = open_trajectory(topology, topology=topology, ligand="S-ketamine")
    (chunk,) = read_frames(run)
    assert chunk.time_ps.tolist() == [0.0]


@pytest.mark.parametrize("share", [0.6, 0.9])
def test_truncated_file_is_refused(gromacs, tmp_path, share):
    data = gromacs[0].read_bytes()
    trajectory, topology = tmp_path / "md.xtc", gromacs[1]
    trajectory.write_bytes(data[: int(share * len(data))])
    with pytest.raises(TrajectoryDamageError, match=r"md\.xtc"):
        list(read_frames(open_trajectory(trajectory, topology=topology, ligand="S-ketamine")))


def test_truncated_dcd_is_refused(channel, torn, tmp_path):
    written = WRITERS["OpenMM"](tmp_path, channel[0], torn)
    data = written.trajectory.read_bytes()
    written.trajectory.write_bytes(data[: int(0.6 * len(data))])
    with pytest.raises(TrajectoryDamageError, match="promises 6 frames and 3 are there"):
        open_trajectory(
            written.trajectory, topology=written.topology, ligand="S-ketamine", frame_ps=1.0
        )


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("content", [b"", b"no trajectory at all" * 100])
@pytest.mark.parametrize("name", ["md.xtc", "md.dcd", "md.trr", "md.nc"])
def test_file_that_is_no_trajectory_is_refused(gromacs, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises((TrajectoryDamageError, TrajectoryError), match=name.replace(".", r"\.")):
        open_trajectory(tmp_path / name, topology=gromacs[1], ligand="S-ketamine", frame_ps=1.0)


# mdtraj leaves the file open when it gives up.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("content", ["", "no topology\n" * 9])
@pytest.mark.parametrize("name", ["bad.gro", "bad.pdb", "bad.psf", "bad.prmtop", "bad.cif"])
def test_file_that_is_no_topology_is_refused(gromacs, tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises((TrajectoryDamageError, TrajectoryError), match=name.replace(".", r"\.")):
        open_trajectory(gromacs[0], topology=tmp_path / name, ligand="S-ketamine")


def test_files_of_different_systems_are_refused(gromacs, tmp_path):
    trajectory, topology = gromacs
    frames = md.load(str(trajectory), top=str(topology)).atom_slice(range(500))
    frames.save_xtc(str(tmp_path / "part.xtc"))
    with pytest.raises(TrajectoryError, match="frames of 500 atoms and the topology"):
        open_trajectory(tmp_path / "part.xtc", topology=topology, ligand="S-ketamine")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trajectory": "nowhere.xtc"}, "trajectory nowhere.xtc is missing"),
        ({"topology": "nowhere.gro"}, "topology nowhere.gro is missing"),
        ({"topology": "topol.tpr"}, "mdtraj does not read"),
        ({"trajectory": __file__}, "no trajectory of a known format"),
        ({"stride": 0}, "stride of 0"),
        ({"frame_ps": -1.0}, "-1 ps between frames: it must be more than 0"),
        ({"folder": __file__}, "is a file, and results need a folder"),
        ({"trajectory": []}, "no trajectory was given"),
    ],
)
def test_wrong_use_is_one_sentence(gromacs, change, message):
    asked = {"trajectory": gromacs[0], "topology": gromacs[1], "ligand": "S-ketamine", **change}
    with pytest.raises(TrajectoryError, match=message):
        open_trajectory(asked.pop("trajectory"), **asked)


# ----------------------------------------------------------------------- chains by sequence

NAMES = {letter: name for name, letter in ONE_LETTER.items() if len(name) == 3}


def bare_chains(spans, *, letters, numbering):
    """A topology of CA atoms: spans of subunits, lettered and numbered as asked."""
    topology, count = md.Topology(), 0
    for place, (subunit, first, last) in enumerate(spans):
        chain = topology.add_chain(chain_id=letters[place])
        for number in range(first, last + 1):
            count += 1
            shown = {"own": number - 18, "through": count, "anew": number - first + 1}[numbering]
            letter = subunits()[subunit].sequence[number - 1]
            residue = topology.add_residue(NAMES[letter], chain, resSeq=shown)
            topology.add_atom("CA", md.element.carbon, residue)
    return topology


@given(
    order=st.permutations(["GluN1", "GluN2B", "GluN1", "GluN2A"]),
    letters=st.sampled_from(["ABCD", "AAAA", "ABAB", "    "]),
    numbering=st.sampled_from(["own", "through", "anew"]),
    cut=st.booleans(),
)
@settings(max_examples=6, deadline=None)
def test_chains_are_told_by_sequence_however_named(order, letters, numbering, cut):
    spans = [(subunit, 560, 660) for subunit in order]
    shown = list(letters)
    if cut:  # A segment of its own for the last helix of each chain.
        spans = [span for name in order for span in ((name, 560, 660), (name, 800, 835))]
        shown = [letter for letter in letters for _ in range(2)]
    topology = bare_chains(spans, letters=shown, numbering=numbering)
    chains = find_chains(topology)
    assert [chain.subunit for chain in chains] == list(order)
    assert len({chain.letter for chain in chains}) == 4
    given_numbers = [n for _, first, last in spans for n in range(first, last + 1)]
    found = {index: n for chain in chains for index, n in chain.numbers.items()}
    assert [found[index] for index in range(topology.n_residues)] == given_numbers


def lettered(texts, *, caps=False):
    """One chain of CA atoms for all texts, numbered through as in a GRO file."""
    topology, count = md.Topology(), 0
    chain = topology.add_chain()
    for text in texts:
        ends = (["ACE"], ["NME"]) if caps else ([], [])
        for name in [*ends[0], *(NAMES[letter] for letter in text), *ends[1]]:
            count += 1
            residue = topology.add_residue(name, chain, resSeq=count)
            topology.add_atom("CA", md.element.carbon, residue)
    return topology


def part_of(subunit, first, last):
    return subunits()[subunit].sequence[first - 1 : last]


def test_mutants_are_recognised_and_told():
    """As between species: a few homologous residues."""
    texts = [list(part_of(name, 560, 840)) for name in ("GluN1", "GluN2B")]
    texts[0][616 - 560], texts[0][640 - 560], texts[1][700 - 560] = "Q", "V", "R"
    first, second = find_chains(lettered(["".join(text) for text in texts]))
    kept = [part_of("GluN1", n, n) for n in (616, 640)]
    assert (first.subunit, first.differences) == ("GluN1", (f"{kept[0]}616Q", f"{kept[1]}640V"))
    assert second.subunit == "GluN2B"
    assert second.differences == (f"{part_of('GluN2B', 700, 700)}700R",)
    assert first.alike == second.alike == ()
    assert list(first.numbers.values()) == list(range(560, 841))


def test_short_pieces_between_caps_are_told_by_the_longer_ones():
    """The cut-out of the pore, numbered through: GluN2A and GluN2B are alike there."""
    spans = [("GluN1", 612, 619), ("GluN1", 638, 653), ("GluN2B", 612, 620), ("GluN2B", 639, 653)]
    first, second = find_chains(lettered([part_of(*span) for span in spans], caps=True))
    assert (first.subunit, first.alike) == ("GluN1", ())
    assert list(first.numbers.values()) == [*range(611, 621), *range(637, 655)]
    assert {second.subunit, *second.alike} == {"GluN2A", "GluN2B"}
    assert len(second.numbers) == 11 + 17


def test_another_glutamate_receptor_is_no_nmda_receptor(tmp_path):
    """Close to GluA2, of which the end of M3 is the same."""
    text = (
        "GVFSFLDPLAYEIWMCIVFAYIGVSVVLFLVSRFSPYEWHTEEFEDGRETQSSESTNEFGIFNSLWFSLGAFMQQGCDISPRSLSGR"
        "IVGGVWWFFTLIIISSYTANLAAFLTVERMVSPIESAEDLSKQTEIAYGTLDSGSTKEFFRRSKIAVFDKMWTYMRS"
    )
    topology = lettered([text] * 4)
    chains = find_chains(topology)
    assert {chain.subunit for chain in chains} == {""}
    places = 0.38 * np.arange(3.0 * topology.n_atoms).reshape(1, -1, 3)
    md.Trajectory(places, topology).save_pdb(str(tmp_path / "ampa.pdb"))
    files = {"topology": tmp_path / "ampa.pdb", "ligand": "S-ketamine"}
    with pytest.raises(SelectionError, match=r"none of the .* is GluN1, GluN2A or GluN2B: give"):
        open_trajectory(tmp_path / "ampa.pdb", **files)


# ------------------------------------------------------------------ the analysis and its words


@pytest.fixture(scope="module")
def folder(channel, torn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook")
    write_gromacs(folder, channel[0], torn)
    return folder


@pytest.fixture(scope="module")
def analysed(folder):
    """The three lines of the documents, as they stand there."""
    page = Path(__file__).parents[1] / "docs" / "own-trajectory.md"
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", page.read_text(), flags=re.M | re.S)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(snippet, {})
    return folder / "md-analysis"


def test_tables_equal_those_of_the_run_folder(analysed, channel):
    theirs = analyse_run(channel[1]).tables
    frames = pq.read_table(analysed / "analysis" / "frames.parquet")
    for name in ("ligand_rmsd_nm", "ligand_offset_nm", "radius_past_ligand_nm", "fit_rmsd_nm"):
        np.testing.assert_allclose(frames[name], theirs["frames"][name], atol=0.02, err_msg=name)
    depth, own = (np.array(t["ligand_depth_nm"]) for t in (frames, theirs["frames"]))
    np.testing.assert_allclose(depth - depth[0], own - own[0], atol=3e-3)
    assert "potential_kj_mol" not in frames.column_names
    touched, expected = (
        {(row["subunit"], row["number"], row["type"]) for row in table.to_pylist()}
        for table in (pq.read_table(analysed / "analysis" / "contacts.parquet"), theirs["contacts"])
    )
    # At a threshold the rounding of the file may decide.
    assert len(touched ^ expected) <= 0.1 * len(expected)


# Averages on a grid change a little where the grid is turned.
_ON_A_GRID = {
    "ligand_tilt_deg": 0.1, "ammonium_angle_deg": 0.2, "filled_share": 0.03,
    "vestibule_volume_nm3": 0.06, "vestibule_filled_share": 0.02, "lumen_area_nm2": 0.02,
}  # fmt: skip
# The sodium goes once through the pore.
SODIUM = np.column_stack([np.zeros((N_FRAMES, 2)), [-1.5, -0.1, 0.8, 1.7, 2.6, 3.5]])


def observables_of(folder, frames, box=BOX):
    """Write frames, open them and analyse them; what does not depend on where they lie."""
    folder.mkdir(exist_ok=True)
    frames[0].save_gro(str(folder / "system.gro"))
    # TRR, because XTC rounds; not by a trajectory of mdtraj, which lays every box along the axes.
    with TRRTrajectoryFile(str(folder / "md.trr"), "w") as file:
        file.write(
            frames.xyz,
            time=frames.time.astype(np.float32),
            step=np.arange(len(frames), dtype=np.int32),
            box=np.repeat(box[None].astype(np.float32), len(frames), axis=0),
            lambd=np.zeros(len(frames), dtype=np.float32),
        )
    run = open_trajectory(
        folder / "md.trr",
        topology=folder / "system.gro",
        ligand="S-ketamine",
        folder=folder / "out",
    )
    tables = analyse_run(run, cores=1).tables
    counts = {
        (row["kind"], row["place"], row["direction"]): row["count"]
        for row in tables["permeation_rates"].to_pylist()
    }
    touched = {
        (row["residue"], row["type"]): row["occupancy"]
        for row in tables["ring_contacts"].to_pylist()
    }
    return tables["frames"], counts, touched


@pytest.fixture(scope="module")
def usual(channel, tmp_path_factory):
    """The frames with a sodium that walks through, and what is found in them."""
    xyz = torn_frames(channel[0], STEPS, SODIUM)
    frames = trajectory_of(as_mdtraj(channel[0]), xyz)
    folder = tmp_path_factory.mktemp("usual")
    return frames, observables_of(folder, frames), folder


def reordered(frames, order):
    """The same frames with the chains of the file in another order, everything numbered anew."""
    chains = [[atom.index for atom in chain.atoms] for chain in frames.topology.chains]
    shuffled = frames.atom_slice(chains[order[0]])
    for index in order[1:]:
        shuffled = shuffled.stack(frames.atom_slice(chains[index]))
    return trajectory_of(shuffled.topology, shuffled.xyz)


@pytest.mark.slow
@given(seed=st.integers(0, 2**31))
# Without shrinking, because each example takes seconds.
@settings(max_examples=4, deadline=None, phases=[Phase.explicit, Phase.generate])
def test_no_observable_depends_on_where_the_channel_lies(usual, seed):
    """Turned and moved with its box, wrapped anew atom by atom, chains in any order."""
    frames, (expected, counts, touched), folder = usual
    generator = np.random.default_rng(seed)
    turn = Rotation.random(random_state=generator).as_matrix()
    moved = reordered(frames, generator.permutation(frames.topology.n_chains))
    cells = generator.integers(-2, 3, size=(len(moved), moved.n_atoms, 3)) @ BOX
    xyz = (moved.xyz + cells) @ turn + generator.normal(scale=5.0, size=3)
    turned = trajectory_of(moved.topology, xyz)
    got, counts_now, touched_now = observables_of(folder / str(seed), turned, BOX @ turn)
    assert got.column_names == expected.column_names
    for name in got.column_names:
        ours, theirs = got[name].to_pylist(), expected[name].to_pylist()
        if isinstance(theirs[0], float):
            tolerance = _ON_A_GRID.get(name, 2e-3)
            np.testing.assert_allclose(ours, theirs, atol=tolerance, err_msg=name)
        else:
            assert ours == theirs, name
    assert counts_now == counts
    assert counts["Na", "whole pore", "out"] == 1
    assert touched_now == pytest.approx(touched)


def test_folder_says_what_was_analysed(analysed):
    about = json.loads((analysed / "foreign.json").read_text())
    assert about["ligand"]["name"] == "S-ketamine"
    assert sorted(about["subunits"].values()) == ["GluN1", "GluN1", "GluN2B", "GluN2B"]
    assert set(about["sha256"]) == {"system.gro", "md.xtc"}


@pytest.mark.slow
def test_report_of_the_folder_is_written(analysed, tmp_path):
    assert cli.main(["report", str(analysed), "-o", str(tmp_path / "report.html")]) == 0
    assert "GluN2B" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_words_give_one_document(folder, capfd, monkeypatch):
    monkeypatch.chdir(folder)
    words = ["--topology", "system.gro", "--trajectory", "md.xtc", "--ligand", "S-ketamine"]
    assert cli.main(["analyse", *words, "--cores", "2", "-o", "out", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert {row["name"] for row in document["out"]["estimates"]} >= {"ligand_depth", "fit_rmsd"}


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "nothing to analyse"),
        (["--topology", "system.gro"], 2, "needs --topology, --trajectory and --ligand"),
        (["--topology", "system.gro", "--trajectory", "md.xtc", "--ligand", "ketamin"], 2,
         "unknown ligand"),
        (["--trajectory", "cut.xtc", "--topology", "system.gro", "--ligand", "S-ketamine"], 1,
         "cut.xtc"),
    ],
)  # fmt: skip
def test_wrong_words_end_in_one_sentence(folder, capfd, monkeypatch, words, status, message):
    monkeypatch.chdir(folder)
    data = (folder / "md.xtc").read_bytes()
    (folder / "cut.xtc").write_bytes(data[: int(0.6 * len(data))])
    assert cli.main(["analyse", *words]) == status
    # The reader of XTC files may have said something in front.
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "nmdasim: " in lines[0]
    assert re.search(message, lines[0])


def test_frame_without_numbers_is_named_with_its_file(system, tmp_path):
    frames = system[:3]
    frames.xyz[1, 5] = np.nan
    frames[0].save_gro(str(tmp_path / "system.gro"))
    frames.save_trr(str(tmp_path / "bad.trr"))
    run = open_trajectory(
        tmp_path / "bad.trr",
        topology=tmp_path / "system.gro",
        ligand="S-ketamine",
        folder=tmp_path / "out",
    )
    with pytest.raises(TrajectoryDamageError, match=r"frame 1 of .*bad\.trr holds .* before it"):
        analyse_run(run)
    assert not (tmp_path / "out" / "analysis" / "frames.parquet").exists()
