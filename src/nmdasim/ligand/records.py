"""The data files of the library: rows, mixtures, published figures."""

import csv
import math
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from nmdasim.ligand.model import Finding, LibraryEntry, Reaction
from nmdasim.structures import structures_folder


def library() -> tuple[LibraryEntry, ...]:
    """List the ligands that are known by name.

    Returns
    -------
    entries : tuple of LibraryEntry

    Examples
    --------
    >>> [entry.name for entry in library()][:2]
    ['S-ketamine', 'R-ketamine']
    """
    return _read()[0]


def mixtures() -> Mapping[str, tuple[str, ...]]:
    """Give the library's names of what each mixture may contain, by the mixture's name.

    Returns
    -------
    mixtures : mapping of str to tuple of str
    """
    return MappingProxyType({row["name"]: tuple(row["components"]) for row in _read()[1]})


def mixture_names() -> Mapping[str, str]:
    """Give the name of a mixture by each of its names as written."""
    return {name: row["name"] for row in _read()[1] for name in (row["name"], *row["synonyms"])}


def potencies(name: str | None = None) -> tuple[Finding, ...]:
    """List published potencies, affinities and rates of block.

    Parameters
    ----------
    name : str, optional
        Name in the library: what was measured on it, and what was measured on a mixture
        that contains it. Everything when left out.

    Returns
    -------
    findings : tuple of Finding

    Notes
    -----
    Compare two findings only if their `conditions` agree: an affinity from displaced
    radioligand is not a potency at -70 mV, and no magnesium is not 1 mM.

    Examples
    --------
    >>> [(f.relation, f.text, f.unit, f.mark) for f in potencies("S-ketamine")
    ...  if f.quantity == "Ki" and f.source.startswith("Ebert")]
    [('=', '0.3', 'uM', 'SEEN')]
    """
    found = _findings("potencies.csv")
    if name is None:
        return found
    subjects = {name, *_mixtures_with(name)}
    return tuple(f for f in found if f.subject in subjects)


def _mixtures_with(name: str) -> Iterator[str]:
    return (mixture for mixture, components in mixtures().items() if name in components)


@cache
def _read() -> tuple[tuple[LibraryEntry, ...], tuple[dict[str, Any], ...]]:
    """Read the ligands, and the rows of mixtures."""
    with (structures_folder() / "ligands" / "library.toml").open("rb") as file:
        data = tomllib.load(file)
    mixed = tuple(data["mixture"])
    entries = []
    for row in data["ligand"]:
        subjects = {row["name"], *(m["name"] for m in mixed if row["name"] in m["components"])}
        made_by = row.get("made_by", ())
        properties = tuple(
            f
            for f in _findings("physchem.csv")
            if f.subject in subjects and f.quantity in ("pKa", "logP")
        )
        entries.append(
            LibraryEntry(
                name=row["name"],
                title=row["title"],
                family=row["family"],
                kind=row.get("kind", "molecule"),
                smiles=row["smiles"],
                cip=tuple(row["cip"]),
                synonyms=tuple(row["synonyms"]),
                pdb_component=row.get("pdb_component", ""),
                reactions=tuple(_reaction(made, data["sources"]) for made in made_by),
                properties=properties,
            )
        )
    return tuple(entries), mixed


def _reaction(row: Mapping[str, str], sources: Mapping[str, Mapping[str, str]]) -> Reaction:
    source = sources[row["source"]]
    return Reaction(
        parent=row["parent"],
        name=row["reaction"],
        enzymes=row.get("enzymes", ""),
        source=source["text"],
        doi=source.get("doi", ""),
        mark=row["mark"],
        note=row.get("note", ""),
    )


@cache
def _findings(name: str) -> tuple[Finding, ...]:
    path = structures_folder() / "ligands" / name
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(_finding(row) for row in csv.DictReader(file))


def _finding(row: Mapping[str, str]) -> Finding:
    """Turn one row into a finding; the conditions of a property are part of its preparation."""
    value = row["value"]
    return Finding(
        subject=row["ligand"],
        form=row.get("form", ""),
        quantity=row["quantity"],
        relation=row["relation"],
        value=float(value) if value else math.nan,
        text=value or row.get("text_value", ""),
        uncertainty=row.get("uncertainty", ""),
        unit="" if row["unit"] == "1" else row["unit"],
        assay=row.get("assay", ""),
        species=row.get("species", ""),
        subunits=row.get("subunits", ""),
        preparation=row.get("preparation", row.get("condition", "")),
        mg_mM=row.get("mg_mM", ""),
        voltage_mV=row.get("voltage_mV", ""),
        source=row["source"],
        doi=row["doi"],
        mark=row["mark"],
        note=row["note"],
    )
