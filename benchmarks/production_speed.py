"""Speed of nmdasim's production against a bare OpenMM loop on the same system.

    python benchmarks/production_speed.py [RUN] [--pairs N] [--platform P]
                                          [--segment-frames N] [--limit 0.97]

RUN is a folder that `nmdasim run` made; it is copied, not touched. Without it a box of
7,000 particles of water is built. Both sides take the same number of steps on the same
platform, in blocks of one segment that alternate as ours-bare, bare-ours, so that drift
of the machine cancels. Ours writes, flushes and commits its frames; bare only steps. On
a machine that is busy with other work look at the ratio of the fastest blocks.
"""

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

from nmdasim.rundir import BUILT_STATE, SEGMENTS, START, SYSTEM, lock_run, read_inputs
from nmdasim.simulation import choose_platform
from nmdasim.simulation.dynamics import (
    Job,
    Plan,
    apply_state,
    make_context,
    read_plan,
    unpack_xml,
)
from nmdasim.simulation.production import produce_segment
from nmdasim.simulation.progress import Display
from nmdasim.stopping import StopRequest

WATER_PLAN = Plan(
    temperature_k=310.0,
    friction_per_ps=1.0,
    pressure_bar=1.0,
    timestep_ps=0.004,
    frame_steps=125,
    segment_frames=8,
    n_frames=10**6,
    stages=(),
    minimise_tolerance=10.0,
    minimise_max_iterations=50,
    seed=1,
    replica=0,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """What is timed."""

    name: str
    plan: Plan
    system: openmm.System
    start: openmm.State


def water_box() -> Subject:
    """Build 7,000 particles of water with PME, 4 fs and heavy hydrogens, relaxed a little."""
    force_field = app.ForceField("amber14/tip3p.xml")
    modeller = app.Modeller(app.Topology(), [])
    modeller.addSolvent(force_field, boxSize=openmm.Vec3(4.13, 4.13, 4.13) * unit.nanometer)
    system = force_field.createSystem(
        modeller.topology,
        nonbondedMethod=app.PME,
        nonbondedCutoff=0.9 * unit.nanometer,
        hydrogenMass=4.0 * unit.dalton,
    )
    integrator = openmm.LangevinMiddleIntegrator(310.0, 10.0, 0.002)
    context = openmm.Context(system, integrator)
    context.setPositions(modeller.positions)
    openmm.LocalEnergyMinimizer.minimize(context, 100.0, 20)
    context.setVelocitiesToTemperature(310.0, 1)
    integrator.step(200)
    start = context.getState(positions=True, velocities=True)
    return Subject(name="a box of water", plan=WATER_PLAN, system=system, start=start)


def read_subject(folder: Path) -> Subject:
    """Take system, plan and starting state of an existing run."""
    start = folder / START if (folder / START).exists() else folder / BUILT_STATE
    return Subject(
        name=str(folder),
        plan=replace(read_plan(read_inputs(folder)), n_frames=10**6),
        system=unpack_xml(folder / SYSTEM),
        start=unpack_xml(start),
    )


def now() -> NDArray[np.float64]:
    """Return wall time and processor time of all threads, in s."""
    return np.array([time.perf_counter(), time.process_time()])


def time_pairs(subject: Subject, job: Job, *, n_pairs: int) -> NDArray[np.float64]:
    """Return wall and processor seconds, shape (n_pairs, 2 of ours and bare, 2)."""
    plan = subject.plan
    contexts = []
    for seed in (1, 2):
        context = make_context(job, subject.system, timestep_ps=plan.timestep_ps, seed=seed)
        apply_state(context, subject.start)
        context.setStepCount(0)
        contexts.append(context)
    ours_context, bare_context = contexts
    n_steps = plan.segment_frames * plan.frame_steps

    def ours(index: int) -> NDArray[np.float64]:
        before = now()
        first = index * plan.segment_frames
        produce_segment(job, ours_context, index, first_frame=first, n_frames=plan.segment_frames)
        return now() - before

    def bare(_: int) -> NDArray[np.float64]:
        before = now()
        bare_context.getIntegrator().step(n_steps)
        bare_context.getState(positions=True)  # waits for the device
        return now() - before

    for context in contexts:
        context.getIntegrator().step(50)
    ours_context.setStepCount(0)
    pairs = []
    for index in range(n_pairs):
        # ours first in even pairs, bare first in odd ones
        seconds = {run: run(index) for run in ((ours, bare) if index % 2 == 0 else (bare, ours))}
        pairs.append((seconds[ours], seconds[bare]))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"pair {index}: ours {seconds[ours][0]:.2f} s, bare {seconds[bare][0]:.2f} s, "
            f"peak memory {memory:.0f} MiB",
            file=sys.stderr,
            flush=True,
        )
    return np.array(pairs)


def main() -> int:
    """Time, print one JSON document, and say by the exit code whether the limit holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--platform")
    parser.add_argument("--segment-frames", type=int, help="shorter blocks than the run's segments")
    parser.add_argument("--limit", type=float, default=0.97)
    options = parser.parse_args()
    subject = read_subject(options.run) if options.run else water_box()
    if options.segment_frames:
        plan = replace(subject.plan, segment_frames=options.segment_frames)
        subject = replace(subject, plan=plan)
    folder = Path(tempfile.mkdtemp(prefix="nmdasim-speed-"))
    (folder / SEGMENTS).mkdir()
    try:
        with lock_run(folder) as lock:
            job = Job(
                folder=folder,
                plan=subject.plan,
                system=subject.system,
                choice=choose_platform(options.platform),
                lock=lock,
                display=Display(shown=True),
                stop=StopRequest(),
            )
            total_ps = options.pairs * subject.plan.segment_frames * subject.plan.frame_ps
            with job.display.stage("ours", total_ps=total_ps):
                pairs = time_pairs(subject, job, n_pairs=options.pairs)
    finally:
        shutil.rmtree(folder)
    wall, cpu = pairs[..., 0], pairs[..., 1]
    ratios = wall[:, 1] / wall[:, 0]
    n_steps = subject.plan.segment_frames * subject.plan.frame_steps
    result = {
        "system": subject.name,
        "n_particles": subject.system.getNumParticles(),
        "platform": job.choice.name,
        "device": job.choice.device,
        "steps_per_block": n_steps,
        "steps_per_s_ours": n_steps / wall[:, 0].mean(),
        "steps_per_s_bare": n_steps / wall[:, 1].mean(),
        "ratio": wall[:, 1].sum() / wall[:, 0].sum(),
        "ratio_error": float(ratios.std(ddof=1) / len(ratios) ** 0.5) if len(ratios) > 1 else None,
        "ratio_of_fastest_blocks": wall[:, 1].min() / wall[:, 0].min(),
        "ratio_of_processor_time": cpu[:, 1].sum() / cpu[:, 0].sum(),
        "limit": options.limit,
    }
    print(json.dumps(result, indent=1))
    return 0 if result["ratio"] >= options.limit else 1


if __name__ == "__main__":
    sys.exit(main())
