"""Reading frames: imaged, fitted into the pore frame, a chunk at a time."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import mdtraj as md
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from nmdasim.errors import TrajectoryError
from nmdasim.pore import best_rotation
from nmdasim.trajectory.files import Frames, read_piece
from nmdasim.trajectory.imaging import (
    Links,
    bring_together,
    inner_radius,
    link_molecules,
    molecules_of,
    nearest_points,
    turn,
)
from nmdasim.trajectory.landmarks import pore_atoms
from nmdasim.trajectory.model import Chunk, Piece, Run

# A chunk holds about so many atoms, so that memory does not grow with the system either.
_CHUNK_ATOMS = 400_000
_CHUNK = 50
#: After mending no bond is longer.
TORN_NM = 0.5

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Raw:
    """Frames as the file holds them."""

    first_frame: int
    xyz: NDArray[np.float32]
    box: NDArray[np.float64]
    time_ps: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Place:
    """What moves raw frames into the pore frame, found once."""

    picked: NDArray[np.intp]
    topology: md.Topology
    links: Links
    fit: NDArray[np.intp]
    fixed: NDArray[np.float64]
    target: NDArray[np.float64]
    middle: NDArray[np.float64]
    water: NDArray[np.intp]
    ions: NDArray[np.intp]


def read_frames(
    run: Run, *, atoms: ArrayLike | None = None, chunk: int | None = None
) -> Iterator[Chunk]:
    """Read the frames of a run, imaged and fitted into the pore frame.

    Parameters
    ----------
    run : Run
    atoms : array_like of int, optional
        Atoms of `run.topology` that `Chunk.trajectory` holds; protein and ligand by default.
        The backbone of M2 and M3 must be among them.
    chunk : int, optional
        Frames that are held in memory at a time; by default 50, fewer in large systems.

    Yields
    ------
    chunk : Chunk
        In order; every frame exactly once.

    Raises
    ------
    TrajectoryError
        If a file is missing.
    TrajectoryDamageError
        If a file is truncated or damaged.
    SelectionError
        If `atoms` lacks what the frames are fitted on.
    """
    place = _place_of(run, run.solute if atoms is None else np.asarray(atoms, dtype=np.intp))
    for raw in _raw_frames(run, chunk):
        yield _placed(raw, place)


def map_frames(
    run: Run,
    function: Callable[[Chunk], _Result],
    *,
    cores: int | None = None,
    chunk: int | None = None,
) -> Iterator[_Result]:
    """Apply a function to every chunk of frames, on several cores.

    Parameters
    ----------
    run : Run
    function : callable
        Gets a `Chunk`. It gains from several cores as far as it releases the interpreter's
        lock, which compiled kernels and large numpy operations do.
    cores : int, optional
        Threads; as many as the process may use by default. Results do not depend on it.
    chunk : int, optional
        As for `read_frames`.

    Yields
    ------
    result
        What `function` returned, in the order of the frames. Only a few chunks are read ahead.

    Raises
    ------
    TrajectoryError, TrajectoryDamageError
        As `read_frames`.
    """
    place = _place_of(run, run.solute)

    def work(raw: _Raw) -> _Result:
        return function(_placed(raw, place))

    threads = usable_cores() if cores is None else cores
    if threads == 1:
        yield from map(work, _raw_frames(run, chunk))
        return
    waiting: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for raw in _raw_frames(run, chunk):
                waiting.append(pool.submit(work, raw))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def usable_cores() -> int:
    """Count the cores that this process may use, as a batch system grants them.

    Returns
    -------
    cores : int
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# ------------------------------------------------------------------------- into the pore frame


def _place_of(run: Run, picked: NDArray[np.intp]) -> _Place:
    topology = run.topology.subset(picked)
    reference = run.start[picked]
    landmarks = pore_atoms(topology, subunit_of=run.subunit_of)
    fixed = reference[landmarks.fit]
    target = fixed.mean(axis=0)
    rings = [landmarks.rings[ring] for ring in ("asparagine", "threonine")]
    return _Place(
        picked=picked,
        topology=topology,
        links=_links_of(run, picked, topology, reference),
        fit=landmarks.fit,
        fixed=fixed - target,
        target=target,
        middle=np.mean([reference[ring].mean(axis=0) for ring in rings], axis=0),
        water=run.water,
        ions=run.ions,
    )


def _links_of(
    run: Run, picked: NDArray[np.intp], topology: md.Topology, reference: NDArray[np.float64]
) -> Links:
    """Link molecules as the bonds give them, or where there are none as whole chains."""
    if not len(run.bonds):
        return link_molecules(reference, molecules_of(topology, reference))
    place = np.full(run.topology.n_atoms, -1)
    place[picked] = np.arange(len(picked))
    bonds = place[run.bonds]
    bonds = bonds[(bonds >= 0).all(axis=1)]
    residue = np.array([atom.residue.index for atom in topology.atoms])
    same = np.flatnonzero(residue[1:] == residue[:-1])
    edges = np.concatenate([bonds, np.stack([same, same + 1], axis=1)])
    graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(len(picked),) * 2)
    return link_molecules(reference, connected_components(graph)[1], parents=bonds)


def _placed(raw: _Raw, place: _Place) -> Chunk:
    """Mend images, fit on the pore's backbone and bring water and ions to the pore."""
    # Contiguous, which picking by index is not.
    frames = raw.xyz.take(place.picked, axis=1)
    longest = bring_together(frames, raw.box, place.links)
    if (longest > TORN_NM).any():
        worst = int(longest.argmax())
        raise TrajectoryError(
            f"frame {raw.first_frame + worst} stays torn: a bond is {longest[worst]:.1f} nm long "
            "after periodic images were mended, because the frames were turned or cut after they "
            "were wrapped; make molecules whole first (gmx trjconv -pbc whole, cpptraj autoimage)"
        )
    moving = frames[:, place.fit].astype(np.float64)
    centroid = moving.mean(axis=1)
    rotation, rmsd = best_rotation(moving - centroid[:, None], place.fixed)
    turn(frames, rotation, centroid, place.target)
    # The pore's middle in the frame as it was written.
    centre = (place.middle - place.target) @ np.swapaxes(rotation, 1, 2) + centroid
    solvent = [
        nearest_points(raw.xyz, raw.box, points, centre) for points in (place.water, place.ions)
    ]
    for points in solvent:
        turn(points, rotation, centroid, place.target)
    return Chunk(
        first_frame=raw.first_frame,
        time_ps=raw.time_ps,
        trajectory=md.Trajectory(frames, place.topology, time=raw.time_ps),
        fit_rmsd=rmsd,
        water=solvent[0],
        ions=solvent[1],
        inner_radius=inner_radius(raw.box),
    )


# ------------------------------------------------------------------------------ from the files


def _raw_frames(run: Run, chunk: int | None) -> Iterator[_Raw]:
    """Read every frame that the stride picks, as the files hold them.

    A chunk goes on into the next file: segments may be much shorter than a chunk, and each chunk
    has its price.
    """
    size = chunk or max(1, min(_CHUNK, _CHUNK_ATOMS // run.topology.n_atoms))
    n_done, n_waiting, waiting = 0, 0, list[Frames]()
    for frames in _picked_frames(run, size):
        if waiting and n_waiting + len(frames[0]) > size:
            yield _joined(waiting, n_done)
            n_done, n_waiting, waiting = n_done + n_waiting, 0, []
        waiting.append(frames)
        n_waiting += len(frames[0])
    if waiting:
        yield _joined(waiting, n_done)


def _joined(parts: list[Frames], first_frame: int) -> _Raw:
    xyz, box, time = (
        columns[0] if len(columns) == 1 else np.concatenate(columns)
        for columns in zip(*parts, strict=True)
    )
    return _Raw(first_frame=first_frame, xyz=np.ascontiguousarray(xyz), box=box, time_ps=time)


def _picked_frames(run: Run, size: int) -> Iterator[Frames]:
    """Read the frames that the stride picks, file by file, at most so many at a time."""
    before = np.array([-np.inf])
    for piece in run.pieces:
        number = piece.first_frame
        for xyz, box, time in read_piece(piece, run.topology, size):
            _check_rising(piece, np.concatenate([before, time]))
            before = time[-1:]
            kept = slice(-number % run.stride, None, run.stride)
            number += len(xyz)
            if len(xyz[kept]):
                yield xyz[kept], box[kept], time[kept]


def _check_rising(piece: Piece, time_ps: NDArray[np.float64]) -> None:
    """Refuse a file whose clock is set back within it, as in runs that were joined."""
    falls = np.flatnonzero(np.diff(time_ps) <= 0.0)
    if len(falls):
        one, other = time_ps[falls[0] : falls[0] + 2]
        raise TrajectoryError(
            f"{piece.path} has a frame at {other:g} ps after one at {one:g} ps, but times must "
            "rise: give each simulation by itself, or the time between frames by --frame-ps "
            "(frame_ps=), which numbers them through"
        )
