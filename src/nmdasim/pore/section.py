"""Cross-section of the lumen, and what fills it."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from nmdasim.pore.spheres import checked_spheres, clearance_on_grid, wall_of

#: Radius of a water molecule as a probe.
PROBE_NM = 0.14
# How far from the centre of the lumen a cross-section is looked at.
_HALF_WINDOW_NM = 0.8


def cross_section(
    coordinates: ArrayLike,
    *,
    radii: ArrayLike,
    blocker: ArrayLike,
    blocker_radii: ArrayLike,
    level: float,
    centre: ArrayLike,
    spacing: float = 0.02,
) -> tuple[float, float]:
    """Measure the lumen's cross-section at a level and the share that a blocker fills.

    The cross-section is the part of the plane that discs of a water's size (0.14 nm) cover
    when their centres move from `centre` without touching the pore, the blocker not
    counted. Gaps between helices that are narrower than a water do not belong to it. The
    filled part is where the plane cuts the van der Waals spheres of the blocker.

    Parameters
    ----------
    coordinates : array_like of float, shape (n_atoms, 3), nm
        The pore without the blocker, in the pore frame.
    radii : array_like of float, shape (n_atoms,), nm
        nan for atoms to leave out.
    blocker : array_like of float, shape (n_blocker, 3), nm
    blocker_radii : array_like of float, shape (n_blocker,), nm
        nan for atoms to leave out.
    level : float, nm
    centre : array_like of float, shape (2,), nm
        Where the largest sphere lies at this level.
    spacing : float, nm
        Of the grid that the areas are counted on.

    Returns
    -------
    area : float, nm^2
        0 where not even a water fits at `centre`. Nothing beyond 0.8 nm from `centre` is seen.
    filled_share : float
        Between 0 and 1; nan where `area` is 0.
    """
    frames, sizes, _ = checked_spheres(coordinates, radii, [level])
    guests, guest_sizes, _ = checked_spheres(blocker, blocker_radii, [level])
    heavy, solid = np.isfinite(sizes), np.isfinite(guest_sizes)
    n_cells = int(np.ceil(_HALF_WINDOW_NM / spacing))
    side = spacing * np.arange(-n_cells, n_cells + 1)
    points = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    origin = np.array([*np.asarray(centre, dtype=np.float64), 0.0])

    def room_left_by(atoms: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.float64]:
        wall = wall_of(atoms - origin, own)
        room = clearance_on_grid(points, np.array([level]), wall, 1.1 * PROBE_NM)
        return room[0].reshape(side.size, side.size)

    room = room_left_by(frames[0, heavy], sizes[heavy])
    parts, _ = ndimage.label(room >= PROBE_NM)
    here = parts[n_cells, n_cells]
    if not here:
        return 0.0, np.nan
    reached = ndimage.distance_transform_edt(parts != here, sampling=spacing) <= PROBE_NM
    reached &= room >= 0.0
    filled = reached & (room_left_by(guests[0, solid], guest_sizes[solid]) < 0.0)
    return float(reached.sum() * spacing**2), float(filled.sum() / reached.sum())
