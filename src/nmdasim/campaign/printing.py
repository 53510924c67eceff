"""What the verbs of a campaign print."""

import math
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, TextIO

from nmdasim.campaign.costs import Cost
from nmdasim.campaign.planning import PlannedRun
from nmdasim.campaign.settings import Campaign
from nmdasim.campaign.slurm import Choice, Submission
from nmdasim.campaign.standing import ANALYSED, RUNNING, STANDINGS, WAITING, RunStanding

MAX_ROWS = 20
"""Runs that are printed one by one unless all are asked for."""

_UNREMARKABLE = (WAITING, RUNNING, ANALYSED)


def print_plan(
    campaign: Campaign, runs: Sequence[PlannedRun], costs: Sequence[Cost], *, every: bool
) -> None:
    """Print the runs of a campaign and what they cost."""
    shown = runs if every else runs[:MAX_ROWS]
    print(f"campaign {campaign.name}: {len(runs)} runs of {campaign.production_ns:g} ns\n")
    _print_table(
        ("ligand", "charge", "receptor", "protocol", "mV", "pose", "replica", "seed"),
        [
            (
                run.ligand,
                f"{run.charge:+d}",
                run.receptor,
                run.protocol,
                f"{run.voltage_mv:g}",
                str(run.pose),
                str(run.replica),
                str(run.seed),
            )
            for run in shown
        ],
    )
    if len(shown) < len(runs):
        print(f"... and {len(runs) - len(shown)} more: --all prints them")
    print()
    for cost in costs:
        _print_cost(cost)
    free = shutil.disk_usage(campaign.path.parent).free
    needed = sum(cost.disk_bytes for cost in costs)
    print(f"disk together: {_bytes(needed)}; free here: {_bytes(free)}")


def _print_cost(cost: Cost) -> None:
    known = not math.isnan(cost.ns_per_day)
    speed = f"{cost.ns_per_day:.3g} ns/day a run, " if known else "speed "
    print(f"{cost.receptor}, {cost.protocol}: {cost.n_runs} runs, {cost.ns:g} ns")
    print(f"  particles  {cost.n_particles} ({cost.particles_source})")
    print(f"  speed      {speed}{cost.speed_source}".replace("speed      speed ", "speed      "))
    print(f"  GPU-hours  {_hours(cost.gpu_hours)}")
    print(f"  CPU-hours  {_hours(cost.cpu_hours)}")
    print(f"  disk       {_bytes(cost.disk_bytes)}")


def print_standings(campaign: Campaign, standings: Iterable[RunStanding], *, every: bool) -> None:
    """Print how many runs stand where, and what is remarkable about which."""
    counts: Counter[str] = Counter()
    shown: list[RunStanding] = []
    n_left_out, done_ps, asked_ps = 0, 0.0, 0.0
    for standing in standings:
        counts[standing.standing] += 1
        done_ps += standing.production_ps_done
        asked_ps += standing.run.production_ns * 1000
        if every or standing.standing not in _UNREMARKABLE:
            if every or len(shown) < MAX_ROWS:
                shown.append(standing)
            else:
                n_left_out += 1
    print(
        f"campaign {campaign.name}: {counts.total()} runs, {done_ps / 1000:.4g} of "
        f"{asked_ps / 1000:.4g} ns"
    )
    for name in STANDINGS:
        if counts[name]:
            print(f"  {name:12s} {counts[name]:6d}")
    if shown:
        print()
        _print_table(
            ("run", "state", "ns", "starts", "node", "reason"),
            [
                (
                    standing.run.name,
                    standing.standing,
                    f"{standing.production_ps_done / 1000:.4g}",
                    str(standing.n_starts),
                    standing.node or "-",
                    standing.reason or "-",
                )
                for standing in shown
            ],
        )
    if n_left_out:
        print(f"... and {n_left_out} more: --all prints every run")


def standing_row(standing: RunStanding) -> dict[str, Any]:
    """Give everything that is known about where a run stands, as plain values."""
    row = asdict(standing)
    run = row.pop("run")
    del run["words"]
    return {**run, **row}


def print_choice(choice: Choice, file: TextIO) -> None:
    """Print which runs are submitted and which are not."""
    parts = [f"{len(choice.runs)} runs to submit", f"{choice.n_done} analysed"]
    if choice.queued:
        parts.append(f"{len(choice.queued)} in the queue")
    if choice.n_running:
        parts.append(f"{choice.n_running} at work")
    lines = [", ".join(parts)]
    for name, reason in list(choice.stopped.items())[:MAX_ROWS]:
        lines.append(f"stopped: {name}: {reason}")
    if choice.stopped:
        lines.append(f"{len(choice.stopped)} runs are stopped; --retry submits them again")
    lines += [f"left out: node {bad.node}: {bad.reason}" for bad in choice.bad_nodes]
    print(*lines, sep="\n", file=file)


def print_submission(submission: Submission) -> None:
    """Print what was submitted."""
    print(
        f"submitted {submission.n_runs} runs as job {submission.job_id}, an array of "
        f"{submission.n_tasks} tasks\n{submission.folder}"
    )


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _hours(hours: float) -> str:
    return "unknown without a speed" if math.isnan(hours) else f"{hours:.4g}"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
