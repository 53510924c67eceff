"""Files of topologies and trajectories, read through mdtraj."""

import ctypes
import os
import struct
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mdtraj as md
import numpy as np
from mdtraj.formats import TRRTrajectoryFile, XTCTrajectoryFile
from numpy.typing import NDArray

from nmdasim.errors import TrajectoryDamageError, TrajectoryError
from nmdasim.trajectory.model import Piece
from nmdasim.trajectory.names import rename_protein

#: Formats of topologies, by the end of the file's name.
TOPOLOGY_FORMATS = (
    ".pdb", ".pdb.gz", ".cif", ".mmcif", ".pdbx", ".cif.gz", ".mmcif.gz", ".pdbx.gz", ".gro",
    ".psf", ".prmtop", ".parm7", ".prm7", ".h5", ".hdf5", ".mol2",
)  # fmt: skip
#: Formats of trajectories that state the time of each frame.
TIMED_FORMATS = (".xtc", ".trr", ".nc", ".ncdf", ".netcdf", ".h5", ".hdf5", ".dtr", ".stk")
#: Formats that do not.
UNTIMED_FORMATS = (".dcd", ".mdcrd", ".crd", ".lammpstrj", ".xyz", ".arc")
# Structures with any number of models, read as a whole.
_STRUCTURES = (".pdb", ".pdb.gz", ".cif", ".mmcif", ".pdbx", ".cif.gz", ".mmcif.gz", ".gro")
Frames = tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]


def read_topology(path: Path) -> md.Topology:
    """Read a topology with the names of amino acids made the usual ones.

    Parameters
    ----------
    path : pathlib.Path

    Returns
    -------
    topology : mdtraj.Topology

    Raises
    ------
    TrajectoryError
        If the file is missing or of no known format.
    TrajectoryDamageError
        If it cannot be read.
    """
    if path.suffix.lower() in (".tpr", ".top", ".itp"):
        raise TrajectoryError(
            f"{path} is a GROMACS file that mdtraj does not read: write the system as "
            "`gmx trjconv -s topol.tpr -dump 0 -o system.gro` and give that"
        )
    _check_there(path, TOPOLOGY_FORMATS, "topology")
    # The usual names would hide which histidine it is.
    options = {"standard_names": False} if _format_of(path, (".pdb", ".pdb.gz")) else {}
    try:
        with _silenced():
            topology = md.load_topology(str(path), **options)
    # mdtraj raises whatever comes on files that are not what their name says.
    except Exception as error:
        raise TrajectoryDamageError(
            f"{path} is no topology that mdtraj can read ({_first_line(error)}): write it again "
            "with the program that made it"
        ) from error
    if not topology.n_atoms:
        raise TrajectoryError(f"{path} holds no atoms: give the topology of the whole system")
    rename_protein(topology)
    return topology


def check_trajectory(path: Path) -> None:
    """Refuse what is missing or of no known format.

    Parameters
    ----------
    path : pathlib.Path

    Raises
    ------
    TrajectoryError
        If that is so.
    """
    _check_there(path, (*TIMED_FORMATS, *UNTIMED_FORMATS, *_STRUCTURES), "trajectory")


def has_times(path: Path) -> bool:
    """Tell whether a format states the time of each frame.

    Parameters
    ----------
    path : pathlib.Path

    Returns
    -------
    timed : bool
    """
    return _format_of(path, TIMED_FORMATS)


def count_frames(path: Path, topology: md.Topology) -> int:
    """Count the frames of a file without decoding them, where the format allows it.

    Parameters
    ----------
    path : pathlib.Path
    topology : mdtraj.Topology

    Returns
    -------
    n_frames : int

    Raises
    ------
    TrajectoryDamageError
        If the file cannot be read.
    """
    try:
        if _format_of(path, _STRUCTURES):
            return int(_load(path).n_frames)
        with _opened(path, topology) as file:
            found = len(file)
    # mdtraj raises whatever comes on files that are not what their name says.
    except Exception as error:
        raise _unreadable(path, error) from error
    promised = _promised(path)
    if promised > found:
        raise TrajectoryDamageError(
            f"{path} is truncated: its header promises {promised} frames and {found} are there; "
            "restore it from a copy, or write it again"
        )
    return found


def _promised(path: Path) -> int:
    """Read how many frames the header of a DCD file promises; 0 for other formats."""
    if not _format_of(path, (".dcd",)):
        return 0
    with path.open("rb") as file:
        header = file.read(12)
    order = "<" if header[:4] == b"\x54\0\0\0" else ">"
    return int(struct.unpack(f"{order}i", header[8:12])[0])


def read_one(path: Path, topology: md.Topology, frame: int) -> Frames:
    """Read one frame of a file.

    Parameters
    ----------
    path : pathlib.Path
    topology : mdtraj.Topology
    frame : int

    Returns
    -------
    xyz : ndarray of float32, shape (1, n_atoms, 3), nm
    box : ndarray of float64, shape (1, 3, 3), nm
        Zeros where there is none.
    time : ndarray of float64, shape (1,), ps

    Raises
    ------
    TrajectoryDamageError
        If the file cannot be read.
    TrajectoryError
        If it holds another number of atoms than the topology.
    """
    try:
        if _format_of(path, _STRUCTURES):
            found = _arrays(_load(path)[frame])
        else:
            with _opened(path, topology) as file:
                if frame:
                    file.seek(frame)
                found = _next(file, topology, 1)
    # mdtraj raises whatever comes on files that are not what their name says.
    except Exception as error:
        raise _unreadable(path, error) from error
    n_atoms = found[0].shape[1]
    if n_atoms != topology.n_atoms:
        raise TrajectoryError(
            f"{path} has frames of {n_atoms} atoms and the topology {topology.n_atoms}: give the "
            "topology of the very atoms that the trajectory was written with"
        )
    return found


def read_piece(piece: Piece, topology: md.Topology, chunk: int) -> Iterator[Frames]:
    """Read the frames of one file that count.

    Parameters
    ----------
    piece : Piece
    topology : mdtraj.Topology
    chunk : int
        Frames at a time.

    Yields
    ------
    xyz : ndarray of float32, shape (n_frames, n_atoms, 3), nm
    box : ndarray of float64, shape (n_frames, 3, 3), nm
    time : ndarray of float64, shape (n_frames,), ps

    Raises
    ------
    TrajectoryError
        If the file is missing.
    TrajectoryDamageError
        If it is truncated or damaged.
    """
    if not piece.path.is_file() and not piece.path.is_dir():
        raise TrajectoryError(f"{piece.path} is missing: restore it from a copy, or run again")
    done = 0
    try:
        for xyz, box, time in _chunks(piece, topology, chunk):
            if xyz.shape[1] != topology.n_atoms:
                break
            if piece.time_ps is not None:
                time = piece.time_ps[done : done + len(xyz)]
            yield xyz, box, time
            done += len(xyz)
    # mdtraj raises whatever comes on files that are not what their name says.
    except Exception as error:
        raise TrajectoryDamageError(_damaged(piece, done, topology.n_atoms)) from error
    if done != piece.n_frames:
        raise TrajectoryDamageError(_damaged(piece, done, topology.n_atoms))


def _chunks(piece: Piece, topology: md.Topology, chunk: int) -> Iterator[Frames]:
    if _format_of(piece.path, _STRUCTURES):
        whole = _load(piece.path)[piece.skip : piece.skip + piece.n_frames]
        for first in range(0, len(whole), chunk):
            yield _arrays(whole[first : first + chunk])
        return
    with _opened(piece.path, topology) as file:
        if piece.skip:
            file.seek(piece.skip)
        left = piece.n_frames
        while left:
            frames = _next(file, topology, min(chunk, left))
            if not len(frames[0]):
                return
            yield frames
            left -= len(frames[0])


def _next(file: object, topology: md.Topology, n_frames: int) -> Frames:
    # Directly, because a trajectory of mdtraj turns the box into lengths and angles, and so lays
    # it along the axes whatever way the frames lie.
    if isinstance(file, XTCTrajectoryFile | TRRTrajectoryFile):
        xyz, time, _, box, *_ = file.read(n_frames=n_frames)
        # Files without boxes give none at all.
        box = np.zeros((len(xyz), 3, 3)) if box is None else box
        return xyz, np.asarray(box, np.float64), np.asarray(time, np.float64)
    return _arrays(file.read_as_traj(topology, n_frames=n_frames))  # type: ignore[attr-defined]


def _arrays(frames: md.Trajectory) -> Frames:
    box = frames.unitcell_vectors
    if box is None:
        box = np.zeros((len(frames), 3, 3))
    return frames.xyz, np.asarray(box, np.float64), np.asarray(frames.time, np.float64)


def _opened(path: Path, topology: md.Topology) -> md.formats.XTCTrajectoryFile:
    # Old Amber text files do not state how many atoms a frame has.
    options = {"n_atoms": topology.n_atoms} if _format_of(path, (".mdcrd", ".crd")) else {}
    with _silenced():
        return md.open(str(path), **options)


def _load(path: Path) -> md.Trajectory:
    options = {"standard_names": False} if _format_of(path, (".pdb", ".pdb.gz")) else {}
    with _silenced():
        return md.load(str(path), **options)


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep to itself what mdtraj has to say on optional packages and residues alike in number."""
    # The reader of DCD files greets each file on the standard output, below Python. What is wrong
    # with a file, it raises.
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)


def _format_of(path: Path, formats: tuple[str, ...]) -> bool:
    return path.name.lower().endswith(formats)


def _check_there(path: Path, formats: tuple[str, ...], what: str) -> None:
    if not path.exists():
        raise TrajectoryError(f"the {what} {path} is missing: check its path")
    if not _format_of(path, formats):
        raise TrajectoryError(
            f"{path} is no {what} of a known format: the formats are {', '.join(formats)}; "
            "convert it to one of them"
        )


def _unreadable(path: Path, error: Exception) -> TrajectoryDamageError:
    return TrajectoryDamageError(
        f"{path} cannot be read ({_first_line(error)}): it is empty, damaged or of another format "
        "than its name says; write it again"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def _damaged(piece: Piece, n_read: int, n_atoms: int) -> str:
    return (
        f"{piece.path} is truncated or damaged: {n_read} of {piece.n_frames} frames of {n_atoms} "
        "atoms could be read; restore it from a copy, or run again to replace it"
    )
