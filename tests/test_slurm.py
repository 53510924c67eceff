"""Runs on a real Slurm: whatever ends a job, every frame is there once and equal in every bit."""

import contextlib
import datetime
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import openmm
import pytest
from slurm_cluster import (
    ENDED,
    NEEDED,
    NODES,
    SlurmError,
    cluster_processes,
    missing,
    slurm_cluster,
)
from tiny_nmdasim import write_command
from tiny_run import Protocol

from nmdasim.rundir import (
    LOCK,
    lock_owner,
    read_provenance,
    read_segments,
    read_status,
    segment_file,
)
from nmdasim.simulation.dynamics import unpack_xml

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

SCRIPT = Path(__file__).parents[1] / "scripts" / "run_on_slurm.sbatch"
CLUSTER = Path(__file__).with_name("slurm_cluster.py")
PRODUCTION_NS, N_FRAMES = 0.0012, 60
WORDS = (
    "S-ketamine", "--protocol", "tiny", "--platform", "Reference", "--quiet",
    "--production-ns", PRODUCTION_NS,
)  # fmt: skip
ONE_GPU = ("--cpus-per-task=1", "--gres=gpu:1")


@pytest.fixture(scope="module")
def cluster():
    if why := missing():
        (pytest.fail if os.environ.get(NEEDED) else pytest.skip)(why)
    with slurm_cluster() as running:
        write_command(running.folder)
        running.environment["PATH"] = f"{running.folder}:{running.environment['PATH']}"
        yield running


@pytest.fixture(scope="module")
def undisturbed(cluster, tmp_path_factory):
    """The runs of two replicas that nothing ends before their time, without any Slurm."""
    folders = [tmp_path_factory.mktemp("undisturbed") / f"r{replica}" for replica in range(2)]
    processes = [
        subprocess.Popen(
            list(map(str, ["nmdasim", "run", *WORDS, "--replica", replica, "-o", folder])),
            env=cluster.environment | {"OMP_NUM_THREADS": "1"},
        )
        for replica, folder in enumerate(folders)
    ]
    assert [process.wait(timeout=180) for process in processes] == [0, 0]
    return folders


@pytest.fixture
def run(undisturbed, tmp_path):
    """A run that stands at the start of its production."""
    folder = shutil.copytree(undisturbed[0], tmp_path / "run")
    shutil.rmtree(folder / "segments")
    return folder


@pytest.fixture(autouse=True)
def idle(cluster):
    """Leave the cluster to the next test with both nodes up and no job on them."""
    yield
    for job in set(cluster.job_ids()):
        if cluster.job(job).state not in ENDED:
            cluster.command("scancel", job, check=False)
    for node in NODES:
        if node not in cluster.daemons:
            cluster.start_node(node)
        cluster.command("scontrol", "update", f"nodename={node}", "state=resume", check=False)
    cluster.wait_for(
        lambda: set(cluster.command("sinfo", "-h", "-N", "-o", "%T").split()) == {"idle"},
        what="idle nodes after a test",
    )


def submit(cluster, folder, *options):
    return cluster.submit(
        *ONE_GPU, "--time=10", f"--chdir={folder.parent}", *options, SCRIPT, *WORDS, "-o", folder
    )


def submit_unwarned(cluster, folder, *options):
    """Submit the same command in a script that orders no warning: SIGTERM is all it gets."""
    words = " ".join(map(str, ["exec nmdasim run", *WORDS, "-o", folder]))
    return cluster.submit(
        *ONE_GPU, "--time=10", f"--chdir={folder.parent}", "--requeue", "--open-mode=append",
        *options, f"--wrap={words}",
    )  # fmt: skip


def n_segments(folder):
    return len(list((folder / "segments").glob("?????.json")))


def wait_for_segments(cluster, folder, n_least=2):
    cluster.wait_for(
        lambda: n_segments(folder) >= n_least, what=f"{n_least} segments in {folder}", at_most_s=90
    )


@contextlib.contextmanager
def slowed(folder, *, work_s=0.05, rest_s=0.2):
    """Let whoever works on a run do so a fifth of the time: it shall not end before the test
    has had its way. A process that has let go of the run is left alone."""
    end = threading.Event()

    def tread():
        while not end.wait(work_s):
            owner = lock_owner(folder)
            if owner is None or not owner.alive or not n_segments(folder):
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(owner.pid, signal.SIGSTOP)
                end.wait(rest_s)
                os.kill(owner.pid, signal.SIGCONT)

    thread = threading.Thread(target=tread)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def final_state(folder):
    state = unpack_xml(segment_file(folder, n_segments(folder) - 1, "state.xml.gz"))
    return openmm.XmlSerializer.serialize(state)


def assert_exactly(folder, undisturbed, cluster):
    """Hold every frame and the last state against those of the run that nothing disturbed."""
    told = cluster.diagnosis()
    assert read_status(folder).state == "finished", told
    segments = read_segments(folder)
    starts = [segment.first_frame for segment in segments]
    ends = [segment.first_frame + segment.n_frames for segment in segments]
    assert starts == [0, *ends[:-1]], told
    assert ends[-1] == N_FRAMES, told
    times = np.concatenate([segment.manifest["time_ps"] for segment in segments])
    expected = Protocol().frame_interval_ps * np.arange(1, N_FRAMES + 1)
    np.testing.assert_allclose(times, expected, rtol=1e-9)
    assert frames(folder) == frames(undisturbed), told
    assert final_state(folder) == final_state(undisturbed), told
    assert not list(folder.rglob(".*")), told


def frames(folder):
    return b"".join(segment.trajectory.read_bytes() for segment in read_segments(folder))


def output(folder, job):
    return (folder.parent / f"slurm-{job}.out").read_text()


# --- ways to be ended --------------------------------------------------------------------


def test_warned_tasks_of_an_array_make_room_and_come_back(cluster, undisturbed, tmp_path):
    array = cluster.submit(
        *ONE_GPU, "--time=10", "--array=0-1", f"--chdir={tmp_path}", SCRIPT, *WORDS
    )
    tasks = [f"{array}_{replica}" for replica in range(2)]
    folders = [tmp_path / "runs" / f"S-ketamine+1_7eu8_tiny_s1r{r}" for r in range(2)]
    with slowed(folders[0]), slowed(folders[1]):
        for folder in folders:
            wait_for_segments(cluster, folder)
        urgent = cluster.submit(
            "-p", "high", "--nodes=2", "--gres=gpu:1", "--output=/dev/null", "--wrap=sleep 2"
        )
        cluster.wait_for_state(urgent, "RUNNING", "COMPLETED")
    for task, folder, expected in zip(tasks, folders, undisturbed, strict=True):
        job = cluster.wait_for_state(task, "COMPLETED", at_most_s=90)
        assert job.restarts == 1, cluster.diagnosis()
        assert_exactly(folder, expected, cluster)
    assert "is requeued" in (tmp_path / f"slurm-{array}_0.out").read_text()


def test_time_limit(cluster, undisturbed, run, tmp_path):
    """Warned, a job requeues itself; unwarned, it ends as TIMEOUT and is submitted again."""
    unwarned = shutil.copytree(run, tmp_path / "unwarned")
    job = submit(cluster, run, "--signal=B:USR1@20")
    lost = submit_unwarned(cluster, unwarned)
    with slowed(run, rest_s=2.0), slowed(unwarned, rest_s=2.0):
        for each, folder, left_s in ((job, run, 45), (lost, unwarned, 2)):
            wait_for_segments(cluster, folder)
            end_soon(cluster, each, left_s)
        cluster.wait_for(lambda: cluster.job(job).restarts, what="a requeue", at_most_s=100)
        cluster.wait_for_state(lost, "TIMEOUT", at_most_s=100)
    assert cluster.job(lost).restarts == 0
    assert "is requeued" in output(run, job)
    again = submit_unwarned(cluster, unwarned)
    for each, folder in ((job, run), (again, unwarned)):
        cluster.wait_for_state(each, "COMPLETED", at_most_s=90)
        assert_exactly(folder, undisturbed[0], cluster)


def end_soon(cluster, job, left_s):
    """Move the limit of a running job close; Slurm looks at its limits every 30 s."""
    end = datetime.datetime.now() + datetime.timedelta(seconds=left_s)
    cluster.command(
        "scontrol", "update", f"jobid={job}", f"endtime={end.isoformat(timespec='seconds')}"
    )


def test_drained_node_is_left_for_another(cluster, undisturbed, run):
    job = submit(cluster, run, f"--nodelist={NODES[0]}")
    with slowed(run):
        wait_for_segments(cluster, run)
        cluster.command(
            "scontrol", "update", f"nodename={NODES[0]}", "state=drain", "reason=a test"
        )
        assert cluster.job(job).state == "RUNNING"
        cluster.command("scontrol", "requeue", job)
        cluster.command("scontrol", "update", f"jobid={job}", "reqnodelist=")
        cluster.wait_for(lambda: cluster.job(job).restarts, what="a requeue")
    done = cluster.wait_for_state(job, "COMPLETED", at_most_s=90)
    assert done.node == NODES[1]
    assert_exactly(run, undisturbed[0], cluster)


def test_dead_node_is_left_for_another(cluster, undisturbed, run):
    job = submit(cluster, run)
    with slowed(run):
        wait_for_segments(cluster, run)
        node = cluster.job(job).node
        cluster.kill_node(node)
        assert (run / LOCK).exists()
        cluster.command("scontrol", "update", f"nodename={node}", "state=down", "reason=a test")
    done = cluster.wait_for_state(job, "COMPLETED", at_most_s=90)
    assert (done.restarts, done.node) == (1, next(name for name in NODES if name != node))
    assert_exactly(run, undisturbed[0], cluster)


def test_killed_process_fails_its_job_and_a_new_one_goes_on(cluster, undisturbed, run):
    job = submit(cluster, run)
    with slowed(run):
        wait_for_segments(cluster, run)
        os.kill(lock_owner(run).pid, signal.SIGKILL)
        failed = cluster.wait_for_state(job, "FAILED")
    assert (failed.exit_code, failed.restarts) == ("0:9", 0)
    cluster.wait_for_state(submit(cluster, run), "COMPLETED", at_most_s=90)
    assert read_provenance(run)["starts"][-1]["resumed"]["source"] == "checkpoint"
    assert_exactly(run, undisturbed[0], cluster)


def test_requeued_by_hand(cluster, undisturbed, run):
    job = submit(cluster, run)
    with slowed(run):
        wait_for_segments(cluster, run)
        cluster.command("scontrol", "requeue", job)
        cluster.wait_for(lambda: cluster.job(job).restarts, what="a requeue")
    assert cluster.wait_for_state(job, "COMPLETED", at_most_s=90).restarts == 1
    assert_exactly(run, undisturbed[0], cluster)


def test_cancelled_job_stays_away_and_its_run_can_be_finished(cluster, undisturbed, run):
    job = submit(cluster, run)
    with slowed(run):
        wait_for_segments(cluster, run)
        cluster.command("scancel", job)
        cluster.wait_for(lambda: not lock_owner(run), what="the run let go")
        cluster.wait_for_state(job, "CANCELLED")
    assert cluster.job(job).restarts == 0
    assert read_status(run).state == "interrupted"
    cluster.wait_for_state(submit(cluster, run), "COMPLETED", at_most_s=90)
    assert_exactly(run, undisturbed[0], cluster)
    assert cluster.job(job).state == "CANCELLED"


def test_wrong_input_fails_once(cluster, run):
    job = cluster.submit(*ONE_GPU, "--time=10", f"--chdir={run.parent}", SCRIPT, "no-such-ligand")
    failed = cluster.wait_for_state(job, "FAILED")
    assert (failed.exit_code, failed.restarts) == ("2:0", 0)
    assert "unknown ligand" in output(run, job)


# --- the cluster itself ------------------------------------------------------------------


def test_cluster_of_a_failing_test_is_gone(cluster):
    settings = None

    def fail_in_a_cluster():
        nonlocal settings
        with slurm_cluster() as other:
            settings = other.folder / "slurm.conf"
            other.wait_for_state(other.submit("--output=/dev/null", "--wrap=sleep 999"), "RUNNING")
            # Nodes, munged, slurmctld and its helper, the step of the job, its shell, its sleep.
            assert len(cluster_processes(settings)) >= 2 + 1 + 2 + 3
            other.wait_for(lambda: False, what="something that never happens", at_most_s=0.2)

    with pytest.raises(SlurmError, match=r"not within .* something that never happens"):
        fail_in_a_cluster()
    assert cluster_processes(settings) == []
    assert not settings.parent.exists()
    assert cluster_processes(cluster.folder / "slurm.conf")


def test_daemons_do_not_outlive_a_killed_test(cluster):
    process = subprocess.Popen(
        [sys.executable, str(CLUSTER)], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    settings = Path(process.stdout.readline().strip().partition("=")[2])
    try:
        assert cluster_processes(settings)
        process.kill()
        process.wait()
        cluster.wait_for(lambda: not cluster_processes(settings), what="the end of the daemons")
    finally:
        process.stdout.close()
        shutil.rmtree(settings.parent, ignore_errors=True)


def test_job_that_ended_is_not_waited_for(cluster):
    job = cluster.submit("--output=/dev/null", "--wrap=exit 3")
    with pytest.raises(SlurmError, match=f"job {job} is FAILED"):
        cluster.wait_for_state(job, "COMPLETED")
    assert cluster.job(job).state in ENDED
