"""Back to the end of the committed trajectory, and an account of what that costs."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openmm

from nmdasim.errors import RunStorageError
from nmdasim.rundir import (
    N_RESTART_FILES,
    SEGMENTS,
    START,
    Segment,
    count_segments,
    has_recorded_size,
    is_intact,
    leading_segments,
    read_provenance,
    segment_file,
    set_aside_segments,
)
from nmdasim.simulation.dynamics import (
    Job,
    Plan,
    apply_state,
    make_context,
    set_restraint,
    unpack_xml,
)

#: Head of a frame: magic number, atoms; step, time, box, atoms again, precision, ranges, width;
#: then the length of the packed coordinates, which are padded to whole words.
_XTC_HEAD = struct.Struct(">ii80xi")
_XTC_MAGIC, _XTC_FEW_ATOMS = 1995, 10


def resume(job: Job) -> tuple[openmm.Context, tuple[Segment, ...]]:
    """Make a context at the end of the committed trajectory.

    The newest checkpoint is tried first, then the portable state of the same segment, then
    those of older segments, then the start of production. Segments that lie behind the
    point reached are set aside and computed again. Every fall-back is a notice, and
    `Job.restart` says which file was used and what is computed again.

    Parameters
    ----------
    job : Job
        The start of the simulation.

    Returns
    -------
    context : openmm.Context
    segments : tuple of Segment
        The segments that stand.

    Raises
    ------
    RunStorageError
        If no kept restart file leads to the end of the undamaged segments.
    """
    segments, damage = leading_segments(job.folder)
    n_all = count_segments(job.folder)
    if damage is not None:
        job.note(str(damage))
    n_intact = _count_intact(job, segments, n_all)
    oldest = max(0, n_all - N_RESTART_FILES)
    for n_kept in range(n_intact, oldest - 1, -1):
        context = _restart(job, segments[:n_kept])
        if context is None:
            continue
        if n_kept < n_all:
            _set_aside(job, segments, n_kept)
        job.display.say(f"resuming at {describe_restart(job.restart)}")
        return context, segments[:n_kept]
    raise RunStorageError(
        f"{job.folder} has {n_all} segments of which the first {n_intact} are undamaged, "
        f"and no usable checkpoint or state at their end ({'; '.join(job.notices)}): restore the "
        "damaged files from a copy, or start the run in a new folder"
    )


def describe_restart(restart: Mapping[str, Any]) -> str:
    """Say in one line where a start took up production."""
    text = f"frame {restart['frame']}, step {restart['step']}, from {restart['file']}"
    least, most = restart["n_steps_lost"]
    if most:
        count = f"{least} to {most}" if most > least else most
        text += f"; {count} steps that were not committed are taken again"
    return text


def _count_intact(job: Job, segments: tuple[Segment, ...], n_all: int) -> int:
    for segment in segments:
        # Old segments cannot be computed again, so that hashing gigabytes helps nobody here.
        recent = segment.index >= n_all - N_RESTART_FILES
        if not (is_intact(segment) if recent else has_recorded_size(segment)):
            job.note(f"{segment.trajectory} is missing or differs from its checksum")
            return segment.index
    return len(segments)


def _set_aside(job: Job, segments: tuple[Segment, ...], n_kept: int) -> None:
    first = sum(segment.n_frames for segment in segments[:n_kept])
    n_lost = sum(segment.n_frames for segment in segments[n_kept:])
    target = set_aside_segments(job.folder, n_kept)
    job.restart["n_frames_again"] = n_lost
    job.note(
        f"{n_lost} frames from frame {first} on are computed again; what was there is in {target}"
    )


def _restart(job: Job, segments: tuple[Segment, ...]) -> openmm.Context | None:
    """Make a context at the end of `segments`; None if no file there is usable.

    The seed depends on the segment that comes next: a binary checkpoint of the Reference
    platform replaces the random state, while other sources must not repeat random numbers
    that were used before.
    """
    seed = job.plan.random_seed("production", len(segments))
    context = _production_context(job, seed)
    if not segments:
        apply_state(context, unpack_xml(job.folder / START))
        _remember(job, context, START, kind="start of production", frame=0)
        return context
    last = segments[-1]
    frame = last.first_frame + last.n_frames
    if _load_checkpoint(job, context, last):
        _remember(job, context, _name(last, "chk"), kind="checkpoint", frame=frame)
        return context
    context = _production_context(job, seed)
    path = segment_file(job.folder, last.index, "state.xml.gz")
    if is_intact(last, "state.xml.gz"):
        apply_state(context, unpack_xml(path))
        job.note(f"continuing from the portable state {path}; random numbers are new")
        _remember(job, context, _name(last, "state.xml.gz"), kind="portable state", frame=frame)
        return context
    job.note(f"{path} is missing or damaged and is not used")
    return None


def _name(segment: Segment, suffix: str) -> str:
    return f"{SEGMENTS}/{segment_file(Path(), segment.index, suffix).name}"


def _remember(job: Job, context: openmm.Context, file: str, *, kind: str, frame: int) -> None:
    job.restart |= {
        "source": kind,
        "file": file,
        "step": context.getStepCount(),
        "frame": frame,
        "n_frames_again": 0,
    }


# --- what a start that was killed leaves behind -------------------------------------------


def lost_steps(folder: Path, plan: Plan) -> tuple[int, int]:
    """Say how many steps of production the start before took and did not commit.

    Parameters
    ----------
    folder : Path
        Folder of a run, before its leftovers are removed.
    plan : Plan
        Numbers of the run.

    Returns
    -------
    least, most : int
        Equal where that start stopped in good order and counted them itself. Of one that was
        killed only whole frames left a trace.
    """
    starts = read_provenance(folder).get("starts", [])
    if not starts or not (folder / START).exists():
        return 0, 0
    if "finished" in starts[-1]:
        counted = starts[-1].get("n_dropped_steps", 0)
        return counted, counted
    least = count_lost_frames(folder) * plan.frame_steps
    return least, least + plan.frame_steps - 1


def count_lost_frames(folder: Path) -> int:
    """Count the frames that an earlier start computed and did not live to commit.

    Parameters
    ----------
    folder : Path
        Folder of a run, before its leftovers are removed.

    Returns
    -------
    int
        Whole frames after the last committed segment; what follows the last of them left
        no trace.
    """
    n_all = count_segments(folder)
    names = (segment_file(folder, n_all, "xtc").name, f".{n_all:05d}.xtc.*.tmp")
    found = [path for name in names for path in (folder / SEGMENTS).glob(name)]
    return max(map(count_whole_frames, found), default=0)


def count_whole_frames(path: Path) -> int:
    """Count the frames of an XTC file up to where it was cut off.

    Parameters
    ----------
    path : Path
        The file. Only the heads of its frames are read.

    Returns
    -------
    int
        0 for systems of fewer than ten atoms, which the format stores otherwise.
    """
    n_frames = 0
    with path.open("rb") as file:
        size = path.stat().st_size
        while len(head := file.read(_XTC_HEAD.size)) == _XTC_HEAD.size:
            magic, n_atoms, n_bytes = _XTC_HEAD.unpack(head)
            end = file.tell() + -(-n_bytes // 4) * 4
            if magic != _XTC_MAGIC or n_atoms < _XTC_FEW_ATOMS or end > size:
                break
            file.seek(end)
            n_frames += 1
    return n_frames


def _production_context(job: Job, seed: int) -> openmm.Context:
    context = make_context(job, job.system, timestep_ps=job.plan.timestep_ps, seed=seed)
    set_restraint(context, 0.0)
    return context


def _load_checkpoint(job: Job, context: openmm.Context, segment: Segment) -> bool:
    path = segment_file(job.folder, segment.index, "chk")
    if not is_intact(segment, "chk"):
        job.note(f"{path} is missing or damaged and is not used")
        return False
    made_by = {key: segment.manifest.get(key) for key in job.engine}
    if made_by != job.engine:
        was, now = (" ".join(map(str, filter(None, e.values()))) for e in (made_by, job.engine))
        job.note(f"{path} was made by {was} and this is {now}; it is not used")
        return False
    try:
        context.loadCheckpoint(path.read_bytes())
    except openmm.OpenMMException as error:
        job.note(f"{path} is rejected by OpenMM ({error}) and is not used")
        return False
    if context.getStepCount() != segment.manifest["last_step"]:
        job.note(f"{path} is of step {context.getStepCount()} and is not used")
        return False
    return True
