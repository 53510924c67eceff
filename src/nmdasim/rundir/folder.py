"""Making and recognising the folder of a run; its provenance."""

import contextlib
import importlib.metadata
import platform
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nmdasim.errors import RunFolderError, RunStorageError
from nmdasim.rundir.files import (
    BUILT,
    BUILT_STATE,
    LOCK,
    NOT_ALLOWED,
    PROVENANCE,
    RUN,
    SEGMENTS,
    TEMPORARY,
    not_writable,
    read_json,
    sha256_of,
    storage_error,
    utc_now,
    write_atomic,
    write_json,
)
from nmdasim.rundir.inputs import (
    flat_inputs,
    format_toml,
    input_differences,
    plain_inputs,
    run_id,
)
from nmdasim.rundir.lock import is_abandoned, lock_run


def create_run_folder(folder: Path, inputs: Mapping[str, Any], *, extend: bool = False) -> str:
    """Make the folder of a run, or recognise it as the folder of this very run.

    Parameters
    ----------
    folder : Path
        New, empty, or the folder of a run.
    inputs : mapping
        Everything that decides the result, in tables; see `run_id`.
    extend : bool
        Allow ``simulation.production_ns`` to grow beyond what the folder records. What is
        committed is not touched; the record of the length and the run's identity change, and
        ``provenance.json`` remembers the former ones.

    Returns
    -------
    str
        Identity of the run.

    Raises
    ------
    RunFolderError
        If the folder holds another run (with the differences), holds foreign files, is a
        file, may not be written, or has to be written and is in use.
    RunStorageError
        If the disk is full.
    """
    asked = plain_inputs(inputs)
    with _refusals_in_words(folder):
        if not check_run_folder(folder, asked, extend=extend):
            folder.mkdir(parents=True, exist_ok=True)
            with lock_run(folder):
                # Somebody else may have made or extended the run since the look.
                if not check_run_folder(folder, asked, extend=extend):
                    _write_run(folder, asked)
        (folder / SEGMENTS).mkdir(exist_ok=True)
    return run_id(asked)


def check_run_folder(folder: Path, inputs: Mapping[str, Any], *, extend: bool = False) -> bool:
    """Refuse a folder that cannot be used for a run, before any work; nothing is written.

    Parameters
    ----------
    folder, inputs, extend
        As for `create_run_folder`.

    Returns
    -------
    bool
        Whether the folder holds this very run; otherwise it can be made, or extended, there.

    Raises
    ------
    RunFolderError
        If the folder holds another run (with the differences) or foreign files, or is a file.
    """
    asked = plain_inputs(inputs)
    with _refusals_in_words(folder):
        try:
            names = [item.name for item in folder.iterdir()]
        except FileNotFoundError:
            return False
        if RUN in names:
            return _is_same_run(folder, asked, extend=extend)
        _check_empty(folder, names)
    return False


@contextlib.contextmanager
def _refusals_in_words(folder: Path) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise RunFolderError(
            f"{folder} is, or lies under, a file; a run needs a folder: choose another with -o"
        ) from error
    except OSError as error:
        if error.errno in NOT_ALLOWED:
            raise not_writable(folder) from error
        raise storage_error(folder, error) from error
    except RunStorageError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in NOT_ALLOWED:
            raise not_writable(folder) from error
        raise


def _write_run(folder: Path, inputs: Mapping[str, Any]) -> None:
    """Write the inputs; where they replace shorter ones, remember those."""
    if (folder / RUN).exists():
        entry = {
            "when": utc_now(),
            "from_id": read_run_id(folder),
            "to_id": run_id(inputs),
            "from_ns": read_inputs(folder)["simulation"]["production_ns"],
            "to_ns": inputs["simulation"]["production_ns"],
        }
        before = read_provenance(folder).get("extensions", [])
        update_provenance(folder, {"extensions": [*before, entry]})
    header = {"id": run_id(inputs), "created_by": f"nmdasim {package_version('nmdasim')}"}
    text = (
        "# Inputs of this run. They decide its result: do not edit, start another run instead.\n"
        + format_toml({"run": header, **inputs})
    )
    write_atomic(folder / RUN, text)


def _check_empty(folder: Path, names: Sequence[str]) -> None:
    foreign = sorted(
        name
        for name in names
        if name != SEGMENTS and not name.startswith(LOCK) and not TEMPORARY.fullmatch(name)
    )
    if foreign:
        shown = ", ".join(foreign[:3]) + (" and more" if len(foreign) > 3 else "")
        raise RunFolderError(
            f"{folder} holds other files ({shown}) and no {RUN}; a run needs a new or empty "
            "folder: choose another with -o"
        )


def _is_same_run(folder: Path, asked: Mapping[str, Any], *, extend: bool) -> bool:
    """Tell this run from one to be extended to it; refuse any other with the differences."""
    there = read_inputs(folder)
    differences = input_differences(there, asked)
    if not differences:
        return True
    key = "simulation.production_ns"
    old = flat_inputs("", there).get(key)
    new = flat_inputs("", plain_inputs(asked)).get(key)
    only_length = old is not None and new is not None and len(differences) == 1
    if only_length and new > old:  # type: ignore[operator]
        if extend:
            return False
        advice = f"ask for {old} ns, or extend the run to {new} ns with --extend"
    elif only_length and extend:
        advice = f"what exists is not shortened: ask for more than {old} ns"
    else:
        advice = "repeat the inputs of that run to continue it, or choose another folder with -o"
    raise RunFolderError(
        f"{folder} holds a run with other inputs ({'; '.join(differences)}): {advice}"
    )


def read_inputs(folder: Path) -> dict[str, Any]:
    """Read the inputs of a run.

    Parameters
    ----------
    folder : Path
        Folder of a run.

    Returns
    -------
    dict
        Tables of plain values, without the ``[run]`` header.

    Raises
    ------
    RunFolderError
        If the folder holds no run, or its ``run.toml`` was changed by hand.
    """
    path = folder / RUN
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunFolderError(
            f"{folder} holds no run: there is no {RUN}; give the folder that `nmdasim run` made"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{path} is not readable TOML ({error}): restore it") from error
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error.strerror}") from error
    header = content.pop("run", {})
    recorded = header.get("id") if isinstance(header, dict) else None
    if recorded != run_id(content):
        raise RunFolderError(
            f"{path} was changed after the run was made: it records the identity {recorded} and "
            f"its inputs give {run_id(content)}; restore it, or start another run"
        )
    return content


def read_run_id(folder: Path) -> str:
    """Return the identity of the run in a folder; errors as in `read_inputs`."""
    return run_id(read_inputs(folder))


def read_provenance(folder: Path) -> dict[str, Any]:
    """Read the record of versions, hosts, times and hashes; empty while there is none."""
    path = folder / PROVENANCE
    return read_json(path) if path.exists() else {}


def update_provenance(folder: Path, changes: Mapping[str, Any]) -> None:
    """Replace some top-level entries of the provenance record.

    Parameters
    ----------
    folder : Path
        Folder of a run.
    changes : mapping
        Entries to set; what is not named stays.
    """
    write_json(folder / PROVENANCE, read_provenance(folder) | dict(changes))


def software_versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of Python and of the packages that are installed.

    Parameters
    ----------
    packages : sequence of str
        Names as on the package index; absent ones are left out.

    Returns
    -------
    dict of str to str
    """
    versions = {"python": platform.python_version()}
    for name in packages:
        version = package_version(name)
        if version:
            versions[name] = version
    return versions


def package_version(name: str) -> str:
    """Return the version of an installed package, or an empty string."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def is_built(folder: Path) -> bool:
    """Say whether everything that a simulation needs was written completely."""
    recorded = read_provenance(folder).get("files", {})
    return all((folder / name).exists() and name in recorded for name in BUILT)


def check_built(folder: Path) -> None:
    """Hold the built files against the hashes recorded when they were made.

    Parameters
    ----------
    folder : Path
        Folder of a run.

    Raises
    ------
    RunFolderError
        If one is missing or was changed.
    """
    if not is_built(folder):
        raise RunFolderError(
            f"{folder} is not fully built: repeat the `nmdasim run` command that made it"
        )
    recorded = read_provenance(folder)["files"]
    for name in BUILT:
        if sha256_of(folder / name) != recorded[name]:
            raise RunFolderError(
                f"{folder / name} was changed after the run was made: restore it from a copy, "
                "or start another run"
            )


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed writer left half done. The caller must hold the lock."""
    for parent in (folder, folder / SEGMENTS, (folder / BUILT_STATE).parent):
        for path in parent.glob(".*.tmp"):
            # Another process that asks for the lock right now owns temporary files of its own.
            if not path.name.startswith(f".{LOCK}") or is_abandoned(path):
                path.unlink(missing_ok=True)
