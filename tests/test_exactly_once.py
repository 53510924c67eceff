"""Runs that are killed, refused and cut short at every step end as if nothing had happened."""

import errno
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from openmm import app
from tiny_run import Protocol, Stage, build, final_state, frames

from nmdasim.rundir import read_segments, read_status, run_summary, sha256_of

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux")

PROGRAM = Path(__file__).with_name("tiny_run.py")
RESUMABLE = 75

#: So short that writing takes most of the time: two stages, three segments of two frames.
BRIEF = Protocol(
    frame_interval_ps=0.004,
    segment_ps=0.008,
    minimise_max_iterations=5,
    equilibration=(
        Stage(name="warm", ps=0.004, timestep_fs=1.0, restraint_extra=500.0, barostat=False),
        Stage(name="press", ps=0.004, timestep_fs=2.0, restraint_extra=50.0, barostat=True),
    ),
)
BRIEF_NS = 2.4e-5


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    """Start processes that simulate a folder; each is forked from one that has all loaded."""
    log = tmp_path_factory.mktemp("nursery") / "stderr"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, str(PROGRAM), "--nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            bufsize=1,
        ) as parent,
    ):

        def run(folder, **options):
            parent.stdin.write(json.dumps({"folder": str(folder), **options}) + "\n")
            parent.stdin.flush()
            return int(parent.stdout.readline())

        run.log = log
        yield run
        parent.stdin.close()


@pytest.fixture(scope="module")
def brief(tmp_path_factory):
    return build(
        tmp_path_factory.mktemp("brief") / "run",
        protocol=BRIEF,
        production_ns=BRIEF_NS,
        nonbonded=app.CutoffPeriodic,
    )


@pytest.fixture(scope="module")
def brief_finished(brief, nursery):
    """The uninterrupted run, and what it does to its files, step by step."""
    folder = shutil.copytree(brief, brief.with_name("finished"))
    report = brief.with_name("steps")
    assert nursery(folder, report=str(report)) == 0
    return folder, json.loads(report.read_text())


def assert_same_run(folder, finished, *, where):
    assert read_status(folder).state == "finished", where
    assert frames(folder) == frames(finished), where
    assert final_state(folder) == final_state(finished), where
    left = [path for path in folder.rglob("*") if path.name.startswith(".") or "lock" in path.name]
    assert not left, where


# --- every step --------------------------------------------------------------------------


def test_the_steps_of_a_run_are_those_that_one_expects(brief_finished):
    _, steps = brief_finished
    renamed = [name.rpartition("/")[2] for name in steps if name.startswith("os.rename")]
    for name in ("status.json", "provenance.json", "equilibration.json", "start.state.xml.gz"):
        assert name in renamed
    for index in range(3):
        files = [f"0000{index}.{end}" for end in ("xtc", "chk", "state.xml.gz", "json")]
        assert [name for name in renamed if name in files] == files
    # A renamed file was flushed before, and the folder after.
    assert len([name for name in steps if name.startswith("fsync")]) >= 2 * len(renamed)
    assert len(steps) > 100


@pytest.mark.slow
def test_killed_before_every_step_ends_bit_identical(nursery, brief, brief_finished, tmp_path):
    """Before each is after the one before it: every rename, every write, every deletion."""
    finished, steps = brief_finished
    for step in range(1, len(steps) + 1):
        folder = shutil.copytree(brief, tmp_path / str(step))
        assert nursery(folder, step=step) == -signal.SIGKILL, steps[step - 1]
        assert not run_summary(folder).live
        assert nursery(folder) == 0, steps[step - 1]
        assert_same_run(folder, finished, where=steps[step - 1])
        shutil.rmtree(folder)


CODES = (errno.ENOSPC, errno.EROFS, errno.EIO, errno.EACCES)


@pytest.mark.slow
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "for good"])
def test_refused_at_every_write_fails_in_words_and_goes_on_later(
    nursery, brief, brief_finished, tmp_path, lasting
):
    finished, steps = brief_finished
    for step, name in list(enumerate(steps, start=1))[:: 3 if lasting else 1]:
        where = f"{step} {name}"
        folder = shutil.copytree(brief, tmp_path / str(step))
        code = CODES[step % len(CODES)]
        ended = nursery(folder, step=step, code=code, lasting=lasting)
        summary = run_summary(folder)
        assert not summary.live, where
        # What is refused after the last frame, or was to delete leftovers, ends no run.
        assert ended == 1 or (ended == 0 and summary.state == "finished"), where
        if ended == 1 and not lasting and "run.lock" not in name:
            assert summary.state == "failed", where
            assert "could not write" in summary.reason or "not writable" in summary.reason, where
        assert nursery(folder) == 0, where
        assert_same_run(folder, finished, where=where)
        shutil.rmtree(folder)


@pytest.mark.slow
def test_cut_short_at_any_length_fails_in_words_and_goes_on_later(
    nursery, brief, brief_finished, tmp_path
):
    """A limit on the size of files acts like a disk that fills up in the middle of a write."""
    finished, _ = brief_finished
    sizes = {path.stat().st_size for path in finished.rglob("*") if path.is_file()}
    limits = sorted({*range(100, 2000, 150), *(size - 1 for size in sizes)})
    stopped = 0
    for limit in limits:
        folder = shutil.copytree(brief, tmp_path / str(limit))
        ended = nursery(folder, limit=limit)
        stopped += ended == 1
        # Files that exist already may be longer than all that is written now.
        assert ended in (0, 1), limit
        assert nursery(folder) == 0, limit
        assert_same_run(folder, finished, where=limit)
        shutil.rmtree(folder)
    assert stopped > len(limits) // 2
    assert "the disk or quota" in nursery.log.read_text()


# --- random moments ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    return build(tmp_path_factory.mktemp("longer") / "run")


@pytest.fixture(scope="module")
def longer_finished(longer, nursery):
    """The uninterrupted run and the time it takes, in s."""
    folder = shutil.copytree(longer, longer.with_name("finished"))
    before = time.monotonic()
    assert nursery(folder) == 0
    return folder, time.monotonic() - before


def committed(folder):
    """Give what must never change: the manifests and frames that stand."""
    segments = read_segments(folder)
    return [(s.first_frame, s.n_frames, sha256_of(s.trajectory)) for s in segments]


def interrupt_at_random(nursery, template, finished, full_s, *, number, n_times, seed, where):
    """Interrupt runs at random moments, `n_times` in all; hold each against `finished`."""
    moments, n_done, n_runs = random.Random(seed), 0, 0
    kept = {"equilibration": 0, "production": 0}
    while n_done < n_times:
        folder = shutil.copytree(template, where / str(n_runs))
        n_runs += 1
        before = []
        while True:
            # Lives are short beside a run, so that most are spent in it and not after it.
            after_s = moments.uniform(0.0, 0.35) * full_s
            ended = nursery(folder, number=number, after_s=after_s)
            if ended == 0:
                break
            assert ended in (-number, RESUMABLE)
            after = committed(folder)
            assert after[: len(before)] == before
            kept["production" if (folder / "start.state.xml.gz").exists() else "equilibration"] += 1
            before, n_done = after, n_done + 1
        assert_same_run(folder, finished, where=f"run {n_runs}, {n_done} interruptions")
        times = [t for s in read_segments(folder) for t in s.manifest["time_ps"]]
        assert times == pytest.approx([0.02 * (i + 1) for i in range(60)], rel=1e-9)
        shutil.rmtree(folder)
    return kept


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "n_times"),
    [(signal.SIGKILL, 100), (signal.SIGTERM, 12), (signal.SIGUSR1, 8), (signal.SIGINT, 5)],
    ids=["SIGKILL", "SIGTERM", "SIGUSR1", "SIGINT"],
)
def test_interrupted_at_random_moments_ends_bit_identical(
    nursery, longer, longer_finished, tmp_path, number, n_times
):
    finished, full_s = longer_finished
    kept = interrupt_at_random(
        nursery, longer, finished, full_s, number=number, n_times=n_times, seed=4, where=tmp_path
    )
    assert sum(kept.values()) >= n_times
    if n_times >= 100:  # enough moments to reach both parts of a run
        assert min(kept.values()) > 0
