"""The loop over frames and residues, compiled. Geometry only: atoms were typed before."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmdasim.compiled import kernel

Ints = NDArray[np.int64]
_Frame = NDArray[np.float32]

# Places of the types in `model.INTERACTION_TYPES`: compiled code takes numbers alone.
HYDROGEN, BRIDGE, SALT, METAL, CATION_PI, PI, HYDROPHOBIC, HALOGEN, CLOSE = range(9)
N_TYPES = 9

# Limits are met in spite of rounding: these are far below what coordinates resolve.
_NM = 1e-6
_DEG = 1e-4
# No heavy atom of an amino acid is farther from its CA: 0.75 nm in a stretched arginine.
_RESIDUE_NM = 1.0


# Kinds of typed atoms, the same on both sides: heavy and hydrophobic atoms; acceptors; donors with
# their hydrogen; halogens with their carbon, or what accepts them with its antecedent; charged
# groups; rings; metal ions, or what holds them.
KINDS = (
    "heavy", "greasy", "acceptors", "donors", "halogens", "cations", "anions", "rings", "metals",
)  # fmt: skip
HEAVY, GREASY, ACCEPTORS, DONORS, HALOGENS, CATIONS, ANIONS, RINGS, METALS = range(9)


class Typed(NamedTuple):
    """Typed atoms of all residues and, behind them as one more residue, of the ligand.

    Rows `of[kind, r]` to `of[kind, r + 1]` of the table are the sites of residue r; each row
    holds the atoms of one site, padded with -1. One table for all keeps the compiled code small.
    """

    table: Ints
    of: Ints


class Limits(NamedTuple):
    """`model.InteractionThresholds` as numbers, nm and degrees."""

    reach: float
    nearest: float
    close: float
    hydrophobic: float
    hydrogen: float
    hydrogen_angle: float
    salt: float
    metal: float
    cation_pi: float
    cation_pi_offset: float
    cation_pi_tilt: float
    face: float
    face_plane: float
    face_tilt: float
    edge: float
    edge_plane: float
    edge_tilt: float
    edge_intersect: float
    pi_offset: float
    halogen: float
    halogen_donor_low: float
    halogen_donor_high: float
    halogen_acceptor_low: float
    halogen_acceptor_high: float
    bridge_low: float
    bridge_high: float
    bridge_angle: float
    bridge_omega_low: float
    bridge_omega_high: float
    bridge_mixed: bool
    bridges_per_water: int


# ------------------------------------------------------------------------------- vectors


@kernel
def _line(frame: _Frame, start: int, end: int) -> tuple[float, float, float]:
    return (
        float(frame[end, 0]) - float(frame[start, 0]),
        float(frame[end, 1]) - float(frame[start, 1]),
        float(frame[end, 2]) - float(frame[start, 2]),
    )


@kernel
def _dot(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@kernel
def _minus(
    a: tuple[float, float, float], b: tuple[float, float, float]
) -> tuple[float, float, float]:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


@kernel
def _cross(
    a: tuple[float, float, float], b: tuple[float, float, float]
) -> tuple[float, float, float]:
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )


@kernel
def _apart(frame: _Frame, one: int, two: int) -> float:
    line = _line(frame, one, two)
    return math.sqrt(_dot(line, line))


@kernel
def _between(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    """Angle between two vectors in degrees; 90 where one has no length."""
    lengths = math.sqrt(_dot(a, a) * _dot(b, b))
    if lengths == 0.0:
        return 90.0
    return math.degrees(math.acos(max(-1.0, min(1.0, _dot(a, b) / lengths))))


@kernel
def _angle(frame: _Frame, first: int, vertex: int, last: int) -> float:
    return _between(_line(frame, vertex, first), _line(frame, vertex, last))


@kernel
def _centre(frame: _Frame, table: Ints, row: int) -> tuple[float, float, float]:
    x = y = z = 0.0
    n = 0
    while n < table.shape[1] and table[row, n] >= 0:
        atom = table[row, n]
        x += frame[atom, 0]
        y += frame[atom, 1]
        z += frame[atom, 2]
        n += 1
    return x / n, y / n, z / n


@kernel
def _normal(
    frame: _Frame, table: Ints, row: int, centre: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Find the unit normal of the area vector over all atoms, steadier than that of two of them."""
    n = 0
    while n < table.shape[1] and table[row, n] >= 0:
        n += 1
    x = y = z = 0.0
    for i in range(n):
        here, following = table[row, i], table[row, (i + 1) % n]
        a = (frame[here, 0] - centre[0], frame[here, 1] - centre[1], frame[here, 2] - centre[2])
        b = (
            frame[following, 0] - centre[0],
            frame[following, 1] - centre[1],
            frame[following, 2] - centre[2],
        )
        area = _cross(a, b)
        x, y, z = x + area[0], y + area[1], z + area[2]
    length = math.sqrt(x * x + y * y + z * z)
    return x / length, y / length, z / length


# ----------------------------------------------------------------------- who is near at all


@kernel
def _middle(frame: _Frame, typed: Typed, own: int) -> tuple[float, float, float, float]:
    """Centre of the ligand's heavy atoms and the distance of the farthest of them."""
    first, last = typed.of[HEAVY, own], typed.of[HEAVY, own + 1]
    x = y = z = farthest = 0.0
    for row in range(first, last):
        atom = typed.table[row, 0]
        x, y, z = x + frame[atom, 0], y + frame[atom, 1], z + frame[atom, 2]
    n = last - first
    x, y, z = x / n, y / n, z / n
    for row in range(first, last):
        atom = typed.table[row, 0]
        a = (frame[atom, 0] - x, frame[atom, 1] - y, frame[atom, 2] - z)
        farthest = max(farthest, _dot(a, a))
    return x, y, z, math.sqrt(farthest)


@kernel
def _squared_from(
    frame: _Frame, atom: int, x: np.float32, y: np.float32, z: np.float32
) -> np.float32:
    dx, dy, dz = frame[atom, 0] - x, frame[atom, 1] - y, frame[atom, 2] - z
    return dx * dx + dy * dy + dz * dz


@kernel
def _near_residues(
    frame: _Frame, middle: tuple[float, float, float, float], typed: Typed, anchors: Ints,
    reach: float, near: Ints,
) -> int:  # fmt: skip
    """List the residues that have an atom within reach, first by their CA alone."""
    x, y, z = np.float32(middle[0]), np.float32(middle[1]), np.float32(middle[2])
    # A little wider than needed, because the screen is in single precision.
    within = np.float32((reach + middle[3] + 1e-4) ** 2)
    screen = np.float32((reach + middle[3] + _RESIDUE_NM) ** 2)
    n = 0
    for residue in range(len(anchors)):
        anchor = anchors[residue]
        if anchor >= 0 and _squared_from(frame, anchor, x, y, z) > screen:
            continue
        for row in range(typed.of[HEAVY, residue], typed.of[HEAVY, residue + 1]):
            if _squared_from(frame, typed.table[row, 0], x, y, z) <= within:
                near[n] = residue
                n += 1
                break
    return n


@kernel
def _least(frame: _Frame, typed: Typed, own: int, r: int, kind: int) -> float:
    """Shortest distance between atoms of one kind, nm; inf where there are none."""
    least = math.inf
    for j in range(typed.of[kind, r], typed.of[kind, r + 1]):
        for i in range(typed.of[kind, own], typed.of[kind, own + 1]):
            line = _line(frame, typed.table[i, 0], typed.table[j, 0])
            least = min(least, _dot(line, line))
    return math.sqrt(least)


# --------------------------------------------------------------------------- pairs of atoms


@kernel
def _hydrogen_bond(
    frame: _Frame, typed: Typed, giver: int, taker: int, limits: Limits, best: float
) -> float:
    """Shortest donor-acceptor distance of the hydrogen bonds; `best` where none is shorter."""
    for i in range(typed.of[DONORS, giver], typed.of[DONORS, giver + 1]):
        donor, hydrogen = typed.table[i, 0], typed.table[i, 1]
        # A metal ion stands among the donors for its water bridges alone.
        if donor == hydrogen:
            continue
        for j in range(typed.of[ACCEPTORS, taker], typed.of[ACCEPTORS, taker + 1]):
            acceptor = typed.table[j, 0]
            apart = _apart(frame, donor, acceptor)
            if (
                apart < best
                and apart <= limits.hydrogen + _NM
                and _angle(frame, donor, hydrogen, acceptor) >= limits.hydrogen_angle - _DEG
            ):
                best = apart
    return best


@kernel
def _halogen_bond(frame: _Frame, typed: Typed, own: int, r: int, limits: Limits) -> float:
    best = math.inf
    for i in range(typed.of[HALOGENS, own], typed.of[HALOGENS, own + 1]):
        halogen, carbon = typed.table[i, 0], typed.table[i, 1]
        for j in range(typed.of[HALOGENS, r], typed.of[HALOGENS, r + 1]):
            acceptor, antecedent = typed.table[j, 0], typed.table[j, 1]
            apart = _apart(frame, halogen, acceptor)
            if apart >= best or apart > limits.halogen + _NM:
                continue
            at_halogen = _angle(frame, carbon, halogen, acceptor)
            at_acceptor = _angle(frame, halogen, acceptor, antecedent)
            if (
                limits.halogen_donor_low - _DEG <= at_halogen <= limits.halogen_donor_high + _DEG
                and at_acceptor >= limits.halogen_acceptor_low - _DEG
                and at_acceptor <= limits.halogen_acceptor_high + _DEG
            ):
                best = apart
    return best


# -------------------------------------------------------------------------- charges and rings


@kernel
def _salt_bridge(
    frame: _Frame, typed: Typed, own: int, ours: int, r: int, theirs: int,
    limits: Limits, best: float,
) -> float:  # fmt: skip
    for j in range(typed.of[theirs, r], typed.of[theirs, r + 1]):
        centre = _centre(frame, typed.table, j)
        for i in range(typed.of[ours, own], typed.of[ours, own + 1]):
            line = _minus(centre, _centre(frame, typed.table, i))
            apart = math.sqrt(_dot(line, line))
            if apart <= limits.salt + _NM:
                best = min(best, apart)
    return best


@kernel
def _tilt_and_offset(
    line: tuple[float, float, float], normal: tuple[float, float, float]
) -> tuple[float, float]:
    """Split a line by a unit normal: their angle, 0 to 90 degrees, and the in-plane part, nm."""
    along = abs(_dot(line, normal))
    offset = math.sqrt(max(_dot(line, line) - along * along, 0.0))
    return math.degrees(math.atan2(offset, along)), offset


@kernel
def _cation_pi(
    frame: _Frame, typed: Typed, charged: int, aromatic: int, limits: Limits, best: float
) -> float:
    for j in range(typed.of[RINGS, aromatic], typed.of[RINGS, aromatic + 1]):
        centre = _centre(frame, typed.table, j)
        for i in range(typed.of[CATIONS, charged], typed.of[CATIONS, charged + 1]):
            line = _minus(_centre(frame, typed.table, i), centre)
            apart = math.sqrt(_dot(line, line))
            if apart >= best or apart > limits.cation_pi + _NM:
                continue
            tilt, offset = _tilt_and_offset(line, _normal(frame, typed.table, j, centre))
            if tilt <= limits.cation_pi_tilt + _DEG and offset <= limits.cation_pi_offset + _NM:
                best = apart
    return best


@kernel
def _stacking(frame: _Frame, typed: Typed, own: int, r: int, limits: Limits) -> float:
    best = math.inf
    for i in range(typed.of[RINGS, own], typed.of[RINGS, own + 1]):
        centre = _centre(frame, typed.table, i)
        for j in range(typed.of[RINGS, r], typed.of[RINGS, r + 1]):
            other = _centre(frame, typed.table, j)
            line = _minus(other, centre)
            apart = math.sqrt(_dot(line, line))
            if apart >= best or apart > max(limits.face, limits.edge) + _NM:
                continue
            normal = _normal(frame, typed.table, i, centre)
            other_normal = _normal(frame, typed.table, j, other)
            if _stacked(line, apart, normal, other_normal, limits):
                best = apart
    return best


@kernel
def _stacked(
    line: tuple[float, float, float],
    apart: float,
    normal: tuple[float, float, float],
    other: tuple[float, float, float],
    limits: Limits,
) -> bool:
    """Whether two rings stack, face to face or edge to face."""
    plane = math.degrees(math.acos(min(1.0, abs(_dot(normal, other)))))
    tilt, offset = _tilt_and_offset(line, normal)
    other_tilt, other_offset = _tilt_and_offset(line, other)
    tilt, offset = min(tilt, other_tilt), min(offset, other_offset)
    if offset > limits.pi_offset + _NM:
        return False
    if (
        apart <= limits.face + _NM
        and plane <= limits.face_plane + _DEG
        and tilt <= limits.face_tilt + _DEG
    ):
        return True
    return (
        apart <= limits.edge + _NM
        and plane >= limits.edge_plane - _DEG
        and tilt <= limits.edge_tilt + _DEG
        and _meeting_line(line, normal, other) <= limits.edge_intersect + _NM
    )


@kernel
def _meeting_line(
    line: tuple[float, float, float],
    normal: tuple[float, float, float],
    other: tuple[float, float, float],
) -> float:
    """Distance of the nearer ring centre from where the planes meet, nm; inf when parallel.

    The point on the meeting line is the one nearest to the first ring's centre.
    """
    direction = _cross(normal, other)
    squared = _dot(direction, direction)
    if squared < 1e-12:
        return math.inf
    # Within the first plane, move from its centre towards the second plane.
    step = _cross(direction, normal)
    scale = _dot(line, other) / squared
    point = (scale * step[0], scale * step[1], scale * step[2])
    rest = _minus(point, line)
    return min(math.sqrt(_dot(point, point)), math.sqrt(_dot(rest, rest)))


# ------------------------------------------------------------------------------ water bridges


@kernel
def _from_water(frame: _Frame, atom: int, water: _Frame, w: int) -> tuple[float, float, float]:
    """Line from a water's oxygen to an atom."""
    return (
        float(frame[atom, 0]) - float(water[w, 0]),
        float(frame[atom, 1]) - float(water[w, 1]),
        float(frame[atom, 2]) - float(water[w, 2]),
    )


@kernel
def _taken(
    line: tuple[float, float, float], water: _Frame, hydrogens: NDArray[np.float32], w: int,
    limits: Limits,
) -> float:  # fmt: skip
    """Length of a leg on which the water gives a hydrogen; inf where it is none.

    Without the water's own hydrogens they are taken to turn to wherever they are needed.
    """
    apart = math.sqrt(_dot(line, line))
    if not limits.bridge_low - _NM <= apart <= limits.bridge_high + _NM:
        return math.inf
    if not len(hydrogens):
        return apart
    for i in range(2):
        h = _from_water(hydrogens[w], i, water, w)
        back = (-h[0], -h[1], -h[2])
        if _between(back, _minus(line, h)) >= limits.bridge_angle - _DEG:
            return apart
    return math.inf


@kernel
def _given(
    frame: _Frame, donor: int, hydrogen: int, water: _Frame, w: int, limits: Limits
) -> float:
    """Length of a leg on which the water takes a hydrogen; inf where it is none.

    A metal ion stands for donor and hydrogen at once.
    """
    line = _from_water(frame, donor, water, w)
    apart = math.sqrt(_dot(line, line))
    if donor == hydrogen:
        return apart if apart <= limits.metal + _NM else math.inf
    if not limits.bridge_low - _NM <= apart <= limits.bridge_high + _NM:
        return math.inf
    h = _from_water(frame, hydrogen, water, w)
    back = (-h[0], -h[1], -h[2])
    held = _between(back, _minus(line, h)) >= limits.bridge_angle - _DEG
    return apart if held else math.inf


# Columns of a leg: line from the water's oxygen to what the angle at the water is measured with
# (acceptor, or the donor's hydrogen), length, polar atom, whether it gives, place of its residue.
_LENGTH, _ATOM, _GIVES, _PLACE = 3, 4, 5, 6
# Polar atoms that one water can touch within 0.41 nm: a few, never this many.
_MOST = 128


@kernel
def _legs(
    frame: _Frame, water: _Frame, hydrogens: NDArray[np.float32], w: int,
    typed: Typed, r: int, place: int, limits: Limits, legs: NDArray[np.float64], n: int,
) -> int:  # fmt: skip
    """Add the polar atoms of one residue that a water touches to a list; return its length."""
    for kind in (ACCEPTORS, DONORS):
        for row in range(typed.of[kind, r], typed.of[kind, r + 1]):
            atom = typed.table[row, 0]
            line = _from_water(frame, atom, water, w)
            # Cheap refusal first: most polar atoms are far from this water.
            if abs(line[0]) > limits.bridge_high + _NM or n == _MOST:
                continue
            if kind == ACCEPTORS:
                apart = _taken(line, water, hydrogens, w, limits)
            else:
                line = _from_water(frame, typed.table[row, 1], water, w)
                apart = _given(frame, atom, typed.table[row, 1], water, w, limits)
            if apart < math.inf:
                legs[n, 0], legs[n, 1], legs[n, 2] = line
                legs[n, _LENGTH], legs[n, _ATOM] = apart, atom
                legs[n, _GIVES], legs[n, _PLACE] = kind == DONORS, place
                n += 1
    return n


@kernel
def _water_bridges(
    frame: _Frame, water: _Frame, hydrogens: NDArray[np.float32],
    middle: tuple[float, float, float, float], typed: Typed, own: int,
    limits: Limits, near: Ints, n_near: int, bridge: NDArray[np.float64],
) -> None:  # fmt: skip
    """Length of the shortest bridge to each residue that is near."""
    x, y, z = np.float32(middle[0]), np.float32(middle[1]), np.float32(middle[2])
    within = np.float32((max(limits.bridge_high, limits.metal) + middle[3] + 1e-4) ** 2)
    legs = np.empty((_MOST, 7))
    for w in range(len(water)):
        if _squared_from(water, w, x, y, z) > within:
            continue
        n = ours = 0
        # The ligand first; residues only where the ligand touches this water.
        for k in range(-1, n_near):
            r = own if k < 0 else near[k]
            n = _legs(frame, water, hydrogens, w, typed, r, k, limits, legs, n)
            if k < 0:
                ours = n
                if not ours:
                    break
        if n > ours:
            _join_legs(legs, ours, n, limits, bridge)


# The angle at the water that PLIP prefers where a water could bridge too many atoms.
_IDEAL_DEG = 110.0


@kernel
def _join_legs(
    legs: NDArray[np.float64], ours: int, n: int, limits: Limits, bridge: NDArray[np.float64]
) -> None:
    """Join legs on the ligand with legs on the residues over one water.

    Where bridges are counted per water, each acceptor keeps its best partner and the water its
    best acceptors, by the angle at the water.
    """
    # Of each pair: off the ideal angle (inf once used up), acceptor, whole length, residue.
    pairs = np.empty((ours * (n - ours), 4))
    m = 0
    for i in range(ours):
        for j in range(ours, n):
            if limits.bridge_mixed and legs[i, _GIVES] == legs[j, _GIVES]:
                continue
            omega = _between(
                (legs[i, 0], legs[i, 1], legs[i, 2]), (legs[j, 0], legs[j, 1], legs[j, 2])
            )
            if limits.bridge_omega_low <= omega <= limits.bridge_omega_high:
                pairs[m, 0] = abs(omega - _IDEAL_DEG)
                pairs[m, 1] = legs[j, _ATOM] if legs[i, _GIVES] else legs[i, _ATOM]
                pairs[m, 2] = legs[i, _LENGTH] + legs[j, _LENGTH]
                pairs[m, 3] = legs[j, _PLACE]
                m += 1
    counted = limits.bridges_per_water > 0
    for _ in range(limits.bridges_per_water if counted else m):
        best = -1
        for c in range(m):
            if pairs[c, 0] < math.inf and (best < 0 or pairs[c, 0] < pairs[best, 0]):
                best = c
        if best < 0:
            return
        place, acceptor = int(pairs[best, 3]), pairs[best, 1]
        bridge[place] = min(bridge[place], pairs[best, 2])
        pairs[best, 0] = math.inf
        for c in range(m):
            if counted and pairs[c, 1] == acceptor:
                pairs[c, 0] = math.inf


# ---------------------------------------------------------------------------------- the loop


@kernel
def _measure_residue(
    frame: _Frame, typed: Typed, own: int, r: int, limits: Limits, hydrogens: bool,
    best: NDArray[np.float64],
) -> float:  # fmt: skip
    """Fill the shortest distance of every type with one residue; return the nearest of all."""
    for kind, found, limit in (
        (HEAVY, CLOSE, limits.close),
        (GREASY, HYDROPHOBIC, limits.hydrophobic),
        (METALS, METAL, limits.metal),
    ):
        apart = _least(frame, typed, own, r, kind)
        best[found] = apart if apart <= limit + _NM else math.inf
        if kind == HEAVY:
            nearest = apart
    for giver, taker in ((own, r), (r, own)):
        if hydrogens:
            best[HYDROGEN] = _hydrogen_bond(frame, typed, giver, taker, limits, best[HYDROGEN])
        best[CATION_PI] = _cation_pi(frame, typed, giver, taker, limits, best[CATION_PI])
    for ours, theirs in ((CATIONS, ANIONS), (ANIONS, CATIONS)):
        best[SALT] = _salt_bridge(frame, typed, own, ours, r, theirs, limits, best[SALT])
    best[HALOGEN] = _halogen_bond(frame, typed, own, r, limits)
    best[PI] = _stacking(frame, typed, own, r, limits)
    return nearest


@kernel
def measure(
    xyz: NDArray[np.float32], water: NDArray[np.float32], water_hydrogens: NDArray[np.float32],
    typed: Typed, anchors: Ints, limits: Limits, hydrogens: bool,
    contact: Ints, distance: _Frame, neighbour: Ints, nearest: _Frame,
) -> tuple[int, int]:  # fmt: skip
    """Measure the contacts of every frame.

    Parameters
    ----------
    xyz : ndarray of float32, shape (n_frames, n_atoms, 3), nm
    water : ndarray of float32, shape (n_frames, n_waters, 3), nm
        Oxygens; none where no bridges are asked for.
    water_hydrogens : ndarray of float32, shape (n_frames, n_waters or 0, 2, 3), nm
    typed : Typed
    anchors : ndarray of int64, shape (n_residues,)
        CA of each residue; -1 where the residue's size is not known.
    limits : Limits
    hydrogens : bool
        Whether hydrogen bonds are looked for.
    contact, distance : ndarray, shape (n_room, 3) and (n_room,)
        Filled with frame, residue and type of each contact, and its distance.
    neighbour, nearest : ndarray, shape (n_room, 2) and (n_room,)
        Filled with frame and residue, and the distance of their nearest heavy atoms.

    Returns
    -------
    n_contacts, n_neighbours : int
        How many there are; only those that find room are filled in.
    """
    near = np.empty(len(anchors), np.int64)
    bridge, best = np.empty(len(near)), np.empty(N_TYPES)
    n_contacts = n_neighbours = 0
    own = len(anchors)
    for f in range(len(xyz)):
        frame = xyz[f]
        middle = _middle(frame, typed, own)
        n_near = _near_residues(frame, middle, typed, anchors, limits.reach, near)
        bridge[:n_near] = math.inf
        if water.shape[1]:
            _water_bridges(
                frame, water[f], water_hydrogens[f], middle, typed, own, limits,
                near, n_near, bridge,
            )  # fmt: skip
        for k in range(n_near):
            best[:] = math.inf
            apart = _measure_residue(frame, typed, own, near[k], limits, hydrogens, best)
            best[BRIDGE] = bridge[k]
            if apart <= limits.nearest + _NM:
                if n_neighbours < len(nearest):
                    neighbour[n_neighbours, 0], neighbour[n_neighbours, 1] = f, near[k]
                    nearest[n_neighbours] = apart
                n_neighbours += 1
            for kind in range(N_TYPES):
                if best[kind] < math.inf:
                    if n_contacts < len(distance):
                        contact[n_contacts, 0], contact[n_contacts, 1] = f, near[k]
                        contact[n_contacts, 2] = kind
                        distance[n_contacts] = best[kind]
                    n_contacts += 1
    return n_contacts, n_neighbours
