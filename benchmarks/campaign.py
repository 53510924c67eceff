"""Time what a large campaign asks of a login node: its plan, its status, and their memory.

    python benchmarks/campaign.py
    python benchmarks/campaign.py --runs 1000 --folder /scratch/somewhere

Makes a campaign of that many runs and, for the status, a folder for each as a finished run
leaves it. Each command is a process of its own, as a user starts it: its clock and its largest
memory include starting Python. The second `status` is the one that counts: the disk is warm.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nmdasim.campaign import plan_runs, read_campaign
from nmdasim.rundir import format_toml, run_id

LIMITS_S = {"plan": 10.0, "status": 5.0}
N_SEGMENTS = 20


def main() -> int:
    """Make the campaign, time the commands, and compare with the limits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000, metavar="N", help="runs; 10,000")
    parser.add_argument("--folder", type=Path, help="where to make them; a temporary folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        path = write_campaign(Path(place), given.runs)
        taken = {"plan": measure("plan", path)}
        few = measure("status", path)
        start = time.perf_counter()
        write_folders(path)
        print(f"made {given.runs} finished folders in {time.perf_counter() - start:.0f} s")
        measure("status", path)
        taken["status"] = measure("status", path)
    print(f"memory of status: {few[1]:.0f} MB without folders, {taken['status'][1]:.0f} MB with")
    good = True
    for name, (seconds, _) in taken.items():
        passed = seconds <= LIMITS_S[name]
        good &= passed
        print(f"{name}: {seconds:.1f} s, limit {LIMITS_S[name]:g} s: {'ok' if passed else 'FAIL'}")
    return 0 if good else 1


def write_campaign(folder: Path, n_runs: int) -> Path:
    """Write a campaign of about as many runs as are asked for."""
    replicas = -(-n_runs // 8)
    path = folder / "campaign.toml"
    path.write_text(
        'name = "large"\nseed = 1\nproduction_ns = 10\n'
        'ligands = ["S-ketamine", "R-ketamine", "memantine", "PCP"]\n'
        f'charges = "all"\nreplicas = {replicas}\n'
    )
    return path


def write_folders(path: Path) -> None:
    """Leave for each run what `status` reads of a finished one: same files, same sizes."""
    status = (
        '{"state": "analysed", "reason": "", "production_ps_done": 10000.0, '
        '"production_ps_asked": 10000.0, "n_starts": 3, "n_stalled": 0, "host": "node1", '
        '"updated": "2026-01-01T00:00:00+00:00"}'
    )
    times = ", ".join(f"{0.5 * n}" for n in range(20))
    manifest = (
        f'{{"index": {N_SEGMENTS - 1}, "first_frame": {20 * (N_SEGMENTS - 1)}, "n_frames": 20, '
        f'"frame_interval_ps": 0.5, "ns_per_day": 300.0, "time_ps": [{times}]}}'
    )
    for run in plan_runs(read_campaign(path)):
        inputs = {"simulation": {"production_ns": run.production_ns, "seed": run.seed}}
        segments = run.folder / "segments"
        segments.mkdir(parents=True)
        text = format_toml({"run": {"id": run_id(inputs)}, **inputs})
        (run.folder / "run.toml").write_text(text)
        (run.folder / "status.json").write_text(status)
        for index in range(N_SEGMENTS - 1):
            (segments / f"{index:05d}.json").touch()
        (segments / f"{N_SEGMENTS - 1:05d}.json").write_text(manifest)


def measure(action: str, path: Path) -> tuple[float, float]:
    """Run one command and give its seconds and its largest memory in MB."""
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "nmdasim.cli", "campaign", action, str(path)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds, memory = time.perf_counter() - start, usage.ru_maxrss / 1024
    if process.returncode:
        sys.exit(f"{action} ended with {process.returncode}")
    cpu = usage.ru_utime + usage.ru_stime
    print(f"{action}: {seconds:.1f} s, {cpu:.1f} s of processor time, {memory:.0f} MB")
    print("  " + said.splitlines()[0])
    return seconds, memory


if __name__ == "__main__":
    sys.exit(main())
