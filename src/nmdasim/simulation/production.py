"""Production in immutable segments that are committed by renaming their manifest last."""

import contextlib
import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openmm
from openmm import app

from nmdasim.rundir import (
    RunStatus,
    Segment,
    change_status,
    commit_file,
    prune_restart_files,
    segment_file,
    sha256_of,
    storage_error,
    write_atomic,
    write_json,
)
from nmdasim.simulation.dynamics import (
    Job,
    advance,
    check_finite,
    full_state,
    pack_xml,
    positions_nm,
    potential_kj_mol,
    temperature_k,
    volume_nm3,
)


@dataclass(slots=True, kw_only=True, eq=False)
class _Series:
    """Frames of the segment in progress, and the restart data of the newest of them."""

    time_ps: list[float] = field(default_factory=list)
    potential_kj_mol: list[float] = field(default_factory=list)
    temperature_k: list[float] = field(default_factory=list)
    volume_nm3: list[float] = field(default_factory=list)
    state: openmm.State | None = None
    checkpoint: bytes = b""
    wall_s: float = 0.0


def produce(job: Job, context: openmm.Context, segments: tuple[Segment, ...]) -> RunStatus:
    """Run production from the last committed frame to the end, or until asked to stop.

    Parameters
    ----------
    job : Job
        The start of the simulation.
    context, segments
        As `resuming.resume` gives them.

    Returns
    -------
    RunStatus
        ``finished``, or ``interrupted`` with the committed length.

    Raises
    ------
    SimulationError
        If the energy is not a number.
    RunStorageError
        If the disk is full.

    Notes
    -----
    When somebody asks to stop, the frames so far are committed as a short segment; the
    steps since the last frame are dropped and taken again by the next start.
    """
    plan = job.plan
    index = len(segments)
    n_done = sum(segment.n_frames for segment in segments)
    _record(job, "running", n_done)
    total_ps = plan.n_frames * plan.frame_ps
    with job.display.stage("production", total_ps=total_ps, done_ps=n_done * plan.frame_ps):
        while n_done < plan.n_frames and not job.stop.requested:
            n_frames = min(plan.segment_frames, plan.n_frames - n_done)
            n_new = produce_segment(job, context, index, first_frame=n_done, n_frames=n_frames)
            n_done, index = n_done + n_new, index + 1
            if n_new:
                _record(job, "running", n_done, n_stalled=0)
    if n_done < plan.n_frames:
        return _record(job, "interrupted", n_done, f"stopped by {job.stop.requested}")
    return _record(job, "finished", n_done)


def _record(job: Job, state: str, n_frames: int, reason: str = "", **changes: int) -> RunStatus:
    plan = job.plan
    return change_status(
        job.folder,
        state,
        reason,
        **changes,
        production_ps_done=n_frames * plan.frame_ps,
        production_ps_asked=plan.n_frames * plan.frame_ps,
    )


# --- one segment -----------------------------------------------------------------------


def produce_segment(
    job: Job, context: openmm.Context, index: int, *, first_frame: int, n_frames: int
) -> int:
    """Run and commit one segment.

    Parameters
    ----------
    job : Job
        The start of the simulation.
    context : openmm.Context
        At the end of the segment before.
    index, first_frame, n_frames : int
        Index of the segment, index in the run of its first frame, and its length.

    Returns
    -------
    int
        Number of frames committed: fewer than asked, or none, if somebody asked to stop.
    """
    path = segment_file(job.folder, index, "xtc")
    # A suspended process that lost the folder must not write into the file of its successor.
    partial = path.with_name(f".{path.name}.{job.lock.token}.tmp")
    partial.unlink(missing_ok=True)
    try:
        series = _run_frames(job, context, partial, first_frame=first_frame, n_frames=n_frames)
        if series.time_ps:
            _commit(job, series, partial, index=index, first_frame=first_frame)
            # A restart begins here too: both must do the same from now on.
            context.loadCheckpoint(series.checkpoint)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return len(series.time_ps)


def _run_frames(
    job: Job, context: openmm.Context, partial: Path, *, first_frame: int, n_frames: int
) -> _Series:
    plan, series = job.plan, _Series()
    # The step field counts frames: OpenMM rewrites the file when it passes 2^31.
    writer = app.XTCFile(
        str(partial), _bare_topology(context), plan.frame_ps, firstStep=first_frame + 1
    )
    for frame in range(first_frame, first_frame + n_frames):

        def report(done: int, frame: int = frame) -> None:
            job.display.update(frame * plan.frame_ps + done * plan.timestep_ps)

        before = time.perf_counter()
        n_steps = advance(job, context, plan.frame_steps, report=report)
        if n_steps < plan.frame_steps:
            job.n_dropped_steps = n_steps
            break
        state = full_state(context)
        potential = potential_kj_mol(state)
        check_finite(potential, what="the potential energy", step=context.getStepCount())
        _write_frame(writer, state, partial)
        series.time_ps.append((frame + 1) * plan.frame_ps)
        series.potential_kj_mol.append(potential)
        series.temperature_k.append(temperature_k(state, job.n_degrees))
        series.volume_nm3.append(volume_nm3(state))
        series.state, series.checkpoint = state, context.createCheckpoint()
        series.wall_s += time.perf_counter() - before
    return series


def _bare_topology(context: openmm.Context) -> app.Topology:
    """Make what XTCFile asks of a topology: the number of atoms and that a box exists."""
    topology = app.Topology()
    residue = topology.addResidue("ALL", topology.addChain())
    for _ in range(context.getSystem().getNumParticles()):
        topology.addAtom("X", None, residue)
    topology.setPeriodicBoxVectors(context.getSystem().getDefaultPeriodicBoxVectors())
    return topology


def _write_frame(writer: app.XTCFile, state: openmm.State, path: Path) -> None:
    box = state.getPeriodicBoxVectors()
    try:
        writer.writeModel(positions_nm(state), periodicBoxVectors=box)
    except OSError as error:
        raise storage_error(path, error) from error
    except RuntimeError as error:
        # OpenMM's writer does not pass the system's reason on.
        raise storage_error(path, "a frame did not fit, the disk or quota is probably full") from (
            error
        )


def _commit(job: Job, series: _Series, partial: Path, *, index: int, first_frame: int) -> None:
    """Put the files of a segment into place, the manifest last."""
    assert series.state is not None
    job.lock.confirm()
    paths = {suffix: segment_file(job.folder, index, suffix) for suffix in ("xtc", "chk")}
    portable = segment_file(job.folder, index, "state.xml.gz")
    packed = pack_xml(series.state)
    commit_file(partial, paths["xtc"])
    write_atomic(paths["chk"], series.checkpoint)
    write_atomic(portable, packed)
    manifest = _manifest(job, series, index=index, first_frame=first_frame) | {
        "xtc_bytes": paths["xtc"].stat().st_size,
        "sha256": {
            "xtc": sha256_of(paths["xtc"]),
            "chk": hashlib.sha256(series.checkpoint).hexdigest(),
            "state": hashlib.sha256(packed).hexdigest(),
        },
    }
    job.lock.confirm()
    write_json(segment_file(job.folder, index, "json"), manifest)
    prune_restart_files(job.folder, index)


def _manifest(job: Job, series: _Series, *, index: int, first_frame: int) -> dict[str, Any]:
    plan, n_frames = job.plan, len(series.time_ps)
    return {
        "index": index,
        "first_frame": first_frame,
        "n_frames": n_frames,
        "first_step": first_frame * plan.frame_steps,
        "last_step": (first_frame + n_frames) * plan.frame_steps,
        "timestep_ps": plan.timestep_ps,
        "frame_interval_ps": plan.frame_ps,
        "time_ps": series.time_ps,
        "potential_kj_mol": series.potential_kj_mol,
        "temperature_k": series.temperature_k,
        "volume_nm3": series.volume_nm3,
        "wall_s": series.wall_s,
        "ns_per_day": n_frames * plan.frame_ps * 86.4 / series.wall_s,
        **job.engine,
    }
