"""One Slurm job array for the runs of a campaign that have work left."""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from nmdasim.campaign.planning import PlannedRun
from nmdasim.campaign.settings import Campaign, SlurmSettings
from nmdasim.campaign.standing import (
    RUNNING,
    START_LINE,
    STOPPED,
    BadNode,
    RunStanding,
    find_bad_nodes,
    logs_folder,
    read_record,
    record_stopped,
    renew_budget,
    run_standings,
)
from nmdasim.errors import CampaignError, SchedulerError
from nmdasim.rundir import read_json, utc_now, write_atomic, write_json

DEFAULT_ARRAY_SIZE = 1001
"""Slurm's own limit where the site set none; the highest task has one less."""

_SCRIPT, _LIST, _RECORD = "job.sh", "runs.txt", "submission.json"
_FORGIVEN = "forgiven.json"
_ANSWER_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One job array of the campaign."""

    folder: Path
    """Folder with its script, its list of runs and its record."""
    job_name: str
    """Name that Slurm shows, unique in the campaign."""
    job_id: str
    """Number that Slurm gave; empty before it did."""
    submitted: str
    """Time, ISO 8601 in UTC."""
    n_runs: int
    """Number of runs."""
    n_tasks: int
    """Number of tasks of the array."""
    runs_per_task: int
    """Runs of one task."""
    excluded: Mapping[str, str]
    """Nodes that were left out because runs failed on them, with the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which runs to submit, and which not."""

    runs: tuple[PlannedRun, ...]
    """Runs with work left that nobody is at."""
    queued: Mapping[str, str]
    """Number of the job by name of the runs that are in the queue."""
    stopped: Mapping[str, str]
    """Reason by name of the runs that are not started again by themselves."""
    n_running: int
    """Runs at work, in the queue or elsewhere."""
    n_done: int
    """Analysed runs."""
    bad_nodes: tuple[BadNode, ...]
    """Nodes that are left out."""


def choose_runs(
    campaign: Campaign,
    runs: Sequence[PlannedRun],
    *,
    resume: bool,
    retry: bool = False,
    dry: bool = False,
) -> Choice:
    """Choose the runs that a submission is for.

    Parameters
    ----------
    campaign : Campaign
    runs : sequence of PlannedRun
        All runs of the campaign.
    resume : bool
        Leave out what is in the queue, in place of refusing, and leave out bad nodes.
    retry : bool
        First let stopped runs start again, and forget bad nodes.
    dry : bool
        Only look: write nothing, and take stopped runs as they are.

    Returns
    -------
    Choice

    Raises
    ------
    CampaignError
        If runs are in the queue and this is no `resume`.
    SchedulerError
        If Slurm does not answer.
    """
    queued = queued_runs(campaign)
    if not resume:
        refuse_queued(campaign, queued)
    standings = list(run_standings(campaign, runs))
    bad: list[BadNode] = []
    if retry and not dry:
        renew_budget(campaign, standings)
        campaign.folder.mkdir(parents=True, exist_ok=True)
        write_json(campaign.folder / _FORGIVEN, {"since": utc_now()})
        standings = list(run_standings(campaign, runs))
    elif resume:
        bad = _bad_nodes(campaign, standings)
        names = {node.node for node in bad}
        # What a bad node did is not held against the runs.
        theirs = [s for s in standings if s.node.split(".")[0] in names]
        if not dry and renew_budget(campaign, theirs):
            standings = list(run_standings(campaign, runs))
    stopped = {s.run.name: s.reason for s in standings if s.standing == STOPPED}
    if not dry:
        record_stopped(campaign, standings)
    free = [s for s in standings if s.may_start and s.run.name not in queued]
    return Choice(
        runs=tuple(s.run for s in free),
        queued=queued,
        stopped=stopped,
        n_running=sum(s.standing == RUNNING for s in standings),
        n_done=sum(s.is_done for s in standings),
        bad_nodes=tuple(bad),
    )


def _bad_nodes(campaign: Campaign, standings: Sequence[RunStanding]) -> list[BadNode]:
    """Give nodes that are bad now, and those that former submissions left out."""
    since = str(read_record(campaign.folder / _FORGIVEN).get("since", ""))
    found = {
        node: BadNode(node=node, reason=reason)
        for submission in read_submissions(campaign)
        if submission.submitted >= since
        for node, reason in submission.excluded.items()
    }
    recent = [s for s in standings if s.updated >= since]
    found |= {bad.node: bad for bad in find_bad_nodes(recent)}
    # A computer of the same campaign that is no node of this cluster would make sbatch refuse.
    nodes = known_nodes() if found else set()
    return [bad for node, bad in sorted(found.items()) if node in nodes]


def submit_runs(
    campaign: Campaign,
    runs: Sequence[PlannedRun],
    *,
    bad_nodes: Sequence[BadNode] = (),
) -> Submission:
    """Write and submit one job array.

    Parameters
    ----------
    campaign : Campaign
    runs : sequence of PlannedRun
        Runs with work left, none of which is queued.
    bad_nodes : sequence of BadNode
        Nodes to leave out, with the reason.

    Returns
    -------
    Submission
        As recorded in the campaign's folder.

    Raises
    ------
    SchedulerError
        If Slurm is absent or refuses the job; nothing of it is left in the campaign then.
    """
    if shutil.which("sbatch") is None:
        raise SchedulerError(
            "there is no sbatch on this computer: submit from a login node of the cluster, look "
            "at the script with --dry-run, or use `nmdasim campaign run`"
        )
    submission, script, listed = prepare_submission(campaign, runs, bad_nodes=bad_nodes)
    folder = submission.folder
    logs_folder(campaign).mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True)
    write_atomic(folder / _LIST, listed)
    write_atomic(folder / _SCRIPT, script)
    # The name is recorded first: should this process end before Slurm's answer, the job is found.
    _record(submission)
    try:
        answer = ask_slurm("sbatch", "--parsable", str(folder / _SCRIPT))
    except SchedulerError:
        shutil.rmtree(folder)
        raise
    submission = replace(submission, job_id=answer.strip().split(";")[0])
    _record(submission)
    return submission


def prepare_submission(
    campaign: Campaign, runs: Sequence[PlannedRun], *, bad_nodes: Sequence[BadNode] = ()
) -> tuple[Submission, str, str]:
    """Make the script and the list of a job array, without writing anything.

    Parameters
    ----------
    campaign, runs, bad_nodes
        As for `submit_runs`.

    Returns
    -------
    submission : Submission
        Without a job id.
    script : str
        The job script.
    listed : str
        One line for each run: its name, and its command.
    """
    number = 1 + max((int(s.folder.name) for s in read_submissions(campaign)), default=0)
    per_task = runs_per_task(campaign.slurm, len(runs))
    submission = Submission(
        folder=_submissions_folder(campaign) / f"{number:04d}",
        job_name=f"{campaign.name}-{number:04d}",
        job_id="",
        submitted=utc_now(),
        n_runs=len(runs),
        n_tasks=-(-len(runs) // per_task),
        runs_per_task=per_task,
        excluded={node.node: node.reason for node in bad_nodes},
    )
    listed = "".join(f"{run.name} {run.command}\n" for run in runs)
    return submission, job_script(campaign, submission), listed


def runs_per_task(settings: SlurmSettings, n_runs: int) -> int:
    """Decide how many runs a task works through, so that the array fits the limits.

    Parameters
    ----------
    settings : SlurmSettings
        Without `SlurmSettings.max_array_size` Slurm is asked for the site's.
    n_runs : int

    Returns
    -------
    int
        At least `SlurmSettings.runs_per_task`.
    """
    most_tasks = settings.max_array_size or site_array_size() or DEFAULT_ARRAY_SIZE
    if settings.max_tasks:
        most_tasks = min(most_tasks, settings.max_tasks)
    return max(settings.runs_per_task, -(-n_runs // most_tasks))


def site_array_size() -> int:
    """Ask Slurm how large an array may be; 0 where it cannot be asked."""
    if shutil.which("scontrol") is None:
        return 0
    try:
        config = ask_slurm("scontrol", "show", "config")
    except SchedulerError:
        return 0
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", config, re.M)
    return int(found[1]) if found else 0


# --- the script ------------------------------------------------------------------------


def job_script(campaign: Campaign, submission: Submission) -> str:
    """Write the job script: plain bash, to be read and changed.

    Parameters
    ----------
    campaign : Campaign
    submission : Submission

    Returns
    -------
    str
    """
    settings = campaign.slurm
    # In the directory of the submission nothing is relative: the script may be moved.
    listed = shlex.quote(str(submission.folder / _LIST))
    logs = shlex.quote(str(logs_folder(campaign)))
    lines = ["#!/bin/bash", *_directives(settings, submission), ""]
    lines += [f"# left out: {node}: {why}" for node, why in submission.excluded.items()]
    if settings.setup:
        lines += settings.setup
    else:
        # Where nothing activates an environment, the one that submitted is used.
        lines.append(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"')
    cores = max(1, settings.cpus // settings.runs_at_once)
    lines += [
        "# OpenMM would take every core of the node, not only ours.",
        f"export OPENMM_CPU_THREADS={cores}",
        "# Until nmdasim is in the place of this shell nobody listens to Slurm's warning, which",
        "# would end the job.",
        "trap '' USR1",
        "",
    ]
    lines += (
        _of_one_run(listed, logs)
        if submission.runs_per_task == 1
        else _of_several_runs(campaign, submission, listed)
    )
    return "\n".join(lines) + "\n"


def _directives(settings: SlurmSettings, submission: Submission) -> list[str]:
    last = submission.n_tasks - 1
    at_once = f"%{settings.max_running}" if settings.max_running else ""
    excluded = [*settings.exclude, *submission.excluded]
    options = {
        "job-name": submission.job_name,
        "array": f"0-{last}{at_once}",
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "time": settings.time,
        "ntasks": "1",
        "cpus-per-task": str(settings.cpus),
        "mem": settings.mem,
        "gres": settings.gres,
        "exclude": ",".join(dict.fromkeys(excluded)),
        "signal": f"B:USR1@{settings.warn_s}",
        "output": str(submission.folder / "task-%a.log"),
    }
    lines = [f"#SBATCH --{key}={value}" for key, value in options.items() if value]
    lines += ["#SBATCH --requeue", "#SBATCH --open-mode=append"]
    return lines + [f"#SBATCH {option}" for option in settings.options]


def _of_one_run(listed: str, logs: str) -> list[str]:
    return [
        "# Line N + 1 of the list holds the run of task N: its name, then its command.",
        f'read -r name command < <(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {listed})',
        f'log={logs}/"$name".log',
        f'echo "{START_LINE} $(date -u +%Y-%m-%dT%H:%M:%S+00:00) on ${{SLURMD_NODENAME:-$HOSTNAME}}'
        ' job $SLURM_ARRAY_JOB_ID task $SLURM_ARRAY_TASK_ID" >> "$log"',
        "# The folder knows how far the run is: the same command begins it, continues it, or does",
        "# nothing. Warned by Slurm it commits, requeues this job, and waits to be ended.",
        "shopt -s execfail",
        'eval "exec $command" >> "$log" 2>&1',
        'echo "nmdasim: cannot be started here: see the line above" >> "$log"',
        "exit 1",
    ]


def _of_several_runs(campaign: Campaign, submission: Submission, listed: str) -> list[str]:
    n, workers = submission.runs_per_task, campaign.slurm.runs_at_once
    return [
        f"# Task N works through {n} lines of the list, {workers} at once. A name begins each.",
        f"first=$((SLURM_ARRAY_TASK_ID * {n} + 1))",
        f'mapfile -t names < <(sed -n "$first,$((first + {n - 1}))p" {listed} | cut -d " " -f 1)',
        "# Finished runs are passed over. Warned by Slurm all commit, this job is requeued, and it",
        "# waits to be ended.",
        f"exec nmdasim campaign run {shlex.quote(str(campaign.path))} --workers {workers} "
        '--only "${names[@]}"',
    ]


# --- records and the queue -------------------------------------------------------------


def read_submissions(campaign: Campaign) -> list[Submission]:
    """List the job arrays of a campaign, the oldest first."""
    submissions = []
    for path in sorted(_submissions_folder(campaign).glob(f"*/{_RECORD}")):
        record = read_json(path)
        submissions.append(Submission(**{**record, "folder": path.parent}))
    return submissions


def queued_runs(campaign: Campaign) -> dict[str, str]:
    """Ask Slurm which runs of the campaign are in its queue, waiting or at work.

    Parameters
    ----------
    campaign : Campaign

    Returns
    -------
    dict of str to str
        Number of the job by name of the run; empty without Slurm on this computer.

    Raises
    ------
    SchedulerError
        If Slurm does not answer.
    """
    submissions = read_submissions(campaign)
    if not submissions or shutil.which("squeue") is None:
        return {}
    user = str(os.getuid())
    answer = ask_slurm("squeue", "--noheader", "--array", f"--user={user}", "--format=%F %K %j")
    by_job = {s.job_id: s for s in submissions if s.job_id}
    by_name = {s.job_name: s for s in submissions if not s.job_id}
    queued: dict[str, str] = {}
    lists: dict[Path, list[str]] = {}
    for line in answer.splitlines():
        job, task, name = line.split(None, 2)
        submission = by_job.get(job) or by_name.get(name)
        if submission is None or not task.isdigit():
            continue
        folder, n = submission.folder, submission.runs_per_task
        if folder not in lists:
            lists[folder] = _listed_names(folder)
        queued |= dict.fromkeys(lists[folder][int(task) * n : (int(task) + 1) * n], job)
    return queued


def refuse_queued(campaign: Campaign, queued: Mapping[str, str]) -> None:
    """Refuse a second submission of runs that are in the queue.

    Raises
    ------
    CampaignError
        If there is any.
    """
    if queued:
        jobs = sorted(set(queued.values()))
        raise CampaignError(
            f"{len(queued)} runs of {campaign.path} are still queued or running in job "
            f"{', '.join(jobs)}: wait, cancel with `scancel {' '.join(jobs)}`, or submit what is "
            "not queued with `nmdasim campaign resume`"
        )


def known_nodes() -> set[str]:
    """Ask Slurm for the names of its nodes; empty where it cannot be asked."""
    if shutil.which("sinfo") is None:
        return set()
    return set(ask_slurm("sinfo", "--noheader", "--Node", "--format=%N").split())


def ask_slurm(*words: str) -> str:
    """Run a command of Slurm and give what it prints.

    Raises
    ------
    SchedulerError
        If it is absent, refuses, or gives no answer.
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_ANSWER_S, check=False)
    except FileNotFoundError as error:
        raise SchedulerError(f"there is no {words[0]} on {platform.node()}") from error
    except subprocess.TimeoutExpired as error:
        raise SchedulerError(
            f"{words[0]} gave no answer within {_ANSWER_S:.0f} s: try again later"
        ) from error
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())
        raise SchedulerError(f"{words[0]} refused: {said or f'exit code {done.returncode}'}")
    return done.stdout


def _submissions_folder(campaign: Campaign) -> Path:
    return campaign.folder / "submissions"


def _listed_names(folder: Path) -> list[str]:
    return [line.split(" ", 1)[0] for line in (folder / _LIST).read_text().splitlines()]


def _record(submission: Submission) -> None:
    record = asdict(submission)
    del record["folder"]
    write_json(submission.folder / _RECORD, record)
