"""The parameters of one charge state, and the two files that hold them."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nmdasim.errors import ParametersError, RunStorageError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parameters:
    """Force-field parameters of one charge state."""

    ffxml: str
    """OpenMM force-field file; its residue template is matched by graph, not by names."""
    method: str
    """One sentence with citations for the methods paragraph."""
    record: Mapping[str, Any]
    """How they were made: SMILES, charges by atom name (e), method, versions, hash."""


def write_parameters(parameters: Parameters, path: str | Path) -> None:
    """Write parameters as two files, `NAME.xml` and its record `NAME.json`.

    Parameters
    ----------
    parameters : Parameters
    path : str or pathlib.Path
        Path without a suffix. The record is written last.

    Raises
    ------
    RunStorageError
        If the files cannot be written.
    """
    stem = Path(path)
    record = {**parameters.record, "method": parameters.method}
    try:
        write_whole(stem.with_name(stem.name + ".xml"), parameters.ffxml)
        write_whole(stem.with_name(stem.name + ".json"), json.dumps(record, indent=1) + "\n")
    except OSError as error:
        raise RunStorageError(f"cannot write the parameters to {stem}: {error.strerror}") from error


def read_parameters(path: str | Path) -> Parameters:
    """Read parameters by the path of their record.

    Parameters
    ----------
    path : str or pathlib.Path
        The `.json` file; the `.xml` file lies beside it unless the record contains it.

    Returns
    -------
    parameters : Parameters

    Raises
    ------
    ParametersError
        If a file is missing, damaged, or does not match its hash.
    """
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        ffxml = record.pop("ffxml", None) or path.with_suffix(".xml").read_text(encoding="utf-8")
        method, digest = record.pop("method"), record["sha256"]
        whole = digest == sha256(ffxml) and isinstance(record["smiles"], str)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ParametersError(f"the parameter file {path} is missing or damaged") from error
    if not whole:
        raise ParametersError(f"the force field beside {path} was changed after it was made")
    return Parameters(ffxml=ffxml, method=method, record=MappingProxyType(record))


def one_file(parameters: Parameters) -> str:
    """Write parameters as one text that `read_parameters` understands."""
    content = {**parameters.record, "method": parameters.method, "ffxml": parameters.ffxml}
    return json.dumps(content)


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is never seen half written."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def sha256(text: str) -> str:
    """Give the SHA-256 of a text in UTF-8, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
