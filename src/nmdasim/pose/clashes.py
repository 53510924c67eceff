"""Clashes of a ligand with the receptor around it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from nmdasim.receptor.quality import HYDROGEN_BOND_ALLOWANCE_NM, Spheres

_POLAR, _HYDROGEN_BOND_NM = ("N", "O"), 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One atom of the receptor and one of the ligand."""

    nm: float
    """What was asked of them: an overlap or a distance."""
    receptor: int
    """Index of the receptor's atom."""
    ligand: int
    """Index of the ligand's atom."""


def worst_overlap(
    receptor: Spheres,
    receptor_positions: NDArray[np.float64],
    ligand: Spheres,
    ligand_positions: NDArray[np.float64],
) -> Pair:
    """Find the two atoms whose van der Waals spheres overlap most.

    Parameters
    ----------
    receptor, ligand : Spheres
    receptor_positions, ligand_positions : ndarray of float64, shape (n, 3) and (m, 3), nm

    Returns
    -------
    pair : Pair
        Overlap in nm, less 0.04 nm where the two can share a hydrogen bond; negative where
        no spheres touch. From 0.04 nm it is a clash [1]_.

    References
    ----------
    .. [1] J. M. Word et al., J. Mol. Biol. 285, 1711 (1999), doi:10.1006/jmbi.1998.2400
    """
    overlap = receptor.radii[:, None] + ligand.radii - cdist(receptor_positions, ligand_positions)
    bridge = (receptor.gives[:, None] & ligand.takes) | (receptor.takes[:, None] & ligand.gives)
    overlap[bridge] -= HYDROGEN_BOND_ALLOWANCE_NM
    return _pair(overlap, overlap.argmax())


def closest_heavy(
    symbols: Sequence[str],
    positions: NDArray[np.float64],
    ligand_symbols: Sequence[str],
    ligand_positions: NDArray[np.float64],
) -> Pair:
    """Find the heavy atoms of receptor and ligand that are nearest.

    Parameters
    ----------
    symbols, ligand_symbols : sequence of str
        Elements. Hydrogens do not count, nor do pairs of nitrogen or oxygen from 0.25 nm, the
        least distance of a hydrogen bond.
    positions, ligand_positions : ndarray of float64, shape (n, 3) and (m, 3), nm

    Returns
    -------
    pair : Pair
        Distance in nm.
    """
    first = np.flatnonzero(np.array(symbols) != "H")
    second = np.flatnonzero(np.array(ligand_symbols) != "H")
    apart = cdist(positions[first], ligand_positions[second])
    polar = np.isin(np.array(symbols)[first], _POLAR)[:, None]
    polar = polar & np.isin(np.array(ligand_symbols)[second], _POLAR)
    apart[polar & (apart >= _HYDROGEN_BOND_NM)] = np.inf
    nearest = _pair(apart, apart.argmin())
    return Pair(
        nm=nearest.nm,
        receptor=int(first[nearest.receptor]),
        ligand=int(second[nearest.ligand]),
    )


def _pair(values: NDArray[np.float64], flat: np.intp) -> Pair:
    row, column = np.unravel_index(int(flat), values.shape)
    return Pair(nm=float(values[row, column]), receptor=int(row), ligand=int(column))
