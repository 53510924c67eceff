"""Where a run stands: the record that its process writes, and what anybody may read."""

import contextlib
import os
import platform
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nmdasim.errors import NmdasimError, RunFolderError, RunStorageError
from nmdasim.rundir.files import RUN, SEGMENTS, STATUS, read_json, utc_now, write_json
from nmdasim.rundir.folder import read_inputs
from nmdasim.rundir.lock import RunLock, lock_owner

STATES = (
    "building",
    "equilibrating",
    "running",
    "finished",
    "analysed",
    "failed",
    "interrupted",
)
"""Values that `RunStatus.state` may take."""

EXIT_RESUMABLE = 75
"""Exit code of a run that was asked to stop: the same command continues it (EX_TEMPFAIL)."""

_HEADER_BYTES = 1024
_RUN_ID = re.compile(rb'^id = "([0-9a-f]{16})"$', re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """What is known to be finished in a run folder."""

    state: str
    """One of `STATES`."""
    reason: str = ""
    """Why the run failed or was interrupted; empty otherwise."""
    production_ps_done: float = 0.0
    """Length of the committed production frames, in ps."""
    production_ps_asked: float = 0.0
    """Length of production that the inputs ask for, in ps."""
    n_starts: int = 0
    """Starts of the simulation so far."""
    n_stalled: int = 0
    """Starts since something was last committed; the present one counts."""
    host: str = ""
    """Computer that wrote the record."""
    updated: str = ""
    """Time of writing, ISO 8601 in UTC; set by `write_status`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """Where a run stands, read from its files without disturbing it."""

    folder: Path
    """Folder of the run."""
    run_id: str
    """Identity of the run; empty where ``run.toml`` does not tell it."""
    state: str
    """One of `STATES`, as recorded; see `live` for whether somebody works on it."""
    reason: str
    """Why the run failed or was interrupted, or what cannot be read; empty otherwise."""
    production_ps_done: float
    """Length of the committed production frames, in ps."""
    production_ps_asked: float
    """Length of production that the inputs ask for, in ps."""
    n_frames: int
    """Number of committed frames."""
    n_segments: int
    """Number of committed segments."""
    ns_per_day: float
    """Speed of the newest segment, in ns/day; nan before there is one."""
    n_starts: int
    """Starts of the simulation so far."""
    n_stalled: int
    """Starts since something was last committed; the present one counts."""
    host: str
    """Computer that works on it, or that worked on it last."""
    live: bool
    """Whether a process holds the folder and shows signs of life."""
    owner: str
    """Process that holds the folder, dead or alive; empty without a lock."""
    heartbeat_s: float
    """Seconds since the last sign of life of the owner; nan without a lock."""
    updated: str
    """Time of the record, ISO 8601 in UTC; empty before there is one."""

    @property
    def hours_left(self) -> float:
        """Time that the rest takes at the speed of the newest segment, in h; nan if unknown."""
        left_ns = max(self.production_ps_asked - self.production_ps_done, 0.0) / 1000
        return left_ns / self.ns_per_day * 24


def write_status(folder: Path, status: RunStatus) -> RunStatus:
    """Record what is finished, with the present time.

    Parameters
    ----------
    folder : Path
        Folder of a run.
    status : RunStatus
        What is to be recorded; `RunStatus.updated` and `RunStatus.host` are replaced.

    Returns
    -------
    RunStatus
        As recorded.
    """
    if status.state not in STATES:
        raise RunFolderError(f"the state is {status.state!r}; allowed are {', '.join(STATES)}")
    written = replace(status, updated=utc_now(), host=platform.node())
    write_json(folder / STATUS, asdict(written))
    return written


def read_status(folder: str | Path) -> RunStatus:
    """Read what is finished; a folder without a record is ``building``."""
    try:
        record = read_json(f"{folder}/{STATUS}")
    except RunStorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return RunStatus(state="building")
        raise
    return RunStatus(**{key: record[key] for key in RunStatus.__slots__ if key in record})


def change_status(folder: Path, state: str, reason: str = "", **changes: Any) -> RunStatus:  # noqa: ANN401
    """Record a new state; what is not named stays as recorded.

    Parameters
    ----------
    folder : Path
        Folder of a run.
    state, reason : str
        As in `RunStatus`.
    **changes
        Other fields of `RunStatus`.

    Returns
    -------
    RunStatus
        As recorded.
    """
    before = _last_known(folder)
    return write_status(folder, replace(before, state=state, reason=reason, **changes))


def begin_start(folder: Path, state: str, *, simulates: bool) -> RunStatus:
    """Record that a process begins to work on a run.

    The start counts as stalled until something is committed: whoever commits sets
    `RunStatus.n_stalled` back to 0.

    Parameters
    ----------
    folder : Path
        Folder of a run.
    state : str
        What is done first.
    simulates : bool
        Whether this is a start of the simulation, and not only of building.

    Returns
    -------
    RunStatus
        As recorded.
    """
    before = _last_known(folder)
    return change_status(
        folder, state, n_starts=before.n_starts + simulates, n_stalled=before.n_stalled + 1
    )


def _last_known(folder: Path) -> RunStatus:
    try:
        return read_status(folder)
    except RunStorageError:
        # The segments are the truth; a record that the disk lost must not end the run.
        return RunStatus(state="building")


@contextlib.contextmanager
def failures_recorded(lock: RunLock) -> Iterator[None]:
    """Record in the folder why the work inside the ``with`` ended early, and pass it on.

    Parameters
    ----------
    lock : RunLock
        The right to write. When another process took the folder over, its record is left alone.
    """
    try:
        yield
    except Exception as error:
        said = str(error) if isinstance(error, NmdasimError) else ""
        reason = said or f"{type(error).__name__}: {error}".rstrip(": ")
        record_end(lock, "failed", " ".join(reason.split()))
        raise
    except BaseException as error:
        record_end(lock, "interrupted", f"stopped by {str(error) or 'SIGINT'}")
        raise


def record_end(lock: RunLock, state: str, reason: str) -> None:
    """Record why a start ends early, if the disk lets one and the folder still is its own.

    Parameters
    ----------
    lock : RunLock
        The right to write.
    state, reason : str
        As in `RunStatus`.
    """
    # The start is ending already: what ends it matters more than a record that fails.
    with contextlib.suppress(NmdasimError, OSError):
        lock.confirm()
        change_status(lock.path.parent, state, reason)


def find_runs(places: Iterable[str | Path]) -> list[Path]:
    """Find the folders of runs: those given, and those directly below a given folder.

    Parameters
    ----------
    places : iterable of str or Path
        Folders of runs, or folders that hold such folders.

    Returns
    -------
    list of Path
        In the order given; those of one folder by name.

    Raises
    ------
    RunFolderError
        If a place neither is a run nor holds one.
    """
    found: list[Path] = []
    for place in map(Path, places):
        if (place / RUN).is_file():
            found.append(place)
            continue
        try:
            below = sorted(item.name for item in os.scandir(place) if item.is_dir())
        except OSError as error:
            raise RunFolderError(
                f"{place} cannot be read ({error.strerror}): give folders of runs"
            ) from error
        runs = [place / name for name in below if (place / name / RUN).is_file()]
        if not runs:
            raise RunFolderError(
                f"{place} holds no run: there is no {RUN} in it nor one level below; give folders "
                "of runs, or a folder that holds them"
            )
        found += runs
    return found


def run_summary(folder: str | Path) -> RunSummary:
    """Read where a run stands; nothing is written and no lock is taken.

    Parameters
    ----------
    folder : str or Path
        Folder of a run, which may be in use.

    Returns
    -------
    RunSummary
        Records that cannot be read are told in `RunSummary.reason`, with the state ``failed``.

    Raises
    ------
    RunFolderError
        If the folder holds no run.

    Notes
    -----
    Reads ``status.json``, the newest manifest, the first bytes of ``run.toml`` and the lock:
    the time does not grow with the length of the run. The frames are counted by the manifest.
    """
    folder = Path(folder)
    place = str(folder)
    identity = _read_identity(place)
    reason = ""
    try:
        status = read_status(place)
        n_segments, manifest = _newest_manifest(place)
    except RunStorageError as error:
        status, n_segments, manifest = RunStatus(state="failed"), 0, {}
        reason = str(error)
    asked_ps = status.production_ps_asked or _asked_ps(folder)
    n_frames = manifest.get("first_frame", 0) + manifest.get("n_frames", 0)
    done_ps = n_frames * manifest.get("frame_interval_ps", 0.0)
    owner = lock_owner(place)
    return RunSummary(
        folder=folder,
        run_id=identity,
        state=status.state,
        reason=reason or status.reason,
        production_ps_done=done_ps or status.production_ps_done,
        production_ps_asked=asked_ps,
        n_frames=n_frames,
        n_segments=n_segments,
        ns_per_day=manifest.get("ns_per_day", float("nan")),
        n_starts=status.n_starts,
        n_stalled=status.n_stalled,
        host=owner.host if owner else status.host,
        live=owner is not None and owner.alive,
        owner=f"process {owner.pid} on {owner.host}" if owner else "",
        heartbeat_s=owner.age_s if owner else float("nan"),
        updated=status.updated,
    )


# A folder of ten thousand runs is read in seconds only if paths stay plain text here.


def _read_identity(folder: str) -> str:
    path = f"{folder}/{RUN}"
    try:
        with open(path, "rb", buffering=0) as file:
            match = _RUN_ID.search(file.read(_HEADER_BYTES))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunFolderError(
            f"{folder} holds no run: there is no {RUN}; give the folder that `nmdasim run` made"
        ) from error
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error.strerror}") from error
    return match[1].decode() if match else ""


def _asked_ps(folder: Path) -> float:
    """Return the length that the inputs ask for, in ps; 0 where they do not tell it."""
    try:
        asked = read_inputs(folder).get("simulation", {}).get("production_ns", 0.0)
    except RunFolderError:
        return 0.0
    return float(asked) * 1000


def _newest_manifest(folder: str) -> tuple[int, dict[str, Any]]:
    """Return the number of committed segments and the manifest of the last."""
    try:
        names = os.listdir(f"{folder}/{SEGMENTS}")
    except FileNotFoundError:
        return 0, {}
    committed = [name for name in names if name.endswith(".json") and name[0].isdigit()]
    if not committed:
        return 0, {}
    newest = max(committed, key=lambda name: (len(name), name))
    return len(committed), read_json(f"{folder}/{SEGMENTS}/{newest}")
