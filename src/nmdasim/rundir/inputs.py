"""Inputs of a run: plain values, their identity, their differences and their TOML."""

import hashlib
import json
import math
import numbers
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nmdasim.errors import RunFolderError

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def plain_inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce inputs to what TOML can hold: tables, lists, text, numbers and truth values.

    Parameters
    ----------
    inputs : mapping
        Nested mappings with text keys; tuples become lists, NumPy scalars plain numbers.

    Returns
    -------
    dict
        A copy.

    Raises
    ------
    RunFolderError
        If a value is of another type or is not finite.
    """
    return {str(key): _plain(str(key), value) for key, value in inputs.items()}


def _plain(key: str, value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Mapping):
        return {str(k): _plain(f"{key}.{k}", v) for k, v in value.items()}
    if isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real) and math.isfinite(value):
        return float(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_plain(f"{key}[{i}]", item) for i, item in enumerate(value)]
    raise RunFolderError(
        f"the input {key} is {value!r}; a run records text, finite numbers, truth values, "
        "lists and tables of them: leave out what is not set"
    )


def run_id(inputs: Mapping[str, Any]) -> str:
    """Compute the identity of a run from its inputs.

    Parameters
    ----------
    inputs : mapping
        As for `plain_inputs`. The order of keys and the spelling of whole numbers
        (4 or 4.0) do not matter.

    Returns
    -------
    str
        First 16 hexadecimal digits of the SHA-256 of the canonical JSON.
    """
    canonical = json.dumps(
        _canonical(plain_inputs(inputs)), sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _canonical(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def run_name(
    ligand_state: str, receptor: str, protocol: str, *, seed: int, replica: int, pose: int
) -> str:
    """Name the folder of a run.

    Parameters
    ----------
    ligand_state : str
        Ligand with its signed charge, such as ``S-ketamine+1``.
    receptor, protocol : str
        Their names.
    seed, replica, pose : int
        The first start pose is not named.

    Returns
    -------
    str

    Examples
    --------
    >>> run_name("S-ketamine+1", "7eu8", "vestibule", seed=1, replica=0, pose=2)
    'S-ketamine+1_7eu8_vestibule_s1r0p2'
    """
    name = f"{ligand_state}_{receptor}_{protocol}_s{seed}r{replica}"
    return name + (f"p{pose}" if pose != 1 else "")


def input_differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> tuple[str, ...]:
    """List the inputs in which two runs differ.

    Parameters
    ----------
    there, here : mapping
        Inputs as recorded in a folder, and as asked for now.

    Returns
    -------
    tuple of str
        One entry for each key, such as ``protocol.temperature_k: 310.0 there, 300.0 here``.
    """
    old, new = flat_inputs("", plain_inputs(there)), flat_inputs("", plain_inputs(here))
    differences = []
    for key in sorted(old.keys() | new.keys()):
        if key in old and key in new and _canonical(old[key]) == _canonical(new[key]):
            continue
        was = json.dumps(old[key]) if key in old else "absent"
        now = json.dumps(new[key]) if key in new else "absent"
        differences.append(f"{key}: {was} there, {now} here")
    return tuple(differences)


def flat_inputs(prefix: str, value: Any) -> dict[str, Any]:  # noqa: ANN401
    """Flatten tables to dotted keys; a list without tables stays one value."""
    if isinstance(value, dict) and (value or not prefix):
        dot = f"{prefix}." if prefix else ""
        items = [(f"{dot}{_toml_key(key)}", item) for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = [(f"{prefix}[{i}]", item) for i, item in enumerate(value)]
    else:
        return {prefix: value}
    return {key: leaf for name, item in items for key, leaf in flat_inputs(name, item).items()}


def format_toml(content: Mapping[str, Any]) -> str:
    """Write tables of plain values as TOML.

    Parameters
    ----------
    content : mapping
        As for `plain_inputs`; a list of mappings becomes an array of tables.

    Returns
    -------
    str
        Text that `tomllib.loads` reads back to the same values.
    """
    return "\n".join(_toml_table((), plain_inputs(content))).strip("\n") + "\n"


def _toml_table(path: tuple[str, ...], table: Mapping[str, Any]) -> Iterator[str]:
    tables = {key: item for key, item in table.items() if isinstance(item, dict)}
    arrays = {key: item for key, item in table.items() if _is_array_of_tables(item)}
    for key, item in table.items():
        if key not in tables and key not in arrays:
            yield f"{_toml_key(key)} = {_toml_value(item)}"
    for key, item in tables.items():
        yield f"\n[{'.'.join(map(_toml_key, (*path, key)))}]"
        yield from _toml_table((*path, key), item)
    for key, items in arrays.items():
        for item in items:
            yield f"\n[[{'.'.join(map(_toml_key, (*path, key)))}]]"
            yield from _toml_table((*path, key), item)


def _is_array_of_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _toml_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _toml_value(key)


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_key(k)} = {_toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        return text
    return repr(value)
