"""What a radius means for passage: narrowest places, and whether water and ions go through."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmdasim.errors import PoreError
from nmdasim.pore.profile import PoreProfile

#: A ring's radius is the least one this near to the height of its CA: one residue further along
#: a helix lies 0.15 nm higher.
RING_WINDOW_NM = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class ConductionThresholds:
    """Radii of the pore from which water, and ions with it, pass."""

    water: float
    """Radius from which liquid water is stable in the pore, nm."""
    ions: float
    """Radius from which ions pass, nm."""
    source: str
    """Where the two come from."""


#: Walls that bind water, as in the selectivity filter. Water: liquid down to about its own radius
#: (Beckstein and Sansom 2004). Ions: the narrow part of the conducting GluN1-GluN2A channel has a
#: mean diameter of 0.55 nm, from which organic cations still pass (Villarroel et al. 1995).
POLAR = ConductionThresholds(
    water=0.14,
    ions=0.275,
    source="doi:10.1088/1478-3967/1/1/005, doi:10.1016/S0006-3495(95)80263-8",
)
#: Walls without polar groups, as in the rings of the gate: short model pores are empty of water
#: below 0.45 nm and closed to ions below 0.65 nm (Beckstein and Sansom 2004).
HYDROPHOBIC = ConductionThresholds(water=0.45, ions=0.65, source="doi:10.1088/1478-3967/1/1/005")
#: Answers of `conduction`, by number.
CONDUCTION = ("closed", "water", "ions")


def radius_at_rings(
    profile: PoreProfile, *, heights: ArrayLike, window: float = RING_WINDOW_NM
) -> NDArray[np.float64]:
    """Measure the radius of the pore at each of its rings.

    Parameters
    ----------
    profile : PoreProfile
        From `radius_profile` or, with a blocker as wall, `radius_profile_past`.
    heights : array_like of float, shape (n_rings,) or (n_frames, n_rings), nm
        Heights of the rings in the pore frame, usually of the centroids of their CA.
    window : float, nm
        The least radius over the levels this near to the height is taken.

    Returns
    -------
    radius : ndarray of float64, shape (n_frames, n_rings), nm
        nan where a height is, where no level lies in the window or none there has walls.

    Raises
    ------
    PoreError
        If the heights do not fit the frames.
    """
    at = np.asarray(heights, dtype=np.float64)
    n_frames = len(profile.radius)
    if at.ndim not in (1, 2) or (at.ndim == 2 and len(at) != n_frames):
        raise PoreError(
            f"got heights of shape {at.shape} for {n_frames} frames; "
            "need (n_rings,) or (n_frames, n_rings)"
        )
    at = np.broadcast_to(at, (n_frames, at.shape[-1]))
    radius = np.where(np.isfinite(profile.radius), profile.radius, np.inf)
    least = np.full(at.shape, np.inf)
    for ring in range(at.shape[1]):
        near = np.abs(profile.levels - at[:, ring, None]) <= window + 1e-9
        least[:, ring] = np.where(near, radius, np.inf).min(axis=1)
    return np.where(np.isfinite(least), least, np.nan)


def conduction(radius: ArrayLike, *, thresholds: ConductionThresholds = POLAR) -> NDArray[np.int64]:
    """Tell from radii whether a place of the pore lets water or ions pass.

    Parameters
    ----------
    radius : array_like of float, nm
        Radii at one place, such as a ring, or the least ones of whole profiles.
    thresholds : ConductionThresholds
        `POLAR` or `HYDROPHOBIC`, or your own.

    Returns
    -------
    answer : ndarray of int64, shape of `radius`
        Index into `CONDUCTION`: 0 closed, 1 water only, 2 ions too; -1 where the radius is nan.

    Notes
    -----
    A radius alone is no conductance. The thresholds for hydrophobic walls come from model
    pores of 0.8 nm length and are the strictest that are published; those for polar walls
    say nothing of selectivity. Where water was simulated, ask it.

    References
    ----------
    .. [1] O. Beckstein and M. S. P. Sansom, Phys. Biol. 1, 42 (2004),
       doi:10.1088/1478-3967/1/1/005
    .. [2] A. Villarroel, N. Burnashev and B. Sakmann, Biophys. J. 68, 866 (1995),
       doi:10.1016/S0006-3495(95)80263-8

    Examples
    --------
    >>> [CONDUCTION[answer] for answer in conduction([0.12, 0.2, 0.3])]
    ['closed', 'water', 'ions']
    >>> [CONDUCTION[answer] for answer in conduction([0.3], thresholds=HYDROPHOBIC)]
    ['closed']
    """
    sizes = np.asarray(radius, dtype=np.float64)
    answer = (sizes >= thresholds.water).astype(np.int64) + (sizes >= thresholds.ions)
    return np.where(np.isnan(sizes), -1, answer)
