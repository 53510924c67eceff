"""The radius profile as machine code: atoms in layers, the way through them, the climb.

One frame after the other, and no frame knows of another. Lengths are in nm, in the pore frame;
heights rise. The functions call each other and therefore share a file.

`walls` is a tuple: atoms (n_atoms, 4) as x, y, z and radius, sorted by layer and in each layer
by ring around the axis; where each ring starts, and the end; the number of rings in a layer; the
height of the lowest layer; the largest radius.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nmdasim.compiled import kernel

#: A sphere as large as this has left the pore; HOLE ends at 1.5 nm where it is told to.
MAX_RADIUS_NM = 1.0
#: What `profile_frames` answers.
GOOD, NO_ATOM, NOT_FINITE = 0, 1, 2
# Height of a layer of atoms, which is also the width of a ring.
_LAYER_NM = 0.1
# Levels this far from those that are measured lead the search to them.
_APPROACH_NM = 0.3
# Spacing of the grid in the plane and along z, the clearance over which a passage becomes e
# times cheaper, and the price of moving sideways.
_GRID_NM = 0.05
_STEP_NM = 0.1
_SOFTNESS_NM = 0.03
_SIDEWAYS_COST = 1e-3
_OFF_AXIS_COST = 1e-4
# Beyond this clearance the search sees no walls; the climb that follows does.
_SEEN_NM = 0.25
# Prices by how far the clearance lies below what is seen, in steps of this many nm.
_PRICE_NM = 0.001
_PRICES = np.exp((_PRICE_NM * np.arange(520) - _SEEN_NM) / _SOFTNESS_NM)
_DEAR = np.float32(1e30)
# Cells of the grid that one step along z may move sideways, as squared distance, rows and
# columns: no steeper than 45 degrees. Straight on comes first and wins a tie.
_MOVES = np.array(
    sorted((i * i + j * j, i, j) for i in range(-2, 3) for j in range(-2, 3) if i * i + j * j <= 4)
)
_BORDER = 2
_CELL_COST = np.float32(_SIDEWAYS_COST * (_GRID_NM / _STEP_NM) ** 2)
# How much farther than the nearest an atom is still looked at, the size of one step (at first
# and at least), and when to stop.
_SHELL_NM = 0.2
_TRUST_NM = 0.05
_LEAST_TRUST_NM = 0.005
_TOLERANCE_NM = 1e-5
_MAX_STEPS = 200
_MAX_NEWTON = 5
# A neighbour's top this near leads to the same top.
_APART_NM = 0.025
_MAX_PIVOTS = 30
# Three walls at 120 degrees that bound each step.
_WALL_X = -np.cos(2 * np.pi * np.arange(3) / 3)
_WALL_Y = -np.sin(2 * np.pi * np.arange(3) / 3)
# Steepness of the wall that stands at the reach.
_REACH_SLOPE = 10.0


Grid = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]


@lru_cache(maxsize=8)
def grid_within(reach: float) -> Grid:
    """Give x, y, cost of lying off the axis and cell of the grid's points within reach.

    Cells are those of a square with a border that a step from a point cannot leave.
    """
    half = int(reach / _GRID_NM + 1e-9)
    row, column = np.mgrid[-half : half + 1, -half : half + 1].reshape(2, -1)
    inside = (row**2 + column**2) * _GRID_NM**2 <= (reach + 1e-9) ** 2
    row, column = row[inside], column[inside]
    cost = _OFF_AXIS_COST * (row**2 + column**2) * (_GRID_NM / reach) ** 2
    cell = (row + half + _BORDER) * (2 * (half + _BORDER) + 1) + column + half + _BORDER
    return (
        (_GRID_NM * row).astype(np.float32),
        (_GRID_NM * column).astype(np.float32),
        cost.astype(np.float32),
        cell.astype(np.int32),
    )


@kernel
def profile_frames(
    frames,
    picked,
    sizes,
    guests,
    guest_picked,
    guest_sizes,
    levels,
    grid,
    reach,
    mine,
    centre,
    radius,
):
    """Measure each frame at the levels that are its own, into centre and radius.

    frames (n_frames, n_atoms, 3) with the atoms `picked` and their sizes; guests likewise,
    for atoms that come on top. mine, radius (n_frames, n_levels), centre (n_frames, n_levels,
    2). Returns GOOD, or what is wrong with the first frame that is not.
    """
    n_atoms = len(picked) + len(guest_picked)
    largest = max(_largest(sizes), _largest(guest_sizes))
    loose, atoms = np.empty((n_atoms, 4)), np.empty((n_atoms, 4))
    ring_of = np.empty(n_atoms, np.int32)
    near, planes = np.empty((5, n_atoms + 4)), np.empty((4, n_atoms + 4))
    path, seen = np.empty((len(levels), 2)), np.empty((n_atoms + 4, 4), np.float32)
    side = reach + MAX_RADIUS_NM + largest
    for frame in range(len(frames)):
        first, after = _stretch(levels, mine[frame])
        if first == after:
            continue
        bottom = levels[first] - MAX_RADIUS_NM - largest
        top = levels[after - 1] + MAX_RADIUS_NM + largest
        bounds = bottom, top, side
        count = _take(frames[frame], picked, sizes, bounds, loose, 0)
        if count >= 0:
            count = _take(guests[frame], guest_picked, guest_sizes, bounds, loose, count)
        if count <= 0:
            return NO_ATOM if count == 0 else NOT_FINITE
        starts, n_rings = _sort(loose, count, bounds, ring_of, atoms)
        walls = atoms, starts, n_rings, bottom, largest
        _search(walls, levels, first, after, grid, reach, seen, path)
        _climb_levels(
            walls, levels, reach, mine[frame], path, near, planes, centre[frame], radius[frame]
        )
    return GOOD


@kernel
def _largest(sizes):
    largest = 0.0
    for size in sizes:
        largest = max(largest, size)
    return largest


@kernel
def _stretch(levels, mine):
    """First of the levels that are measured or lead there, and the one after the last."""
    first, after = len(levels), 0
    for level in range(len(levels)):
        if mine[level]:
            first = min(first, level)
            after = level + 1
    if not after:
        return 0, 0
    low, high = levels[first] - _APPROACH_NM, levels[after - 1] + _APPROACH_NM
    while first > 0 and levels[first - 1] > low:
        first -= 1
    while after < len(levels) and levels[after] < high:
        after += 1
    return first, after


@kernel
def _take(frame, picked, sizes, bounds, atoms, count):
    """Copy the atoms that a sphere within reach could touch; their number then, or -1."""
    bottom, top, side = bounds
    for k in range(len(picked)):
        x = np.float64(frame[picked[k], 0])
        y = np.float64(frame[picked[k], 1])
        z = np.float64(frame[picked[k], 2])
        if not math.isfinite(x + y + z):
            return -1
        if abs(x) < side and abs(y) < side and bottom < z < top:
            atoms[count, 0], atoms[count, 1], atoms[count, 2] = x, y, z
            atoms[count, 3] = sizes[k]
            count += 1
    return count


@kernel
def _sort(loose, count, bounds, ring_of, atoms):
    """Sort the atoms by layer and ring; where each ring starts, and the rings in a layer."""
    bottom, top, side = bounds
    n_rings = int(1.5 * side / _LAYER_NM) + 1
    starts = np.zeros((int((top - bottom) / _LAYER_NM) + 1) * n_rings + 2, np.int32)
    for k in range(count):
        layer = int((loose[k, 2] - bottom) / _LAYER_NM)
        ring = int(math.sqrt(loose[k, 0] ** 2 + loose[k, 1] ** 2) / _LAYER_NM)
        ring_of[k] = layer * n_rings + ring
        starts[ring_of[k] + 2] += 1
    for ring in range(2, len(starts)):
        starts[ring] += starts[ring - 1]
    for k in range(count):
        to = starts[ring_of[k] + 1]
        starts[ring_of[k] + 1] += 1
        for column in range(4):
            atoms[to, column] = loose[k, column]
    return starts[:-1], n_rings


@kernel
def _layers(walls, height, half):
    """First layer within half of a height, and the one after the last."""
    n_layers = len(walls[1]) // walls[2]
    low = int((height - half - walls[3]) / _LAYER_NM)
    high = int((height + half - walls[3]) / _LAYER_NM)
    return max(low, 0), min(high + 1, n_layers)


@kernel
def _search(walls, levels, first, after, grid, reach, seen, path):
    """Find the cheapest path through levels; its x and y at each, into path."""
    half = int(reach / _GRID_NM + 1e-9) + _BORDER
    width = 2 * half + 1
    length = levels[after - 1] - levels[first]
    n_steps = max(2, math.ceil(length / _STEP_NM - 1e-9) + 1)
    rise = length / (n_steps - 1)
    total = np.empty((n_steps, width * width), np.float32)
    through = np.zeros(width * width, np.float32)
    room, square = np.empty(len(grid[0]), np.float32), np.empty(len(grid[0]), np.float32)
    for step in range(n_steps):
        _clearances(walls, levels[first] + step * rise, grid, reach, seen, square, room)
        if step:
            _advance(total[step - 1], through, width)
        _pay(grid, room, through, total[step])
    at = grid[3][0]
    for cell in grid[3]:
        at = cell if total[-1, cell] < total[-1, at] else at
    level = after - 1
    above = at
    for step in range(n_steps - 1, -1, -1):
        # Between two steps the path is straight.
        while level >= first and levels[level] >= levels[first] + step * rise - 1e-9:
            share = (levels[level] - levels[first]) / rise - step if rise > 0 else 0.0
            x, y = at // width - half, at % width - half
            path[level, 0] = (x + share * (above // width - half - x)) * _GRID_NM
            path[level, 1] = (y + share * (above % width - half - y)) * _GRID_NM
            level -= 1
        above = at
        if step:
            at = _origin(total[step - 1], at, width)


@kernel
def _clearances(walls, height, grid, reach, seen, square, room):
    """Clearance of each point of the grid at a height, at most what the search sees."""
    atoms, starts, n_rings, largest = walls[0], walls[1], walls[2], walls[4]
    low, high = _layers(walls, height, _SEEN_NM + largest)
    outer = min(int((reach + _SEEN_NM + largest) / _LAYER_NM) + 1, n_rings)
    count = 0
    for layer in range(low, high):
        for k in range(starts[layer * n_rings], starts[layer * n_rings + outer]):
            rise2 = (atoms[k, 2] - height) ** 2
            off2 = atoms[k, 0] ** 2 + atoms[k, 1] ** 2
            out2 = (_SEEN_NM + atoms[k, 3]) ** 2 - rise2
            if out2 > 0.0 and off2 < (reach + math.sqrt(out2)) ** 2:
                # |p - a|^2 = |p|^2 - 2 p.a + |a|^2, of which the first can wait.
                seen[count, 0], seen[count, 1] = -2 * atoms[k, 0], -2 * atoms[k, 1]
                seen[count, 2], seen[count, 3] = off2 + rise2, atoms[k, 3]
                count += 1
    for point in range(len(room)):
        room[point] = _SEEN_NM
    first = 0
    while first < count:
        # Atoms of one size together, so that a square root is drawn once for all of them.
        size = seen[first, 3]
        after = first
        for k in range(first, count):
            if seen[k, 3] == size:
                for row in range(4):
                    swapped = seen[after, row]
                    seen[after, row] = seen[k, row]
                    seen[k, row] = swapped
                after += 1
        _nearest(grid[0], grid[1], seen, first, after, square)
        for point in range(len(room)):
            u, v, free = grid[0][point], grid[1][point], room[point]
            mine = square[point] + (u * u + v * v)
            mine = math.sqrt(mine if mine > 0 else np.float32(0.0)) - size
            room[point] = mine if mine < free else free
        first = after


@kernel
def _nearest(x, y, seen, first, after, square):
    """Least |p - a|^2 - |p|^2 of some atoms at each point."""
    for point in range(len(x)):
        square[point] = _DEAR
    # Four atoms in one pass over the points, the last one perhaps more than once.
    for k in range(first, after, 4):
        i, j, m = min(k + 1, after - 1), min(k + 2, after - 1), min(k + 3, after - 1)
        x0, y0, r0 = seen[k, 0], seen[k, 1], seen[k, 2]
        x1, y1, r1 = seen[i, 0], seen[i, 1], seen[i, 2]
        x2, y2, r2 = seen[j, 0], seen[j, 1], seen[j, 2]
        x3, y3, r3 = seen[m, 0], seen[m, 1], seen[m, 2]
        for point in range(len(x)):
            u, v, least = x[point], y[point], square[point]
            other = u * x0 + v * y0 + r0
            least = other if other < least else least
            other = u * x1 + v * y1 + r1
            least = other if other < least else least
            other = u * x2 + v * y2 + r2
            least = other if other < least else least
            other = u * x3 + v * y3 + r3
            least = other if other < least else least
            square[point] = least


@kernel
def _advance(before, through, width):
    """Let each cell be reached from where it is cheapest."""
    corner = _BORDER * (width + 1)
    n = len(before) - 2 * corner
    to, straight = through[corner:], before[corner:]
    for cell in range(n):
        to[cell] = straight[cell]
    for k in range(1, len(_MOVES), 4):
        # The moves of one length are four.
        cost = np.float32(_MOVES[k, 0]) * _CELL_COST
        a = before[corner + _MOVES[k, 1] * width + _MOVES[k, 2] :]
        b = before[corner + _MOVES[k + 1, 1] * width + _MOVES[k + 1, 2] :]
        c = before[corner + _MOVES[k + 2, 1] * width + _MOVES[k + 2, 2] :]
        d = before[corner + _MOVES[k + 3, 1] * width + _MOVES[k + 3, 2] :]
        for cell in range(n):
            best, other, least = a[cell], b[cell], to[cell]
            best = other if other < best else best
            other = c[cell]
            best = other if other < best else best
            other = d[cell]
            best = (other if other < best else best) + cost
            to[cell] = best if best < least else least


@kernel
def _origin(before, at, width):
    """Cell from which a cell was reached."""
    best, origin = _DEAR, at
    for k in range(len(_MOVES)):
        cell = at + _MOVES[k, 1] * width + _MOVES[k, 2]
        paid = before[cell] + np.float32(_MOVES[k, 0]) * _CELL_COST
        if paid < best:
            best, origin = paid, cell
    return origin


@kernel
def _pay(grid, room, through, total):
    """Add the price of each point at this level, less that of the cheapest.

    The difference keeps single precision fine where all points of a level are dear.
    """
    cost, cell = grid[2], grid[3]
    least = _DEAR
    for point in range(len(room)):
        place = (np.float32(_SEEN_NM) - room[point]) * np.float32(1.0 / _PRICE_NM)
        row = int(place)
        if row < len(_PRICES) - 1:
            price = _PRICES[row] + (place - row) * (_PRICES[row + 1] - _PRICES[row])
        else:
            price = math.exp(-room[point] / _SOFTNESS_NM)
        room[point] = price + cost[point]
        least = min(least, room[point])
    for point in range(len(total)):
        total[point] = _DEAR
    for point in range(len(room)):
        total[cell[point]] = through[cell[point]] + (room[point] - least)


@kernel
def _climb_levels(walls, levels, reach, mine, path, near, planes, centre, radius):
    """Climb from the path at each level, then let each take over a neighbour's better top."""
    # No place yet, so that the first climb gathers.
    state, support = np.empty(5), np.empty(3, np.int64)
    state[0], state[4] = np.nan, 0.0
    tried, fresh = np.zeros(len(levels), np.bool_), np.zeros(len(levels), np.bool_)
    first, n_fresh = True, 1
    while n_fresh:
        n_fresh = 0
        for level in range(len(levels)):
            tried[level], fresh[level] = fresh[level], False
        for shift in range(-1, 0 if first else 2, 2):
            for level in range(len(levels)):
                if not mine[level]:
                    continue
                x, y = path[level, 0], path[level, 1]
                if not first:
                    other = level + shift
                    if other < 0 or other >= len(levels) or not tried[other]:
                        continue
                    x, y = centre[other, 0], centre[other, 1]
                    apart2 = (x - centre[level, 0]) ** 2 + (y - centre[level, 1]) ** 2
                    if apart2 < _APART_NM**2:
                        continue
                clear = -np.inf
                if first and level and mine[level - 1]:
                    u, v = centre[level - 1, 0], centre[level - 1, 1]
                    # The top below is a better start than a point of the grid near it, and
                    # where the search saw no wall the path only tells the lumen.
                    near_enough = _GRID_NM + max(radius[level - 1] - _SEEN_NM, 0.0)
                    if (u - x) ** 2 + (v - y) ** 2 < near_enough**2:
                        x, y, clear = _carry(u, v, levels[level], reach, near, state, support)
                if clear == -np.inf:
                    x, y, clear = _climb(
                        walls, x, y, levels[level], reach, near, state, planes, support
                    )
                if first or clear > radius[level] + 10 * _TOLERANCE_NM:
                    centre[level, 0], centre[level, 1], radius[level] = x, y, clear
                    fresh[level] = True
                    n_fresh += 1
        first = False


@kernel
def _carry(x, y, z, reach, near, state, support):
    """Find the top at this level that rests on the same three atoms as the one below.

    Newton's iteration for the point at which the three are equally near. Returns it and its
    clearance; the start and -inf where it is no top or the list cannot vouch for it.
    """
    if min(support[0], support[1], support[2]) < 0:
        return x, y, -np.inf
    from_x, from_y, top = x, y, -np.inf
    for _ in range(_MAX_NEWTON):
        room_a, ax, ay = _tangent(near, support[0], x, y, z)
        room_b, bx, by = _tangent(near, support[1], x, y, z)
        top, cx, cy = _tangent(near, support[2], x, y, z)
        ax, ay, bx, by = ax - cx, ay - cy, bx - cx, by - cy
        over = 1.0 / (ax * by - ay * bx)
        share_a, share_b = (bx * cy - by * cx) * over, (ay * cx - ax * cy) * over
        inside = min(share_a, share_b, 1.0 - share_a - share_b) > 0.0
        dx = (by * (top - room_a) - ay * (top - room_b)) * over
        dy = (ax * (top - room_b) - bx * (top - room_a)) * over
        if not (inside and dx * dx + dy * dy < _TRUST_NM**2):
            return from_x, from_y, -np.inf
        x, y = x + dx, y + dy
        if dx * dx + dy * dy < _TOLERANCE_NM**2:
            break
    gone = math.sqrt((x - state[0]) ** 2 + (y - state[1]) ** 2 + (z - state[2]) ** 2)
    clear = _clearance(near, int(state[4]), x, y, z)
    good = x * x + y * y <= reach * reach and clear < MAX_RADIUS_NM
    if not good or clear < top - _TOLERANCE_NM or gone + clear > state[3]:
        return from_x, from_y, -np.inf
    return x, y, clear


@kernel
def _tangent(near, k, x, y, z):
    """Room that a near atom leaves at a point, and its slopes."""
    dx, dy, dz = x - near[0, k], y - near[1, k], z - near[2, k]
    distance = math.sqrt(dx * dx + dy * dy + dz * dz)
    return distance - near[3, k], dx / distance, dy / distance


@kernel
def _gather(walls, x, y, z, bound, near, state):
    """List the atoms not much farther than the nearest, and remember where.

    The state is the place (x, y, z), a limit and the number of atoms. An atom that is not
    listed is at least the limit minus the way gone from the place away.
    """
    atoms, starts, n_rings, largest = walls[0], walls[1], walls[2], walls[4]
    best = min(bound, MAX_RADIUS_NM)
    off = math.sqrt(x * x + y * y)
    half = 0.25
    while half < best + largest:
        half = min(2 * half, best + largest)
        low, high = _layers(walls, z, half)
        outer = min(int((off + half) / _LAYER_NM) + 1, n_rings)
        for layer in range(low, high):
            for k in range(starts[layer * n_rings], starts[layer * n_rings + outer]):
                dx, dy, dz = atoms[k, 0] - x, atoms[k, 1] - y, atoms[k, 2] - z
                square = dx * dx + dy * dy + dz * dz
                if square < (best + atoms[k, 3]) ** 2:
                    best = math.sqrt(square) - atoms[k, 3]
    limit = best + _SHELL_NM
    low, high = _layers(walls, z, limit + largest)
    outer = min(int((off + limit + largest) / _LAYER_NM) + 1, n_rings)
    count = 0
    for layer in range(low, high):
        for k in range(starts[layer * n_rings], starts[layer * n_rings + outer]):
            dx, dy, dz = atoms[k, 0] - x, atoms[k, 1] - y, atoms[k, 2] - z
            if dx * dx + dy * dy + dz * dz < (limit + atoms[k, 3]) ** 2:
                for row in range(4):
                    near[row, count] = atoms[k, row]
                count += 1
    state[0], state[1], state[2], state[3], state[4] = x, y, z, limit, count


@kernel
def _climb(walls, x, y, z, reach, near, state, planes, support):
    """Climb from a point to a local top of the clearance in its plane.

    The distance to an atom is convex, so its tangent never lies above it: the best point
    under the tangents of all atoms (a linear programme in the plane) is at least as good as
    they promise, and the climb does not lose ground. Only near atoms are looked at; where they
    cannot vouch for a step any more, they are gathered anew.

    Returns the centre and its clearance, which may be inf.
    """
    trust, before, length = _TRUST_NM, -np.inf, 0.0
    clear = np.inf
    for _ in range(_MAX_STEPS):
        gone = math.sqrt((x - state[0]) ** 2 + (y - state[1]) ** 2 + (z - state[2]) ** 2)
        count = int(state[4])
        clear = _clearance(near, count, x, y, z)
        vouched = 0.25 * (state[3] - gone - clear)
        if not vouched >= _LEAST_TRUST_NM and gone != 0.0:
            _gather(walls, x, y, z, clear, near, state)
            support[0], support[1], support[2] = -1, -1, -1
            continue
        if clear >= MAX_RADIUS_NM or length < 0.0:
            break
        if clear < before:
            # The wall at the reach is round; its tangent promised too much.
            trust = 0.5 * length
        before = clear
        step = min(trust, vouched)
        number = _planes(near, count, x, y, clear, step, reach, planes, support)
        dx, dy, gain = _best_step(planes, number, support)
        if gain <= _TOLERANCE_NM:
            break
        length = math.sqrt(dx * dx + dy * dy)
        if length < step:
            trust = max(2 * length, _LEAST_TRUST_NM)
        x, y = x + dx, y + dy
        if length * length < 0.2 * _TOLERANCE_NM:
            # The distances' curves leave less to gain than the tolerance.
            length = -1.0
        out = math.sqrt(x * x + y * y) / reach
        if out > 1.0:
            x, y = x / out, y / out
    return x, y, clear


@kernel
def _clearance(near, count, x, y, z):
    """Clearance among the near atoms; their own rooms into the last row."""
    for k in range(count):
        dx, dy, dz = x - near[0, k], y - near[1, k], z - near[2, k]
        near[4, k] = math.sqrt(dx * dx + dy * dy + dz * dz) - near[3, k]
    for k in range(count, (count + 3) // 4 * 4):
        near[4, k] = np.inf
    a, b, c, d = np.inf, np.inf, np.inf, np.inf
    for k in range(0, count, 4):
        e, f, g, h = near[4, k], near[4, k + 1], near[4, k + 2], near[4, k + 3]
        a = e if e < a else a
        b = f if f < b else b
        c = g if g < c else c
        d = h if h < d else d
    return min(min(a, b), min(c, d))


@kernel
def _planes(near, count, x, y, clear, step, reach, planes, support):
    """Tangents over a step, rows room, slope along x, slope along y and atom; their number.

    The first three end the step, the fourth stands at the reach, then come the atoms.
    `support` turns from atoms into planes.
    """
    for k in range(3):
        planes[0, k], planes[1, k], planes[2, k], planes[3, k] = step, _WALL_X[k], _WALL_Y[k], -1
    offset = max(math.sqrt(x * x + y * y), 1e-12)
    planes[0, 3], planes[3, 3] = _REACH_SLOPE * (reach - offset), -1
    planes[1, 3], planes[2, 3] = -_REACH_SLOPE * x / offset, -_REACH_SLOPE * y / offset
    number = 4
    a, b, c = support[0], support[1], support[2]
    support[0], support[1], support[2] = -1, -1, -1
    for k in range(count):
        room = near[4, k] - clear
        # The step ends at the corners of its walls, twice as far off; it gains at most `step`.
        if room < 3 * step:
            over = 1.0 / max(near[4, k] + near[3, k], 1e-12)
            planes[0, number] = room
            planes[1, number] = (x - near[0, k]) * over
            planes[2, number] = (y - near[1, k]) * over
            planes[3, number] = k
            if k == a:
                support[0] = number
            elif k == b:
                support[1] = number
            elif k == c:
                support[2] = number
            number += 1
    return number


@kernel
def _best_step(planes, number, support):
    """Maximise over a step the least of the tangents.

    A dual simplex: three planes support the top; while another one lies below it, that one
    enters and the one that then carries no weight leaves. It starts with the support of the
    step before if that can carry a top, else with the walls of the step. `support` turns back
    into atoms, -1 for the first four planes.

    Returns the step and the least of the tangents at its end.
    """
    room, slope_x, slope_y = planes[0], planes[1], planes[2]
    a, b, c = support[0], support[1], support[2]
    share_a, share_b, share_c = -1.0, -1.0, -1.0
    if min(a, b, c) >= 0:
        ax, ay = slope_x[a] - slope_x[c], slope_y[a] - slope_y[c]
        bx, by = slope_x[b] - slope_x[c], slope_y[b] - slope_y[c]
        over = 1.0 / (ax * by - ay * bx)
        share_a = (bx * slope_y[c] - by * slope_x[c]) * over
        share_b = (ay * slope_x[c] - ax * slope_y[c]) * over
        share_c = 1.0 - share_a - share_b
    if not min(share_a, share_b, share_c) > 0.0:
        a, b, c = 0, 1, 2
        share_a, share_b, share_c = 1 / 3, 1 / 3, 1 / 3
    dx, dy, top = 0.0, 0.0, 0.0
    for _ in range(_MAX_PIVOTS):
        ax, ay = slope_x[a] - slope_x[c], slope_y[a] - slope_y[c]
        bx, by = slope_x[b] - slope_x[c], slope_y[b] - slope_y[c]
        over = 1.0 / (ax * by - ay * bx)
        fall_a, fall_b = room[c] - room[a], room[c] - room[b]
        dx, dy = (by * fall_a - ay * fall_b) * over, (ax * fall_b - bx * fall_a) * over
        top = room[c] + slope_x[c] * dx + slope_y[c] * dy
        enter, least = -1, top - 0.1 * _TOLERANCE_NM
        for k in range(number):
            under = room[k] + slope_x[k] * dx + slope_y[k] * dy
            if under < least:
                enter, least = k, under
        if enter < 0 or top <= _TOLERANCE_NM:
            break
        ex, ey = slope_x[enter] - slope_x[c], slope_y[enter] - slope_y[c]
        mix_a, mix_b = (by * ex - bx * ey) * over, (ax * ey - ay * ex) * over
        mix_c = 1.0 - mix_a - mix_b
        rate_a = share_a / mix_a if mix_a > 1e-12 else np.inf
        rate_b = share_b / mix_b if mix_b > 1e-12 else np.inf
        rate_c = share_c / mix_c if mix_c > 1e-12 else np.inf
        rate = min(rate_a, rate_b, rate_c)
        share_a -= rate * mix_a
        share_b -= rate * mix_b
        share_c -= rate * mix_c
        if rate == rate_a:
            a, share_a = enter, rate
        elif rate == rate_b:
            b, share_b = enter, rate
        else:
            c, share_c = enter, rate
    support[0], support[1], support[2] = int(planes[3, a]), int(planes[3, b]), int(planes[3, c])
    return dx, dy, top


@kernel
def touched_levels(centre, radius, levels, guests, picked, sizes):
    """Tell at which levels of each frame a guest reaches into the sphere, (n_frames, n_levels)."""
    touched = np.zeros(radius.shape, np.bool_)
    for frame in range(len(radius)):
        for level in range(len(levels)):
            size = radius[frame, level]
            size = MAX_RADIUS_NM if math.isnan(size) else size
            for k in range(len(picked)):
                reach = size + sizes[k]
                dz = guests[frame, picked[k], 2] - levels[level]
                if abs(dz) < reach:
                    dx = guests[frame, picked[k], 0] - centre[frame, level, 0]
                    dy = guests[frame, picked[k], 1] - centre[frame, level, 1]
                    if dx * dx + dy * dy + dz * dz < reach * reach:
                        touched[frame, level] = True
                        break
    return touched
