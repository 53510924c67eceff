"""Pieces shared by equilibration and production: the plan, contexts, states and steps."""

import gzip
import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import unit

from nmdasim.errors import ProtocolError, RunStorageError, SimulationError
from nmdasim.rundir import RunLock
from nmdasim.simulation.platforms import PlatformChoice
from nmdasim.simulation.progress import Display, note
from nmdasim.stopping import StopRequest

GAS_CONSTANT = 0.00831446261815324
"""Molar gas constant in kJ/mol/K (CODATA 2018, exact)."""

BLOCK_S = 1.0
"""Work, in seconds, between two looks at signals and the progress display."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """One stage of the equilibration."""

    name: str
    """Short name for people."""
    n_steps: int
    """Number of time steps."""
    timestep_ps: float
    """Time step, in ps."""
    restraint_extra: float
    """Force constant added to every heavy solute atom, in kJ/mol/nm^2."""
    barostat: bool
    """Whether the volume changes under the protocol's pressure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the inputs of a run ask for, counted in steps and frames."""

    temperature_k: float
    """Temperature of the thermostat, in K."""
    friction_per_ps: float
    """Friction of the thermostat, in 1/ps."""
    pressure_bar: float
    """Pressure in stages with a barostat, in bar."""
    timestep_ps: float
    """Time step of production, in ps."""
    frame_steps: int
    """Steps from one frame to the next."""
    segment_frames: int
    """Frames in a full segment."""
    n_frames: int
    """Frames that the run asks for."""
    stages: tuple[StagePlan, ...]
    """Equilibration, in order."""
    minimise_tolerance: float
    """RMS force at which the minimiser stops, in kJ/mol/nm."""
    minimise_max_iterations: int
    """Upper bound of the iterations in each round of the minimiser."""
    seed: int
    """Seed that the user gave."""
    replica: int
    """Index of the replica; it changes every random stream."""

    @property
    def frame_ps(self) -> float:
        """Time from one frame to the next, in ps."""
        return self.frame_steps * self.timestep_ps

    def random_seed(self, *labels: object) -> int:
        """Derive a positive 31-bit seed for one purpose from seed, replica and labels."""
        text = "|".join(map(str, (self.seed, self.replica, *labels)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) % (2**31 - 1) + 1


def read_plan(inputs: Mapping[str, Any]) -> Plan:
    """Turn the inputs of a run into counts of steps and frames.

    Parameters
    ----------
    inputs : mapping
        Tables ``protocol`` and ``simulation`` as made by `run_inputs`.

    Returns
    -------
    Plan

    Raises
    ------
    ProtocolError
        If a length is not positive or a frame interval is not a whole number of steps.
    """
    protocol, asked = inputs["protocol"], inputs["simulation"]
    timestep_ps = _positive("timestep_fs", protocol["timestep_fs"]) / 1000
    frame_ps = _positive("frame_interval_ps", protocol["frame_interval_ps"])
    frame_steps = round(frame_ps / timestep_ps)
    if frame_steps < 1 or not math.isclose(frame_steps * timestep_ps, frame_ps, rel_tol=1e-6):
        raise ProtocolError(
            f"frame_interval_ps is {frame_ps} and timestep_fs {protocol['timestep_fs']}; the "
            "interval must be a whole number of steps: change one of them"
        )
    production_ps = _positive("production_ns", asked["production_ns"]) * 1000
    segment_ps = _positive("segment_ps", protocol["segment_ps"])
    return Plan(
        temperature_k=_positive("temperature_k", protocol["temperature_k"]),
        friction_per_ps=_positive("friction_per_ps", protocol["friction_per_ps"]),
        pressure_bar=float(protocol["pressure_bar"]),
        timestep_ps=timestep_ps,
        frame_steps=frame_steps,
        segment_frames=max(1, round(segment_ps / frame_ps)),
        n_frames=max(1, math.ceil(production_ps / frame_ps - 1e-6)),
        stages=tuple(map(_stage_plan, protocol["equilibration"])),
        minimise_tolerance=_positive("minimise_tolerance", protocol["minimise_tolerance"]),
        minimise_max_iterations=int(protocol["minimise_max_iterations"]),
        seed=_count("seed", asked["seed"]),
        replica=_count("replica", asked["replica"]),
    )


def _stage_plan(stage: Mapping[str, Any]) -> StagePlan:
    timestep_ps = _positive("timestep_fs", stage["timestep_fs"]) / 1000
    return StagePlan(
        name=stage["name"],
        n_steps=max(1, round(_positive("ps", stage["ps"]) / timestep_ps)),
        timestep_ps=timestep_ps,
        restraint_extra=float(stage["restraint_extra"]),
        barostat=bool(stage["barostat"]),
    )


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ProtocolError(f"{name} is {value}; it must be a positive number: give another")
    return float(value)


def _count(name: str, value: float) -> int:
    if value < 0 or value != int(value):
        raise ProtocolError(f"{name} is {value}; it must be a whole number from 0: give another")
    return int(value)


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """What one start of a simulation carries from function to function."""

    folder: Path
    """The run folder."""
    plan: Plan
    """Numbers of the run."""
    system: openmm.System
    """The system of production: no barostat, restraints at their production strength."""
    choice: PlatformChoice
    """Where the forces are computed."""
    lock: RunLock
    """The right to write."""
    display: Display
    """What a person sees."""
    stop: StopRequest
    """Whether somebody asked to stop."""
    notices: list[str] = field(default_factory=list)
    """Fall-backs of this start, in words; see `Job.note`."""
    restart: dict[str, Any] = field(default_factory=dict)
    """Where this start took up the run and what it computes again, in words and numbers."""
    n_dropped_steps: int = 0
    """Steps taken after the last frame, or in the stage in progress, when asked to stop."""
    block_steps: int = 5
    """Steps that take about `BLOCK_S`; found while running."""
    n_degrees: int = field(init=False)
    """Degrees of freedom of `system` that carry kinetic energy."""

    def __post_init__(self) -> None:
        """Count once what every frame needs."""
        self.n_degrees = degrees_of_freedom(self.system)

    def note(self, text: str) -> None:
        """Say a fall-back out loud and keep it for the provenance record."""
        self.notices.append(text)
        note(text)

    @property
    def engine(self) -> dict[str, str]:
        """What a binary checkpoint depends on."""
        return {
            "platform": self.choice.name,
            "precision": self.choice.precision,
            "device": self.choice.device if self.choice.properties else "",
            "openmm": openmm.__version__,
        }


def make_context(
    job: Job, system: openmm.System, *, timestep_ps: float, seed: int
) -> openmm.Context:
    """Make a context with a Langevin middle integrator of the run's temperature."""
    plan = job.plan
    integrator = openmm.LangevinMiddleIntegrator(
        plan.temperature_k, plan.friction_per_ps, timestep_ps
    )
    integrator.setRandomNumberSeed(seed)
    platform = openmm.Platform.getPlatformByName(job.choice.name)
    try:
        return openmm.Context(system, integrator, platform, dict(job.choice.properties))
    except openmm.OpenMMException as error:
        raise SimulationError(
            f"{job.choice.name} could not set this system up: {error}; free its memory or choose "
            "another platform"
        ) from error


def advance(
    job: Job, context: openmm.Context, n_steps: int, *, report: Callable[[int], None]
) -> int:
    """Take steps in blocks of about a second, until done or asked to stop.

    Parameters
    ----------
    job : Job
        The start that the steps belong to.
    context : openmm.Context
        What to propagate.
    n_steps : int
        Number of steps to take.
    report : callable
        Called with the number of steps taken so far, after each block.

    Returns
    -------
    int
        Steps taken.

    Raises
    ------
    SimulationError
        If OpenMM cannot go on, which mostly means coordinates that are not numbers.
    """
    integrator, done = context.getIntegrator(), 0
    while done < n_steps and not job.stop.requested:
        block = min(job.block_steps, n_steps - done)
        before = time.perf_counter()
        try:
            integrator.step(block)
        except openmm.OpenMMException as error:
            raise SimulationError(
                f"the dynamics broke down between steps {context.getStepCount() - block} and "
                f"{context.getStepCount() + block}: {error}; everything committed is kept; try a "
                "shorter time step or another seed in a new folder"
            ) from error
        done += block
        if block == job.block_steps:
            wanted = BLOCK_S * block / max(time.perf_counter() - before, 1e-6)
            job.block_steps = max(1, min(int(wanted), 4 * block))
        report(done)
    return done


def check_finite(value: float, *, what: str, step: int) -> None:
    """Raise `SimulationError` with the step when an energy is not a number."""
    if not math.isfinite(value):
        raise SimulationError(
            f"{what} is {value} at step {step}: the dynamics broke down; everything committed is "
            "kept; try a shorter time step or another seed in a new folder"
        )


def degrees_of_freedom(system: openmm.System) -> int:
    """Count the degrees of freedom that carry kinetic energy."""
    masses = np.array(
        [
            system.getParticleMass(i).value_in_unit(unit.dalton)
            for i in range(system.getNumParticles())
        ]
    )
    moving = masses > 0
    constrained = [system.getConstraintParameters(i)[:2] for i in range(system.getNumConstraints())]
    n_constraints = sum(bool(moving[i] or moving[j]) for i, j in constrained)
    removers = (isinstance(force, openmm.CMMotionRemover) for force in system.getForces())
    return int(3 * moving.sum()) - n_constraints - (3 if any(removers) else 0)


def potential_kj_mol(state: openmm.State) -> float:
    """Return the potential energy of a state in kJ/mol."""
    return float(state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole))


def temperature_k(state: openmm.State, n_degrees: int) -> float:
    """Return the kinetic temperature of a state in K."""
    kinetic = state.getKineticEnergy().value_in_unit(unit.kilojoule_per_mole)
    return float(2 * kinetic / (n_degrees * GAS_CONSTANT))


def volume_nm3(state: openmm.State) -> float:
    """Return the volume of the periodic box of a state in nm^3."""
    return float(state.getPeriodicBoxVolume().value_in_unit(unit.nanometer**3))


def positions_nm(state: openmm.State) -> NDArray[np.float64]:
    """Return the positions of a state, shape (n_particles, 3), in nm, not wrapped."""
    return np.asarray(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer))


def full_state(context: openmm.Context) -> openmm.State:
    """Take positions, velocities and energies of a context at one moment."""
    return context.getState(positions=True, velocities=True, energy=True, enforcePeriodicBox=False)


def pack_xml(item: openmm.State | openmm.System) -> bytes:
    """Serialise to compressed XML with every digit; equal objects give equal bytes."""
    return gzip.compress(openmm.XmlSerializer.serialize(item).encode(), 3, mtime=0)


def unpack_xml(path: Path) -> Any:  # noqa: ANN401
    """Read an OpenMM object from compressed XML.

    Raises
    ------
    RunStorageError
        If the file is missing or damaged.
    """
    try:
        return openmm.XmlSerializer.deserialize(gzip.decompress(path.read_bytes()).decode())
    except (OSError, EOFError, ValueError, openmm.OpenMMException) as error:
        raise RunStorageError(f"{path} is missing or damaged: {error}") from error


def apply_state(context: openmm.Context, state: openmm.State) -> None:
    """Put box, positions, velocities, time and step count of a state into a context.

    Global parameters are left at the defaults of the context's own system, so that a
    state taken with a barostat or with restraints fits a system without them.
    """
    context.setPeriodicBoxVectors(*state.getPeriodicBoxVectors())
    context.setPositions(state.getPositions(asNumpy=True))
    context.setVelocities(state.getVelocities(asNumpy=True))
    context.setTime(state.getTime())
    context.setStepCount(state.getStepCount())


def set_restraint(context: openmm.Context, extra: float) -> None:
    """Set the force constant added for equilibration, in kJ/mol/nm^2, where there is one."""
    if "restraint_extra" in context.getParameters():
        context.setParameter("restraint_extra", extra)
