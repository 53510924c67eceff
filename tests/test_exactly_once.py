"""Runs that are killed, refused and cut short at every step end as if nothing had happened."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from openmm import app
from tiny_run import Protocol, Stage, build, final_state, frames

from nmdasim.rundir import read_status, run_summary

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
