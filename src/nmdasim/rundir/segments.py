"""The committed pieces of a trajectory: every frame belongs to exactly one."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmdasim.errors import RunStorageError
from nmdasim.rundir.files import SEGMENTS, flush_folder, read_json, sha256_of, utc_now

N_RESTART_FILES = 3
"""Number of newest segments whose checkpoint and portable state are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One committed, immutable piece of a trajectory."""

    index: int
    """Position of the segment in the run, from 0."""
    first_frame: int
    """Index in the run of the segment's first frame."""
    n_frames: int
    """Number of frames."""
    manifest: Mapping[str, Any]
    """Everything that the segment's JSON file records."""
    trajectory: Path
    """The XTC file."""


def segment_file(folder: Path, index: int, suffix: str) -> Path:
    """Return the path of one file of a segment, such as ``segments/00003.xtc``.

    Parameters
    ----------
    folder : Path
        Folder of a run.
    index : int
        Index of the segment.
    suffix : str
        ``xtc``, ``json``, ``chk`` or ``state.xml.gz``.

    Returns
    -------
    Path
    """
    return folder / SEGMENTS / f"{index:05d}.{suffix}"


def read_segments(folder: Path) -> tuple[Segment, ...]:
    """List the committed segments of a run, in order.

    Parameters
    ----------
    folder : Path
        Folder of a run.

    Returns
    -------
    tuple of Segment
        Contiguous: every frame of the run so far belongs to exactly one of them.

    Raises
    ------
    RunStorageError
        If a manifest is damaged, or one in the middle is missing.
    """
    segments, damage = leading_segments(folder)
    if damage is not None:
        raise damage
    return segments


def leading_segments(folder: Path) -> tuple[tuple[Segment, ...], RunStorageError | None]:
    """List the committed segments of a run up to the first whose manifest is damaged.

    Parameters
    ----------
    folder : Path
        Folder of a run.

    Returns
    -------
    segments : tuple of Segment
        As from `read_segments`.
    damage : RunStorageError or None
        What is wrong with the manifest that comes next; None when all are well.
    """
    segments: list[Segment] = []
    n_frames = 0
    for path in _manifests(folder):
        try:
            manifest = read_json(path)
        except RunStorageError as error:
            return tuple(segments), error
        if manifest.get("index") != len(segments) or manifest.get("first_frame") != n_frames:
            return tuple(segments), RunStorageError(
                f"{path} does not follow the segments before it: index {len(segments)} and first "
                f"frame {n_frames} were expected; restore the missing segment from a copy, or move "
                "this one and later ones away and run again"
            )
        segments.append(
            Segment(
                index=len(segments),
                first_frame=n_frames,
                n_frames=int(manifest["n_frames"]),
                manifest=manifest,
                trajectory=segment_file(folder, len(segments), "xtc"),
            )
        )
        n_frames += segments[-1].n_frames
    return tuple(segments), None


def count_segments(folder: Path) -> int:
    """Count the manifests of a run, damaged ones included."""
    return len(_manifests(folder))


def _manifests(folder: Path) -> list[Path]:
    """List the manifests in order, also past the 100,000th with its longer name."""
    return sorted((folder / SEGMENTS).glob("[0-9]*.json"), key=lambda path: int(path.stem))


def is_intact(segment: Segment, suffix: str = "xtc") -> bool:
    """Hold one file of a segment against its recorded checksum.

    Parameters
    ----------
    segment : Segment
        A committed segment.
    suffix : str
        ``xtc``, ``chk`` or ``state.xml.gz``.

    Returns
    -------
    bool
        False also where the file is missing.
    """
    path = segment.trajectory.with_name(f"{segment.index:05d}.{suffix}")
    recorded = segment.manifest["sha256"].get(suffix.split(".")[0])
    return path.exists() and sha256_of(path) == recorded


def has_recorded_size(segment: Segment) -> bool:
    """Say whether the trajectory file of a segment has the size it was committed with."""
    path = segment.trajectory
    return path.exists() and path.stat().st_size == segment.manifest["xtc_bytes"]


def set_aside_segments(folder: Path, first: int) -> Path:
    """Take segments out of the trajectory without deleting them.

    The newest goes first and its manifest before its data, so that the segments that
    remain are contiguous at every moment. The caller must hold the lock.

    Parameters
    ----------
    folder : Path
        Folder of a run.
    first : int
        Index of the first segment to take out; all later ones follow it.

    Returns
    -------
    Path
        Folder that holds them now, under ``segments/``.
    """
    stamp = utc_now().replace(":", "").replace("+0000", "Z")
    target = folder / SEGMENTS / f"set-aside-{stamp}-{secrets.token_hex(2)}"
    target.mkdir()
    for path in reversed(_manifests(folder)):
        index = int(path.stem)
        if index < first:
            break
        path.rename(target / path.name)
        flush_folder(path.parent)
        for suffix in ("xtc", "chk", "state.xml.gz"):
            data = segment_file(folder, index, suffix)
            if data.exists():
                data.rename(target / data.name)
    return target


def prune_restart_files(folder: Path, newest: int) -> None:
    """Delete checkpoints and states that are older than the last `N_RESTART_FILES` segments."""
    for index in range(newest - N_RESTART_FILES, -1, -1):
        paths = [segment_file(folder, index, suffix) for suffix in ("chk", "state.xml.gz")]
        if not any(path.exists() for path in paths):
            break
        for path in paths:
            path.unlink(missing_ok=True)
