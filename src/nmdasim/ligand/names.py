"""Names: synonyms, mixtures, and the nearest to a misspelt one."""

import difflib
import re

from nmdasim.ligand.model import LibraryEntry
from nmdasim.ligand.records import library, mixture_names, mixtures


def find_entry(name: str) -> LibraryEntry | None:
    """Look a name, a synonym or a PDB component up in the library, whatever its case.

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
    return next((e for e in library() if plain in map(plain_name, names_of(e))), None)


def names_of(entry: LibraryEntry) -> tuple[str, ...]:
    """List everything that an entry is called."""
    names = (entry.name, entry.title, *entry.synonyms, entry.pdb_component)
    return tuple(dict.fromkeys(name for name in names if name))


def components_of(name: str) -> tuple[str, ...]:
    """List what a mixture of this name may contain; empty if there is no such mixture."""
    plain = plain_name(name)
    for written, mixture in mixture_names().items():
        if plain_name(written) == plain:
            return mixtures()[mixture]
    return ()


def plain_name(name: str) -> str:
    """Fold the spellings of a name that mean the same."""
    return re.sub(r"[\s_]+", "-", name.strip()).casefold()


def nearest_names(text: str) -> tuple[str, ...]:
    """List the library's ligands with a name like the given one, the nearest first."""
    known = {plain_name(name): entry.name for entry in library() for name in names_of(entry)}
    near = difflib.get_close_matches(plain_name(text), known, n=3, cutoff=0.6)
    return tuple(dict.fromkeys(known[name] for name in near))
