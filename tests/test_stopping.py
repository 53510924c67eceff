import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from nmdasim.rundir import EXIT_RESUMABLE, read_status
from nmdasim.stopping import SIGNALS, Stopped, StopRequest, hand_over, slurm_job

NUMBERS = [getattr(signal, name) for name in SIGNALS]


def send(number):
    """Send this process a signal; Python runs its handler before the next line."""
    os.kill(os.getpid(), number)


# --- a wish to stop ----------------------------------------------------------------------


@pytest.mark.parametrize("number", NUMBERS)
def test_work_that_can_stop_in_order_is_only_told(number):
    with StopRequest() as stop:
        assert stop.requested == ""
        send(number)
        assert stop.requested == signal.Signals(number).name


LEAVE = """
    import os, signal, sys
    from pathlib import Path
    from nmdasim.rundir import failures_recorded, lock_run
    from nmdasim.stopping import StopRequest
    number, folder = int(sys.argv[1]), Path(sys.argv[2])
    with StopRequest(leaves=True) as stop, lock_run(folder) as lock, failures_recorded(lock):
        stop.lock = lock
        with stop.finishing():
            pass
        try:
            os.kill(os.getpid(), number)
        except BaseException:
            pass  # as a library may do
        print("went on")
"""


@pytest.mark.parametrize("number", NUMBERS)
def test_work_that_cannot_stop_in_order_is_left_at_once(number, tmp_path):
    """Nothing is raised that a library could swallow; the folder tells and is free."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
    command = [sys.executable, "-c", textwrap.dedent(LEAVE), str(int(number)), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    name = signal.Signals(number).name
    assert (done.returncode, done.stdout) == (EXIT_RESUMABLE, "")
    assert done.stderr == f"nmdasim: stopped by {name}; run the same command again to resume\n"
    status = read_status(tmp_path)
    assert (status.state, status.reason) == ("interrupted", f"stopped by {name}")
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_work_inside_finishing_stops_in_its_own_time():
    with StopRequest(leaves=True) as stop:
        with stop.finishing():
            send(signal.SIGUSR1)
        assert stop.requested == "SIGUSR1"
        with pytest.raises(Stopped, match="SIGUSR1"):
            stop.check()


def test_nothing_is_raised_while_nobody_asked():
    with StopRequest(leaves=True) as stop:
        stop.check()
    assert stop.requested == ""


def test_a_second_ctrl_c_leaves_at_once():
    with StopRequest() as stop:
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert stop.requested == "SIGINT"


@pytest.mark.parametrize(
    ("first", "second", "stands"),
    [
        (signal.SIGUSR1, signal.SIGTERM, "SIGTERM"),
        (signal.SIGTERM, signal.SIGUSR1, "SIGTERM"),
        (signal.SIGINT, signal.SIGUSR1, "SIGINT"),
    ],
)
def test_being_ended_outweighs_being_warned(first, second, stands):
    with StopRequest() as stop:
        send(first)
        send(second)
        assert stop.requested == stands


def test_former_handlers_are_given_back():
    before = [signal.getsignal(number) for number in NUMBERS]
    with StopRequest():
        assert [signal.getsignal(number) for number in NUMBERS] != before
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_other_threads_do_without_handlers():
    before = signal.getsignal(signal.SIGTERM)
    found = []

    def use():
        with StopRequest() as stop:
            found.append((stop.requested, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert found == [("", before)]


# --- who starts it again -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({}, ""),
        ({"SLURM_JOB_ID": "4711"}, "4711"),
        (
            {"SLURM_JOB_ID": "4713", "SLURM_ARRAY_JOB_ID": "4711", "SLURM_ARRAY_TASK_ID": "0"},
            "4711_0",
        ),
    ],
)
def test_a_job_is_named_as_scontrol_wants_it(environment, job):
    assert slurm_job(environment) == job


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Pretend to be a job, with a program in place of scontrol; give what that was asked."""
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)

    def install(answer):
        program = tmp_path / "scontrol"
        program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n{answer}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    install("exit 0")
    return install


def asked(tmp_path):
    path = tmp_path / "asked"
    return path.read_text().splitlines() if path.exists() else []


def timed_hand_over(*numbers, requeue=True, **options):
    with StopRequest(requeue=requeue) as stop:
        for number in numbers:
            send(number)
        before = time.monotonic()
        hand_over(stop, **options)
        return time.monotonic() - before


def test_a_warned_job_requeues_itself_and_waits_to_be_ended(slurm, tmp_path, capfd):
    assert timed_hand_over(signal.SIGUSR1, wait_s=0.5) >= 0.5
    assert asked(tmp_path) == ["requeue 4711"]
    assert "job 4711 is requeued" in capfd.readouterr().err


def test_a_task_of_an_array_requeues_itself_alone(slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "4700")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "11")
    timed_hand_over(signal.SIGUSR1, wait_s=0.1)
    assert asked(tmp_path) == ["requeue 4700_11"]


def test_a_job_that_slurm_ends_waits_and_does_not_requeue(slurm, tmp_path):
    assert timed_hand_over(signal.SIGTERM, wait_s=0.5) >= 0.5
    assert asked(tmp_path) == []


def test_a_job_that_was_warned_and_then_cancelled_does_not_requeue(slurm, tmp_path):
    timed_hand_over(signal.SIGUSR1, signal.SIGTERM, wait_s=0.1)
    assert asked(tmp_path) == []


def test_the_wait_ends_when_slurm_ends_the_requeued_start(slurm):
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    assert timed_hand_over(signal.SIGUSR1, wait_s=60.0) < 30.0
    timer.join()


@pytest.mark.parametrize("options", [{}, {"requeue": False}])
def test_ctrl_c_and_other_managers_are_not_waited_for(slurm, tmp_path, options):
    number = signal.SIGUSR1 if options else signal.SIGINT
    assert timed_hand_over(number, **options) < 5.0
    assert asked(tmp_path) == []


def test_outside_slurm_nothing_is_waited_for(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert timed_hand_over(signal.SIGTERM) < 5.0


def test_a_refusal_of_scontrol_is_told_and_not_waited_for(slurm, capfd):
    slurm("echo 'Requested operation is presently disabled' >&2; exit 1")
    assert timed_hand_over(signal.SIGUSR1) < 5.0
    assert "(Requested operation is presently disabled)" in capfd.readouterr().err


def test_a_missing_scontrol_is_told(slurm, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert timed_hand_over(signal.SIGUSR1) < 5.0
    assert "there is no scontrol here" in capfd.readouterr().err


def test_an_ignored_warning_is_heard_again_once_a_run_listens():
    """The script for Slurm ignores SIGUSR1 until the program is in its place."""
    program = """
        import os, signal
        from nmdasim.stopping import StopRequest
        os.kill(os.getpid(), signal.SIGUSR1)
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGUSR1)
            print(stop.requested)
    """
    done = subprocess.run(
        ["sh", "-c", 'trap "" USR1; exec "$@"', "sh", sys.executable, "-c",
         textwrap.dedent(program)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "SIGUSR1\n", done.stderr
