"""Reading frames: imaged, fitted into the pore frame, a chunk at a time."""

from collections.abc import Iterator

import mdtraj as md
import numpy as np
from mdtraj.formats import XTCTrajectoryFile
from numpy.typing import ArrayLike, NDArray

from nmdasim.errors import TrajectoryError
from nmdasim.pore import best_rotation
from nmdasim.rundir import Segment
from nmdasim.trajectory.imaging import (
    bring_together,
    link_molecules,
    molecules_of,
    nearest_points,
    turn,
)
from nmdasim.trajectory.landmarks import pore_atoms
from nmdasim.trajectory.model import Chunk, Run

_CHUNK = 50


def read_frames(
    run: Run, *, atoms: ArrayLike | None = None, chunk: int = _CHUNK
) -> Iterator[Chunk]:
    """Read the frames of a run, imaged and fitted into the pore frame.

    Parameters
    ----------
    run : Run
    atoms : array_like of int, optional
        Atoms of `run.topology` that `Chunk.trajectory` holds; protein and ligand by default.
        The backbone of M2 and M3 must be among them.
    chunk : int
        Frames that are held in memory at a time.

    Yields
    ------
    chunk : Chunk
        In order; every committed frame exactly once.

    Raises
    ------
    TrajectoryError
        If a segment's file is missing, truncated or damaged.
    SelectionError
        If `atoms` lacks what the frames are fitted on.
    """
    picked = run.solute if atoms is None else np.asarray(atoms, dtype=np.intp)
    topology = run.topology.subset(picked)
    reference = run.start[picked]
    landmarks = pore_atoms(topology, subunit_of=run.subunit_of)
    fixed = reference[landmarks.fit]
    target = fixed.mean(axis=0)
    middle = 0.5 * sum(
        reference[landmarks.rings[ring]].mean(axis=0) for ring in ("asparagine", "threonine")
    )
    links = link_molecules(reference, molecules_of(topology, reference))
    for segment in run.segments:
        for first, xyz, box in _read_segment(segment, run.topology.n_atoms, chunk):
            frames = xyz[:, picked]
            bring_together(frames, box, links)
            moving = frames[:, landmarks.fit].astype(np.float64)
            centroid = moving.mean(axis=1)
            rotation, rmsd = best_rotation(moving - centroid[:, None], fixed - target)
            turn(frames, rotation, centroid, target)
            # The pore's middle in the frame as it was written.
            centre = (middle - target) @ np.swapaxes(rotation, 1, 2) + centroid
            solvent = [nearest_points(xyz, box, points, centre) for points in (run.water, run.ions)]
            for points in solvent:
                turn(points, rotation, centroid, target)
            time = np.array(segment.manifest["time_ps"][first : first + len(xyz)], np.float64)
            yield Chunk(
                first_frame=segment.first_frame + first,
                time_ps=time,
                trajectory=md.Trajectory(frames, topology, time=time),
                fit_rmsd=rmsd,
                water=solvent[0],
                ions=solvent[1],
            )


def _read_segment(
    segment: Segment, n_atoms: int, chunk: int
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float64]]]:
    path = segment.trajectory
    if not path.is_file():
        raise TrajectoryError(f"{path} is missing: restore it from a copy, or run again")
    done = 0
    try:
        with XTCTrajectoryFile(str(path)) as file:
            while done < segment.n_frames:
                xyz, _, _, box = file.read(n_frames=min(chunk, segment.n_frames - done))
                if not len(xyz):
                    break
                if xyz.shape[1] != n_atoms:
                    raise TrajectoryError(_damaged(segment, done, n_atoms))
                yield done, xyz, np.asarray(box, np.float64)
                done += len(xyz)
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        raise TrajectoryError(_damaged(segment, done, n_atoms)) from error
    if done != segment.n_frames:
        raise TrajectoryError(_damaged(segment, done, n_atoms))


def _damaged(segment: Segment, n_read: int, n_atoms: int) -> str:
    return (
        f"{segment.trajectory} is truncated or damaged: {n_read} of {segment.n_frames} frames of "
        f"{n_atoms} atoms could be read; restore it from a copy, or run again to replace it"
    )
