import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import mdtraj
import numpy as np
import openmm
import pytest
from tiny_run import Protocol, Stage, build, final_state, frames, water_system

from nmdasim.errors import (
    PlatformError,
    ProtocolError,
    RunFolderError,
    RunStorageError,
    SimulationError,
)
from nmdasim.rundir import (
    BUILT,
    is_built,
    lock_run,
    read_inputs,
    read_json,
    read_provenance,
    read_segments,
    read_status,
    segment_file,
    sha256_of,
)
from nmdasim.simulation import choose_platform, create_run, run_inputs, simulate
from nmdasim.simulation.dynamics import unpack_xml, volume_nm3
from nmdasim.simulation.platforms import FORCE_TOLERANCE
from nmdasim.simulation.resuming import count_lost_frames, count_whole_frames

N_FRAMES = 60
PRODUCTION_NS = 0.0012
PROGRAM = Path(__file__).with_name("tiny_run.py")


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("built") / "run")


@pytest.fixture(scope="session")
def finished(built, tmp_path_factory):
    """An uninterrupted run: what every other one must equal."""
    folder = shutil.copytree(built, tmp_path_factory.mktemp("finished") / "run")
    assert simulate(folder, platform="Reference", progress=False).state == "finished"
    return folder


@pytest.fixture
def fresh(built, tmp_path):
    """A built run that was never started."""
    return shutil.copytree(built, tmp_path / "run")


@pytest.fixture
def equilibrated(finished, tmp_path):
    """A run that stands at the start of production."""
    return cut(shutil.copytree(finished, tmp_path / "run"), 0)


@pytest.fixture(scope="session")
def two_thirds(finished, tmp_path_factory):
    folder = build(tmp_path_factory.mktemp("two-thirds") / "run", production_ns=0.0008)
    shutil.copy(finished / "start.state.xml.gz", folder)
    simulate(folder, platform="Reference", progress=False)
    return build(folder, extend=True)


@pytest.fixture
def halfway(two_thirds, tmp_path):
    """A run of eight segments with their restart files, extended to be longer."""
    return shutil.copytree(two_thirds, tmp_path / "run")


def cut(folder, n_kept):
    for path in (folder / "segments").iterdir():
        if int(path.name[:5]) >= n_kept:
            path.unlink()
    return folder


def assert_same_run(folder, finished):
    assert read_status(folder).state == "finished"
    assert not list(folder.rglob(".*"))
    assert frames(folder) == frames(finished)
    assert final_state(folder) == final_state(finished)


def assert_every_frame_once(folder, protocol=None):
    protocol = protocol or Protocol()
    times = [t for segment in read_segments(folder) for t in segment.manifest["time_ps"]]
    expected = np.arange(1, N_FRAMES + 1) * protocol.frame_interval_ps
    np.testing.assert_allclose(times, expected, rtol=1e-9)
    stored = np.concatenate([read_xtc(s.trajectory)[1] for s in read_segments(folder)])
    np.testing.assert_allclose(stored, expected, rtol=1e-5)


def read_xtc(path):
    with mdtraj.formats.XTCTrajectoryFile(str(path)) as file:
        return file.read()


def start(folder, *options):
    command = [sys.executable, str(PROGRAM), str(folder), *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_until(condition, process):
    deadline = time.time() + 60
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.time() < deadline
        time.sleep(0.005)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# --- an uninterrupted run ----------------------------------------------------------------


def test_every_frame_is_there_with_its_time(finished):
    assert_every_frame_once(finished)
    assert read_status(finished).production_ps_done == pytest.approx(1.2)


def test_frames_hold_the_positions_of_the_restart_state(finished):
    last = read_segments(finished)[-1]
    xyz, _, _, box = read_xtc(last.trajectory)
    state = unpack_xml(segment_file(finished, last.index, "state.xml.gz"))
    np.testing.assert_allclose(
        xyz[-1], state.getPositions(asNumpy=True)._value, rtol=0, atol=0.00051
    )
    np.testing.assert_allclose(np.linalg.det(box), last.manifest["volume_nm3"], rtol=1e-5)


def test_manifests_hold_the_checksums_of_their_files(finished):
    for segment in read_segments(finished):
        assert segment.manifest["sha256"]["xtc"] == sha256_of(segment.trajectory)
    for suffix, key in (("chk", "chk"), ("state.xml.gz", "state")):
        path = segment_file(finished, segment.index, suffix)
        assert segment.manifest["sha256"][key] == sha256_of(path)


def test_steps_follow_each_other(finished):
    edges = [(s.manifest["first_step"], s.manifest["last_step"]) for s in read_segments(finished)]
    assert edges == [(50 * i, 50 * (i + 1)) for i in range(N_FRAMES // 5)]


def test_restart_files_of_the_last_three_segments_are_kept(finished):
    names = sorted(path.name for path in (finished / "segments").glob("*.chk"))
    assert names == ["00009.chk", "00010.chk", "00011.chk"]
    assert len(list((finished / "segments").glob("*.state.xml.gz"))) == 3


def test_the_volume_moves_in_equilibration_and_rests_in_production(built, finished):
    built_volume = volume_nm3(unpack_xml(built / BUILT[-1]))
    start_volume = volume_nm3(unpack_xml(finished / "start.state.xml.gz"))
    assert abs(start_volume - built_volume) > 1e-6
    volumes = [v for s in read_segments(finished) for v in s.manifest["volume_nm3"]]
    assert volumes == pytest.approx([start_volume] * N_FRAMES, rel=1e-12)


def test_production_ends_the_extra_restraint(finished):
    """The first oxygen is held by 50 kJ/mol/nm^2 more in equilibration, and by 0 here."""
    state = unpack_xml(segment_file(finished, 11, "state.xml.gz"))
    system = unpack_xml(finished / "system.xml.gz")
    context = openmm.Context(
        system,
        openmm.VerletIntegrator(0.001),
        openmm.Platform.getPlatformByName("Reference"),
    )
    context.setPeriodicBoxVectors(*state.getPeriodicBoxVectors())
    context.setPositions(state.getPositions())
    assert context.getParameter("restraint_extra") == 0.0
    energy = context.getState(energy=True).getPotentialEnergy()._value
    recorded = read_segments(finished)[-1].manifest["potential_kj_mol"][-1]
    assert energy == pytest.approx(recorded, rel=1e-9)


def test_equilibration_is_recorded_stage_by_stage(finished):
    record = read_json(finished / "equilibration.json")
    assert [stage["name"] for stage in record["stages"]] == ["warm", "press"]
    before = record["minimisation"]["potential_kj_mol_before"]
    assert record["minimisation"]["potential_kj_mol_after"] < before
    assert 0.5 < record["stages"][1]["density_g_cm3"] < 1.3


def test_provenance_names_platform_and_files(finished):
    record = read_provenance(finished)
    assert record["platform"] == "Reference"
    assert record["versions"]["openmm"] == openmm.__version__
    assert record["files"] == {name: sha256_of(finished / name) for name in BUILT}
    assert record["finished"] >= record["started"] >= record["created"]


def test_a_finished_run_is_left_alone(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    assert simulate(finished, platform="nothing", progress=False).state == "finished"
    after = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    assert after == before


def test_another_seed_gives_other_frames(finished, tmp_path):
    folder = build(tmp_path / "run", seed=8, production_ns=0.0001)
    shutil.copy(finished / "start.state.xml.gz", folder)
    simulate(folder, platform="Reference", progress=False)
    assert not frames(finished).startswith(frames(folder))


# --- interrupted runs --------------------------------------------------------------------


def test_killed_in_production_ends_bit_identical(equilibrated, finished):
    process = start(equilibrated)
    wait_until(lambda: len(list((equilibrated / "segments").glob("*.json"))) > 2, process)
    process.kill()
    process.communicate()
    n_committed = len(read_segments(equilibrated))
    assert 2 < n_committed < N_FRAMES // 5
    simulate(equilibrated, platform="Reference", progress=False)
    assert_same_run(equilibrated, finished)


@pytest.mark.parametrize(
    "name",
    ["SIGTERM", *(pytest.param(name, marks=pytest.mark.slow) for name in ("SIGINT", "SIGUSR1"))],
)
def test_a_signal_commits_the_frames_so_far(equilibrated, finished, name):
    process = start(equilibrated)
    wait_until(lambda: list((equilibrated / "segments").glob("*.json")), process)
    process.send_signal(getattr(signal, name))
    assert process.wait(timeout=30) == 75, process.stderr.read()
    process.stderr.close()
    status = read_status(equilibrated)
    assert (status.state, status.reason) == ("interrupted", f"stopped by {name}")
    n_done = sum(segment.n_frames for segment in read_segments(equilibrated))
    assert status.production_ps_done == pytest.approx(0.02 * n_done)
    simulate(equilibrated, platform="Reference", progress=False)
    assert_every_frame_once(equilibrated)
    assert frames(equilibrated) == frames(finished)
    assert final_state(equilibrated) == final_state(finished)


@pytest.mark.slow
def test_a_signal_in_equilibration_keeps_finished_stages(fresh, finished):
    process = start(fresh)
    wait_until((fresh / "equilibration.json").exists, process)
    process.terminate()
    assert process.wait(timeout=30) == 75, process.stderr.read()
    process.stderr.close()
    assert read_status(fresh).state == "interrupted"
    assert not list((fresh / "segments").glob("*.json"))
    simulate(fresh, platform="Reference", progress=False)
    starts = [unpack_xml(f / "start.state.xml.gz") for f in (fresh, finished)]
    assert openmm.XmlSerializer.serialize(starts[0]) == openmm.XmlSerializer.serialize(starts[1])
    assert_same_run(fresh, finished)


def test_handlers_are_given_back(equilibrated):
    before = signal.getsignal(signal.SIGTERM)
    simulate(equilibrated, platform="Reference", progress=False)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_in_use_is_refused(equilibrated):
    process = start(equilibrated)
    try:
        wait_until((equilibrated / "run.lock").exists, process)
        with pytest.raises(RunFolderError, match=f"in use by process {process.pid}"):
            simulate(equilibrated, platform="Reference", progress=False)
    finally:
        process.kill()
        process.communicate()


def test_a_longer_run_equals_one_that_was_long_from_the_start(halfway, finished):
    before = {s.index: s.trajectory.stat().st_mtime_ns for s in read_segments(halfway)}
    assert len(before) == 8
    assert read_inputs(halfway)["simulation"]["production_ns"] == PRODUCTION_NS
    simulate(halfway, platform="Reference", progress=False)
    after = {s.index: s.trajectory.stat().st_mtime_ns for s in read_segments(halfway)}
    assert {index: after[index] for index in before} == before
    assert_same_run(halfway, finished)


# --- damaged files -----------------------------------------------------------------------


def test_a_truncated_checkpoint_falls_back_to_the_portable_state(halfway, finished, caplog):
    truncate(segment_file(halfway, 7, "chk"))
    simulate(halfway, platform="Reference", progress=False)
    assert "00007.chk is missing or damaged and is not used" in caplog.text
    assert "continuing from the portable state" in caplog.text
    assert_every_frame_once(halfway)
    kept = sum(len(s.trajectory.read_bytes()) for s in read_segments(halfway)[:8])
    assert frames(halfway)[:kept] == frames(finished)[:kept]
    assert len(read_provenance(halfway)["starts"][-1]["notices"]) == 2


def test_random_numbers_after_a_portable_state_are_new(halfway, finished):
    truncate(segment_file(halfway, 7, "chk"))
    simulate(halfway, platform="Reference", progress=False)
    assert frames(halfway) != frames(finished)


def test_a_checkpoint_of_another_openmm_is_not_loaded(halfway, caplog):
    path = segment_file(halfway, 7, "json")
    path.write_text(json.dumps(read_json(path) | {"openmm": "7.0"}))
    simulate(halfway, platform="Reference", progress=False)
    assert "was made by Reference double 7.0" in caplog.text
    assert_every_frame_once(halfway)


def test_without_restart_files_an_older_segment_is_the_start(halfway, finished, caplog):
    segment_file(halfway, 7, "chk").unlink()
    truncate(segment_file(halfway, 7, "state.xml.gz"))
    simulate(halfway, platform="Reference", progress=False)
    assert "5 frames from frame 35 on are computed again" in caplog.text
    assert len(list((halfway / "segments").glob("set-aside-*/00007.xtc"))) == 1
    assert_same_run(halfway, finished)


def test_a_truncated_trajectory_is_computed_again(halfway, finished, caplog):
    truncate(segment_file(halfway, 6, "xtc"))
    simulate(halfway, platform="Reference", progress=False)
    assert "00006.xtc is missing or differs from its checksum" in caplog.text
    assert "10 frames from frame 30 on" in caplog.text
    assert_same_run(halfway, finished)


def test_a_flipped_bit_is_found_by_the_checksum(halfway, finished):
    path = segment_file(halfway, 7, "xtc")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    simulate(halfway, platform="Reference", progress=False)
    assert_same_run(halfway, finished)


def test_damage_beyond_the_restart_files_is_an_error_and_loses_nothing(halfway):
    truncate(segment_file(halfway, 2, "xtc"))
    before = sorted(path.name for path in (halfway / "segments").iterdir())
    with pytest.raises(RunStorageError, match="the first 2 are undamaged"):
        simulate(halfway, platform="Reference", progress=False)
    assert sorted(path.name for path in (halfway / "segments").iterdir()) == before
    assert read_status(halfway).state == "failed"


def test_a_damaged_manifest_counts_like_damaged_frames(halfway, finished, caplog):
    truncate(segment_file(halfway, 6, "json"))
    simulate(halfway, platform="Reference", progress=False)
    assert "00006.json is damaged" in caplog.text
    assert len(list((halfway / "segments").glob("set-aside-*/0000[67].json"))) == 2
    assert_same_run(halfway, finished)


def test_a_missing_manifest_in_the_middle_is_computed_again(halfway, finished, caplog):
    segment_file(halfway, 6, "json").unlink()
    simulate(halfway, platform="Reference", progress=False)
    assert "00007.json does not follow the segments before it" in caplog.text
    assert_same_run(halfway, finished)


# --- what a start says of the one before -------------------------------------------------


def last_start(folder):
    return read_provenance(folder)["starts"][-1]


def test_a_start_records_where_it_took_up_the_run(halfway, capfd):
    simulate(halfway, platform="Reference", progress=True)
    resumed = last_start(halfway)["resumed"]
    assert (resumed["source"], resumed["file"]) == ("checkpoint", "segments/00007.chk")
    assert (resumed["frame"], resumed["step"]) == (40, 400)
    assert (resumed["n_frames_again"], resumed["n_steps_lost"]) == (0, [0, 0])
    assert "resuming at frame 40, step 400, from segments/00007.chk" in capfd.readouterr().err


def test_a_start_records_what_is_computed_again(halfway):
    truncate(segment_file(halfway, 7, "xtc"))
    truncate(segment_file(halfway, 6, "chk"))
    simulate(halfway, platform="Reference", progress=False)
    resumed = last_start(halfway)["resumed"]
    assert resumed["source"] == "portable state"
    assert resumed["file"] == "segments/00006.state.xml.gz"
    assert (resumed["frame"], resumed["n_frames_again"]) == (35, 5)


def test_steps_that_a_stopped_start_dropped_are_counted(equilibrated):
    process = start(equilibrated)
    wait_until(lambda: list((equilibrated / "segments").glob("*.json")), process)
    process.terminate()
    process.communicate()
    dropped = last_start(equilibrated)["n_dropped_steps"]
    assert 0 <= dropped < 10
    simulate(equilibrated, platform="Reference", progress=False)
    assert last_start(equilibrated)["resumed"]["n_steps_lost"] == [dropped, dropped]
    assert read_status(equilibrated).n_starts == 1 + len(
        read_provenance(equilibrated)["starts"][1:]
    )


def test_frames_that_a_killed_start_did_not_commit_are_counted(halfway):
    """Three whole frames and a part of the fourth were on the disk, in a file of no account."""
    whole = segment_file(halfway, 7, "xtc").read_bytes()
    partial = segment_file(halfway, 8, "xtc").with_name(".00008.xtc.token.tmp")
    partial.write_bytes(whole[: int(0.75 * len(whole))])
    assert count_whole_frames(segment_file(halfway, 7, "xtc")) == 5
    assert count_whole_frames(partial) == 3
    assert count_lost_frames(halfway) == 3
    record = read_provenance(halfway)
    del record["starts"][-1]["finished"]
    (halfway / "provenance.json").write_text(json.dumps(record))
    simulate(halfway, platform="Reference", progress=False)
    assert last_start(halfway)["resumed"]["n_steps_lost"] == [30, 39]
    assert not partial.exists()


def test_a_start_counts_as_stalled_until_it_commits(fresh):
    process = start(fresh)
    wait_until(lambda: read_status(fresh).n_stalled == 1, process)
    process.kill()
    process.communicate()
    process = start(fresh)
    wait_until(lambda: read_status(fresh).n_starts == 2, process)
    wait_until(lambda: read_status(fresh).n_stalled == 0, process)
    process.kill()
    process.communicate()
    assert (fresh / "equilibration.json").exists()


@pytest.mark.parametrize("name", ["platform", "folder"])
def test_whatever_keeps_a_run_from_starting_is_recorded(fresh, name):
    if name == "folder":
        truncate(fresh / "system.xml.gz")
    with pytest.raises((PlatformError, RunFolderError)) as caught:
        simulate(fresh, platform="nothing" if name == "platform" else None, progress=False)
    status = read_status(fresh)
    assert (status.state, status.reason) == ("failed", str(caught.value))


def test_an_edited_system_is_refused(fresh):
    truncate(fresh / "system.xml.gz")
    with pytest.raises(RunFolderError, match=r"system\.xml\.gz was changed"):
        simulate(fresh, platform="Reference", progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [3500, 8000])
def test_a_full_disk_loses_the_current_segment_only(equilibrated, finished, limit):
    """A limit on the size of files fails first in the trajectory, then in the checkpoint."""
    sizes = [segment_file(finished, 11, s).stat().st_size for s in ("xtc", "chk")]
    assert 3500 < sizes[0] < 8000 < sizes[1]
    simulate_until(equilibrated, n_segments=2)
    program = f"""
        import resource
        from nmdasim.simulation import simulate
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        simulate({str(equilibrated)!r}, platform="Reference", progress=False)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "RunStorageError" in done.stderr
    n_committed = len(read_segments(equilibrated))
    assert 2 <= n_committed < N_FRAMES // 5
    assert read_status(equilibrated).state == "failed"
    assert "full" in read_status(equilibrated).reason
    simulate(equilibrated, platform="Reference", progress=False)
    assert_same_run(equilibrated, finished)


def simulate_until(folder, *, n_segments):
    process = start(folder)
    wait_until(lambda: len(list((folder / "segments").glob("*.json"))) >= n_segments, process)
    process.kill()
    process.communicate()


# --- dynamics that break -----------------------------------------------------------------


def test_broken_dynamics_fail_with_step_and_reason(finished, tmp_path):
    protocol = Protocol(timestep_fs=20.0, frame_interval_ps=0.2, segment_ps=0.2)
    folder = build(tmp_path / "run", protocol=protocol, production_ns=0.02)
    shutil.copy(finished / "start.state.xml.gz", folder)
    with pytest.raises(SimulationError, match=r"step \d+|steps \d+ and \d+"):
        simulate(folder, platform="Reference", progress=False)
    status = read_status(folder)
    assert status.state == "failed"
    assert "broke down" in status.reason
    n_committed = sum(segment.n_frames for segment in read_segments(folder))
    assert status.production_ps_done == pytest.approx(0.2 * n_committed)
    assert not list((folder / "segments").glob(".*"))


# --- building ----------------------------------------------------------------------------


def test_building_twice_leaves_the_files_alone(fresh):
    before = {name: (fresh / name).stat().st_mtime_ns for name in BUILT}
    build(fresh)
    assert {name: (fresh / name).stat().st_mtime_ns for name in BUILT} == before


def test_a_half_built_run_is_built_again_and_not_simulated(fresh):
    (fresh / "topology.cif").unlink()
    assert not is_built(fresh)
    with pytest.raises(RunFolderError, match="not fully built"):
        simulate(fresh, platform="Reference", progress=False)
    build(fresh)
    assert is_built(fresh)


def test_equal_systems_are_written_to_equal_bytes(fresh, tmp_path):
    other = build(tmp_path / "other")
    assert (other / "system.xml.gz").read_bytes() == (fresh / "system.xml.gz").read_bytes()


def test_the_topology_keeps_atoms_and_box(fresh):
    topology = openmm.app.PDBxFile(str(fresh / "topology.cif"))
    box = topology.topology.getPeriodicBoxVectors()
    assert box[2][2]._value == pytest.approx(1.3)
    state = unpack_xml(fresh / BUILT[-1])
    np.testing.assert_allclose(
        topology.getPositions(asNumpy=True)._value,
        state.getPositions(asNumpy=True)._value,
        rtol=0,
        atol=1e-4,
    )


def test_inputs_of_another_protocol_are_refused(tmp_path):
    inputs = run_inputs(
        Protocol(temperature_k=290.0), ligand={}, receptor={}, production_ns=0.01, seed=1
    )
    with pytest.raises(ProtocolError, match=r"temperature_k: 290\.0 there, 300\.0 here"):
        create_run(
            water_system(Protocol()),
            tmp_path / "run",
            inputs=inputs,
            receptor_file=__file__,
            ligand_sdf="",
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"production_ns": -1.0}, "production_ns is -1"),
        ({"production_ns": 0}, "production_ns is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1.5}, r"seed is 1\.5"),
        ({"replica": -2}, "replica is -2"),
    ],
)
def test_impossible_numbers_are_refused(changes, message):
    asked = {"production_ns": 0.1, "seed": 1, "replica": 0} | changes
    with pytest.raises(ProtocolError, match=message):
        run_inputs(Protocol(), ligand={}, receptor={}, **asked)


def test_a_frame_must_be_whole_steps():
    protocol = Protocol(timestep_fs=3.0)
    with pytest.raises(ProtocolError, match="whole number of steps"):
        run_inputs(protocol, ligand={}, receptor={}, production_ns=1, seed=1)


# --- platforms ---------------------------------------------------------------------------


def test_the_default_platform_passed_its_test():
    choice = choose_platform()
    assert choice.name != "Reference"
    assert 0 < choice.force_error < FORCE_TOLERANCE


def test_platforms_are_found_in_any_case():
    assert choose_platform("reference").name == "Reference"


def test_an_absent_platform_is_answered_with_what_is_there():
    with pytest.raises(PlatformError, match=r"present are CPU.*Reference.*nmdasim\[cuda12\]"):
        choose_platform("Abacus")


def test_the_thread_count_of_the_environment_is_respected():
    program = "from nmdasim.simulation import choose_platform as c; print(c('CPU').device)"
    environment = os.environ | {"OPENMM_CPU_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "1 threads\n", done.stderr


# --- what a person sees ------------------------------------------------------------------


def test_silence_when_no_progress_is_wanted(halfway, capfd):
    simulate(halfway, platform="Reference", progress=False)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


@pytest.mark.slow
def test_few_plain_lines_without_a_terminal(fresh, capfd):
    simulate(fresh, platform="Reference", progress=True)
    captured = capfd.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[0].startswith("platform Reference")
    assert lines[-1].startswith("production: 100%")
    assert "ns/day" in lines[-1]
    assert len(lines) < 10


@pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")
def test_a_live_bar_on_a_terminal(halfway):
    ours, theirs = os.openpty()
    command = [sys.executable, str(PROGRAM), str(halfway), "-p"]
    done = subprocess.run(command, stderr=theirs, env=os.environ | {"TERM": "xterm"})
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "100%" in shown
    assert "━" in shown


# --- physics -----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_thermostat_holds_its_temperature(tmp_path):
    """Mean kinetic temperature against the thermostat's, within four block errors."""
    stage = Stage(name="warm", ps=4.0, timestep_fs=2.0, restraint_extra=0.0, barostat=True)
    protocol = Protocol(
        temperature_k=310.0,
        friction_per_ps=5.0,
        cutoff_nm=0.8,
        frame_interval_ps=0.04,
        segment_ps=4.0,
        equilibration=(stage,),
    )
    folder = build(tmp_path / "run", protocol=protocol, production_ns=0.016, length_nm=1.8)
    with lock_run(folder):
        simulate(folder, platform="CPU", progress=False)
    series = np.concatenate([s.manifest["temperature_k"] for s in read_segments(folder)])
    blocks = series.reshape(10, -1).mean(axis=1)
    error = blocks.std(ddof=1) / np.sqrt(10)
    assert error < 2.0
    assert abs(series.mean() - 310.0) < 4 * error
