"""The lock of a run folder: one live writer, on any file system."""

import contextlib
import errno
import json
import math
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmdasim.errors import RunFolderError
from nmdasim.rundir.files import (
    LOCK,
    NOT_ALLOWED,
    not_writable,
    storage_error,
    utc_now,
    write_atomic,
)

HEARTBEAT_S = 10.0
"""Seconds between two touches of the lock by its owner."""

STALE_S = 120.0
"""Age of the last touch, in seconds, beyond which an owner on another host may be dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLock:
    """The right to write into a run folder, held while a ``with lock_run(...)`` lasts."""

    path: Path
    """The lock file."""
    token: str
    """Random text that tells this owner from all others."""

    def confirm(self) -> None:
        """Check that no other process took the folder over.

        Raises
        ------
        RunFolderError
            If the lock file names another owner or is gone.
        """
        owner = _read_owner(self.path)
        if owner is None or owner.get("token") != self.token:
            raise RunFolderError(
                f"{self.path.parent} was taken over by another process while this one was "
                "suspended; this one stops and has committed nothing since"
            )

    def release(self) -> None:
        """Give the folder back, unless another process has taken it over."""
        # A lock that the disk does not let go is that of a dead process soon.
        with contextlib.suppress(OSError):
            if (_read_owner(self.path) or {}).get("token") == self.token:
                self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockOwner:
    """Who holds a run folder, as seen from outside."""

    host: str
    """Name of the computer."""
    pid: int
    """Number of the process."""
    age_s: float
    """Time since the last sign of life, in s, by the clock of this computer."""
    alive: bool
    """Whether the process exists, or on another computer was seen in the last `STALE_S`."""
    elsewhere: bool
    """Whether it is on another computer or in another container: only its age can tell."""


def lock_owner(folder: str | Path) -> LockOwner | None:
    """Look who holds a run folder; nothing is written and nobody is waited for.

    Parameters
    ----------
    folder : str or Path
        Folder of a run.

    Returns
    -------
    LockOwner or None
        None without a lock.
    """
    path = f"{folder}/{LOCK}"
    try:
        age_s = time.time() - os.stat(path).st_mtime
    except OSError:
        return None
    owner = _read_owner(Path(path)) or {}
    here = _is_of_this_machine(owner)
    return LockOwner(
        host=str(owner.get("host", "(unknown)")),
        pid=int(owner.get("pid", 0)),
        age_s=age_s,
        alive=_is_running(owner) if here else age_s < STALE_S,
        elsewhere=not here,
    )


_held: dict[tuple[int, int, str], RunLock] = {}
"""Locks of this process, by process, thread and folder: makes `lock_run` re-entrant."""


@contextlib.contextmanager
def lock_run(
    folder: Path,
    *,
    heartbeat_s: float = HEARTBEAT_S,
    stale_s: float = STALE_S,
) -> Iterator[RunLock]:
    """Hold a run folder alone; inside a ``with`` of the same thread it is already held.

    Parameters
    ----------
    folder : Path
        Existing folder of a run.
    heartbeat_s : float
        Seconds between two touches of the lock file.
    stale_s : float
        An owner on another host, or in another container, is watched: at its first touch
        it is alive, and without one it is dead when the last is older than this, or when
        one has watched for so long.

    Yields
    ------
    RunLock

    Raises
    ------
    RunFolderError
        If a live process holds the folder, or it may not be written.

    Notes
    -----
    The lock is a file made with O_EXCL, which network file systems honour; flock is not
    used. It names host, process, start of the process and time. An owner on the same host
    is alive if its process exists and started when the lock says (read from /proc; where
    there is none, if the process exists). Ages are taken from the file server's clock, and
    the watching ends whatever the clocks say.
    """
    folder = folder.resolve()
    key = (os.getpid(), threading.get_ident(), str(folder))
    if key in _held:
        yield _held[key]
        return
    lock = _acquire(folder / LOCK, heartbeat_s=heartbeat_s, stale_s=stale_s)
    _held[key] = lock
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(lock, stop, heartbeat_s), daemon=True)
    beat.start()
    try:
        yield lock
    finally:
        stop.set()
        beat.join()
        del _held[key]
        lock.release()


def _beat(lock: RunLock, stop: threading.Event, heartbeat_s: float) -> None:
    while not stop.wait(heartbeat_s):
        owner = _read_owner(lock.path)
        if owner is None or owner.get("token") != lock.token:
            return
        with contextlib.suppress(OSError):
            os.utime(lock.path)


def _acquire(path: Path, *, heartbeat_s: float, stale_s: float) -> RunLock:
    lock = RunLock(path=path, token=secrets.token_hex(8))
    try:
        # The owner may let go between our attempt and our look at its record.
        for _ in range(5):
            if _create_exclusively(path, lock.token):
                return lock
            if path.exists():
                break
        owner = _read_owner(path)
        if _is_alive(path, owner or {}, heartbeat_s=heartbeat_s, stale_s=stale_s):
            who = owner or {"pid": "(unknown)", "host": "(unknown)", "started": "just now"}
            raise RunFolderError(
                f"{path.parent} is in use by process {who.get('pid')} on {who.get('host')} "
                f"since {who.get('started')}: wait for it, or stop it first"
            )
        _take_over(path, owner, lock.token, stale_s=stale_s)
    except FileNotFoundError as error:
        raise RunFolderError(f"{path.parent} does not exist: there is no run to lock") from error
    except OSError as error:
        if error.errno in NOT_ALLOWED:
            raise not_writable(path.parent) from error
        raise storage_error(path, error) from error
    return lock


def _create_exclusively(path: Path, token: str) -> bool:
    """Make the file if it is not there; its content appears together with its name."""
    temporary = path.with_name(f".{path.name}.{token}.tmp")
    try:
        temporary.write_text(_owner_record(token))
        os.link(temporary, path)
    except FileExistsError:
        # A network file system may repeat a request whose answer was lost: it is ours then.
        return (_read_owner(path) or {}).get("token") == token
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS}:
            raise
        return _create_without_link(path, token)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _create_without_link(path: Path, token: str) -> bool:
    try:
        with path.open("x") as file:
            file.write(_owner_record(token))
    except FileExistsError:
        return False
    return True


def _take_over(path: Path, dead: Mapping[str, Any] | None, token: str, *, stale_s: float) -> None:
    """Replace the lock of a dead owner; only one of several contenders gets through."""
    if not path.exists() and _create_exclusively(path, token):
        return
    gate = path.with_name(f"{path.name}.takeover")
    if not _create_exclusively(gate, token):
        if not is_abandoned(gate, stale_s=stale_s):
            raise RunFolderError(
                f"{path.parent} is being taken over by another process at this moment: try again"
            )
        gate.unlink(missing_ok=True)
        if not _create_exclusively(gate, token):
            raise RunFolderError(f"{path.parent} is being taken over: try again")
    try:
        if _read_owner(path) != dead:
            raise RunFolderError(f"{path.parent} was taken over by another process: try again")
        write_atomic(path, _owner_record(token))
    finally:
        gate.unlink(missing_ok=True)


def _owner_record(token: str) -> str:
    return json.dumps(
        {
            "host": platform.node(),
            "machine": _machine(),
            "pid": os.getpid(),
            "process_start": _process_start(os.getpid()),
            "started": utc_now(),
            "token": token,
        }
    )


def _read_owner(path: Path) -> dict[str, Any] | None:
    """Return the record of a lock; None without a lock or when it is unreadable."""
    try:
        owner = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return owner if isinstance(owner, dict) else None


def _machine() -> str:
    """Name the boot and process namespace in which a process number means something."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _process_start(pid: int) -> str:
    """Return the start of a process in clock ticks since boot; empty where not known.

    A process that ended and waits for its parent to notice counts as gone.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in {"Z", "X"} else fields[19]


def _is_alive(path: Path, owner: Mapping[str, Any], *, heartbeat_s: float, stale_s: float) -> bool:
    if _is_of_this_machine(owner):
        return _is_running(owner)
    try:
        seen, age_s = path.stat().st_mtime_ns, _age_s(path)
        # Two heartbeats at least, so that one look at an old time does not kill a living owner;
        # at most as long as a dead owner's lock lasts, so that no clock keeps one waiting.
        end = time.monotonic() + min(stale_s, max(2 * heartbeat_s, stale_s - age_s))
        while time.monotonic() < end:
            time.sleep(min(heartbeat_s / 4, max(end - time.monotonic(), 0.0)))
            if path.stat().st_mtime_ns != seen:
                return True
    except FileNotFoundError:
        pass
    return False


def is_abandoned(path: Path, *, stale_s: float = STALE_S) -> bool:
    """Say whether a file that holds the record of an owner was left by one that is dead.

    Parameters
    ----------
    path : Path
        A file of the lock; its age decides where its record does not tell.
    stale_s : float
        Age in seconds beyond which an owner on another host counts as dead.

    Returns
    -------
    bool
    """
    owner = _read_owner(path)
    if owner is not None and _is_of_this_machine(owner):
        return not _is_running(owner)
    return _age_s(path) >= stale_s


def _is_of_this_machine(owner: Mapping[str, Any]) -> bool:
    return owner.get("host") == platform.node() and owner.get("machine") == _machine()


def _is_running(owner: Mapping[str, Any]) -> bool:
    pid = int(owner.get("pid", 0))
    start = _process_start(pid)
    if start:
        return start == owner.get("process_start")
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not owner.get("process_start")


def _age_s(path: Path) -> float:
    """Return the time since the last touch, by the clock of the file system itself."""
    probe = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    probe.touch()
    server_now = probe.stat().st_mtime
    probe.unlink(missing_ok=True)
    try:
        return server_now - path.stat().st_mtime
    except FileNotFoundError:
        return math.inf
