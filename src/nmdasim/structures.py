"""Where the structures that ship with nmdasim lie."""

from pathlib import Path


def structures_folder() -> Path:
    """Find the folder of shipped receptors and ligands.

    Returns
    -------
    folder : pathlib.Path
        `structures/` inside the installed package, or beside `src/` in a checkout.
    """
    packaged = Path(__file__).parent / "structures"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "structures"
