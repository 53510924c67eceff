"""The main job as users start it, from the word to the report, with a very short production."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import mdtraj as md
import numpy as np
import pyarrow.parquet as pq
import pytest

import nmdasim
from nmdasim import cli
from nmdasim.rundir import EXIT_RESUMABLE, read_inputs, read_segments, read_status

pytestmark = pytest.mark.slow

COMMAND = Path(sys.executable).with_name("nmdasim")
PRODUCTION_NS, N_FRAMES, INTERVAL_PS = 0.002, 4, 0.5
# Columns that the report and users' scripts rely on.
COLUMNS = {
    "frames": {
        "frame", "time_ps", "ligand_depth_nm", "ammonium_depth_nm", "ligand_offset_nm",
        "ligand_tilt_deg", "ligand_rmsd_nm", "radius_at_ligand_nm", "radius_past_ligand_nm",
        "filled_share", "potential_kj_mol", "temperature_k",
    },
    "contacts": {
        "chain", "subunit", "number", "residue", "ring", "region", "status", "type", "occupancy",
        "occupancy_error", "mean_distance_nm", "min_distance_nm",
    },
    "ring_contacts": {"ring", "residue", "type", "occupancy", "occupancy_error"},
    "contacts_by_frame": {"frame", "chain", "number", "type", "distance_nm"},
    "contact_lifetimes": {
        "level", "chain", "number", "subunit", "residue", "ring", "type", "occupancy",
        "n_episodes", "n_breaks", "lifetime_ps", "lifetime_low_ps", "lifetime_high_ps",
        "longest_ps", "note",
    },
    "regions": {
        "region", "n_residues", "n_touched", "occupancy", "occupancy_error", "residues", "note",
    },
    "profile": {
        "z_nm", "radius_open_nm", "radius_open_error_nm", "radius_ligand_nm",
        "radius_ligand_error_nm", "radius_start_open_nm", "radius_start_ligand_nm",
    },
    "estimates": {"name", "unit", "mean", "error", "n_frames", "n_effective", "note"},
}  # fmt: skip


def words(folder, *more, production_ns=PRODUCTION_NS):
    return [
        "run", "S-ketamine", "--production-ns", str(production_ns), "--platform", "CPU",
        "-o", str(folder), *more,
    ]  # fmt: skip


def hashes(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def manifests(folder):
    return [segment.manifest for segment in read_segments(folder)]


def table(folder, name):
    return pq.read_table(folder / "analysis" / f"{name}.parquet").to_pydict()


def check_frames(folder, n_frames):
    """Every frame is there once, at its time, and is read back from the trajectory."""
    segments = read_segments(folder)
    numbers = list(
        chain.from_iterable(range(s.first_frame, s.first_frame + s.n_frames) for s in segments)
    )
    assert numbers == list(range(n_frames))
    times = np.concatenate([m["time_ps"] for m in manifests(folder)])
    np.testing.assert_allclose(times, INTERVAL_PS * np.arange(1, n_frames + 1))
    for segment in segments:
        with md.formats.XTCTrajectoryFile(str(segment.trajectory)) as file:
            xyz, time_ps, _, _ = file.read()
        assert len(xyz) == segment.n_frames
        assert np.isfinite(xyz).all()
        np.testing.assert_allclose(time_ps, segment.manifest["time_ps"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("main") / "run"
    assert cli.main(words(folder, "--quiet")) == 0
    return folder


def test_folder_holds_what_the_design_lists(finished):
    for name in (
        "run.toml", "provenance.json", "receptor.cif", "ligand.sdf", "topology.cif",
        "system.xml.gz", "start.state.xml.gz", "equilibration.json", "report.html", "status.json",
        *(f"segments/00000.{end}" for end in ("xtc", "json", "chk", "state.xml.gz")),
        *(f"analysis/{name}.parquet" for name in COLUMNS),
        "analysis/checks.json",
    ):  # fmt: skip
        assert (finished / name).stat().st_size > 0, name
    assert not list(finished.rglob(".*.tmp"))
    assert read_status(finished).state == "analysed"


def test_every_frame_is_there_once(finished):
    check_frames(finished, N_FRAMES)


def test_inputs_and_origin_are_recorded(finished):
    inputs = read_inputs(finished)
    assert (inputs["ligand"]["name"], inputs["ligand"]["charge"]) == ("S-ketamine", 1)
    assert inputs["receptor"]["name"] == "7eu8"
    assert inputs["protocol"]["temperature_k"] == 310.0
    record = json.loads((finished / "provenance.json").read_text())
    assert record["platform"] == "CPU"
    assert {"nmdasim", "openmm", "rdkit", "numpy", "python"} <= record["versions"].keys()
    assert any("ff14SB" in sentence for sentence in record["methods"])
    assert 0 < record["pose"]["shift_nm"] < 0.05


def test_equilibration_settles_at_the_asked_temperature(finished):
    record = json.loads((finished / "equilibration.json").read_text())
    assert (
        record["minimisation"]["potential_kj_mol_after"]
        < record["minimisation"]["potential_kj_mol_before"]
    )
    assert record["stages"][-1]["temperature_k"] == pytest.approx(310, abs=10)
    assert record["stages"][-1]["density_g_cm3"] == pytest.approx(1.03, abs=0.08)
    temperatures = np.concatenate([m["temperature_k"] for m in manifests(finished)])
    # Four frames of 7000 particles scatter by about 1 K around their mean.
    assert temperatures.mean() == pytest.approx(310, abs=8)


@pytest.mark.parametrize("name", COLUMNS)
def test_tables_have_their_columns(finished, name):
    assert COLUMNS[name] <= table(finished, name).keys()


def test_frames_table_agrees_with_the_segments(finished):
    frames = table(finished, "frames")
    assert frames["frame"] == list(range(N_FRAMES))
    for column in ("time_ps", "temperature_k", "potential_kj_mol"):
        recorded = np.concatenate([m[column] for m in manifests(finished)])
        np.testing.assert_allclose(frames[column], recorded)
    assert 0 < min(frames["ligand_depth_nm"]) < max(frames["ligand_depth_nm"]) < 1.5
    assert max(frames["ligand_rmsd_nm"]) < 0.5
    assert 0 < min(frames["filled_share"]) <= max(frames["filled_share"]) <= 1


def test_the_site_is_found_in_the_contacts(finished):
    contacts = table(finished, "contacts")
    touched = {
        (subunit, number)
        for subunit, number, share in zip(
            contacts["subunit"], contacts["number"], contacts["occupancy"], strict=True
        )
        if share > 0.5
    }
    assert {("GluN1", 644), ("GluN2B", 643), ("GluN2B", 647)} <= touched


def test_checks_of_every_station_are_together(finished):
    checks = json.loads((finished / "analysis" / "checks.json").read_text())
    names = " ".join(check["name"] for check in checks)
    for part in ("temperature", "vestibule", "clashes", "shift of the ligand", "chirality"):
        assert part in names


def test_report_is_one_page_with_the_run_in_it(finished):
    page = (finished / "report.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html")
    for words_ in ("S-ketamine", "GluN2B", "7EU8", "310"):
        assert words_ in page


def test_the_run_opens_as_a_trajectory(finished):
    run = nmdasim.open_run(finished)
    assert run.n_frames == N_FRAMES
    assert run.ligand.GetNumAtoms() == len(run.ligand_atoms)


def test_the_same_command_again_simulates_nothing(finished, capsys):
    before = hashes(finished)
    assert cli.main(words(finished, "--quiet", "--json")) == 0
    document = json.loads(capsys.readouterr().out)
    assert Path(document["folder"]) == finished
    assert {check["name"] for check in document["checks"]}
    after = hashes(finished)
    assert after.keys() == before.keys()
    # Only what analysis writes may be written again.
    changed = {name for name in before if before[name] != after[name]}
    assert not {n for n in changed if not n.startswith(("analysis/", "report.html", "status.json"))}
    check_frames(finished, N_FRAMES)


def test_analyse_and_report_take_the_folder(finished, tmp_path, capsys):
    assert cli.main(["analyse", str(finished), "--json"]) == 0
    (outcome,) = json.loads(capsys.readouterr().out).values()
    assert {"ligand_depth", "temperature"} <= {row["name"] for row in outcome["estimates"]}
    assert cli.main(["report", str(finished), "-o", str(tmp_path / "r.html")]) == 0
    assert (tmp_path / "r.html").stat().st_size > 1e5


def test_other_inputs_are_refused_and_nothing_is_lost(finished, capsys):
    before = hashes(finished)
    assert cli.main([*words(finished), "--seed", "2"]) == 2
    assert "seed" in capsys.readouterr().err
    assert hashes(finished) == before


def test_a_start_that_was_terminated_resumes_to_the_asked_frames(tmp_path):
    # Long enough to be caught in production, on any machine that runs the tests.
    folder, production_ns, n_frames = tmp_path / "run", 0.02, 40
    command = [COMMAND, *words(folder, production_ns=production_ns)]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
    try:
        deadline = time.monotonic() + 500
        while not (folder / "start.state.xml.gz").exists() and time.monotonic() < deadline:
            assert started.poll() is None, started.stderr.read()
            time.sleep(0.2)
        time.sleep(3)
        started.send_signal(signal.SIGTERM)
        _, err = started.communicate(timeout=120)
    finally:
        started.kill()
    assert started.returncode == EXIT_RESUMABLE, err
    assert "run the same command again to resume" in err
    status = read_status(folder)
    assert status.state == "interrupted"
    n_kept = sum(segment.n_frames for segment in read_segments(folder))
    assert status.production_ps_done == pytest.approx(n_kept * INTERVAL_PS)
    assert n_kept < n_frames
    kept = hashes(folder / "segments")
    resumed = subprocess.run(command, stderr=subprocess.PIPE, text=True, env=env)
    assert resumed.returncode == 0, resumed.stderr
    check_frames(folder, n_frames)
    after = hashes(folder / "segments")
    assert all(after[name] == kept[name] for name in kept if name.endswith((".xtc", ".json")))
    assert read_status(folder).state == "analysed"
