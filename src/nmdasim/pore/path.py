"""The way through the lumen: the cheapest path through a grid of clearances."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nmdasim.pore.spheres import Wall, clearance_on_grid

# Spacing of the grid in the plane and along z, the clearance over which a passage becomes e
# times cheaper, and the price of moving sideways.
_GRID_NM = 0.05
_STEP_NM = 0.1
_SOFTNESS_NM = 0.03
_SIDEWAYS_COST = 1e-3
_OFF_AXIS_COST = 1e-4
# Beyond this clearance the search sees no walls; the climb that follows does.
_SEEN_NM = 0.25


def search_path(wall: Wall, levels: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """Find the cheapest path through the levels; its x and y at each, (n_levels, 2)."""
    n_coarse = max(2, int(np.ceil((levels[-1] - levels[0]) / _STEP_NM)) + 1)
    coarse = np.linspace(levels[0], levels[-1], n_coarse)
    points, steps, sideways = _grid(reach)
    room = clearance_on_grid(points, coarse, wall, _SEEN_NM)
    price = np.exp(-room / _SOFTNESS_NM) + _OFF_AXIS_COST * (points**2).sum(axis=1) / reach**2
    total = price[0]
    came_from = np.empty((n_coarse, len(points)), dtype=np.intp)
    rows = np.arange(len(points))
    for level in range(1, n_coarse):
        through = total[steps] + sideways
        best = through.argmin(axis=1)
        came_from[level] = steps[rows, best]
        total = through[rows, best] + price[level]
    path = np.empty(n_coarse, dtype=np.intp)
    path[-1] = total.argmin()
    for level in range(n_coarse - 1, 0, -1):
        path[level - 1] = came_from[level, path[level]]
    track = points[path]
    return np.stack([np.interp(levels, coarse, track[:, axis]) for axis in (0, 1)], axis=1)


@lru_cache(maxsize=8)
def _grid(reach: float) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float64]]:
    """Points of the plane within `reach`, the points one step away from each, and the cost."""
    side = np.arange(-np.floor(reach / _GRID_NM), np.floor(reach / _GRID_NM) + 1) * _GRID_NM
    points = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    points = points[np.hypot(*points.T) <= reach + 1e-9]
    apart = np.linalg.norm(points[:, None] - points, axis=-1)
    order = np.argsort(apart, axis=1, kind="stable")
    n_steps = int((apart <= _STEP_NM + 1e-9).sum(axis=1).max())
    steps = order[:, :n_steps]
    moved = np.take_along_axis(apart, steps, axis=1)
    cost = np.where(moved <= _STEP_NM + 1e-9, _SIDEWAYS_COST * (moved / _STEP_NM) ** 2, np.inf)
    return points, steps, cost
