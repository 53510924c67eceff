"""Many runs from one file: planned, started on Slurm or here, watched and collected.

A campaign has no state of its own beside the folders of its runs, their logs, and a record of
each job array. Everything is read from there again, so that nothing has to keep running.
"""

from nmdasim.campaign.costs import Calibration, Cost, estimate_costs, read_calibrations
from nmdasim.campaign.planning import PlannedRun, pick_runs, plan_runs, run_seed
from nmdasim.campaign.settings import Campaign, Exclusion, SlurmSettings, read_campaign
from nmdasim.campaign.standing import (
    ANALYSED,
    FAILED,
    FINISHED,
    INTERRUPTED,
    MAX_STALLED,
    RUNNING,
    STANDINGS,
    STOPPED,
    WAITING,
    BadNode,
    RunStanding,
    find_bad_nodes,
    log_file,
    record_stopped,
    renew_budget,
    run_standings,
)

__all__ = [
    "ANALYSED",
    "FAILED",
    "FINISHED",
    "INTERRUPTED",
    "MAX_STALLED",
    "RUNNING",
    "STANDINGS",
    "STOPPED",
    "WAITING",
    "BadNode",
    "Calibration",
    "Campaign",
    "Cost",
    "Exclusion",
    "PlannedRun",
    "RunStanding",
    "SlurmSettings",
    "estimate_costs",
    "find_bad_nodes",
    "log_file",
    "pick_runs",
    "plan_runs",
    "read_calibrations",
    "read_campaign",
    "record_stopped",
    "renew_budget",
    "run_seed",
    "run_standings",
]
