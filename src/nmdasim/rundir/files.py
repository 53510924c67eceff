"""Names of the files of a run, and writes that a crash cannot tear."""

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nmdasim.errors import RunFolderError, RunStorageError

RUN = "run.toml"
#: In place of run.toml where a trajectory of another program was analysed.
FOREIGN = "foreign.json"
PROVENANCE = "provenance.json"
RECEPTOR = "receptor.cif"
LIGAND = "ligand.sdf"
TOPOLOGY = "topology.cif"
SYSTEM = "system.xml.gz"
BUILT_STATE = "equilibration/00.state.xml.gz"
START = "start.state.xml.gz"
EQUILIBRATION = "equilibration.json"
SEGMENTS = "segments"
ANALYSIS = "analysis"
REPORT = "report.html"
STATUS = "status.json"
LOCK = "run.lock"

BUILT = (RECEPTOR, LIGAND, TOPOLOGY, SYSTEM, BUILT_STATE)
"""Files that make a run ready to simulate; their hashes are in `PROVENANCE`."""

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
TEMPORARY = re.compile(r"\..+\.tmp")


def storage_error(path: Path, error: OSError | str) -> RunStorageError:
    """Put a refusal of the disk into one sentence.

    Parameters
    ----------
    path : Path
        File that could not be written or read.
    error : OSError or str
        What the operating system said.

    Returns
    -------
    RunStorageError
        To be raised by the caller.
    """
    code = error.errno if isinstance(error, OSError) else None
    if code in DISK_FULL:
        cause = "the disk or quota is full: free space"
    elif code in NOT_ALLOWED:
        cause = "the folder is not writable: change its permissions"
    else:
        said = error.strerror or str(error) if isinstance(error, OSError) else error
        cause = f"the disk said '{said}': check it"
    return RunStorageError(
        f"could not write {path}: {cause} and run the same command again; "
        "everything committed is kept"
    )


def not_writable(folder: Path) -> RunFolderError:
    """Say that a folder may not be written, in one sentence."""
    return RunFolderError(
        f"{folder} may not be written by you; choose another folder with -o or change permissions"
    )


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file so that it holds either its old or its new content, never a part.

    The bytes go to a temporary file in the same folder, reach the disk, and are renamed
    into place; then the folder itself is flushed.

    Parameters
    ----------
    path : Path
        File to write or replace.
    data : bytes or str
        Whole content; text is stored as UTF-8.

    Raises
    ------
    RunStorageError
        If the disk is full or refuses; nothing is left behind then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise storage_error(path, error) from error


def commit_file(temporary: Path, path: Path) -> None:
    """Flush a finished file to the disk and rename it into place.

    Parameters
    ----------
    temporary, path : Path
        The file as it was written, and its final name in the same folder.

    Raises
    ------
    RunStorageError
        If the disk is full or refuses.
    """
    try:
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error


def flush_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut, where the system can do that."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON document atomically, indented, in the order given.

    Parameters
    ----------
    path : Path
        File to write or replace.
    content : mapping
        Strings, finite numbers, booleans, None, lists and mappings of them.

    Raises
    ------
    RunStorageError
        If the disk is full or refuses.
    """
    write_atomic(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON document of a run folder.

    Parameters
    ----------
    path : str or Path
        Existing file.

    Returns
    -------
    dict

    Raises
    ------
    RunStorageError
        If the file is missing or is not a whole JSON document.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            content = json.loads(file.read())
    except OSError as error:
        raise RunStorageError(f"could not read {path}: {error.strerror}") from error
    except ValueError as error:
        raise RunStorageError(
            f"{path} is damaged ({error}): restore it from a copy, or start the run in a new folder"
        ) from error
    if not isinstance(content, dict):
        raise RunStorageError(f"{path} is damaged: it holds no JSON object")
    return content


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def utc_now() -> str:
    """Return the present time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
