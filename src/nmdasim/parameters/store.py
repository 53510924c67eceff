"""Where parameters are found: with nmdasim, in the user's cache, or by making them."""

import json
import os
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from rdkit import Chem

from nmdasim.errors import ParametersError
from nmdasim.ligand import ChargeState
from nmdasim.parameters.charges import mirror_image
from nmdasim.parameters.ffxml import renamed
from nmdasim.parameters.generate import METHOD_VERSION, check_generator, generate_parameters
from nmdasim.parameters.model import (
    Parameters,
    one_file,
    read_parameters,
    sha256,
    write_whole,
)
from nmdasim.structures import structures_folder


def load_parameters(state: ChargeState) -> Parameters:
    """Find or make the force-field parameters of a charge state.

    Parameters
    ----------
    state : ChargeState

    Returns
    -------
    parameters : Parameters
        Those that ship with nmdasim, else those generated before and kept in the user's
        cache folder, else newly generated ones. A mirror image of either serves as well.

    Raises
    ------
    ParametersError
        If the molecule is new and the `parameters` extra is not installed or cannot
        describe it.

    Notes
    -----
    Molecules are recognised by their canonical isomeric SMILES, charges and tautomer
    included, never by name. An entry of the cache that is damaged, belongs to another
    molecule or was made by another method is said and made again.
    """
    found = _shipped_parameters(state) or _kept_parameters(state)
    if found is not None:
        return found
    parameters = generate_parameters(state)
    _keep(parameters, cache_file(state))
    return parameters


def check_parameters(state: ChargeState) -> None:
    """Refuse at once a charge state that `load_parameters` would refuse for want of the extra.

    Parameters
    ----------
    state : ChargeState

    Raises
    ------
    ParametersError
        If its parameters neither ship nor were kept, and the `parameters` extra is not there.
    """
    if not (ships(state) or cache_file(state).is_file()):
        check_generator(state)


def ships(state: ChargeState) -> bool:
    """Say whether parameters of a charge state come with nmdasim.

    Parameters
    ----------
    state : ChargeState

    Returns
    -------
    ships : bool
        If not, `load_parameters` needs its cache or the `parameters` extra.
    """
    return any(smiles in _shipped() for smiles in _both_hands(state))


def cache_folder() -> Path:
    """Tell where generated parameters are kept.

    Returns
    -------
    path : pathlib.Path
        `parameters` in `$NMDASIM_CACHE`, else in `nmdasim` below `$XDG_CACHE_HOME` or
        `~/.cache`; need not exist. It can be deleted at any time.
    """
    own, common = os.environ.get("NMDASIM_CACHE"), os.environ.get("XDG_CACHE_HOME", "")
    if own:
        return Path(own).expanduser() / "parameters"
    # The XDG Base Directory Specification has relative paths ignored.
    base = Path(common) if Path(common).is_absolute() else Path.home() / ".cache"
    return base / "nmdasim" / "parameters"


def cache_file(state: ChargeState) -> Path:
    """Tell where generated parameters of a charge state are kept.

    Parameters
    ----------
    state : ChargeState

    Returns
    -------
    path : pathlib.Path
        Named by the chemistry, which a mirror image shares, and by `METHOD_VERSION`; need
        not exist.
    """
    return cache_folder() / f"{sha256(f'{METHOD_VERSION}|{min(_both_hands(state))}')[:32]}.json"


def _both_hands(state: ChargeState) -> tuple[str, str]:
    return state.smiles, mirror_image(state.smiles)


@cache
def _shipped() -> Mapping[str, Path]:
    """Map canonical SMILES, as this release of RDKit writes them, to records."""
    records = sorted((structures_folder() / "ligands").glob("*/*.json"))
    return {
        Chem.CanonSmiles(json.loads(path.read_text(encoding="utf-8"))["smiles"]): path
        for path in records
    }


def _shipped_parameters(state: ChargeState) -> Parameters | None:
    for smiles in _both_hands(state):
        if smiles in _shipped():
            return _fitted(read_parameters(_shipped()[smiles]), state)
    return None


def _kept_parameters(state: ChargeState) -> Parameters | None:
    path = cache_file(state)
    if not path.is_file():
        return None
    try:
        parameters = read_parameters(path)
        if parameters.record.get("method_version") != METHOD_VERSION:
            raise ParametersError(f"the parameter file {path} was made by another method")
        return _fitted(parameters, state)
    except ParametersError as error:
        # A cache may be lost without loss: say so and make the file again.
        warnings.warn(f"{error}; it is generated again", UserWarning, stacklevel=3)
        return None


def _fitted(parameters: Parameters, state: ChargeState) -> Parameters:
    """Give the parameters of a molecule or of its mirror image to a charge state."""
    smiles = Chem.CanonSmiles(parameters.record["smiles"])
    if smiles == state.smiles:
        return parameters
    if smiles != mirror_image(state.smiles):
        raise ParametersError(f"the parameters kept for {state.name} are those of {smiles}")
    return renamed(parameters, state)


def _keep(parameters: Parameters, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, one_file(parameters))
    except OSError as error:
        warnings.warn(
            f"the generated parameters cannot be kept in {path.parent} ({error.strerror}): "
            "they are made again next time",
            UserWarning,
            stacklevel=3,
        )
