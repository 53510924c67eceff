"""From a point in the lumen to the top of its clearance, for many levels and frames at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nmdasim.pore.spheres import Wall

# How much farther than the nearest an atom is still looked at, the size of one step, and when
# to stop.
_SHELL_NM = 0.15
_TRUST_NM = 0.05
_TOLERANCE_NM = 1e-5
_MAX_STEPS = 60
_MAX_ROUNDS = 8
_MAX_PIVOTS = 30
# Where the rows of a table are padded to.
_FAR_NM = 1e3
# Three walls at 120 degrees that bound each step.
_WALLS = -np.array([[np.cos(t), np.sin(t)] for t in (0.0, 2 * np.pi / 3, 4 * np.pi / 3)])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Neighbours:
    """Atoms near each of a number of centres, all arrays (n_centres, n_near), nm."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    rise2: NDArray[np.float64]
    """Square of the height over the plane of the centre."""
    radii: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Tangents:
    """Planes room + x dx + y dy over a step (dx, dy), all arrays (n_rows, n_planes)."""

    room: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]


def climb(
    seeds: NDArray[np.float64],
    walls: Sequence[Wall],
    levels: NDArray[np.float64],
    reach: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Climb from the seeds, then let each level take over a neighbour's better top.

    seeds (n_frames, n_levels, 2), nan where a frame leaves a level out; returns the tops'
    centres and radii, nan there, too. No frame depends on another.
    """
    centres = np.full(seeds.shape, np.nan)
    radius = np.full(seeds.shape[:2], np.nan)
    frame, level = np.nonzero(np.isfinite(seeds[..., 0]))
    at = frame, level
    centres[at], radius[at] = _climb_from(seeds[at], walls, frame, level, levels, reach)
    fresh = np.isfinite(radius)
    while fresh.any():
        tried, fresh = fresh, np.zeros_like(fresh)
        for shift in (1, -1):
            neighbour = np.roll(centres, shift, axis=1)
            worth = np.roll(tried, shift, axis=1)
            worth &= np.linalg.norm(neighbour - centres, axis=2) > 0.5 * _TRUST_NM
            worth[:, 0 if shift > 0 else -1] = False
            frame, level = np.nonzero(worth)
            if not len(frame):
                continue
            found, size = _climb_from(neighbour[frame, level], walls, frame, level, levels, reach)
            better = size > radius[frame, level] + 10 * _TOLERANCE_NM
            at = frame[better], level[better]
            centres[at], radius[at], fresh[at] = found[better], size[better], True
    return centres, radius


def _climb_from(
    seeds: NDArray[np.float64],
    walls: Sequence[Wall],
    frame: NDArray[np.intp],
    level: NDArray[np.intp],
    levels: NDArray[np.float64],
    reach: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Climb from each seed to a local top of the clearance in the plane of its level.

    Only atoms near a seed are looked at; a climb that would leave what they can vouch for
    goes on from where it stopped with the atoms near there.
    """
    centres = seeds.copy()
    radius = np.empty(len(seeds))
    active = np.arange(len(seeds))
    for _ in range(_MAX_ROUNDS):
        if not len(active):
            break
        here, heights = centres[active], levels[level[active]]
        near = _nearest(here, heights, walls, frame[active])
        centres[active], radius[active], done = _climb_among(here, near, reach)
        active = active[~done]
    return centres, radius


def _nearest(
    centres: NDArray[np.float64],
    heights: NDArray[np.float64],
    walls: Sequence[Wall],
    frame: NDArray[np.intp],
) -> _Neighbours:
    """Gather for each centre all atoms less than `_SHELL_NM` farther than the nearest.

    frame (n_centres,) rises.
    """
    points = np.column_stack([centres, heights, np.ones(len(centres))]).astype(np.float32)
    square = (centres[:, 0] ** 2 + centres[:, 1] ** 2 + heights**2).astype(np.float32)
    picked = []
    for number in np.unique(frame):
        first, last = np.searchsorted(frame, [number, number + 1])
        wall = walls[number]
        # |p - a|^2 by one matrix product; single precision is enough to choose atoms.
        room = points[first:last] @ wall.lifted
        room += square[first:last, None]
        np.sqrt(np.maximum(room, 0.0, out=room), out=room)
        room -= wall.radii32
        near = np.flatnonzero(room < room.min(axis=1, keepdims=True) + np.float32(_SHELL_NM))
        row, atom = np.divmod(near, room.shape[1])
        picked.append((row + first, wall.atoms[atom], wall.radii[atom]))
    row, atoms, sizes = (np.concatenate(parts) for parts in zip(*picked, strict=True))
    count = np.bincount(row, minlength=len(centres))
    column = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    shape = len(centres), count.max()
    x, y, rise2, radii = np.full(shape, _FAR_NM), np.zeros(shape), np.zeros(shape), np.zeros(shape)
    x[row, column], y[row, column] = atoms[:, 0], atoms[:, 1]
    rise2[row, column] = (atoms[:, 2] - heights[row]) ** 2
    radii[row, column] = sizes
    return _Neighbours(x=x, y=y, rise2=rise2, radii=radii)


def _climb_among(
    centres: NDArray[np.float64], near: _Neighbours, reach: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Climb as far as the given atoms can vouch for.

    The distance to an atom is convex, so its tangent never lies above it: the best point
    under the tangents of all atoms (a linear programme in the plane) is at least as good as
    they promise, and the climb never loses ground.

    Returns the centres, their clearance, and whether each has reached its top.
    """
    here = centres.copy()
    clear = np.empty(len(here))
    limit = np.full(len(here), np.inf)
    done = np.ones(len(here), dtype=bool)
    moving = np.arange(len(here))
    for _ in range(_MAX_STEPS):
        tangents, clear[moving] = _tangents(here[moving], near, moving)
        limit = np.minimum(limit, clear + _SHELL_NM)
        # An atom outside the list is at least `limit` minus the way gone from here.
        way = np.hypot(*(here[moving] - centres[moving]).T)
        trust = np.minimum(_TRUST_NM, (limit[moving] - clear[moving] - way) / 4)
        step, gain = _best_step(tangents, here[moving], trust, reach)
        short = trust < 0.1 * _TRUST_NM
        go = (gain > _TOLERANCE_NM) & ~short
        done[moving] = ~(go | short)
        moving, step = moving[go], step[go]
        if not len(moving):
            break
        here[moving] += step
    return here, clear, done


def _tangents(
    here: NDArray[np.float64], near: _Neighbours, rows: NDArray[np.intp]
) -> tuple[_Tangents, NDArray[np.float64]]:
    """Linearise the distance to each atom; also the clearance, (n_rows,)."""
    x, y = here[:, :1] - near.x[rows], here[:, 1:] - near.y[rows]
    distance = np.sqrt(x * x + y * y + near.rise2[rows])
    room = distance - near.radii[rows]
    clear = room.min(axis=1)
    room -= clear[:, None]
    x /= distance
    y /= distance
    return _Tangents(room=room, x=x, y=y), clear


def _best_step(
    tangents: _Tangents, here: NDArray[np.float64], trust: NDArray[np.float64], reach: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Maximise over a step the least of the tangents, within the trust region and reach.

    A dual simplex, all levels at once: three constraints support the top; while another one
    lies below it, that one enters and the one that then carries no weight leaves.

    Returns the steps (n_rows, 2) and the least of the tangents at their ends (n_rows,).
    """
    planes = _bounded(tangents, here, trust, reach)
    steps, tops = np.empty(here.shape), np.empty(len(here))
    live = np.arange(len(here))
    support = np.tile([0, 1, 2], (len(here), 1))
    weight = np.full(support.shape, 1 / 3)
    for _ in range(_MAX_PIVOTS):
        rows = np.arange(len(live))
        step, top, mix_of = _vertex(planes, support)
        steps[live], tops[live] = step, top
        under = planes.x * step[:, :1]
        under += planes.y * step[:, 1:]
        under += planes.room
        enter = under.argmin(axis=1)
        pivot = np.flatnonzero(under[rows, enter] < top - 0.1 * _TOLERANCE_NM)
        if not len(pivot):
            break
        if len(pivot) < 0.8 * len(live):
            live, support, weight, enter = (a[pivot] for a in (live, support, weight, enter))
            planes = _Tangents(room=planes.room[pivot], x=planes.x[pivot], y=planes.y[pivot])
            mix_of, rows = mix_of[pivot], rows[: len(pivot)]
            pivot = rows
        mix = _mixture(mix_of, planes.x[rows, enter], planes.y[rows, enter])
        ratio = np.where(mix > 1e-12, weight, np.inf) / np.maximum(mix, 1e-12)
        leave = ratio.argmin(axis=1)
        share = ratio[rows, leave]
        weight[pivot] -= share[pivot, None] * mix[pivot]
        weight[pivot, leave[pivot]] = share[pivot]
        support[pivot, leave[pivot]] = enter[pivot]
    return steps, tops


def _bounded(
    tangents: _Tangents, here: NDArray[np.float64], trust: NDArray[np.float64], reach: float
) -> _Tangents:
    """Put three walls that end the step, and one that stands at `reach`, before the atoms."""
    offset = np.hypot(here[:, 0], here[:, 1])
    outward = here / np.maximum(offset, 1e-12)[:, None]
    room, x, y = np.empty((3, len(here), 4))
    room[:, :3], x[:, :3], y[:, :3] = trust[:, None], _WALLS[:, 0], _WALLS[:, 1]
    room[:, 3], x[:, 3], y[:, 3] = 10 * (reach - offset), -10 * outward[:, 0], -10 * outward[:, 1]
    return _Tangents(
        room=np.concatenate([room, tangents.room], axis=1),
        x=np.concatenate([x, tangents.x], axis=1),
        y=np.concatenate([y, tangents.y], axis=1),
    )


def _vertex(
    planes: _Tangents, support: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Find where the three supports of each row are equal.

    Returns the step there (n_rows, 2), the height (n_rows,), and what `_mixture` needs: the
    inverse of the slopes' edges, row by row, and the last slope (n_rows, 6).
    """
    rows = np.arange(len(support))[:, None]
    room, x, y = (a[rows, support] for a in (planes.room, planes.x, planes.y))
    x1, y1 = x[:, 0] - x[:, 2], y[:, 0] - y[:, 2]
    x2, y2 = x[:, 1] - x[:, 2], y[:, 1] - y[:, 2]
    over = 1.0 / (x1 * y2 - y1 * x2)
    b1, b2 = room[:, 2] - room[:, 0], room[:, 2] - room[:, 1]
    step = np.empty((len(support), 2))
    step[:, 0], step[:, 1] = (y2 * b1 - y1 * b2) * over, (x1 * b2 - x2 * b1) * over
    top = room[:, 2] + x[:, 2] * step[:, 0] + y[:, 2] * step[:, 1]
    mix_of = np.empty((len(support), 6))
    mix_of[:, 0], mix_of[:, 1] = y2 * over, -x2 * over
    mix_of[:, 2], mix_of[:, 3] = -y1 * over, x1 * over
    mix_of[:, 4], mix_of[:, 5] = x[:, 2], y[:, 2]
    return step, top, mix_of


def _mixture(
    mix_of: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weights with which the supports' slopes make up the slope (x, y), shape (n_rows, 3)."""
    x, y = x - mix_of[:, 4], y - mix_of[:, 5]
    mix = np.empty((len(x), 3))
    mix[:, 0] = mix_of[:, 0] * x + mix_of[:, 1] * y
    mix[:, 1] = mix_of[:, 2] * x + mix_of[:, 3] * y
    mix[:, 2] = 1.0 - mix[:, 0] - mix[:, 1]
    return mix
