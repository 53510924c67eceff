"""Names: the shipped library, its synonyms, and the nearest to a misspelt one."""

import difflib
import math
import re
import tomllib
from functools import cache

from nmdasim.ligand.model import LibraryEntry
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
    return library_and_mixtures()[0]


def find_entry(name: str) -> LibraryEntry | None:
    """Look a name or synonym up in the library, whatever its case.

    Parameters
    ----------
    name : str

    Returns
    -------
    entry : LibraryEntry or None

    Examples
    --------
    >>> find_entry("arketamine").name
    'R-ketamine'
    """
    plain = plain_name(name)
    for entry in library():
        if plain in map(plain_name, (entry.name, *entry.synonyms)):
            return entry
    return None


@cache
def library_and_mixtures() -> tuple[tuple[LibraryEntry, ...], dict[str, tuple[str, ...]]]:
    """Read the rows, and the components of each mixture by its folded names."""
    with (structures_folder() / "ligands" / "library.toml").open("rb") as file:
        data = tomllib.load(file)
    entries = tuple(
        LibraryEntry(
            name=row["name"],
            title=row["title"],
            family=row["family"],
            kind=row.get("kind", "molecule"),
            smiles=row["smiles"],
            cip=tuple(row["cip"]),
            synonyms=tuple(row["synonyms"]),
            pka=float(row.get("pka", {}).get("value", math.nan)),
            pka_source=row.get("pka", {}).get("source", ""),
            pka_mark=row.get("pka", {}).get("mark", ""),
        )
        for row in data["ligand"]
    )
    mixtures = {
        plain_name(name): tuple(row["components"])
        for row in data.get("mixture", ())
        for name in (row["name"], *row["synonyms"])
    }
    return entries, mixtures


def plain_name(name: str) -> str:
    """Fold the spellings of a name that mean the same."""
    return re.sub(r"[\s_]+", "-", name.strip()).casefold()


def nearest_names(text: str) -> tuple[str, ...]:
    """List the library's ligands with a name like the given one, the nearest first."""
    names = {
        plain_name(name): entry.name
        for entry in library()
        for name in (entry.name, *entry.synonyms)
    }
    near = difflib.get_close_matches(plain_name(text), names, n=3, cutoff=0.6)
    return tuple(dict.fromkeys(names[name] for name in near))
