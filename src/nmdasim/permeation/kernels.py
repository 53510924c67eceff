"""Compiled loops over particles.

Lumens come as levels (n_levels,), centre (n_frames, n_levels, 2) and reach (n_frames, n_levels):
how far from the centre a particle is still in the lumen, nm.
"""

import numpy as np
from numpy.typing import NDArray

from nmdasim.compiled import kernel

_Floats = NDArray[np.float64]
_Places = NDArray[np.float32]
_Counts = NDArray[np.int64]
_Flags = NDArray[np.bool_]


@kernel
def connect(
    xyz: _Places, levels: _Floats, centre: _Floats, reach: _Floats, low: float, high: float,
    span: _Floats, edge: float,
) -> _Floats:  # fmt: skip
    """Join neighbours in each frame; columns through, past, from inside, from outside.

    xyz (n_frames, n_waters, 3), span (n_frames, 2): from where to where the ligand reaches.
    """
    n_frames, n_waters = xyz.shape[0], xyz.shape[1]
    result = np.full((n_frames, 4), np.nan)
    if not n_waters:
        return result
    nodes = np.empty((n_waters, 3))
    for frame in range(n_frames):
        wide = _widest(centre, reach, frame)
        count = 0
        for water in range(n_waters):
            x, y, z = xyz[frame, water, 0], xyz[frame, water, 1], xyz[frame, water, 2]
            if z < low - edge or z > high + edge or x * x + y * y > wide:
                continue
            if _in_lumen(x, y, z, levels, centre, reach, frame):
                nodes[count, 0], nodes[count, 1], nodes[count, 2] = x, y, z
                count += 1
        rising = nodes[np.argsort(nodes[:count, 2])]
        root = _components(rising, edge)
        _summarise(rising[:, 2], root, low, high, span[frame], result[frame])
    return result


@kernel
def _components(nodes: _Floats, edge: float) -> _Counts:
    """Give each of the nodes, which rise along z, the lowest node that it is joined with."""
    root = np.arange(len(nodes))
    for upper in range(len(nodes)):
        for lower in range(upper - 1, -1, -1):
            dz = nodes[upper, 2] - nodes[lower, 2]
            if dz > edge:
                break
            dx = nodes[upper, 0] - nodes[lower, 0]
            dy = nodes[upper, 1] - nodes[lower, 1]
            if dx * dx + dy * dy + dz * dz <= edge * edge:
                one, other = _root(root, upper), _root(root, lower)
                root[max(one, other)] = min(one, other)
    for node in range(len(nodes)):
        root[node] = _root(root, node)
    return root


@kernel
def _root(root: _Counts, node: int) -> int:
    while root[node] != node:
        root[node] = root[root[node]]
        node = root[node]
    return node


@kernel
def _summarise(
    height: _Floats, root: _Counts, low: float, high: float, span: _Floats, result: _Floats
) -> None:
    """Tell from the lowest and the highest node of each component what it joins."""
    top = np.full(len(height), -np.inf)
    for node in range(len(height)):
        top[root[node]] = height[node]
    result[0] = 0.0
    result[1] = 0.0 if span[0] == span[0] else np.nan
    for node in range(len(height)):
        if root[node] != node:
            continue
        if height[node] <= low:
            result[2] = np.fmax(result[2], top[node])
        if top[node] >= high:
            result[3] = np.fmin(result[3], height[node])
        if height[node] <= low and top[node] >= high:
            result[0] = 1.0
        if height[node] <= span[0] and top[node] >= span[1]:
            result[1] = 1.0


@kernel
def follow(
    xyz: _Places, times: _Floats, levels: _Floats, centre: _Floats, reach: _Floats, low: float,
    high: float, planes: _Floats, max_step: float, crevice: float, codes: _Counts,
    origin: NDArray[np.int8], place: _Floats, aside: _Flags, seen: _Flags, entered: _Floats,
    crossed: _Counts, lost: _Counts,
) -> _Floats:  # fmt: skip
    """Move every particle on by the frames; rows particle, side (0 out, 1 in), entered, left.

    Of each particle, origin is 0 when unknown, 1 below, 2 above; place is the height of its
    last sighting, that of the end when it was beyond one; seen tells that this sighting was in
    the lumen, and aside that it has been out of sight since.
    """
    rows = np.empty((16, 4))
    count = 0
    for frame in range(xyz.shape[0]):
        wide = _widest(centre, reach, frame)
        for one in range(xyz.shape[1]):
            x, y, z = xyz[frame, one, 0], xyz[frame, one, 1], xyz[frame, one, 2]
            end, spot = 0, float(z)
            if z < low:
                end, spot = 1, low
            elif z > high:
                end, spot = 2, high
            elif x * x + y * y > wide or not _in_lumen(x, y, z, levels, centre, reach, frame):
                aside[one] = True
                continue
            if end and end == origin[one] and not seen[one]:
                aside[one] = False
                continue
            linked = abs(spot - place[one]) <= (crevice if aside[one] else max_step)
            if linked:
                _cross(place[one], spot, planes, crossed[codes[one]])
            elif seen[one] and origin[one]:
                lost[codes[one]] += 1
            if end and linked and origin[one] == 3 - end:
                if count == len(rows):
                    rows = np.concatenate((rows, np.empty((count, 4))))
                rows[count, 0], rows[count, 1] = one, 2.0 - end
                rows[count, 2], rows[count, 3] = entered[one], times[frame]
                count += 1
            if not end and not seen[one]:
                entered[one] = times[frame]
            if end or not linked:
                origin[one] = end
            seen[one], place[one], aside[one] = end == 0, spot, False
    return rows[:count]


@kernel
def _cross(start: float, stop: float, planes: _Floats, crossed: _Counts) -> None:
    """Count the planes between two heights, up in the first column and down in the second."""
    if start == stop:
        return
    for plane in range(len(planes)):
        if start < planes[plane] <= stop:
            crossed[plane, 0] += 1
        elif stop < planes[plane] <= start:
            crossed[plane, 1] += 1


@kernel
def count(
    xyz: _Places, levels: _Floats, centre: _Floats, reach: _Floats, margin: float, bottom: float,
    thick: float, codes: _Counts, counts: _Floats,
) -> None:  # fmt: skip
    """Count particles of the lumen, and of its largest sphere, in slices along z.

    counts (n_frames, 2, n_kinds, n_slices) is added to.
    """
    for frame in range(xyz.shape[0]):
        wide = _widest(centre, reach, frame)
        for one in range(xyz.shape[1]):
            x, y, z = xyz[frame, one, 0], xyz[frame, one, 1], xyz[frame, one, 2]
            if z < bottom or x * x + y * y > wide:
                continue
            at = int((z - bottom) / thick)
            if at >= counts.shape[3]:
                continue
            level = _nearest_level(levels, z)
            dx, dy = x - centre[frame, level, 0], y - centre[frame, level, 1]
            off2, far = dx * dx + dy * dy, reach[frame, level]
            if off2 <= far * far:
                counts[frame, 0, codes[one], at] += 1.0
            if off2 <= (far - margin) ** 2:
                counts[frame, 1, codes[one], at] += 1.0


@kernel
def _widest(centre: _Floats, reach: _Floats, frame: int) -> float:
    """Square of the distance from the axis beyond which nothing is in the lumen."""
    wide = 0.0
    for level in range(reach.shape[1]):
        x, y = centre[frame, level, 0], centre[frame, level, 1]
        wide = max(wide, np.sqrt(x * x + y * y) + reach[frame, level])
    return wide * wide


@kernel
def _in_lumen(
    x: float, y: float, z: float, levels: _Floats, centre: _Floats, reach: _Floats, frame: int
) -> bool:
    level = _nearest_level(levels, z)
    dx, dy = x - centre[frame, level, 0], y - centre[frame, level, 1]
    return dx * dx + dy * dy <= reach[frame, level] * reach[frame, level]


@kernel
def _nearest_level(levels: _Floats, z: float) -> int:
    last = len(levels) - 1
    if last == 0:
        return 0
    # Levels that are evenly spaced are met at once.
    first = int((z - levels[0]) / (levels[last] - levels[0]) * last)
    first = min(max(first, 0), last - 1)
    while first > 0 and levels[first] > z:
        first -= 1
    while first < last - 1 and levels[first + 1] <= z:
        first += 1
    last = first + 1
    return first if z - levels[first] <= levels[last] - z else last
