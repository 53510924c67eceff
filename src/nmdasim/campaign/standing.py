"""Where the runs of a campaign stand, told by their folders and logs alone."""

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nmdasim.campaign.planning import PlannedRun
from nmdasim.campaign.settings import Campaign
from nmdasim.rundir import (
    RUN,
    RunSummary,
    change_status,
    lock_run,
    read_status,
    run_summary,
    utc_now,
    write_json,
)

WAITING, RUNNING, INTERRUPTED, FAILED = "waiting", "running", "interrupted", "failed"
STOPPED, FINISHED, ANALYSED = "stopped", "finished", "analysed"
STANDINGS = (WAITING, RUNNING, INTERRUPTED, FAILED, STOPPED, FINISHED, ANALYSED)
"""Where a run of a campaign may stand, in the order in which they are counted."""

MAX_STALLED = 3
"""Starts without progress after which a run is not started again by itself."""

BAD_NODE_RUNS = 3
"""Different runs that have to fail on one node at once for it to be left out."""

BAD_NODE_WINDOW_S = 3600.0
"""Time within which they have to fail, s."""

START_LINE, RETRY_LINE = "== start", "== retry"
"""How the lines begin with which a log tells of a start, and of a budget that was renewed."""

_START = re.compile(rf"{START_LINE} (\S+) on (\S+)")
_STOPPED_RECORD = "stopped.json"
_LOG_TAIL_BYTES = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStanding:
    """Where one run of a campaign stands."""

    run: PlannedRun
    """The run."""
    standing: str
    """One of `STANDINGS`."""
    reason: str
    """Why it failed, stopped or was interrupted; empty otherwise."""
    production_ps_done: float
    """Length of the committed frames, ps."""
    n_frames: int
    """Committed frames."""
    n_starts: int
    """Starts of the simulation."""
    n_stalled: int
    """Starts since something was last committed."""
    ns_per_day: float
    """Speed of the newest segment; nan before there is one."""
    node: str
    """Computer that works on it, or worked on it last."""
    updated: str
    """Time of the newest record, ISO 8601 in UTC."""

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to simulate or analyse."""
        return self.standing == ANALYSED

    @property
    def may_start(self) -> bool:
        """Whether something is left that another start can do."""
        return self.standing in (WAITING, INTERRUPTED, FAILED, FINISHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class BadNode:
    """A node that is to be left out, and why."""

    node: str
    """Short name of the computer."""
    reason: str
    """What happened on it."""


def run_standings(
    campaign: Campaign, runs: Iterable[PlannedRun], *, brief: bool = False
) -> Iterator[RunStanding]:
    """Tell where runs stand, one after the other, so that memory does not grow with them.

    Parameters
    ----------
    campaign : Campaign
    runs : iterable of PlannedRun
    brief : bool
        Read of an analysed run nothing but its status: speed and frames are then unknown.

    Yields
    ------
    RunStanding

    Notes
    -----
    Nothing is written, no scheduler is asked. A run that was lengthened in the campaign file
    is interrupted until its frames are there.
    """
    logs = str(logs_folder(campaign))
    for run in runs:
        analysed = _analysed(run) if brief else None
        yield analysed or run_standing(run, f"{logs}/{run.name}.log")


def _analysed(run: PlannedRun) -> RunStanding | None:
    """Tell an analysed run from others by its status alone: one small file."""
    status = read_status(run.folder)
    if status.state != ANALYSED or not _is_complete(run, status.production_ps_done):
        return None
    return RunStanding(
        run=run,
        standing=ANALYSED,
        reason="",
        production_ps_done=status.production_ps_done,
        n_frames=0,
        n_starts=status.n_starts,
        n_stalled=status.n_stalled,
        ns_per_day=math.nan,
        node=status.host,
        updated=status.updated,
    )


def _is_complete(run: PlannedRun, done_ps: float) -> bool:
    # Whole frames are made, and the length that the command asks for may lie between two.
    return done_ps >= run.production_ns * 1000 * (1 - 1e-9)


def run_standing(run: PlannedRun, log: str | Path) -> RunStanding:
    """Tell where one run stands.

    Parameters
    ----------
    run : PlannedRun
    log : str or Path
        Log of its starts; it need not exist.

    Returns
    -------
    RunStanding
    """
    if not os.path.exists(f"{run.folder}/{RUN}"):
        return _without_folder(run, log)
    summary = run_summary(run.folder)
    standing, reason, n_stalled = summary.state, summary.reason, summary.n_stalled
    node, updated = summary.host, summary.updated
    if summary.live:
        standing, reason = RUNNING, ""
    elif standing not in (FINISHED, ANALYSED) or not _is_complete(run, summary.production_ps_done):
        refusals = [start for start in _failed_starts(log) if start.when > summary.updated]
        standing, reason, n_stalled = _of_unfinished(summary, refusals)
        if refusals:
            node, updated = refusals[-1].node, refusals[-1].when
    return RunStanding(
        run=run,
        standing=standing,
        reason=reason,
        production_ps_done=summary.production_ps_done,
        n_frames=summary.n_frames,
        n_starts=summary.n_starts,
        n_stalled=n_stalled,
        ns_per_day=summary.ns_per_day,
        node=node,
        updated=updated,
    )


def _of_unfinished(summary: RunSummary, refusals: Sequence["_FailedStart"]) -> tuple[str, str, int]:
    """Give standing, reason and starts without progress of a run with work left to do.

    The log tells of starts that were refused before they could write into the folder.
    """
    reason = summary.reason
    standing = FAILED if summary.state == FAILED else INTERRUPTED
    if refusals:
        standing, reason = FAILED, refusals[-1].reason
    n_stalled = max(summary.n_stalled, len(refusals))
    if standing == INTERRUPTED and not reason:
        extended = summary.state in (FINISHED, ANALYSED)
        reason = "is to be lengthened" if extended else "ended without a word"
    if n_stalled >= MAX_STALLED:
        return STOPPED, f"{n_stalled} starts without progress, the last: {reason}", n_stalled
    return standing, reason, n_stalled


def _without_folder(run: PlannedRun, log: str | Path) -> RunStanding:
    failed = _failed_starts(log)
    standing, reason = (FAILED, failed[-1].reason) if failed else (WAITING, "")
    if len(failed) >= MAX_STALLED:
        standing = STOPPED
        reason = f"{len(failed)} starts without progress, the last: {reason}"
    return RunStanding(
        run=run,
        standing=standing,
        reason=reason,
        production_ps_done=0.0,
        n_frames=0,
        n_starts=0,
        n_stalled=len(failed),
        ns_per_day=math.nan,
        node=failed[-1].node if failed else "",
        updated=failed[-1].when if failed else "",
    )


# --- logs ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _FailedStart:
    """A start that ended with an error, as its log tells."""

    when: str
    node: str
    reason: str


def logs_folder(campaign: Campaign) -> Path:
    """Return the folder of the logs, one for each run."""
    return campaign.folder / "logs"


def log_file(campaign: Campaign, run: PlannedRun) -> Path:
    """Return the log of a run, which all its starts append to."""
    return logs_folder(campaign) / f"{run.name}.log"


def _failed_starts(log: str | Path) -> list[_FailedStart]:
    """List the newest starts of a log that ended with an error of nmdasim.

    One that was asked to stop is none. The newest without a last word may still be at work; an
    older one is not.
    """
    try:
        with open(log, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _LOG_TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    failed: list[_FailedStart] = []
    start: re.Match[str] | None = None
    for line in text.splitlines():
        if found := _START.match(line):
            if start is not None:
                failed.append(_failed_start(start, "ended without a word"))
            start = found
        elif line.startswith(RETRY_LINE):
            failed, start = [], None
        elif start is not None and line.startswith("nmdasim: "):
            if not _is_of_a_stop(line):
                failed.append(_failed_start(start, line.removeprefix("nmdasim: ")))
            start = None
    return failed


def _failed_start(start: re.Match[str], reason: str) -> _FailedStart:
    return _FailedStart(when=start[1], node=start[2], reason=reason)


def _is_of_a_stop(line: str) -> bool:
    return line.startswith(("nmdasim: stopped by", "nmdasim: interrupted", "nmdasim: job ")) or (
        " under Slurm: waiting" in line
    )


def start_line(node: str) -> str:
    """Write the line with which a log tells of a start."""
    return f"{START_LINE} {utc_now()} on {node}"


# --- the retry budget ------------------------------------------------------------------


def record_stopped(campaign: Campaign, standings: Iterable[RunStanding]) -> dict[str, str]:
    """Write which runs are not started again by themselves, and why.

    Parameters
    ----------
    campaign : Campaign
    standings : iterable of RunStanding

    Returns
    -------
    dict of str to str
        Reason by name of the run. ``stopped.json`` in the campaign's folder holds the same, and
        what it held of other runs.
    """
    path = campaign.folder / _STOPPED_RECORD
    stopped: dict[str, str] = {}
    looked_at = set()
    for standing in standings:
        looked_at.add(standing.run.name)
        if standing.standing == STOPPED:
            stopped[standing.run.name] = standing.reason
    # Whoever looks at a part of the campaign leaves the record of the rest.
    former = {k: str(v) for k, v in read_record(path).items() if k not in looked_at}
    if stopped or path.exists():
        campaign.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, former | stopped)
    return stopped


def renew_budget(campaign: Campaign, standings: Iterable[RunStanding]) -> list[str]:
    """Let stopped runs be started again.

    Parameters
    ----------
    campaign : Campaign
    standings : iterable of RunStanding

    Returns
    -------
    list of str
        Names of the runs that were stopped.
    """
    renewed = []
    for standing in standings:
        if standing.standing != STOPPED:
            continue
        renewed.append(standing.run.name)
        folder = standing.run.folder
        if (folder / RUN).exists():
            with lock_run(folder):
                status = read_status(folder)
                change_status(folder, status.state, status.reason, n_stalled=0)
        log = log_file(campaign, standing.run)
        if log.exists():
            with log.open("a") as file:
                file.write(f"{RETRY_LINE} {utc_now()}\n")
    return renewed


# --- bad nodes -------------------------------------------------------------------------


def find_bad_nodes(standings: Sequence[RunStanding]) -> list[BadNode]:
    """Find nodes on which several different runs failed at once.

    Parameters
    ----------
    standings : sequence of RunStanding

    Returns
    -------
    list of BadNode

    Notes
    -----
    At least `BAD_NODE_RUNS` runs must stand failed within `BAD_NODE_WINDOW_S`, none may have
    got on there since, and another node must have served the campaign: where all runs fail
    everywhere, the node is not what is wrong.
    """
    failures: dict[str, list[RunStanding]] = {}
    served: dict[str, str] = {}
    for standing in standings:
        node = standing.node.split(".")[0]
        if not node:
            continue
        if standing.standing in (FAILED, STOPPED):
            failures.setdefault(node, []).append(standing)
        elif standing.n_frames:
            served[node] = max(served.get(node, ""), standing.updated)
    bad = []
    for node, failed in sorted(failures.items()):
        burst = _burst(failed)
        elsewhere = set(served) - {node}
        if burst and elsewhere and served.get(node, "") < burst[-1].updated:
            minutes = (_seconds(burst[-1].updated) - _seconds(burst[0].updated)) / 60
            reason = (
                f"{len(burst)} runs failed on it within {minutes:.0f} min, the last: "
                f"{burst[-1].reason}"
            )
            bad.append(BadNode(node=node, reason=reason))
    return bad


def _burst(failed: Sequence[RunStanding]) -> list[RunStanding]:
    """Give the failures of the first window that holds enough of them; none if there is none."""
    ordered = sorted((f for f in failed if f.updated), key=lambda f: f.updated)
    for first in range(len(ordered) - BAD_NODE_RUNS + 1):
        begin = _seconds(ordered[first].updated)
        within = [f for f in ordered[first:] if _seconds(f.updated) - begin <= BAD_NODE_WINDOW_S]
        if len(within) >= BAD_NODE_RUNS:
            return within
    return []


def _seconds(when: str) -> float:
    return datetime.fromisoformat(when).timestamp()


def read_record(path: Path) -> dict[str, object]:
    """Read a record of the campaign; empty where there is none."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
