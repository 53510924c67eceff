import json
import os
import shutil
import tempfile
import time
import tracemalloc
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from channel_run import write_run
from mdtraj.formats import XTCTrajectoryFile

import nmdasim.analysis.tables
import nmdasim.contacts.store
import nmdasim.trajectory.frames
from nmdasim.analysis import _Gathered, _measure_chunk, analyse_run, summarise
from nmdasim.analysis.tables import TableFiles
from nmdasim.contacts import StoredInteractions
from nmdasim.errors import RunFolderError, RunStorageError, TrajectoryDamageError, TrajectoryError
from nmdasim.report.record import REQUIRED_COLUMNS
from nmdasim.report.words import quantity
from nmdasim.structures import structures_folder
from nmdasim.trajectory import open_run, read_frames

RECEPTOR = structures_folder() / "receptors" / "7eu8" / "receptor.cif"
N_FRAMES = 20
STEPS = np.column_stack([np.zeros((N_FRAMES, 2)), 0.05 * np.sin(np.arange(N_FRAMES))])
# The sodium ion walks along the axis from below the pore to above it.
SODIUM = np.column_stack([np.zeros((N_FRAMES, 2)), np.linspace(-1.4, 3.5, N_FRAMES)])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    if not RECEPTOR.is_file():
        pytest.skip("needs the prepared receptor 7eu8 in structures/receptors")
    folder = tmp_path_factory.mktemp("analysis") / "run"
    write_run(folder, receptor=RECEPTOR, steps=STEPS, sodium=SODIUM)
    done = []
    return folder, analyse_run(folder, progress=lambda now, of: done.append((now, of))), done


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made[0], tmp_path / "copy")


def test_tables_are_those_that_the_report_reads(made):
    folder, analysis, _ = made
    for name, columns in REQUIRED_COLUMNS.items():
        table = pq.read_table(folder / "analysis" / f"{name}.parquet")
        assert set(columns) <= set(table.column_names)
        # By text, because nan is not equal to itself.
        assert repr(table.to_pydict()) == repr(analysis.tables[name].to_pydict())


def test_every_frame_is_there_once(made):
    _, analysis, done = made
    frames = analysis.tables["frames"]
    assert frames["frame"].to_pylist() == list(range(N_FRAMES))
    np.testing.assert_allclose(frames["time_ps"], 2.0 * np.arange(1, N_FRAMES + 1))
    assert done[-1] == (N_FRAMES, N_FRAMES)


def test_motion_comes_back_as_depth_and_rmsd(made):
    frames = made[1].tables["frames"]
    depth = frames["ligand_depth_nm"].to_numpy()
    np.testing.assert_allclose(depth - depth[0], STEPS[:, 2] - STEPS[0, 2], atol=2e-3)
    np.testing.assert_allclose(frames["ligand_rmsd_nm"], np.abs(STEPS[:, 2]), atol=3e-3)


def test_profile_of_a_rigid_pore_is_that_of_its_start(made):
    """Frames differ from the start by the rounding of the file only."""
    profile = made[1].tables["profile"]
    start, mean = (profile[f"radius_{name}open_nm"].to_numpy() for name in ("start_", ""))
    assert np.nanmedian(np.abs(mean - start)) < 1e-3
    assert (profile["radius_ligand_nm"].to_numpy() <= mean + 1e-6).all()


def test_contacts_know_residue_ring_and_origin(made):
    contacts = made[1].tables["contacts"].to_pylist()
    assert contacts
    rings = {(row["subunit"], row["number"]): row["ring"] for row in contacts}
    assert {"hydrophobic_1"} <= set(rings.values())
    assert all(0 < row["occupancy"] <= 1 for row in contacts)
    assert all(row["status"] for row in contacts if row["residue"] not in ("ACE", "NME"))


def test_sparse_contacts_add_up_to_occupancies(made):
    by_frame = made[1].tables["contacts_by_frame"].to_pylist()
    for row in made[1].tables["contacts"].to_pylist():
        key = (row["chain"], row["number"], row["type"])
        count = sum((r["chain"], r["number"], r["type"]) == key for r in by_frame)
        assert row["occupancy"] == pytest.approx(count / N_FRAMES)


def test_the_sodium_that_walks_through_is_the_only_passage(made):
    tables = made[1].tables
    (passage,) = tables["permeation"].to_pylist()
    inside = np.flatnonzero((SODIUM[:, 2] > -1.0) & (SODIUM[:, 2] < 3.1))
    # Frames are 2 ps apart, the first at 2 ps; five waters come before the ion.
    assert passage == {
        "kind": "Na",
        "molecule": 5,
        "direction": "out",
        "entered_ps": 2.0 * (inside[0] + 1),
        "left_ps": 2.0 * (inside[-1] + 2),
    }
    counts = {
        (row["kind"], row["place"], row["direction"]): row["count"]
        for row in tables["permeation_rates"].to_pylist()
    }
    assert counts["Na", "whole pore", "out"] == 1
    assert counts["Na", "asparagine ring", "out"] == counts["Na", "threonine ring", "out"] == 1
    assert sum(count for key, count in counts.items() if key[2] == "in") == 0
    assert sum(count for key, count in counts.items() if key[0] == "water") == 0


def test_densities_add_up_to_the_particles_in_the_lumen(made):
    density = made[1].tables["density"].to_pylist()
    total = {
        kind: 0.05 * sum(row["per_nm"] for row in density if row["kind"] == kind)
        for kind in ("water", "Na")
    }
    counted = ((SODIUM[:, 2] > -1.0) & (SODIUM[:, 2] < 3.5)).mean()
    assert total["Na"] == pytest.approx(counted, abs=0.11)
    assert total["water"] == 0.0


def test_states_say_that_the_ligand_is_trapped_and_blocks(made):
    tables = made[1].tables
    assert set(tables["frames"]["state"].to_pylist()) == {"blocked"}
    assert set(tables["frames"]["gate_state"].to_pylist()) == {"trapped"}
    rows = {(row["group"], row["state"]): row for row in tables["states"].to_pylist()}
    for key in (("block", "blocked"), ("gate", "trapped"), ("site", "in the site")):
        assert rows[key]["share"] == 1.0
        assert rows[key]["n_exits"] == 0
        # 20 frames, 2 ps apart.
        assert rows[key]["lifetime_low_ns"] == pytest.approx(0.038 / -np.log(0.025))
    assert rows["path", "water_path"]["share"] == 0.0
    visits = tables["dwell_times"].to_pylist()
    assert {row["duration_ps"] for row in visits} == {38.0}
    assert all(row["censored_left"] and row["censored_right"] for row in visits)


def test_paths_are_averaged_as_shares_and_states_not_at_all(made):
    estimates = {estimate.name: estimate for estimate in made[1].estimates}
    assert estimates["water_path"].mean == 0.0
    assert not {"state", "gate_state"} & set(estimates)


def test_estimates_are_means_of_the_frames(made):
    _, analysis, _ = made
    estimates = {estimate.name: estimate for estimate in analysis.estimates}
    assert estimates["ligand_depth"].unit == "nm"
    assert estimates["temperature"].unit == "K"
    assert estimates["potential"].unit == "kJ/mol"
    assert estimates["ligand_tilt"].unit == "deg"
    assert estimates["filled_share"].unit == ""
    want = analysis.tables["frames"]["ligand_depth_nm"].to_numpy().mean()
    assert estimates["ligand_depth"].mean == pytest.approx(want)
    assert "time" not in estimates


def test_report_has_words_for_every_estimate(made):
    names = [estimate.name for estimate in made[1].estimates]
    plain = {name for name in names if quantity(name) == name.replace("_", " ")}
    assert plain == {"temperature"}


def test_undefined_frames_are_counted_not_averaged():
    depth = np.where(np.arange(40) < 10, np.nan, np.tile([0.0, 1.0], 20))
    (estimate,) = summarise({"ligand_depth_nm": depth})
    assert estimate.mean == 0.5
    assert estimate.n_frames == 30
    assert "not defined in 10 of 40 frames" in estimate.note


def test_too_few_frames_have_no_error():
    (estimate,) = summarise({"ligand_depth_nm": [0.1, 0.2, 0.3]})
    assert np.isnan(estimate.error)
    assert "not enough data" in estimate.note


def test_checks_are_written(made):
    folder, analysis, _ = made
    rows = json.loads((folder / "analysis" / "checks.json").read_text())
    assert [row["name"] for row in rows] == [check.name for check in analysis.checks]
    assert all(row["passed"] for row in rows)
    temperature = next(row for row in rows if "temperature" in row["name"])
    assert temperature["value"] == pytest.approx(abs(np.sin(np.arange(N_FRAMES)).mean()))


def test_hot_run_with_lost_ligand_fails_its_checks(tmp_path):
    if not RECEPTOR.is_file():
        pytest.skip("needs the prepared receptor 7eu8 in structures/receptors")
    folder = tmp_path / "run"
    write_run(folder, receptor=RECEPTOR, steps=STEPS[:3] + np.array([0, 0, 1.5]), segments=(3,))
    path = folder / "segments" / "00000.json"
    manifest = json.loads(path.read_text())
    manifest["temperature_k"] = [330.0] * 3
    path.write_text(json.dumps(manifest))
    stages = [{"name": "warm", "temperature_k": 513.0}, {"name": "free", "temperature_k": 310.0}]
    (folder / "equilibration.json").write_text(json.dumps({"stages": stages}))
    checks = {check.name: check for check in analyse_run(folder).checks}
    assert {name for name, check in checks.items() if not check.passed} == {
        "mean temperature off the target",
        "share of frames with the ligand in the vestibule",
        "mean RMSD of the ligand to its starting pose",
        "hottest stage of the equilibration above the target",
    }
    hottest = checks["hottest stage of the equilibration above the target"]
    assert (hottest.value, hottest.detail) == (203.0, "warm")
    moved = np.linalg.norm(STEPS[:3] + np.array([0, 0, 1.5]), axis=1).mean()
    assert checks["mean RMSD of the ligand to its starting pose"].value == pytest.approx(
        moved, abs=0.01
    )


def test_second_analysis_replaces_the_first(copy):
    before = sorted(path.name for path in (copy / "analysis").iterdir())
    analyse_run(copy)
    assert sorted(path.name for path in (copy / "analysis").iterdir()) == before


@pytest.mark.parametrize("cores", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_number_of_cores_does_not_change_a_result(made, copy, cores):
    again = analyse_run(copy, cores=cores)
    for name, table in made[1].tables.items():
        # By text, because nan is not equal to itself.
        assert repr(again.tables[name].to_pydict()) == repr(table.to_pydict())


def test_run_without_frames_is_refused(copy):
    for path in (copy / "segments").glob("*.json"):
        path.unlink()
    with pytest.raises(TrajectoryError, match="no production frames yet"):
        analyse_run(copy)


def test_damaged_segment_leaves_the_old_tables(copy):
    before = (copy / "analysis" / "frames.parquet").read_bytes()
    path = copy / "segments" / "00001.xtc"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(TrajectoryDamageError, match="truncated"):
        analyse_run(open_run(copy))
    assert (copy / "analysis" / "frames.parquet").read_bytes() == before


def test_table_that_is_gone_is_said_in_a_sentence(copy):
    analysis = analyse_run(copy)
    assert len(analysis.tables) == len(list((copy / "analysis").glob("*.parquet")))
    (copy / "analysis" / "frames.parquet").unlink()
    with pytest.raises(RunStorageError, match="analyse the run again"):
        analysis.tables["frames"]
    with pytest.raises(KeyError):
        analysis.tables["no such table"]


# ------------------------------------------------------------------------ what a frame costs


def test_memory_hardly_grows_with_the_number_of_frames(copy, tmp_path, monkeypatch):
    """A frame that went to disk leaves at most 150 bytes behind."""
    # As many blocks as a long trajectory fills.
    monkeypatch.setattr(nmdasim.analysis.tables, "CELLS", 5000)
    monkeypatch.setattr(nmdasim.contacts.store, "_BLOCK", 5000)
    run = open_run(copy)
    n_chunks, size = 100, run.pieces[0].n_frames
    first = replace(run.pieces[0], n_frames=size * n_chunks)
    with (
        TableFiles(tmp_path / "tables") as files,
        tempfile.TemporaryFile() as file,
    ):
        long = replace(run, pieces=(first,), records={})
        gathered = _Gathered(long, files, StoredInteractions(file))
        chunk = next(read_frames(run, chunk=size))
        part = _measure_chunk(run, gathered.sites, gathered.density, chunk)
        held = []
        tracemalloc.start()
        try:
            for number in range(n_chunks):
                at = number * size
                mine = {"first_frame": at, "time_ps": part.time_ps + 2.0 * at}
                own = {name: deepcopy(getattr(part, name)) for name in ("blockade", "contacts")}
                gathered.add(replace(part, **mine, **own))
                held.append(tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes())
        finally:
            tracemalloc.stop()
        assert gathered.finish().frames["frame"].tolist() == list(range(size * n_chunks))
    # Blocks fill and are emptied: the most that was held tells.
    half = n_chunks // 2
    assert max(held[half:]) - max(held[10:half]) < 150 * size * half


def test_pieces_on_disk_are_the_whole_table(made, copy, monkeypatch):
    monkeypatch.setattr(nmdasim.analysis.tables, "CELLS", 1)
    monkeypatch.setattr(nmdasim.contacts.store, "_BLOCK", 1)
    monkeypatch.setattr(nmdasim.trajectory.frames, "_CHUNK", 7)
    again = analyse_run(copy)
    assert pq.ParquetFile(copy / "analysis" / "frames.parquet").num_row_groups > 2
    for name, table in made[1].tables.items():
        assert repr(again.tables[name].to_pydict()) == repr(table.to_pydict()), name


# --------------------------------------------------------------------- what interrupts it


def contents(folder):
    return {path.name: path.read_bytes() for path in (folder / "analysis").iterdir()}


def test_interrupted_analysis_leaves_the_old_tables(copy):
    before = contents(copy)

    def stop(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyse_run(copy, progress=stop)
    assert contents(copy) == before


def test_interrupted_first_analysis_leaves_nothing(copy):
    shutil.rmtree(copy / "analysis")

    def stop(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyse_run(copy, progress=stop)
    assert not (copy / "analysis").exists()


def test_leftovers_of_a_killed_analysis_are_removed_and_those_of_another_left(copy):
    old, new = (copy / "analysis" / f".frames.parquet.{pid}.tmp" for pid in (1, 2))
    for path in (old, new):
        path.write_text("half")
    os.utime(old, (time.time() - 7200.0,) * 2)
    analyse_run(copy)
    assert not old.exists()
    assert new.exists()


def test_folder_that_may_not_be_written_is_said_before_frames_are_read(copy, tmp_path):
    (tmp_path / "file").write_text("")
    run = replace(open_run(copy), folder=tmp_path / "file")
    with pytest.raises(RunStorageError, match="could not write"):
        analyse_run(run, progress=lambda done, of: pytest.fail("frames were read"))


# ---------------------------------------------------------- other frames than announced


def with_manifest(folder, **changes):
    path = folder / "segments" / "00001.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_segment_that_is_shorter_than_announced_is_refused(copy):
    before = contents(copy)
    path = copy / "segments" / "00001.xtc"
    with XTCTrajectoryFile(str(path)) as file:
        xyz, times, steps, box = file.read(n_frames=9)
    with XTCTrajectoryFile(str(path), "w") as file:
        file.write(xyz, times, steps, box)
    with pytest.raises(TrajectoryDamageError, match="9 of 12 frames"):
        analyse_run(copy)
    assert contents(copy) == before


def test_frames_beyond_those_announced_do_not_count(copy):
    """A segment is what its manifest says; a file may still be growing."""
    manifest = json.loads((copy / "segments" / "00001.json").read_text())
    names = ("time_ps", "potential_kj_mol", "temperature_k", "volume_nm3")
    with_manifest(copy, n_frames=7, **{name: manifest[name][:7] for name in names})
    analysis = analyse_run(copy)
    assert analysis.tables["frames"].num_rows == 15


@pytest.mark.parametrize("name", ["time_ps", "temperature_k"])
def test_manifest_that_does_not_agree_with_itself_is_refused(copy, name):
    manifest = json.loads((copy / "segments" / "00001.json").read_text())
    with_manifest(copy, **{name: manifest[name][:-1]})
    with pytest.raises(RunFolderError, match=f"12 frames and 11 values of {name}"):
        open_run(copy)


def test_pieces_that_do_not_follow_each_other_are_refused(copy):
    run = open_run(copy)
    odd = replace(run.pieces[1], first_frame=10)
    with pytest.raises(TrajectoryDamageError, match="announces 4 frames, but reading came to 5"):
        analyse_run(replace(run, pieces=(run.pieces[0], odd), stride=5))
