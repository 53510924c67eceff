"""Restarting: nmdasim beside OpenMM's reporters, and what the commit of a segment costs.

    python benchmarks/restart.py kills [--kills N] [--seed S]
    python benchmarks/restart.py commit [RUN] [--segments N] [--platform P]
    python benchmarks/restart.py status [--runs N]

`kills` runs the same small box of water, on the Reference platform, in two ways: by nmdasim, and
by OpenMM's usual pattern, a CheckpointReporter with XTC and DCD reporters that append. Each is
killed N times by SIGKILL at random moments and started again until it is finished. Printed are
frames and unique frames. Both write a frame every 10 steps and keep what a restart needs every 5
frames.

`commit` takes system and starting state of RUN (which is not touched), or a box of 7,000 particles
of water, and produces segments of the default length. Printed is the share of the time that
putting a segment into place takes, and the memory after each. The price of a commit does not depend
on the steps in between: with --frame-steps it is timed sooner, and also set against the time that
the segments of RUN took when they were made.

`status` makes N folders of finished runs and reads where each stands.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import mdtraj
import numpy as np
import openmm
from openmm import app
from production_speed import read_subject, water_box

from nmdasim.rundir import (
    SEGMENTS,
    RunStatus,
    create_run_folder,
    find_runs,
    lock_run,
    read_segments,
    run_summary,
    segment_file,
    write_status,
)
from nmdasim.simulation import choose_platform, production
from nmdasim.simulation.dynamics import Job, apply_state, make_context
from nmdasim.simulation.production import produce_segment
from nmdasim.simulation.progress import Display
from nmdasim.stopping import StopRequest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from tiny_run import Protocol, build, water_system

FRAME_STEPS, CHECKPOINT_FRAMES, N_FRAMES = 10, 5, 100
TIMESTEP_PS = 0.002


# --- the usual pattern -------------------------------------------------------------------


def run_rival(folder: Path) -> None:
    """Run, or go on from the checkpoint, as OpenMM's documentation shows it."""
    made = water_system(Protocol())
    integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, TIMESTEP_PS)
    integrator.setRandomNumberSeed(7)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(made.topology, made.openmm_system, integrator, platform)
    checkpoint = folder / "checkpoint.chk"
    resumed = checkpoint.exists()
    if resumed:
        simulation.loadCheckpoint(str(checkpoint))
    else:
        simulation.context.setPositions(made.positions)
        simulation.minimizeEnergy(maxIterations=50)
        simulation.context.setVelocitiesToTemperature(300.0, 7)
    for reporter, name in ((app.XTCReporter, "run.xtc"), (app.DCDReporter, "run.dcd")):
        append = resumed and (folder / name).exists()
        simulation.reporters.append(reporter(str(folder / name), FRAME_STEPS, append=append))
    every = FRAME_STEPS * CHECKPOINT_FRAMES
    simulation.reporters.append(app.CheckpointReporter(str(checkpoint), every))
    print("loaded", flush=True)
    simulation.step(N_FRAMES * FRAME_STEPS - simulation.currentStep)
    (folder / "finished").touch()


def run_ours(folder: Path) -> None:
    """Run, or go on; both are the same call."""
    from nmdasim.simulation import simulate

    print("loaded", flush=True)
    simulate(folder, platform="Reference", progress=False)
    (folder / "finished").touch()


def kill_and_restart(side: str, folder: Path, *, n_kills: int, seed: int) -> int:
    """Start one side again and again; return how often it was killed before it was finished."""
    moments, killed = random.Random(seed), 0
    # A start says when it has loaded what it needs, so that moments fall into the dynamics.
    command = [sys.executable, __file__, "start", side, str(folder)]
    while not (folder / "finished").exists():
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            process.stdout.readline()
            if killed < n_kills:
                try:
                    process.wait(timeout=moments.uniform(0.5, 3.0))
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    killed += 1
    return killed


def count(frames: list[bytes]) -> dict[str, int]:
    """Count frames, and those that differ from all others."""
    return {"frames": len(frames), "unique": len(set(frames))}


def rival_frames(folder: Path) -> dict[str, dict[str, int]]:
    """Count the frames in the two files that were appended to."""
    found = {}
    for name in ("run.xtc", "run.dcd"):
        kind = mdtraj.formats.XTCTrajectoryFile if name.endswith("xtc") else None
        with (kind or mdtraj.formats.DCDTrajectoryFile)(str(folder / name)) as file:
            xyz = file.read()[0]
        found[name] = count([frame.tobytes() for frame in xyz])
    return found


def our_frames(folder: Path) -> dict[str, int]:
    """Count the frames in the segments of a run."""
    frames: list[bytes] = []
    for segment in read_segments(folder):
        with mdtraj.formats.XTCTrajectoryFile(str(segment.trajectory)) as file:
            frames += [frame.tobytes() for frame in file.read()[0]]
    return count(frames)


def kills(options: argparse.Namespace, place: Path) -> dict[str, object]:
    """Kill both sides at random moments; count their frames."""
    rival = place / "rival"
    rival.mkdir()
    ns = N_FRAMES * FRAME_STEPS * TIMESTEP_PS / 1000
    protocol = Protocol(
        frame_interval_ps=FRAME_STEPS * TIMESTEP_PS,
        segment_ps=CHECKPOINT_FRAMES * FRAME_STEPS * TIMESTEP_PS,
    )
    ours = build(place / "ours", protocol=protocol, production_ns=ns)
    how = {"n_kills": options.kills, "seed": options.seed}
    killed = {
        side: kill_and_restart(side, folder, **how)
        for side, folder in (("rival", rival), ("ours", ours))
    }
    return {
        "frames_asked": N_FRAMES,
        "killed": killed,
        "ours": our_frames(ours),
        "openmm": rival_frames(rival),
    }


# --- the price of a commit ---------------------------------------------------------------


def time_commits() -> list[float]:
    """Let each commit add its processor time in s to the list: other work does not count there."""
    seconds: list[float] = []
    put_into_place = production._commit

    def timed(*words: object, **options: object) -> None:
        before = time.thread_time()
        put_into_place(*words, **options)
        seconds.append(time.thread_time() - before)

    production._commit = timed
    return seconds


def commit(options: argparse.Namespace, place: Path) -> dict[str, object]:
    """Produce segments of the default length; tell dynamics and commit apart."""
    subject = read_subject(options.run) if options.run else water_box()
    plan = subject.plan
    if options.frame_steps:
        plan = replace(plan, frame_steps=options.frame_steps)
    # What a segment took when RUN was simulated, for commits that were timed after fewer steps.
    earlier = read_segments(options.run) if options.run else ()
    earlier_s = np.array([segment.manifest["wall_s"] for segment in earlier])
    (place / SEGMENTS).mkdir()
    rows = []
    processor_s = time_commits()
    with lock_run(place) as lock, StopRequest() as stop:
        job = Job(
            folder=place,
            plan=plan,
            system=subject.system,
            choice=choose_platform(options.platform),
            lock=lock,
            display=Display(shown=False),
            stop=stop,
        )
        context = make_context(job, subject.system, timestep_ps=plan.timestep_ps, seed=1)
        apply_state(context, subject.start)
        context.getIntegrator().step(50)
        context.setStepCount(0)
        for index in range(options.segments):
            first, before = index * plan.segment_frames, time.perf_counter()
            produce_segment(job, context, index, first_frame=first, n_frames=plan.segment_frames)
            write_status(place, RunStatus(state="running"))
            wall_s = time.perf_counter() - before
            frames_s = read_segments(place)[-1].manifest["wall_s"]
            memory = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
            rows.append((wall_s, frames_s, memory / 2**20))
            print(
                f"segment {index}: {frames_s:.2f} s of frames, {1000 * (wall_s - frames_s):.0f} ms "
                f"of commit, {memory / 2**20:.0f} MiB",
                file=sys.stderr,
                flush=True,
            )
    wall, produced, memory_mib = np.array(rows).T
    return {
        "system": subject.name,
        "n_particles": subject.system.getNumParticles(),
        "platform": job.choice.name,
        "device": job.choice.device,
        "steps_per_segment": plan.segment_frames * plan.frame_steps,
        "segment_s": float(wall.mean()),
        "commit_ms": float(1000 * (wall - produced).mean()),
        "commit_processor_ms": 1000 * float(np.mean(processor_s)),
        "commit_share": float((wall - produced).sum() / wall.sum()),
        "segment_s_of_run": float(earlier_s.mean()) if len(earlier_s) else None,
        "commit_share_of_run": (
            float((wall - produced).mean() / earlier_s.mean()) if len(earlier_s) else None
        ),
        "memory_mib": [round(value) for value in memory_mib],
    }


# --- looking at many runs ----------------------------------------------------------------


def status(options: argparse.Namespace, place: Path) -> dict[str, object]:
    """Make folders of finished runs; time how long it takes to read where they stand."""
    first = place / "00000"
    inputs = {"simulation": {"production_ns": 0.05, "seed": 1, "replica": 0}}
    create_run_folder(first, inputs)
    write_status(first, RunStatus(state="analysed", production_ps_asked=50.0, n_starts=3))
    series = [-76191.49302368746] * 20
    for index in range(5):
        manifest = {"index": index, "first_frame": 20 * index, "n_frames": 20, "time_ps": series,
                    "potential_kj_mol": series, "temperature_k": series, "volume_nm3": series,
                    "frame_interval_ps": 0.5, "ns_per_day": 18.2}  # fmt: skip
        segment_file(first, index, "json").write_text(json.dumps(manifest, indent=1))
    for number in range(1, options.runs):
        shutil.copytree(first, place / f"{number:05d}", copy_function=os.link)
    seconds = []
    for _ in range(3):
        before = np.array([time.perf_counter(), time.process_time()])
        found = [run_summary(folder) for folder in find_runs([place])]
        seconds.append(np.array([time.perf_counter(), time.process_time()]) - before)
    wall_s, processor_s = np.min(seconds, axis=0)
    done = sum(summary.state == "analysed" for summary in found)
    return {"runs": done, "wall_s": float(wall_s), "processor_s": float(processor_s)}


def main() -> None:
    """Do one of the three and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    added = verbs.add_parser("kills")
    added.add_argument("--kills", type=int, default=20)
    added.add_argument("--seed", type=int, default=1)
    added.set_defaults(call=kills)
    added = verbs.add_parser("commit")
    added.add_argument("run", nargs="?", type=Path)
    added.add_argument("--segments", type=int, default=4)
    added.add_argument("--platform")
    added.add_argument("--frame-steps", type=int, help="fewer steps per frame than RUN")
    added.set_defaults(call=commit)
    added = verbs.add_parser("status")
    added.add_argument("--runs", type=int, default=10_000)
    added.set_defaults(call=status)
    added = verbs.add_parser("start")
    added.add_argument("side", choices=("rival", "ours"))
    added.add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.verb == "start":
        {"rival": run_rival, "ours": run_ours}[options.side](options.folder)
        return
    place = Path(tempfile.mkdtemp(prefix="nmdasim-restart-"))
    try:
        print(json.dumps(options.call(options, place), indent=1))
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
