"""How a run is asked to stop, and who starts it again.

Slurm asks in two ways, and they mean different things. SIGUSR1 is the warning that the job
script ordered with ``--signal``: time is nearly up, and nobody but the job itself sees to it
that it comes back. SIGTERM is Slurm ending the job: it brings a preempted job back by itself
and drops a cancelled one, so a job that requeued itself then would undo its cancellation. In
both cases a job that leaves before Slurm ends it is booked as failed and does not come back.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any, Self

from nmdasim.rundir import EXIT_RESUMABLE, RunLock, record_end

SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1")
"""Signals that ask a run to stop; systems that lack one do without it."""

WARNING = "SIGUSR1"
"""The signal that a job script orders as a warning before its time is up."""

EXIT_INTERRUPTED = 130
"""Exit code after a second Ctrl-C."""

WAIT_S = 600.0
"""Longest wait, in s, for Slurm to end a job; sites leave it seconds to minutes."""

SCONTROL_S = 60.0
"""Time that ``scontrol`` gets for its answer, in s."""


class Stopped(BaseException):
    """Somebody asked to stop; the message is the name of the signal.

    No error of the program: like KeyboardInterrupt it passes by what handles those.
    """


class StopRequest:
    """Turns signals into a wish to stop while a ``with`` lasts.

    Work that can stop in good order looks at `requested` between two pieces of it. Other work
    is left at once where `leaves` is set, outside of `finishing`: the process records that in
    the folder of the run, hands over and ends with `EXIT_RESUMABLE`. Nothing is raised into that
    work, since libraries lose such an exception, or break when it comes while they load. A second
    SIGINT ends it in any case.

    Parameters
    ----------
    leaves : bool
        Whether a signal ends the process outside of `finishing`.
    requeue : bool
        Passed on to `hand_over`.
    """

    def __init__(self, *, leaves: bool = False, requeue: bool = True) -> None:
        self.requested = ""
        self.requeue = requeue
        self.lock: RunLock | None = None
        """Lock of the run that is worked on: given back when that work is left at once."""
        self._leaves = leaves
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Install the handlers; outside the main thread Python cannot, and none is."""
        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                if number := getattr(signal, name, None):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the former handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def finishing(self) -> Iterator[None]:
        """Let the work inside the ``with`` stop in its own time."""
        before, self._leaves = self._leaves, False
        try:
            yield
        finally:
            self._leaves = before

    def check(self) -> None:
        """Raise `Stopped` if somebody asked to stop."""
        if self.requested:
            raise Stopped(self.requested)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        name = signal.Signals(number).name
        # A job that was warned and is then cancelled must not requeue itself: SIGTERM stands.
        if not self.requested or name == "SIGTERM":
            self.requested = name
        if self._leaves:
            self._leave()

    def _leave(self) -> None:
        """End the process from within a signal's handler: whatever it was doing stays undone."""
        self._leaves = False
        code = EXIT_RESUMABLE
        try:
            if self.lock is not None:
                record_end(self.lock, "interrupted", f"stopped by {self.requested}")
                self.lock.release()
            hand_over(self)
        except KeyboardInterrupt:
            code = EXIT_INTERRUPTED
        finally:
            os._exit(code)


def slurm_job(environment: Mapping[str, str] = os.environ) -> str:
    """Name the Slurm job that this process belongs to, as ``scontrol`` wants it.

    Parameters
    ----------
    environment : mapping
        Variables of the process.

    Returns
    -------
    str
        ``4711``, or ``4711_3`` for a task of an array; empty outside Slurm.
    """
    array, task = (environment.get(f"SLURM_ARRAY_{name}") for name in ("JOB_ID", "TASK_ID"))
    if array and task:
        return f"{array}_{task}"
    return environment.get("SLURM_JOB_ID", "")


def hand_over(stop: StopRequest, *, wait_s: float = WAIT_S) -> None:
    """See to it that a run which stopped in good order is started again, as far as one can.

    Under Slurm the job requeues itself where it was warned, and then waits to be ended; see
    the top of this module. Elsewhere, and after Ctrl-C, this returns at once. The lock of the
    run must have been given back.

    Parameters
    ----------
    stop : StopRequest
        What was asked; its ``with`` still lasts. Where its `requeue` is False the job neither
        requeues itself nor waits.
    wait_s : float
        Longest wait in s, for the case that Slurm does not end the job.
    """
    _say(f"stopped by {stop.requested}; run the same command again to resume")
    job = slurm_job()
    if not (job and stop.requeue) or stop.requested == "SIGINT":
        return
    if stop.requested == WARNING:
        refusal = _requeue(job)
        # The job may have been cancelled in the meantime.
        if stop.requested == WARNING and refusal:
            _say(f"Slurm did not requeue job {job} ({refusal}): submit the same command again")
            return
        _say(f"job {job} is requeued: waiting for Slurm to end this start")
    else:
        _say(
            f"{stop.requested} under Slurm: waiting for it to end job {job}, which it requeues "
            "if it was preempted and not if it was cancelled"
        )
    asked, end = stop.requested, time.monotonic() + wait_s
    while time.monotonic() < end and stop.requested == asked:
        time.sleep(0.2)


def _requeue(job: str) -> str:
    """Ask Slurm to start a job again; return why it did not, or an empty string."""
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job],
            capture_output=True,
            text=True,
            timeout=SCONTROL_S,
            check=False,
        )
    except FileNotFoundError:
        return "there is no scontrol here"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"scontrol gave no answer: {error}"
    if done.returncode == 0:
        return ""
    said = " ".join((done.stderr or done.stdout).split())
    return said or f"scontrol ended with code {done.returncode}"


def _say(text: str) -> None:
    # The handler of a signal may have come while Python itself was printing.
    os.write(2, f"nmdasim: {text}\n".encode())
