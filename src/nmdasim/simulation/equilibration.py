"""From built coordinates to the state where production starts, one pure stage at a time.

A stage is a function of the state that the stage before left on disk and of a seed of
its own. It makes its own context, so it cannot know whether the process was restarted.
"""

import copy
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from openmm import unit

from nmdasim.errors import RunStorageError
from nmdasim.rundir import (
    BUILT_STATE,
    EQUILIBRATION,
    START,
    change_status,
    read_json,
    sha256_of,
    write_atomic,
    write_json,
)
from nmdasim.simulation.dynamics import (
    Job,
    StagePlan,
    advance,
    apply_state,
    check_finite,
    full_state,
    make_context,
    pack_xml,
    potential_kj_mol,
    set_restraint,
    temperature_k,
    unpack_xml,
    volume_nm3,
)

N_SAMPLES = 25
"""Samples of energy, temperature and volume in each stage."""

BAROSTAT_STEPS = 25
"""Steps between two attempts to change the volume."""

_DALTON_PER_NM3 = 1.66053906660e-3
"""1 Da/nm^3 in g/cm^3 (CODATA 2018)."""


def equilibrate(job: Job) -> bool:
    """Bring a run to its starting state; stages that are on disk are not repeated.

    Parameters
    ----------
    job : Job
        The start of the simulation.

    Returns
    -------
    bool
        False if somebody asked to stop first; the stage in progress is then dropped and
        repeated, with the same result on the Reference platform, by the next start.

    Raises
    ------
    SimulationError
        If the energy is not a number.
    RunStorageError
        If the disk is full.
    """
    record, state = _finished_stages(job)
    n_done = len(record["stages"]) + bool(record["minimisation"])
    begun = _stage_state(job.folder, n_done).relative_to(job.folder).as_posix()
    job.restart["equilibration_from"] = begun
    if n_done:
        job.display.say(f"resuming the equilibration from {begun}")
    if n_done == 0:
        job.display.say("minimising")
        state, record["minimisation"] = _minimise(job, state)
        if job.stop.requested:
            return False
        n_done = _commit(job, record, state)
    for number, stage in enumerate(job.plan.stages[n_done - 1 :], start=n_done):
        state, entry = _run_stage(job, state, stage, number=number)
        if job.stop.requested:
            return False
        record["stages"].append(entry)
        _commit(job, record, state)
    _commit_start(job, state)
    return True


def _stage_state(folder: Path, n_done: int) -> Path:
    return (folder / BUILT_STATE).with_name(f"{n_done:02d}.state.xml.gz")


def _finished_stages(job: Job) -> tuple[dict[str, Any], openmm.State]:
    """Read the record of finished stages and the state after the last of them."""
    path = job.folder / EQUILIBRATION
    if path.exists():
        try:
            record = read_json(path)
            newest = _stage_state(job.folder, len(record["stages"]) + 1)
            if newest.exists() and sha256_of(newest) == record["state_sha256"]:
                return record, unpack_xml(newest)
            job.note(f"{newest} is missing or damaged; the equilibration starts over")
        except RunStorageError as error:
            job.note(f"{error}; the equilibration starts over")
    empty: dict[str, Any] = {"minimisation": None, "stages": [], "state_sha256": ""}
    return empty, unpack_xml(job.folder / BUILT_STATE)


def _commit(job: Job, record: dict[str, Any], state: openmm.State) -> int:
    """Write the state, then the record that vouches for it; return the number of parts done."""
    folder, n_done = job.folder, len(record["stages"]) + 1
    job.lock.confirm()
    packed = pack_xml(state)
    write_atomic(_stage_state(folder, n_done), packed)
    record["state_sha256"] = hashlib.sha256(packed).hexdigest()
    write_json(folder / EQUILIBRATION, record)
    change_status(folder, "equilibrating", n_stalled=0)
    if n_done > 1:
        _stage_state(folder, n_done - 1).unlink(missing_ok=True)
    return n_done


def _commit_start(job: Job, state: openmm.State) -> None:
    """Set the clock to zero and write the state that production starts from."""
    context = make_context(job, job.system, timestep_ps=job.plan.timestep_ps, seed=1)
    apply_state(context, state)
    context.setTime(0.0)
    context.setStepCount(0)
    write_atomic(job.folder / START, pack_xml(full_state(context)))
    _stage_state(job.folder, len(job.plan.stages) + 1).unlink(missing_ok=True)


class _Watch(openmm.MinimizationReporter):
    """Counts the minimiser's iterations and stops it when somebody asks.

    The limit of iterations is OpenMM's own, for each of its rounds: ending a round from here
    ends them all, with constraints that are not met, and the dynamics start hot.
    """

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.n_iterations = 0
        self._job = job

    def report(self, iteration: int, x: object, grad: object, args: Mapping[str, float]) -> bool:
        """Count one iteration; True ends the minimisation."""
        self.n_iterations += 1
        return bool(self._job.stop.requested)


def _minimise(job: Job, state: openmm.State) -> tuple[openmm.State, dict[str, Any]]:
    plan, before = job.plan, time.perf_counter()
    context = make_context(job, job.system, timestep_ps=plan.timestep_ps, seed=1)
    apply_state(context, state)
    if plan.stages:
        set_restraint(context, plan.stages[0].restraint_extra)
    start = potential_kj_mol(context.getState(energy=True))
    watch = _Watch(job)
    openmm.LocalEnergyMinimizer.minimize(
        context, plan.minimise_tolerance, plan.minimise_max_iterations, watch
    )
    state = full_state(context)
    end = potential_kj_mol(state)
    check_finite(end, what="the potential energy after minimisation", step=0)
    return state, {
        # A clash in the built coordinates may overflow; JSON has no word for that.
        "potential_kj_mol_before": start if np.isfinite(start) else None,
        "potential_kj_mol_after": end,
        "n_iterations": watch.n_iterations,
        "wall_s": time.perf_counter() - before,
    }


def _stage_system(job: Job, stage: StagePlan, number: int) -> openmm.System:
    if not stage.barostat:
        return job.system
    system = copy.deepcopy(job.system)
    barostat = openmm.MonteCarloBarostat(
        job.plan.pressure_bar, job.plan.temperature_k, BAROSTAT_STEPS
    )
    barostat.setRandomNumberSeed(job.plan.random_seed("barostat", number))
    system.addForce(barostat)
    return system


def _run_stage(
    job: Job, state: openmm.State, stage: StagePlan, *, number: int
) -> tuple[openmm.State, dict[str, Any]]:
    system, before = _stage_system(job, stage, number), time.perf_counter()
    seed = job.plan.random_seed("equilibration", number)
    context = make_context(job, system, timestep_ps=stage.timestep_ps, seed=seed)
    apply_state(context, state)
    set_restraint(context, stage.restraint_extra)
    if number == 1:
        context.setVelocitiesToTemperature(
            job.plan.temperature_k, job.plan.random_seed("velocities")
        )
    samples = _sample(job, context, stage, number=number)
    mean = samples.mean(axis=0) if len(samples) else np.full(3, np.nan)
    entry = {
        "name": stage.name,
        "ps": stage.n_steps * stage.timestep_ps,
        "timestep_ps": stage.timestep_ps,
        "restraint_extra_kj_mol_nm2": stage.restraint_extra,
        "barostat": stage.barostat,
        "potential_kj_mol": float(mean[0]),
        "temperature_k": float(mean[1]),
        "density_g_cm3": float(mean[2]),
        "wall_s": time.perf_counter() - before,
    }
    return full_state(context), entry


def _sample(job: Job, context: openmm.Context, stage: StagePlan, *, number: int) -> np.ndarray:
    """Run a stage; return potential, temperature and density of the second half's samples."""
    system = context.getSystem()
    masses = [system.getParticleMass(i) for i in range(system.getNumParticles())]
    mass = sum(m.value_in_unit(unit.dalton) for m in masses) * _DALTON_PER_NM3
    samples: list[tuple[float, float, float]] = []
    edges = np.linspace(0, stage.n_steps, min(N_SAMPLES, stage.n_steps) + 1).round().astype(int)
    name = f"equilibrating {number}/{len(job.plan.stages)} ({stage.name})"
    with job.display.stage(name, total_ps=stage.n_steps * stage.timestep_ps):
        for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):

            def report(done: int, first: int = first) -> None:
                job.display.update((first + done) * stage.timestep_ps)

            n_taken = advance(job, context, last - first, report=report)
            if job.stop.requested:
                job.n_dropped_steps = first + n_taken
                break
            state = context.getState(energy=True)
            potential = potential_kj_mol(state)
            check_finite(potential, what="the potential energy", step=last)
            density = mass / volume_nm3(state)
            samples.append((potential, temperature_k(state, job.n_degrees), density))
    return np.array(samples[len(samples) // 2 :])
