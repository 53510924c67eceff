"""Run folders and trajectories as imaged frames in the pore frame, streamed in chunks.

A run's trajectory is the list of its committed segments. They are joined only while they are
read: every frame comes exactly once, and memory does not grow with length.
"""

from nmdasim.trajectory.foreign import open_trajectory, write_source
from nmdasim.trajectory.frames import map_frames, read_frames, usable_cores
from nmdasim.trajectory.imaging import molecules_of, nearest_images
from nmdasim.trajectory.landmarks import FIT_SEGMENTS, in_pore_frame, pore_atoms, pore_frame
from nmdasim.trajectory.model import CAPS, LIGAND_NAME, Chunk, Piece, PoreAtoms, Run, RunResidue
from nmdasim.trajectory.names import ION_NAMES, WATER_NAMES
from nmdasim.trajectory.runs import open_run

__all__ = [
    "CAPS",
    "FIT_SEGMENTS",
    "ION_NAMES",
    "LIGAND_NAME",
    "WATER_NAMES",
    "Chunk",
    "Piece",
    "PoreAtoms",
    "Run",
    "RunResidue",
    "in_pore_frame",
    "map_frames",
    "molecules_of",
    "nearest_images",
    "open_run",
    "open_trajectory",
    "pore_atoms",
    "pore_frame",
    "read_frames",
    "usable_cores",
    "write_source",
]
