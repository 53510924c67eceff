"""The runs of a campaign as processes of this computer, several at once."""

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from nmdasim.campaign.planning import PlannedRun
from nmdasim.campaign.settings import Campaign
from nmdasim.campaign.standing import (
    ANALYSED,
    RUNNING,
    STOPPED,
    RunStanding,
    log_file,
    record_stopped,
    run_standing,
    run_standings,
    start_line,
)
from nmdasim.rundir import EXIT_RESUMABLE
from nmdasim.stopping import StopRequest, slurm_job

_POLL_S = 0.2
#: With these a run has said itself why it ended.
_LAST_WORDS = (0, 1, 2, EXIT_RESUMABLE, 130)


@dataclass(slots=True, kw_only=True, eq=False)
class _Child:
    """One `nmdasim run` at work."""

    run: PlannedRun
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    told: str = ""


def run_campaign(
    campaign: Campaign,
    runs: Sequence[PlannedRun],
    *,
    workers: int,
    stop: StopRequest,
    progress: bool = True,
) -> dict[str, RunStanding]:
    """Work through the runs that have something left to do, several at once.

    Parameters
    ----------
    campaign : Campaign
    runs : sequence of PlannedRun
        Runs of the campaign; those analysed, stopped, or at work elsewhere are passed over.
    workers : int
        Runs at once. Each gets its share of the processor cores, unless the variable
        ``OPENMM_CPU_THREADS`` says otherwise.
    stop : StopRequest
        Its ``with`` lasts; a signal is passed on to every run, which commits and ends.
    progress : bool
        Show on standard error what begins and ends.

    Returns
    -------
    dict of str to RunStanding
        Where each run stands now, by name.

    Notes
    -----
    A run that fails is started again, after the others, until it is analysed or
    `MAX_STALLED` starts in a row brought no progress. The order of the runs is kept.
    """
    standings = {s.run.name: s for s in run_standings(campaign, runs)}
    waiting = [run for run in runs if standings[run.name].may_start]
    n_left = len(waiting)
    children: list[_Child] = []
    with _display(progress, n_left, len(runs)) as display:
        try:
            while (waiting and not stop.requested) or children:
                while waiting and len(children) < workers and not stop.requested:
                    children.append(_start(campaign, waiting.pop(0), workers))
                _wait(children, stop)
                for child in [c for c in children if c.process.poll() is not None]:
                    children.remove(child)
                    standing = _ended(campaign, child)
                    standings[child.run.name] = standing
                    _tell(display, standing, child.process.returncode)
                    if standing.may_start and not stop.requested:
                        waiting.append(child.run)
        finally:
            _end_all(children)
    record_stopped(campaign, standings.values())
    return standings


def _start(campaign: Campaign, run: PlannedRun, workers: int) -> _Child:
    path = log_file(campaign, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    log = path.open("ab")
    host = os.environ.get("SLURMD_NODENAME") or platform.node()
    log.write(f"{start_line(host)} {_job_words()}\n".encode())
    log.flush()
    words = [sys.executable, "-m", "nmdasim.cli", *run.words]
    if slurm_job():
        # The job belongs to all of its runs: only the process that waits for them requeues it.
        words.append("--no-requeue")
    threads = str(max(1, len(os.sched_getaffinity(0)) // workers))
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={"OPENMM_CPU_THREADS": threads, **os.environ},
        # Ctrl-C in a terminal reaches a whole process group, and a run ends at once at its second.
        start_new_session=True,
    )
    return _Child(run=run, process=process, log=log)


def _job_words() -> str:
    return f"job {slurm_job()}" if slurm_job() else f"process {os.getpid()}"


def _wait(children: list[_Child], stop: StopRequest) -> None:
    """Wait until a run ends; a signal is passed on to each, once."""
    while children and all(child.process.poll() is None for child in children):
        for child in children:
            if stop.requested != child.told:
                child.told = stop.requested
                child.process.send_signal(getattr(signal, child.told))
        time.sleep(_POLL_S)


def _ended(campaign: Campaign, child: _Child) -> RunStanding:
    status = child.process.returncode
    if status not in _LAST_WORDS and not child.told:
        child.log.write(f"nmdasim: ended with exit code {status}\n".encode())
    child.log.close()
    return run_standing(child.run, log_file(campaign, child.run))


def _end_all(children: list[_Child]) -> None:
    """Leave no run behind when this process is leaving early."""
    for child in children:
        if child.process.poll() is None:
            child.process.terminate()
    for child in children:
        child.process.wait()
        child.log.close()


def exit_status(standings: dict[str, RunStanding], stop: StopRequest) -> int:
    """Give the exit status of a campaign's workers.

    Parameters
    ----------
    standings : dict of str to RunStanding
    stop : StopRequest

    Returns
    -------
    int
        0 when all runs are analysed or at work elsewhere, `EXIT_RESUMABLE` when somebody asked
        to stop before, 1 when runs were given up.
    """
    if all(s.standing in (ANALYSED, RUNNING) for s in standings.values()):
        return 0
    return EXIT_RESUMABLE if stop.requested else 1


# --- what a person sees ----------------------------------------------------------------


def _display(shown: bool, n_left: int, n_runs: int) -> AbstractContextManager[Any]:
    console = Console(stderr=True)
    if not shown:
        return nullcontext()
    console.print(f"{n_left} of {n_runs} runs have work left", highlight=False)
    columns = (
        TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    bar.add_task("runs", total=n_left)
    return bar


def _tell(display: Progress | None, standing: RunStanding, status: int) -> None:
    if display is None:
        return
    text = f"{standing.run.name}: {standing.standing}"
    if standing.standing != ANALYSED:
        text += f" (exit code {status}{', ' + standing.reason if standing.reason else ''})"
    display.console.print(text, highlight=False, markup=False, soft_wrap=True)
    if standing.standing in (ANALYSED, STOPPED):
        display.advance(display.task_ids[0])
