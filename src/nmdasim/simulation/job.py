"""The two calls that fill a run folder: build it once, simulate it as often as it takes."""

import contextlib
import os
import platform as host_platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openmm
from openmm import app, unit

from nmdasim.errors import ProtocolError, RunFolderError, RunStorageError
from nmdasim.rundir import (
    BUILT,
    BUILT_STATE,
    LIGAND,
    RECEPTOR,
    START,
    SYSTEM,
    TOPOLOGY,
    RunLock,
    RunStatus,
    begin_start,
    change_status,
    check_built,
    create_run_folder,
    failures_recorded,
    input_differences,
    is_built,
    leading_segments,
    lock_run,
    plain_inputs,
    read_inputs,
    read_provenance,
    read_status,
    remove_leftovers,
    sha256_of,
    software_versions,
    storage_error,
    update_provenance,
    utc_now,
    write_atomic,
)
from nmdasim.simulation.dynamics import Job, Plan, pack_xml, read_plan, unpack_xml
from nmdasim.simulation.equilibration import BAROSTAT_STEPS, equilibrate
from nmdasim.simulation.platforms import PlatformChoice, choose_platform
from nmdasim.simulation.production import produce
from nmdasim.simulation.progress import Display
from nmdasim.simulation.resuming import lost_steps, resume
from nmdasim.stopping import StopRequest, slurm_job

if TYPE_CHECKING:
    from nmdasim.system import Protocol, System

_PACKAGES = ("nmdasim", "openmm", "rdkit", "mdtraj", "numpy", "scipy", "gemmi")


def run_inputs(
    protocol: "Protocol",
    *,
    ligand: Mapping[str, Any],
    receptor: Mapping[str, Any],
    production_ns: float,
    seed: int,
    replica: int = 0,
) -> dict[str, Any]:
    """Collect every input that decides the result of a run.

    Parameters
    ----------
    protocol : Protocol
        All its numbers are recorded; fields that are None are left out.
    ligand, receptor : mapping
        Plain values that identify them: name, SMILES and charge; name and SHA-256.
    production_ns : float
        Length of production, in ns; rounded up to whole frames.
    seed : int
        Seed of every random stream, from 0.
    replica : int
        Index of the replica, from 0; replicas of one seed are independent.

    Returns
    -------
    dict
        Tables for `create_run_folder` and `create_run`.

    Raises
    ------
    ProtocolError
        If a length is not positive, a seed is negative, or a frame is not whole steps.
    """
    numbers = {key: value for key, value in asdict(protocol).items() if value is not None}
    inputs = plain_inputs(
        {
            "ligand": ligand,
            "receptor": receptor,
            "protocol": numbers,
            "simulation": {"production_ns": production_ns, "seed": seed, "replica": replica},
        }
    )
    read_plan(inputs)
    return inputs


def create_run(
    system: "System",
    folder: str | Path,
    *,
    inputs: Mapping[str, Any],
    receptor_file: str | Path,
    ligand_sdf: str,
    provenance: Mapping[str, Any] | None = None,
    extend: bool = False,
) -> Path:
    """Write everything that is built into the folder of a run.

    A folder that already holds this run, built, is left as it is.

    Parameters
    ----------
    system : System
        What will be simulated, in the pore frame.
    folder : str or Path
        New, empty, or the folder of this very run.
    inputs : mapping
        As made by `run_inputs`, from the protocol of `system`.
    receptor_file : str or Path
        The prepared receptor; copied.
    ligand_sdf : str
        Content of an SD file: the simulated state in its starting pose, atoms in the order
        of the topology.
    provenance : mapping, optional
        More entries for ``provenance.json``, such as the record of the ligand's parameters.
    extend : bool
        Allow a longer ``production_ns`` than the folder records.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ProtocolError
        If `inputs` were made from another protocol than `system`.
    RunFolderError
        If the folder holds another run or foreign files, is in use, or may not be written.
    RunStorageError
        If the disk is full.
    """
    folder = Path(folder)
    _check_protocol(system, inputs)
    create_run_folder(folder, inputs, extend=extend)
    with lock_run(folder):
        remove_leftovers(folder)
        if is_built(folder):
            return folder
        change_status(folder, "building")
        _write_built(system, folder, receptor_file=Path(receptor_file), ligand_sdf=ligand_sdf)
        record = {
            "created": utc_now(),
            "host": host_platform.node(),
            "operating_system": host_platform.platform(),
            "versions": software_versions(_PACKAGES),
            "methods": [*system.methods, *simulation_methods(read_plan(plain_inputs(inputs)))],
            **(provenance or {}),
            "files": {name: sha256_of(folder / name) for name in BUILT},
        }
        update_provenance(folder, record)
        change_status(folder, "building", n_stalled=0)
    return folder


def _check_protocol(system: "System", inputs: Mapping[str, Any]) -> None:
    numbers = {key: value for key, value in asdict(system.protocol).items() if value is not None}
    if differences := input_differences(inputs["protocol"], numbers):
        raise ProtocolError(
            f"the inputs were made from another protocol than the system ({differences[0]}): make "
            "both from the same one"
        )


def _write_built(system: "System", folder: Path, *, receptor_file: Path, ligand_sdf: str) -> None:
    (folder / BUILT_STATE).parent.mkdir(exist_ok=True)
    write_atomic(folder / RECEPTOR, receptor_file.read_bytes())
    write_atomic(folder / LIGAND, ligand_sdf)
    temporary = folder / f".{TOPOLOGY}.tmp"
    try:
        with temporary.open("w") as file:
            positions = system.positions * unit.nanometer
            app.PDBxFile.writeFile(system.topology, positions, file, keepIds=True)
        write_atomic(folder / TOPOLOGY, temporary.read_bytes())
    except OSError as error:
        raise storage_error(folder / TOPOLOGY, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    write_atomic(folder / SYSTEM, pack_xml(system.openmm_system))
    write_atomic(folder / BUILT_STATE, pack_xml(_built_state(system)))


def _built_state(system: "System") -> openmm.State:
    """Hold the built coordinates as a state at rest; no forces are computed."""
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system.openmm_system, openmm.VerletIntegrator(0.001), platform)
    context.setPeriodicBoxVectors(*(openmm.Vec3(*row) for row in system.box_vectors))
    context.setPositions(system.positions)
    return context.getState(positions=True, velocities=True)


def simulation_methods(plan: Plan) -> list[str]:
    """Describe the dynamics in sentences with citations, for the methods paragraph."""
    length_ps = sum(stage.n_steps * stage.timestep_ps for stage in plan.stages)
    barostat = (
        f", at {plan.pressure_bar:g} bar under a Monte Carlo barostat attempted every "
        f"{BAROSTAT_STEPS} steps (doi:10.1016/0010-4655(95)00059-O, "
        "doi:10.1016/j.cplett.2003.12.039) where the volume was free"
        if any(stage.barostat for stage in plan.stages)
        else ""
    )
    return [
        f"Dynamics used OpenMM {openmm.__version__} (doi:10.1021/acs.jpcb.3c06662) with the "
        f"Langevin middle integrator (doi:10.1021/acs.jpca.9b02771) at {plan.temperature_k:g} K, "
        f"a friction of {plan.friction_per_ps:g}/ps and a time step of "
        f"{plan.timestep_ps * 1000:g} fs.",
        f"After minimisation the system was equilibrated for {length_ps:g} ps in "
        f"{len(plan.stages)} stages of decreasing position restraints{barostat}; production ran "
        f"at the volume reached, with a frame every {plan.frame_ps:g} ps.",
    ]


def simulate(
    folder: str | Path,
    *,
    platform: str | None = None,
    progress: bool = True,
    stop: StopRequest | None = None,
) -> RunStatus:
    """Simulate a built run to its end, continuing whatever an earlier start left.

    Minimisation, equilibration and production each resume where the folder says they
    stand. SIGINT, SIGTERM and SIGUSR1 make it commit the frames so far and return.

    Parameters
    ----------
    folder : str or Path
        Folder made by `create_run`.
    platform : str, optional
        Platform of OpenMM; without it the fastest that passes its test.
    progress : bool
        Show progress on standard error. Fall-backs are said there in any case.
    stop : StopRequest, optional
        What the caller already listens to signals with; without it this call listens itself.

    Returns
    -------
    RunStatus
        ``finished`` (or ``analysed``, if nothing was left to do), or ``interrupted``: the
        same call continues; a program should then exit with `rundir.EXIT_RESUMABLE`.

    Raises
    ------
    RunFolderError
        If the folder holds no built run or is in use.
    PlatformError
        If the platform is absent or fails its test.
    SimulationError
        If the dynamics break down; what is committed stays.
    RunStorageError
        If the disk is full or committed data are damaged.

    Notes
    -----
    On the Reference platform the frames do not depend, in any bit, on how often and where
    the run was interrupted, killed included. On others an interruption changes the course
    of the trajectory and not its statistics: sums there depend on the order of threads.
    """
    folder = Path(folder)
    plan = read_plan(read_inputs(folder))
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(lock_run(folder))
        stack.enter_context(failures_recorded(lock))
        stop = stack.enter_context(StopRequest()) if stop is None else stop
        stack.enter_context(stop.finishing())
        try:
            return _resume_run(folder, plan, lock, stop, platform=platform, progress=progress)
        except OSError as error:
            raise storage_error(folder, error) from error


def _resume_run(
    folder: Path,
    plan: Plan,
    lock: RunLock,
    stop: StopRequest,
    *,
    platform: str | None,
    progress: bool,
) -> RunStatus:
    """Look at what is there; do what is left."""
    lost = lost_steps(folder, plan)
    remove_leftovers(folder)
    check_built(folder)
    if (finished := _finished(folder, plan)) is not None:
        return finished
    job = Job(
        folder=folder,
        plan=plan,
        system=unpack_xml(folder / SYSTEM),
        choice=choose_platform(platform),
        lock=lock,
        display=Display(shown=progress),
        stop=stop,
    )
    job.display.say(_announce(job.choice))
    job.restart["n_steps_lost"] = lost
    return _run(job)


def _finished(folder: Path, plan: Plan) -> RunStatus | None:
    """Return the status of a run whose frames are all there."""
    segments, damage = leading_segments(folder)
    if damage or sum(segment.n_frames for segment in segments) < plan.n_frames:
        return None
    status = read_status(folder)
    length_ps = plan.n_frames * plan.frame_ps
    if status.state in {"finished", "analysed"} and status.production_ps_asked == length_ps:
        return status
    return change_status(
        folder, "finished", production_ps_done=length_ps, production_ps_asked=length_ps
    )


def _announce(choice: PlatformChoice) -> str:
    why = f" ({'; '.join(choice.notes)})" if choice.notes else ""
    passed = f"; its test forces differ from Reference by {choice.force_error:.0e}"
    test = "" if choice.name == "Reference" else passed
    return f"platform {choice.name}, {choice.device}, {choice.precision} precision{test}{why}"


def _run(job: Job) -> RunStatus:
    """Equilibrate if needed, then produce; leave a record of this start whatever happens."""
    begin_start(job.folder, "running", simulates=True)
    _record_start(job)
    try:
        if not (job.folder / START).exists():
            _record(job, "equilibrating")
            if not equilibrate(job):
                return _record(job, "interrupted", f"stopped by {job.stop.requested}")
        context, segments = resume(job)
        _complete_start(job)
        return produce(job, context, segments)
    finally:
        with contextlib.suppress(RunStorageError, RunFolderError):
            job.lock.confirm()
            _complete_start(job, finished=utc_now(), n_dropped_steps=job.n_dropped_steps)


def _record(job: Job, state: str, reason: str = "") -> RunStatus:
    segments, _ = leading_segments(job.folder)
    n_frames = sum(segment.n_frames for segment in segments)
    return change_status(
        job.folder,
        state,
        reason,
        production_ps_done=n_frames * job.plan.frame_ps,
        production_ps_asked=job.plan.n_frames * job.plan.frame_ps,
    )


def _record_start(job: Job) -> None:
    before = read_provenance(job.folder)
    entry: dict[str, Any] = {
        "started": utc_now(),
        "host": host_platform.node(),
        "process": os.getpid(),
        **job.engine,
        "device": job.choice.device,
        "force_error": job.choice.force_error,
    }
    if slurm := slurm_job():
        entry["slurm_job"] = slurm
        entry["slurm_restarts"] = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    update_provenance(
        job.folder,
        {
            "started": before.get("started", entry["started"]),
            "platform": job.choice.name,
            "precision": job.choice.precision,
            "device": job.choice.device,
            "starts": [*before.get("starts", []), entry],
        },
    )


def _complete_start(job: Job, **more: Any) -> None:  # noqa: ANN401
    """Add to the entry of this start what has become known since."""
    starts = read_provenance(job.folder)["starts"]
    entry = starts[-1] | {"resumed": job.restart, "notices": list(job.notices)} | more
    finished = {"finished": more["finished"]} if "finished" in more else {}
    update_provenance(job.folder, {**finished, "starts": [*starts[:-1], entry]})
