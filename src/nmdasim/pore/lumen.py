"""Cross-section and volume of the lumen, and what fills them."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmdasim.compiled import kernel
from nmdasim.errors import PoreError
from nmdasim.pore.profile import PoreProfile
from nmdasim.pore.spheres import Spheres, checked_spheres, in_blocks

#: Radius of a water molecule as a probe.
PROBE_NM = 0.14
# How far from the centre of the lumen it is looked at.
_HALF_WINDOW_NM = 0.8
# Cells of a row are bits of words, so that a word's worth of them is treated at once. Less than
# 64, which leaves the sign alone.
_BITS = 48
_ALL = (1 << _BITS) - 1
# Thickness of a slice of the volume, in cells of the plane.
_SLICE = 2


def cross_section(
    coordinates: ArrayLike,
    *,
    radii: ArrayLike,
    blocker: ArrayLike,
    blocker_radii: ArrayLike,
    level: ArrayLike,
    centre: ArrayLike,
    spacing: float = 0.02,
    n_threads: int = 1,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure the lumen's cross-section at a level and the share that a blocker fills.

    The cross-section is the part of the plane that discs of a water's size (0.14 nm) cover
    when their centres move from `centre` without touching the pore, the blocker not
    counted. Gaps between helices that are narrower than a water do not belong to it. The
    filled part is where the plane cuts the van der Waals spheres of the blocker.

    Parameters
    ----------
    coordinates : array_like of float, shape (n_frames, n_atoms, 3) or (n_atoms, 3), nm
        The pore without the blocker, in the pore frame.
    radii : array_like of float, shape (n_atoms,), nm
        nan for atoms to leave out.
    blocker : array_like of float, shape (n_frames, n_blocker, 3) or (n_blocker, 3), nm
    blocker_radii : array_like of float, shape (n_blocker,), nm
        nan for atoms to leave out.
    level : array_like of float, shape (n_frames,) or a single one, nm
        nan for frames to leave out.
    centre : array_like of float, shape (n_frames, 2) or (2,), nm
        Where the largest sphere lies at this level.
    spacing : float, nm
        Of the grid that the areas are counted on.
    n_threads : int
        Frames are shared among so many; the result does not depend on it.

    Returns
    -------
    area : ndarray of float64, shape (n_frames,), nm^2
        0 where not even a water fits at `centre`, nan where `level` is. Nothing beyond 0.8 nm
        from `centre` is seen.
    filled_share : ndarray of float64, shape (n_frames,)
        Between 0 and 1; nan where there is no area.

    Raises
    ------
    PoreError
        If the shapes do not agree.
    """
    walls = checked_spheres(coordinates, radii)
    n_frames = len(walls[0])
    heights = np.broadcast_to(np.asarray(level, np.float64), (n_frames,))[:, None]
    seeds = np.broadcast_to(np.asarray(centre, np.float64), (n_frames, 2))[:, None]
    cells, share = _count(
        walls, checked_spheres(blocker, blocker_radii), heights, seeds, spacing, n_threads
    )
    return cells * spacing**2, share


def lumen_volume(
    profile: PoreProfile,
    coordinates: ArrayLike,
    *,
    radii: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    blocker: ArrayLike | None = None,
    blocker_radii: ArrayLike | None = None,
    spacing: float = 0.05,
    n_threads: int = 1,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure the volume of the lumen between two heights and the share that a blocker fills.

    The lumen is what balls of a water's size (0.14 nm) cover when their centres move between
    the two heights, from the centres of the open spheres, without touching the pore, the
    blocker not counted: the volume inside the probe's surface (Richards 1977), cut at the
    two heights. The filled part is what lies in the van der Waals spheres of the blocker.

    Parameters
    ----------
    profile : PoreProfile
        Of the same frames, from `radius_profile`; its levels must reach over the heights.
    coordinates : array_like of float, shape (n_frames, n_atoms, 3) or (n_atoms, 3), nm
        The pore without the blocker, in the pore frame.
    radii : array_like of float, shape (n_atoms,), nm
        nan for atoms to leave out.
    low, high : array_like of float, shape (n_frames,) or a single one, nm
        For the vestibule, heights of the asparagine and of the threonine ring.
    blocker : array_like of float, shape (n_frames, n_blocker, 3) or (n_blocker, 3), nm
    blocker_radii : array_like of float, shape (n_blocker,), nm
        nan for atoms to leave out.
    spacing : float, nm
        Of the grid in the plane that the volume is counted on; slices are twice as thick.
    n_threads : int
        Frames are shared among so many; the result does not depend on it.

    Returns
    -------
    volume : ndarray of float64, shape (n_frames,), nm^3
        0 where no water fits at any level. Nothing farther than 0.8 nm in x or y from the mean
        centre is seen.
    filled_share : ndarray of float64, shape (n_frames,)
        Between 0 and 1, 0 without a blocker; nan where there is no volume.

    Raises
    ------
    PoreError
        If the shapes do not agree, or the heights do not rise or lie outside the levels.

    References
    ----------
    .. [1] F. M. Richards, Annu. Rev. Biophys. Bioeng. 6, 151 (1977),
       doi:10.1146/annurev.bb.06.060177.001055
    """
    walls = checked_spheres(coordinates, radii)
    n_frames = len(walls[0])
    bottom = np.broadcast_to(np.asarray(low, np.float64), (n_frames,))
    top = np.broadcast_to(np.asarray(high, np.float64), (n_frames,))
    if not ((bottom < top) & (bottom >= profile.levels[0]) & (top <= profile.levels[-1])).all():
        raise PoreError(
            f"got heights from {bottom.min():g} to {top.max():g} nm; need a lower and an upper one "
            f"between {profile.levels[0]:g} and {profile.levels[-1]:g} nm, where the profile is"
        )
    n_slices = max(1, math.ceil((top - bottom).max() / (_SLICE * spacing) - 1e-9))
    thick = (top - bottom) / n_slices
    heights = bottom[:, None] + thick[:, None] * (np.arange(n_slices) + 0.5)
    seeds = np.stack(
        [
            [np.interp(at, profile.levels, middle) for at, middle in zip(heights, way, strict=True)]
            for way in np.moveaxis(profile.centre, 2, 0)
        ],
        axis=-1,
    )
    guests = (
        (walls[0][:, :0], walls[1][:0], walls[2][:0])
        if blocker is None or blocker_radii is None
        else checked_spheres(blocker, blocker_radii)
    )
    cells, share = _count(walls, guests, heights, seeds, spacing, n_threads)
    return cells * spacing**2 * thick, share


def _count(
    walls: Spheres,
    guests: Spheres,
    heights: NDArray[np.float64],
    seeds: NDArray[np.float64],
    spacing: float,
    n_threads: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cells of the lumen in each frame, nan where a height is, and the share that is filled."""
    n_frames = len(walls[0])
    if not n_frames == len(guests[0]) == len(seeds):
        raise PoreError(
            f"got {n_frames} frames of the pore, {len(guests[0])} of the blocker and {len(seeds)} "
            "of centres; need the same number of each"
        )
    # Copies, so that the compiled code meets arrays of one type only.
    heights, seeds = heights.copy(), seeds.copy()
    blocker = guests[0].astype(walls[0].dtype, copy=False)
    cells, filled = np.full(n_frames, np.nan), np.full(n_frames, np.nan)
    half = math.ceil(_HALF_WINDOW_NM / spacing)

    def count(block: slice) -> None:
        count_lumen(
            walls[0][block], *walls[1:], blocker[block], *guests[1:], heights[block],
            seeds[block], float(spacing), half, cells[block], filled[block],
        )  # fmt: skip

    in_blocks(count, n_frames, n_threads)
    return cells, np.divide(filled, cells, out=np.full(n_frames, np.nan), where=cells > 0)


@kernel
def count_lumen(
    frames, picked, sizes, guests, solid, guest_sizes, heights, seeds, spacing, half, cells, filled
):
    """Count the cells that a probe reaches, and those of them inside a guest, per frame."""
    n_slices, side = heights.shape[1], 2 * half + 1
    shape = n_slices, side, (side - 1) // _BITS + 1
    # No room for a probe's centre, inside an atom of the wall, inside the guest, a probe's
    # centre gets there, a probe gets there.
    narrow, wall = np.empty(shape, np.int64), np.empty(shape, np.int64)
    taken, centre = np.empty(shape, np.int64), np.empty(shape, np.int64)
    reached = np.empty(shape, np.int64)
    spread = np.empty((int(PROBE_NM / spacing) + 2, shape[2]), np.int64)
    for frame in range(len(frames)):
        x, y = 0.0, 0.0
        for s in range(n_slices):
            # nan where a height is.
            x += (seeds[frame, s, 0] + 0.0 * heights[frame, s]) / n_slices
            y += seeds[frame, s, 1] / n_slices
        if math.isnan(x + y):
            continue
        # Where the first cell lies.
        corner = x - half * spacing, y - half * spacing
        _clear(narrow, side)
        _clear(wall, side)
        taken[:], centre[:], reached[:] = 0, 0, 0
        at = heights[frame]
        _mark(narrow, frames[frame], picked, sizes, PROBE_NM, at, corner, spacing)
        _flood(narrow, seeds[frame], corner, spacing, centre)
        _widen(centre, (at[-1] - at[0]) / max(1, n_slices - 1) / spacing, spacing, spread, reached)
        _mark(wall, frames[frame], picked, sizes, 0.0, at, corner, spacing)
        _mark(taken, guests[frame], solid, guest_sizes, 0.0, at, corner, spacing)
        n_cells, n_filled = 0, 0
        for s in range(n_slices):
            for row in range(side):
                for word in range(shape[2]):
                    open_ = reached[s, row, word] & ~wall[s, row, word]
                    if open_:
                        n_cells += _bits_of(open_)
                        n_filled += _bits_of(open_ & taken[s, row, word])
        cells[frame], filled[frame] = n_cells, n_filled


@kernel
def _clear(field, side):
    """Unset all bits but those beyond the end of a row, which are no cells."""
    n_words = field.shape[2]
    field[:] = 0
    beyond = _ALL & ~((1 << (side - (n_words - 1) * _BITS)) - 1)
    for s in range(field.shape[0]):
        for row in range(side):
            field[s, row, n_words - 1] = beyond


@kernel
def _bits_of(word):
    """Count the bits of a word that are set."""
    word = word - (word >> 1 & 0x555555555555)
    word = (word & 0x333333333333) + (word >> 2 & 0x333333333333)
    word = word + (word >> 4) & 0x0F0F0F0F0F0F
    # The sum of all bytes arrives in the uppermost.
    return word * 0x010101010101 >> 40 & 0xFF


@kernel
def _mark(field, frame, picked, sizes, more, heights, corner, spacing):
    """Set the cells inside the atoms, which are so much larger."""
    side = field.shape[1]
    for k in range(len(picked)):
        size = sizes[k] + more
        z = frame[picked[k], 2]
        if z < heights[0] - size or z > heights[-1] + size:
            continue
        x = (frame[picked[k], 0] - corner[0]) / spacing
        y = (frame[picked[k], 1] - corner[1]) / spacing
        wide = size / spacing
        if x < -wide or x > side + wide or y < -wide or y > side + wide:
            continue
        for s in range(len(heights)):
            width2 = size**2 - (z - heights[s]) ** 2
            if width2 > 0.0:
                _disc(field[s], x, y, math.sqrt(width2) / spacing)


@kernel
def _disc(plane, x, y, radius):
    """Set the cells of a disc; lengths in cells."""
    side = len(plane)
    # Numbers that are not negative round down.
    for row in range(int(max(x - radius + 1.0, 0.0)), min(int(x + radius) + 1, side)):
        width2 = radius * radius - (row - x) ** 2
        if width2 < 0.0:
            continue
        width = math.sqrt(width2)
        if y + width < 0.0:
            continue
        first, last = int(max(y - width + 1.0, 0.0)), min(int(y + width), side - 1)
        word = 0
        while first <= last:
            if first < _BITS:
                after = min(last + 1, _BITS)
                plane[row, word] |= (1 << after) - (1 << first)
            first, last, word = max(first - _BITS, 0), last - _BITS, word + 1


@kernel
def _flood(narrow, seeds, corner, spacing, centre):
    """Spread from the seeds to all cells where a probe's centre can go."""
    n_slices, side, n_words = narrow.shape
    for s in range(n_slices):
        row = int((seeds[s, 0] - corner[0]) / spacing + 0.5)
        column = int((seeds[s, 1] - corner[1]) / spacing + 0.5)
        if 0 <= row < side and 0 <= column < side:
            word = column // _BITS
            centre[s, row, word] |= 1 << (column - word * _BITS) & ~narrow[s, row, word]
            while _spread_along(centre[s, row], narrow[s, row]):
                pass
    changed = True
    while changed:
        changed = False
        for way in range(2):
            # Upwards and back, so that bends cost rounds but lengths do not.
            for n in range(n_slices * side):
                place = n if way == 0 else n_slices * side - 1 - n
                s, row = place // side, place % side
                fresh = False
                for word in range(n_words):
                    bits = centre[s, row, word]
                    if row > 0:
                        bits |= centre[s, row - 1, word]
                    if row < side - 1:
                        bits |= centre[s, row + 1, word]
                    if s > 0:
                        bits |= centre[s - 1, row, word]
                    if s < n_slices - 1:
                        bits |= centre[s + 1, row, word]
                    bits &= ~narrow[s, row, word]
                    if bits != centre[s, row, word]:
                        centre[s, row, word] = bits
                        fresh = True
                while fresh and _spread_along(centre[s, row], narrow[s, row]):
                    pass
                changed |= fresh


@kernel
def _spread_along(row, narrow):
    """Spread by one cell along a row; whether there was room."""
    fresh = False
    for word in range(len(row)):
        bits = _spread_by_one(row, word) & ~narrow[word]
        if bits != row[word]:
            row[word] = bits
            fresh = True
    return fresh


@kernel
def _spread_by_one(row, word):
    """Give a word of a row with the neighbours of its bits, also those in other words."""
    bits = row[word] | row[word] << 1 | row[word] >> 1
    if word > 0:
        bits |= row[word - 1] >> (_BITS - 1)
    if word < len(row) - 1:
        bits |= row[word + 1] << (_BITS - 1)
    return bits & _ALL


@kernel
def _widen(centre, thick, spacing, spread, reached):
    """Mark what the probe covers around its centres; a slice is so many cells thick.

    Half a cell more than the probe, because a centre stands for its whole cell; what that
    reaches too far lies inside the atoms of the wall.
    """
    n_slices, side, n_words = centre.shape
    probe = PROBE_NM / spacing + 0.5
    most = int(probe)
    for s in range(n_slices):
        for row in range(side):
            some = 0
            for word in range(n_words):
                some |= centre[s, row, word]
                spread[0, word] = centre[s, row, word]
            if not some:
                continue
            # How the row looks when it is widened by so many cells to both sides.
            for more in range(1, most + 1):
                for word in range(n_words):
                    spread[more, word] = _spread_by_one(spread[more - 1], word)
            for other in range(n_slices):
                height2 = probe**2 - ((other - s) * thick) ** 2
                if height2 <= 0.0:
                    continue
                for to in range(max(row - most, 0), min(row + most + 1, side)):
                    width2 = height2 - (to - row) ** 2
                    if width2 >= 0.0:
                        width = int(math.sqrt(width2))
                        for word in range(n_words):
                            reached[other, to, word] |= spread[width, word]
