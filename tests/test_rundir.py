import errno
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import textwrap
import threading
import time
import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nmdasim.errors import RunFolderError, RunStorageError
from nmdasim.rundir import (
    LOCK,
    RUN,
    RunStatus,
    change_status,
    check_run_folder,
    create_run_folder,
    failures_recorded,
    find_runs,
    format_toml,
    input_differences,
    lock_owner,
    lock_run,
    plain_inputs,
    read_inputs,
    read_json,
    read_provenance,
    read_run_id,
    read_segments,
    read_status,
    remove_leftovers,
    run_id,
    run_summary,
    segment_file,
    set_aside_segments,
    storage_error,
    write_atomic,
    write_status,
)

INPUTS = {
    "ligand": {"name": "S-ketamine", "smiles": "CN[C@@]1(CCCCC1=O)c1ccccc1Cl", "charge": 1},
    "protocol": {
        "temperature_k": 310.0,
        "equilibration": [{"name": "warm", "ps": 5.0}, {"name": "free", "ps": 10.0}],
    },
    "simulation": {"production_ns": 0.05, "seed": 1, "replica": 0},
}

values = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
tables = st.dictionaries(st.text(), values, max_size=5)


def changed(**simulation):
    return INPUTS | {"simulation": INPUTS["simulation"] | simulation}


def reordered(value):
    if isinstance(value, dict):
        return {key: reordered(item) for key, item in reversed(value.items())}
    if isinstance(value, list):
        return [reordered(item) for item in value]
    return value


# --- inputs ------------------------------------------------------------------------------


@given(tables)
def test_toml_is_read_back_as_it_was_written(content):
    assert tomllib.loads(format_toml(content)) == content


@given(tables)
def test_identity_does_not_know_the_order_of_keys(content):
    assert run_id(reordered(content)) == run_id(content)


@given(tables)
def test_identity_survives_the_file(content):
    assert run_id(tomllib.loads(format_toml(content))) == run_id(content)


@given(tables, tables)
@example({"a.b": 1}, {"a": {"b": 1}})
@example({"a": {}}, {})
@example({"a": {"": 1}}, {"a": 1})
def test_identities_differ_exactly_when_there_are_differences(one, other):
    assert (run_id(one) == run_id(other)) is (not input_differences(one, other))


def test_whole_numbers_may_be_spelled_as_floats():
    assert run_id(changed(seed=1.0)) == run_id(INPUTS)


def test_identity_is_the_one_of_the_canonical_json():
    # sha256 of '{"a":{"b":4,"c":[0.5,"x"]}}', computed by coreutils' sha256sum
    digest = subprocess.run(
        ["sha256sum"], input=b'{"a":{"b":4,"c":[0.5,"x"]}}', capture_output=True, check=True
    ).stdout.decode()[:16]
    assert run_id({"a": {"c": (0.5, "x"), "b": 4.0}}) == digest


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), b"bytes", object()])
def test_what_toml_cannot_hold_is_refused_by_name(value):
    with pytest.raises(RunFolderError, match=re.escape("protocol.x")):
        plain_inputs({"protocol": {"x": value}})


# --- the folder --------------------------------------------------------------------------


def test_same_inputs_are_recognised_and_leave_the_file_alone(tmp_path):
    first = create_run_folder(tmp_path / "run", INPUTS)
    before = (tmp_path / "run" / RUN).read_bytes()
    assert create_run_folder(tmp_path / "run", reordered(INPUTS)) == first
    assert (tmp_path / "run" / RUN).read_bytes() == before
    assert read_inputs(tmp_path / "run") == INPUTS


def test_other_inputs_are_refused_with_the_differences(tmp_path):
    create_run_folder(tmp_path, INPUTS)
    before = (tmp_path / RUN).read_bytes()
    with pytest.raises(RunFolderError) as caught:
        create_run_folder(tmp_path, changed(seed=2, voltage_mv=-100.0))
    assert "simulation.seed: 1 there, 2 here" in str(caught.value)
    assert "simulation.voltage_mv: absent there, -100.0 here" in str(caught.value)
    assert "temperature" not in str(caught.value)
    assert (tmp_path / RUN).read_bytes() == before


def test_a_difference_inside_a_stage_is_named(tmp_path):
    create_run_folder(tmp_path, INPUTS)
    other = json.loads(json.dumps(INPUTS))
    other["protocol"]["equilibration"][1]["ps"] = 20.0
    with pytest.raises(RunFolderError, match=r"equilibration\[1\]\.ps: 10\.0 there, 20\.0 here"):
        create_run_folder(tmp_path, other)


def test_longer_production_needs_to_be_asked_for_explicitly(tmp_path):
    create_run_folder(tmp_path, INPUTS)
    with pytest.raises(RunFolderError, match=r"extend the run to 0\.1 ns with --extend"):
        create_run_folder(tmp_path, changed(production_ns=0.1))
    create_run_folder(tmp_path, changed(production_ns=0.1), extend=True)
    assert read_inputs(tmp_path)["simulation"]["production_ns"] == 0.1
    (entry,) = read_provenance(tmp_path)["extensions"]
    assert (entry["from_ns"], entry["to_ns"]) == (0.05, 0.1)
    assert (entry["from_id"], entry["to_id"]) == (run_id(INPUTS), read_run_id(tmp_path))
    create_run_folder(tmp_path, changed(production_ns=0.1), extend=True)
    assert len(read_provenance(tmp_path)["extensions"]) == 1


def test_a_run_in_use_is_not_extended_under_its_process(tmp_path, make_holder):
    create_run_folder(tmp_path, INPUTS)
    make_holder(tmp_path)
    with pytest.raises(RunFolderError, match="in use by process"):
        create_run_folder(tmp_path, changed(production_ns=0.1), extend=True)
    assert read_inputs(tmp_path) == INPUTS


def test_looking_at_a_folder_makes_nothing(tmp_path):
    assert not check_run_folder(tmp_path / "none" / "run", INPUTS)
    assert not check_run_folder(tmp_path, INPUTS)
    assert list(tmp_path.iterdir()) == []
    create_run_folder(tmp_path / "run", INPUTS)
    assert check_run_folder(tmp_path / "run", INPUTS)
    assert not check_run_folder(tmp_path / "run", changed(production_ns=0.1), extend=True)
    with pytest.raises(RunFolderError, match="other inputs"):
        check_run_folder(tmp_path / "run", changed(seed=2))


@pytest.mark.parametrize("other", [{"production_ns": 0.01}, {"production_ns": 0.1, "seed": 2}])
def test_extending_changes_nothing_but_a_growing_length(tmp_path, other):
    create_run_folder(tmp_path, INPUTS)
    with pytest.raises(RunFolderError, match="other inputs"):
        create_run_folder(tmp_path, changed(**other), extend=True)


def test_foreign_files_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunFolderError, match=r"thesis\.tex"):
        create_run_folder(tmp_path, INPUTS)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["thesis.tex"]


def test_leftovers_of_a_killed_writer_are_not_foreign(tmp_path):
    (tmp_path / f".{RUN}.123.tmp").write_text("[ru")
    create_run_folder(tmp_path, INPUTS)
    assert read_inputs(tmp_path) == INPUTS


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunFolderError, match="needs a folder"):
            create_run_folder(folder, INPUTS)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunFolderError, match="may not be written"):
        create_run_folder(tmp_path / "run", INPUTS)


@pytest.mark.skipif(not os.path.isdir("/proc/sys/kernel"), reason="needs Linux's /proc")
def test_a_read_only_file_system_is_one_sentence():
    with pytest.raises((RunFolderError, RunStorageError)) as caught:
        create_run_folder(Path("/proc/sys/kernel/nmdasim"), INPUTS)
    assert "\n" not in str(caught.value)


def test_an_edited_run_file_is_refused(tmp_path):
    create_run_folder(tmp_path, INPUTS)
    text = (tmp_path / RUN).read_text()
    (tmp_path / RUN).write_text(text.replace("310.0", "300.0"))
    with pytest.raises(RunFolderError, match="was changed after the run was made"):
        read_inputs(tmp_path)


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(RunFolderError, match="holds no run"):
        read_inputs(tmp_path)


# --- writing -----------------------------------------------------------------------------


def test_full_disk_keeps_the_old_content(tmp_path):
    """A limit on the size of files acts like a full disk: the write fails half way."""
    (tmp_path / "data").write_text("old")
    program = f"""
        import resource
        from pathlib import Path
        from nmdasim.rundir import write_atomic
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        write_atomic(Path({str(tmp_path / "data")!r}), b"x" * 5000)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert "RunStorageError" in done.stderr
    assert "full" in done.stderr
    assert [item.name for item in tmp_path.iterdir()] == ["data"]
    assert (tmp_path / "data").read_text() == "old"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_and_a_full_quota_ask_for_space(tmp_path, code):
    message = str(storage_error(tmp_path / "x", OSError(code, os.strerror(code))))
    assert "free space" in message
    assert "\n" not in message


def test_readers_see_the_old_or_the_new_content_only(tmp_path):
    path, seen, done = tmp_path / "data", set(), threading.Event()
    contents = [bytes([65 + i]) * 200_000 for i in range(2)]
    write_atomic(path, contents[0])

    def read():
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(40):
        write_atomic(path, contents[i % 2])
    done.set()
    reader.join()
    assert seen <= set(contents)


def test_status_is_read_back(tmp_path):
    written = write_status(tmp_path, RunStatus(state="failed", reason="NaN", production_ps_done=3))
    assert read_status(tmp_path) == written
    assert written.updated > "2020"


def test_an_unknown_state_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="allowed are"):
        write_status(tmp_path, RunStatus(state="exploded"))


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "status.json").write_text('{"state": "runn')
    with pytest.raises(RunStorageError, match=r"status\.json is damaged"):
        read_json(tmp_path / "status.json")


def test_a_change_of_state_keeps_the_rest(tmp_path):
    write_status(tmp_path, RunStatus(state="running", n_starts=3, production_ps_done=2.0))
    changed = change_status(tmp_path, "failed", "NaN", production_ps_done=4.0)
    assert read_status(tmp_path) == changed
    assert (changed.state, changed.reason, changed.n_starts) == ("failed", "NaN", 3)
    assert (changed.production_ps_done, changed.host) == (4.0, platform.node())


def test_a_record_that_the_disk_lost_is_written_again(tmp_path):
    (tmp_path / "status.json").write_text('{"state": "runn')
    change_status(tmp_path, "running")
    assert read_status(tmp_path).state == "running"


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (RunStorageError("the disk is full"), "failed", "the disk is full"),
        (ZeroDivisionError("by\nzero"), "failed", "ZeroDivisionError: by zero"),
        (KeyboardInterrupt(), "interrupted", "stopped by SIGINT"),
    ],
)
def test_whatever_ends_the_work_early_is_recorded(tmp_path, error, state, reason):
    with pytest.raises(type(error)), lock_run(tmp_path) as lock, failures_recorded(lock):
        raise error
    status = read_status(tmp_path)
    assert (status.state, status.reason) == (state, reason)


def test_the_record_of_a_folder_that_was_taken_over_is_left_alone(tmp_path):
    write_status(tmp_path, RunStatus(state="running"))
    with lock_run(tmp_path) as lock:
        edit_lock(tmp_path, token="other")
        with pytest.raises(RunStorageError), failures_recorded(lock):
            raise RunStorageError("gone")
    assert read_status(tmp_path).state == "running"


# --- where a run stands, from outside ----------------------------------------------------


def test_a_run_that_was_never_started_is_building(tmp_path):
    create_run_folder(tmp_path / "run", INPUTS)
    summary = run_summary(tmp_path / "run")
    assert (summary.run_id, summary.state) == (run_id(INPUTS), "building")
    assert (summary.n_frames, summary.live, summary.owner) == (0, False, "")
    assert summary.production_ps_asked == 50.0
    assert math.isnan(summary.hours_left)


def test_frames_are_counted_by_the_newest_manifest(tmp_path):
    create_run_folder(tmp_path, INPUTS)
    write_segments(tmp_path, [3, 4, 5], frame_interval_ps=0.5, ns_per_day=2.4)
    write_status(tmp_path, RunStatus(state="running", production_ps_asked=50.0, n_starts=2))
    summary = run_summary(tmp_path)
    assert (summary.n_segments, summary.n_frames, summary.production_ps_done) == (3, 12, 6.0)
    # 44 ps are left, at 2.4 ns in 24 h: 0.1 ns in each
    assert summary.hours_left == pytest.approx(0.44)
    assert (summary.n_starts, summary.ns_per_day) == (2, 2.4)


def test_order_of_segments_does_not_end_at_a_hundred_thousand(tmp_path):
    (tmp_path / "segments").mkdir()
    (tmp_path / RUN).write_text("")
    for index in (99_999, 100_000):
        manifest = {"index": index, "first_frame": index, "n_frames": 1, "frame_interval_ps": 1.0}
        segment_file(tmp_path, index, "json").write_text(json.dumps(manifest))
    assert run_summary(tmp_path).n_frames == 100_001


def test_a_living_and_a_dead_process_are_told_apart(tmp_path, holder):
    (tmp_path / RUN).write_text("")
    write_status(tmp_path, RunStatus(state="running"))
    summary = run_summary(tmp_path)
    assert summary.live
    assert summary.owner == f"process {holder.pid} on {platform.node()}"
    holder.kill()
    holder.wait()
    summary = run_summary(tmp_path)
    assert (summary.state, summary.live) == ("running", False)


@pytest.mark.parametrize("name", ["status.json", "segments/00001.json"])
def test_damaged_records_are_a_reason_and_no_error(tmp_path, name):
    create_run_folder(tmp_path, INPUTS)
    write_segments(tmp_path, [3, 4], frame_interval_ps=0.5)
    write_status(tmp_path, RunStatus(state="running"))
    (tmp_path / name).write_text('{"sta')
    summary = run_summary(tmp_path)
    assert summary.state == "failed"
    assert f"{name} is damaged" in summary.reason


def test_looking_changes_nothing(tmp_path, holder):
    create_run_folder(tmp_path / "run", INPUTS)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    run_summary(tmp_path / "run")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


def test_runs_are_found_in_a_folder_of_runs(tmp_path):
    for name in ("b", "a"):
        create_run_folder(tmp_path / "many" / name, INPUTS)
    (tmp_path / "many" / "notes").mkdir()
    create_run_folder(tmp_path / "one", INPUTS)
    found = find_runs([tmp_path / "one", str(tmp_path / "many")])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["one", "many/a", "many/b"]


@pytest.mark.parametrize("place", [".", "none", "file"])
def test_a_place_without_runs_is_refused(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="folders of runs"):
        find_runs([tmp_path / place])


@pytest.mark.slow
def test_thousands_of_finished_runs_are_read_in_half_a_millisecond_each(tmp_path):
    create_run_folder(tmp_path / "0", INPUTS)
    write_status(tmp_path / "0", RunStatus(state="analysed", production_ps_asked=50.0))
    for index in range(5):
        series = [0.123456789012345] * 20
        manifest = {"index": index, "first_frame": 20 * index, "n_frames": 20, "time_ps": series,
                    "frame_interval_ps": 0.5, "ns_per_day": 20.0, "potential_kj_mol": series,
                    "temperature_k": series, "volume_nm3": series}  # fmt: skip
        segment_file(tmp_path / "0", index, "json").write_text(json.dumps(manifest))
    for number in range(1, 2000):
        shutil.copytree(tmp_path / "0", tmp_path / str(number), copy_function=os.link)
    before = time.process_time()
    summaries = [run_summary(folder) for folder in find_runs([tmp_path])]
    # Processor time, so that other work on the machine does not count.
    assert time.process_time() - before < 2000 * 0.0005
    assert {summary.production_ps_done for summary in summaries} == {50.0}
    assert len(summaries) == 2000


# --- segments ----------------------------------------------------------------------------


def write_segments(folder, lengths, **more):
    (folder / "segments").mkdir(exist_ok=True)
    first = 0
    for index, n_frames in enumerate(lengths):
        manifest = {"index": index, "first_frame": first, "n_frames": n_frames, "sha256": {}} | more
        segment_file(folder, index, "json").write_text(json.dumps(manifest))
        segment_file(folder, index, "xtc").write_bytes(b"data")
        first += n_frames


@settings(deadline=None)  # the disk decides
@given(st.lists(st.integers(1, 9), max_size=6))
def test_segments_cover_every_frame_once(tmp_path_factory, lengths):
    folder = tmp_path_factory.mktemp("run")
    write_segments(folder, lengths)
    frames = [s.first_frame + i for s in read_segments(folder) for i in range(s.n_frames)]
    assert frames == list(range(sum(lengths)))


def test_a_missing_manifest_in_the_middle_is_an_error(tmp_path):
    write_segments(tmp_path, [2, 2, 2])
    segment_file(tmp_path, 1, "json").unlink()
    with pytest.raises(RunStorageError, match=r"00002\.json does not follow"):
        read_segments(tmp_path)


def test_data_without_a_manifest_are_no_segment(tmp_path):
    write_segments(tmp_path, [2, 2])
    segment_file(tmp_path, 1, "json").unlink()
    assert [s.index for s in read_segments(tmp_path)] == [0]


def test_segments_set_aside_keep_their_data(tmp_path):
    write_segments(tmp_path, [2, 2, 2])
    target = set_aside_segments(tmp_path, 1)
    assert [s.index for s in read_segments(tmp_path)] == [0]
    kept = ["00001.json", "00001.xtc", "00002.json", "00002.xtc"]
    assert sorted(item.name for item in target.iterdir()) == kept


# --- the lock ----------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from nmdasim.rundir import lock_run
with lock_run(Path(sys.argv[1]), heartbeat_s=0.05):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def make_holder():
    """Start other processes that hold the lock of a folder."""
    started = []

    def make(folder):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield make
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def holder(tmp_path, make_holder):
    """Another process that holds the lock of `tmp_path`."""
    return make_holder(tmp_path)


def edit_lock(folder, **changes):
    record = json.loads((folder / LOCK).read_text()) | changes
    (folder / LOCK).write_text(json.dumps(record))


def make_old(path, age_s):
    then = time.time() - age_s
    os.utime(path, (then, then))


def test_the_lock_is_gone_after_use(tmp_path):
    with lock_run(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_may_be_taken_again_inside(tmp_path):
    with lock_run(tmp_path) as outer:
        with lock_run(tmp_path) as inner:
            assert inner == outer
        outer.confirm()


def test_a_second_process_is_refused(tmp_path, holder):
    with (
        pytest.raises(RunFolderError, match=rf"in use by process {holder.pid} on"),
        lock_run(tmp_path),
    ):
        pass


def test_a_second_thread_is_refused(tmp_path):
    errors = []

    def try_lock():
        try:
            with lock_run(tmp_path):
                pass
        except RunFolderError as error:
            errors.append(str(error))

    with lock_run(tmp_path):
        thread = threading.Thread(target=try_lock)
        thread.start()
        thread.join()
    assert len(errors) == 1
    assert "in use" in errors[0]


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert (tmp_path / LOCK).exists()
    with lock_run(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
def test_a_reused_process_number_is_not_the_owner(tmp_path, holder):
    edit_lock(tmp_path, process_start="1")
    with lock_run(tmp_path):
        pass
    assert holder.poll() is None


def test_a_living_owner_on_another_host_is_respected(tmp_path, holder):
    edit_lock(tmp_path, host=platform.node() + "-other", machine="x")
    with (
        pytest.raises(RunFolderError, match="-other since"),
        lock_run(tmp_path, heartbeat_s=0.2, stale_s=60),
    ):
        pass


def test_a_stale_lock_of_another_host_is_taken_over(tmp_path, holder):
    holder.kill()
    holder.wait()
    edit_lock(tmp_path, host=platform.node() + "-other", machine="x")
    make_old(tmp_path / LOCK, 1000)
    with lock_run(tmp_path, heartbeat_s=0.05):
        pass


@pytest.mark.parametrize("age_s", [0.0, 0.5, -1000.0], ids=["young", "older", "from the future"])
def test_a_dead_owner_on_another_host_is_waited_out_whatever_the_clocks_say(tmp_path, age_s):
    """A job that Slurm starts again on another node must not be refused for good."""
    (tmp_path / LOCK).write_text(json.dumps({"host": "gone", "token": "t", "pid": 1}))
    make_old(tmp_path / LOCK, age_s)
    before = time.monotonic()
    with lock_run(tmp_path, heartbeat_s=0.05, stale_s=1.0):
        waited = time.monotonic() - before
    assert max(0.1, min(1.0, 1.0 - age_s)) - 0.1 < waited < 5.0


def test_a_lock_that_is_released_while_one_watches_is_free(tmp_path):
    (tmp_path / LOCK).write_text(json.dumps({"host": "other", "token": "t", "pid": 1}))
    timer = threading.Timer(0.3, (tmp_path / LOCK).unlink)
    timer.start()
    with lock_run(tmp_path, heartbeat_s=0.1, stale_s=60.0):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    timer.join()


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
def test_a_killed_owner_that_its_parent_did_not_notice_is_dead(tmp_path, holder):
    holder.kill()
    while Path(f"/proc/{holder.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    with lock_run(tmp_path):
        pass


def test_a_takeover_that_was_killed_holds_nobody_up(tmp_path, holder):
    gate = tmp_path / f"{LOCK}.takeover"
    gate.write_text((tmp_path / LOCK).read_text())
    holder.kill()
    holder.wait()
    with lock_run(tmp_path):
        assert not gate.exists()


def test_leftovers_of_a_killed_asker_go_and_those_of_a_living_one_stay(tmp_path, holder):
    (tmp_path / f".{LOCK}.living.tmp").write_text((tmp_path / LOCK).read_text())
    edit_lock(tmp_path, pid=2**22 + 1)
    (tmp_path / f".{LOCK}.killed.tmp").write_text((tmp_path / LOCK).read_text())
    remove_leftovers(tmp_path)
    assert sorted(item.name for item in tmp_path.glob(".*")) == [f".{LOCK}.living.tmp"]


def test_a_jump_of_the_clock_does_not_kill_a_living_owner(tmp_path):
    """The lock looks old, but it is touched while the newcomer watches."""
    (tmp_path / LOCK).write_text(json.dumps({"host": "other", "token": "t", "pid": 1}))
    make_old(tmp_path / LOCK, 1000)
    stop = threading.Event()

    def beat():
        age = 1000
        while not stop.wait(0.02):
            age -= 1
            make_old(tmp_path / LOCK, age)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(RunFolderError, match="in use"), lock_run(tmp_path, heartbeat_s=0.2):
            pass
    finally:
        stop.set()
        thread.join()


def test_the_owner_is_seen_from_outside(tmp_path, holder):
    owner = lock_owner(tmp_path)
    assert (owner.host, owner.pid, owner.alive) == (platform.node(), holder.pid, True)
    assert -1.0 < owner.age_s < 30.0
    holder.kill()
    holder.wait()
    assert not lock_owner(tmp_path).alive


@pytest.mark.parametrize(("age_s", "alive"), [(5.0, True), (1000.0, False)])
def test_an_owner_elsewhere_is_judged_by_its_heartbeat(tmp_path, age_s, alive):
    (tmp_path / LOCK).write_text(json.dumps({"host": "other", "token": "t", "pid": 1}))
    make_old(tmp_path / LOCK, age_s)
    assert lock_owner(tmp_path).alive is alive
    assert lock_owner(tmp_path / "none") is None


def test_the_heartbeat_touches_the_lock(tmp_path):
    with lock_run(tmp_path, heartbeat_s=0.05):
        make_old(tmp_path / LOCK, 1000)
        deadline = time.time() + 10
        while time.time() - (tmp_path / LOCK).stat().st_mtime > 500 and time.time() < deadline:
            time.sleep(0.02)
        assert time.time() - (tmp_path / LOCK).stat().st_mtime < 500


def test_an_owner_notices_that_it_was_replaced(tmp_path):
    with lock_run(tmp_path) as lock:
        edit_lock(tmp_path, token="other")
        with pytest.raises(RunFolderError, match="taken over"):
            lock.confirm()
    assert json.loads((tmp_path / LOCK).read_text())["token"] == "other"


def test_one_of_many_contenders_takes_a_dead_lock(tmp_path):
    (tmp_path / LOCK).write_text(json.dumps({"host": "gone", "token": "t", "pid": 1}))
    make_old(tmp_path / LOCK, 1000)
    entered, gate, refused = [], threading.Barrier(8), []

    def contend():
        gate.wait()
        try:
            with lock_run(tmp_path, heartbeat_s=0.05):
                entered.append(threading.get_ident())
                time.sleep(1)
        except RunFolderError:
            refused.append(threading.get_ident())

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entered) == 1
    assert len(refused) == 7


def test_a_lock_needs_a_folder(tmp_path):
    with pytest.raises(RunFolderError, match="does not exist"), lock_run(tmp_path / "none"):
        pass
