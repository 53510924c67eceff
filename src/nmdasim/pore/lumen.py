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
# What is known of a cell: no room for a probe's centre, inside an atom of the wall, a probe's
# centre gets there, a probe gets there, inside the blocker.
_NARROW, _WALL, _CENTRE, _REACHED, _BLOCKER = 1, 2, 4, 8, 16
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
    field = np.zeros((n_slices, side, side), np.uint8)
    stack = np.empty(field.size, np.int64)
    box = np.empty(4, np.int64)
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
        box[0], box[1], box[2], box[3] = 0, side, 0, side
        _mark(
            field, frames[frame], picked, sizes, PROBE_NM, heights[frame], corner, spacing, box,
            _NARROW,
        )  # fmt: skip
        n_centres = _flood(field, seeds[frame], corner, spacing, stack)
        _enclose(stack, n_centres, side, int(PROBE_NM / spacing) + 2, box)
        _mark(field, frames[frame], picked, sizes, 0.0, heights[frame], corner, spacing, box, _WALL)
        _mark(
            field, guests[frame], solid, guest_sizes, 0.0, heights[frame], corner, spacing, box,
            _BLOCKER,
        )  # fmt: skip
        _widen(field, heights[frame], spacing, stack, n_centres, box)
        n_cells, n_filled = 0, 0
        for s in range(n_slices):
            for row in range(box[0], box[1]):
                for column in range(box[2], box[3]):
                    reached = field[s, row, column] & (_REACHED | _WALL) == _REACHED
                    n_cells += reached
                    n_filled += reached and field[s, row, column] & _BLOCKER != 0
            for row in range(side):
                for column in range(side):
                    field[s, row, column] = 0
        cells[frame], filled[frame] = n_cells, n_filled


@kernel
def _mark(field, frame, picked, sizes, more, heights, corner, spacing, box, bit):
    """Set a bit in the cells inside the atoms, which are so much larger."""
    for k in range(len(picked)):
        size = sizes[k] + more
        z = frame[picked[k], 2]
        if z < heights[0] - size or z > heights[-1] + size:
            continue
        x = (frame[picked[k], 0] - corner[0]) / spacing
        y = (frame[picked[k], 1] - corner[1]) / spacing
        wide = size / spacing
        if x < box[0] - wide or x > box[1] + wide or y < box[2] - wide or y > box[3] + wide:
            continue
        for s in range(len(heights)):
            width2 = size**2 - (z - heights[s]) ** 2
            if width2 > 0.0:
                _disc(field[s], x, y, math.sqrt(width2) / spacing, box, bit)


@kernel
def _disc(plane, x, y, radius, box, bit):
    """Set a bit in the cells of a disc inside a box; lengths in cells."""
    # Numbers that are not negative round down.
    for row in range(int(max(x - radius + 1.0, box[0])), min(int(x + radius) + 1, box[1])):
        width2 = radius * radius - (row - x) ** 2
        if width2 < 0.0:
            continue
        width = math.sqrt(width2)
        if y + width < 0.0:
            continue
        low = int(max(y - width + 1.0, box[2]))
        for column in range(low, min(int(y + width) + 1, box[3])):
            plane[row, column] |= np.uint8(bit)


@kernel
def _packed(s, row, column):
    """Hold a cell in one number that needs no division to read."""
    return s << 40 | row << 20 | column


@kernel
def _unpacked(cell):
    """Slice, row and column of a cell."""
    return cell >> 40, cell >> 20 & 0xFFFFF, cell & 0xFFFFF


@kernel
def _flood(field, seeds, corner, spacing, stack):
    """Spread from the seeds to all cells where a probe's centre can go; their number.

    The stack lists them afterwards.
    """
    n_slices, side = field.shape[0], field.shape[1]
    count = 0
    for s in range(n_slices):
        row = int((seeds[s, 0] - corner[0]) / spacing + 0.5)
        column = int((seeds[s, 1] - corner[1]) / spacing + 0.5)
        if 0 <= row < side and 0 <= column < side and not field[s, row, column]:
            field[s, row, column] = _CENTRE
            stack[count] = _packed(s, row, column)
            count += 1
    done = 0
    while done < count:
        at_s, at_row, at_column = _unpacked(stack[done])
        done += 1
        for way in range(6):
            step = 1 - 2 * (way % 2)
            s = at_s + (step if way < 2 else 0)
            row = at_row + (step if 2 <= way < 4 else 0)
            column = at_column + (step if way >= 4 else 0)
            inside = 0 <= s < n_slices and 0 <= row < side and 0 <= column < side
            if inside and not field[s, row, column]:
                field[s, row, column] = _CENTRE
                stack[count] = _packed(s, row, column)
                count += 1
    return count


@kernel
def _enclose(stack, count, side, margin, box):
    """Box of rows and columns around cells, with a margin."""
    box[0], box[1], box[2], box[3] = side, 0, side, 0
    for k in range(count):
        _, row, column = _unpacked(stack[k])
        box[0], box[1] = min(box[0], row), max(box[1], row + 1)
        box[2], box[3] = min(box[2], column), max(box[3], column + 1)
    box[0], box[2] = max(box[0] - margin, 0), max(box[2] - margin, 0)
    box[1], box[3] = min(box[1] + margin, side), min(box[3] + margin, side)


@kernel
def _widen(field, heights, spacing, stack, n_centres, box):
    """Mark what the probe covers around its centres.

    Half a cell more than the probe, because a centre stands for its whole cell; what that
    reaches too far lies inside the atoms of the wall.
    """
    n_slices, side = field.shape[0], field.shape[1]
    thick = (heights[-1] - heights[0]) / max(1, n_slices - 1)
    probe = PROBE_NM + 0.5 * spacing
    for k in range(n_centres):
        s, row, column = _unpacked(stack[k])
        field[s, row, column] |= np.uint8(_REACHED)
        if (
            0 < row < side - 1
            and 0 < column < side - 1
            and field[s, row - 1, column] & _CENTRE
            and field[s, row + 1, column] & _CENTRE
            and field[s, row, column - 1] & _CENTRE
            and field[s, row, column + 1] & _CENTRE
            and (s == 0 or field[s - 1, row, column] & _CENTRE)
            and (s == n_slices - 1 or field[s + 1, row, column] & _CENTRE)
        ):
            # Its neighbours cover what it would.
            continue
        for other in range(n_slices):
            width2 = probe**2 - ((other - s) * thick) ** 2
            if width2 > 0.0:
                _disc(
                    field[other], float(row), float(column), math.sqrt(width2) / spacing, box,
                    _REACHED,
                )  # fmt: skip
