"""Particles that pass the pore, counted while the frames go by."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import mdtraj as md
import numpy as np
from numpy.typing import ArrayLike

from nmdasim.errors import PoreError
from nmdasim.permeation.kernels import follow
from nmdasim.permeation.lumen import (
    LUMEN_MARGIN_NM,
    PORE_ENDS_NM,
    checked_ends,
    checked_positions,
    particles,
    tube,
    with_lumen,
)
from nmdasim.pore import DEFAULT_LEVELS_NM, PoreProfile
from nmdasim.statistics import poisson_interval
from nmdasim.subunits import RING_NAMES
from nmdasim.trajectory import pore_atoms

#: Two sightings of a particle in the lumen that lie farther apart along the axis than this do
#: not tell which way it went. Far below half of any box, so that no wrap looks like a passage.
MAX_STEP_NM = 1.0
#: A particle that was out of sight beside the lumen, as in a crevice, must come back this near.
CREVICE_NM = 0.5

_SIDES = ("out", "in")


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One particle that went through the whole pore."""

    kind: str
    """water, or the ion's element."""
    molecule: int
    """Its index among the particles that were followed."""
    direction: str
    """"in" from the outside of the cell to the inside, "out" the other way."""
    entered_ps: float
    """Time of the first frame in which it was in the pore, ps."""
    left_ps: float
    """Time of the first frame in which it was beyond the other end, ps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageRate:
    """How often particles of one kind pass a place in one direction."""

    kind: str
    """water, or the ion's element."""
    place: str
    """"whole pore", or the plane's name."""
    direction: str
    """"in" or "out" of the cell."""
    count: int
    """Passages that were seen."""
    time_ns: float
    """Time over which they were counted, ns."""
    rate_per_ns: float
    """Passages per nanosecond; nan without time."""
    rate_low_per_ns: float
    """Lower end of the exact Poisson interval at 95 %."""
    rate_high_per_ns: float
    """Its upper end."""
    note: str = ""
    """What to know about the rate; empty when there is nothing to say."""


class Passages:
    """Count particles that pass the pore while the frames go by.

    A particle is below the pore, in its lumen, above it, or out of sight beside it. It has
    passed when it was beyond one end, was then seen in the lumen, and is now beyond the other
    end, without a break: two sightings that follow each other may lie `max_step` apart along
    the axis, or `crevice` when it was out of sight between them. So a particle that turns
    back, leaves through the wall, comes in through it, or jumps across the periodic boundary
    is no passage, and one that hides in a crevice on its way is. Memory does not grow with
    the number of frames.

    Parameters
    ----------
    kinds : sequence of str
        Kind of each particle, such as "water" or "Na".
    ends : tuple of float, nm
        Heights between which the pore lies.
    planes : mapping of str to float, nm
        Heights at which crossings in the lumen are counted as well, by name. Not only
        complete passages: a particle that trembles about a plane crosses it often.
    max_step, crevice : float, nm
        See above.
    margin : float, nm
        How far beyond the lumen's radius a particle still belongs to it.

    Raises
    ------
    PoreError
        If the ends are not in rising order, or nearer to each other than `max_step`.

    Notes
    -----
    Counting is symmetric in time: reversed frames give the same passages the other way.
    Particles that are in the pore when the frames begin or end are no passages.
    """

    __slots__ = (
        "_aside", "_codes", "_crevice", "_crossed", "_ends", "_entered", "_last_ps", "_lost",
        "_margin", "_max_step", "_names", "_origin", "_passages", "_place", "_planes", "_seen",
        "_span_ps", "n_frames",
    )  # fmt: skip

    def __init__(
        self,
        kinds: Sequence[str],
        *,
        ends: tuple[float, float] = PORE_ENDS_NM,
        planes: Mapping[str, float] | None = None,
        max_step: float = MAX_STEP_NM,
        crevice: float = CREVICE_NM,
        margin: float = LUMEN_MARGIN_NM,
    ) -> None:
        low, high = checked_ends(ends)
        if high - low <= max_step:
            raise PoreError(
                f"the ends {low:g} and {high:g} nm are nearer than the largest step of "
                f"{max_step:g} nm, so that a jump past the pore could count: take a smaller step"
            )
        self._ends, self._max_step, self._crevice, self._margin = ends, max_step, crevice, margin
        self._planes = dict(planes or {})
        self._names = tuple(dict.fromkeys(kinds))
        codes = {name: code for code, name in enumerate(self._names)}
        self._codes = np.array([codes[kind] for kind in kinds], dtype=np.int64)
        n_particles = len(self._codes)
        self._origin = np.zeros(n_particles, dtype=np.int8)
        self._place = np.full(n_particles, np.nan)
        self._aside = np.zeros(n_particles, dtype=np.bool_)
        self._seen = np.zeros(n_particles, dtype=np.bool_)
        self._entered = np.full(n_particles, np.nan)
        self._crossed = np.zeros((len(self._names), len(self._planes), 2), dtype=np.int64)
        self._lost = np.zeros(len(self._names), dtype=np.int64)
        self._passages: list[Passage] = []
        self._span_ps, self._last_ps = 0.0, math.nan
        #: Frames that were added.
        self.n_frames = 0

    def add(self, positions: ArrayLike, *, time_ps: ArrayLike, lumen: PoreProfile) -> None:
        """Add the frames that follow those added before.

        Parameters
        ----------
        positions : array_like of float, shape (n_frames, n_particles, 3), nm
            In the pore frame, the particles always in the same order.
        time_ps : array_like of float, shape (n_frames,), ps
        lumen : PoreProfile
            Of the same frames, the ligand not counted.

        Raises
        ------
        PoreError
            If the shapes do not agree.
        """
        places = checked_positions(positions, lumen)
        times = np.asarray(time_ps, dtype=np.float64)
        if places.shape[1] != len(self._codes) or times.shape != (len(places),):
            raise PoreError(
                f"got {places.shape[1]} particles and {times.size} times for {len(places)} "
                f"frames; need {len(self._codes)} particles and one time a frame"
            )
        if not len(places):
            return
        heights = np.array(list(self._planes.values()), dtype=np.float64)
        ended = follow(
            places, times, *tube(lumen, self._margin), *checked_ends(self._ends), heights,
            self._max_step, self._crevice, self._codes, self._origin, self._place, self._aside,
            self._seen, self._entered, self._crossed, self._lost,
        )  # fmt: skip
        self._passages += [
            Passage(
                kind=self._names[self._codes[int(molecule)]],
                molecule=int(molecule),
                direction=_SIDES[int(side)],
                entered_ps=float(entered),
                left_ps=float(left),
            )
            for molecule, side, entered, left in ended
        ]
        steps = np.diff(times, prepend=self._last_ps if self.n_frames else times[0])
        self._span_ps += float(np.maximum(steps, 0.0).sum())
        self._last_ps = float(times[-1])
        self.n_frames += len(places)

    @property
    def passages(self) -> tuple[Passage, ...]:
        """Complete passages so far, in the order in which they ended."""
        return tuple(self._passages)

    @property
    def lost(self) -> dict[str, int]:
        """How often a particle of each kind that had come in by an end was lost from sight."""
        return dict(zip(self._names, self._lost.tolist(), strict=True))

    def rates(self, *, level: float = 0.95) -> tuple[PassageRate, ...]:
        """Give the rates so far with their exact Poisson intervals.

        Parameters
        ----------
        level : float
            Probability that an interval covers the rate.

        Returns
        -------
        rates : tuple of PassageRate
            Of each kind, whole pore and planes, in and out.
        """
        rates = []
        for code, kind in enumerate(self._names):
            mine = [passage for passage in self._passages if passage.kind == kind]
            for side, direction in enumerate(_SIDES):
                whole = sum(passage.direction == direction for passage in mine)
                lost = int(self._lost[code])
                missed = f"{lost} that had come in were lost sideways or in a jump" if lost else ""
                rates.append(self._rate(kind, "whole pore", direction, whole, level, missed))
                rates += [
                    self._rate(kind, plane, direction, int(self._crossed[code, at, side]), level)
                    for at, plane in enumerate(self._planes)
                ]
        return tuple(rates)

    def _rate(
        self, kind: str, place: str, direction: str, count: int, level: float, missed: str = ""
    ) -> PassageRate:
        time = self._span_ps / 1000.0
        low, high = poisson_interval(count, level=level) if time else (math.nan, math.nan)
        over = 1.0 / time if time else math.nan
        nothing = "" if count else f"not enough data: none in {time:.3g} ns, only a bound is known"
        return PassageRate(
            kind=kind,
            place=place,
            direction=direction,
            count=count,
            time_ns=time,
            rate_per_ns=count * over,
            rate_low_per_ns=low * over,
            rate_high_per_ns=high * over,
            note="; ".join(filter(None, (nothing, missed))),
        )


def count_passages(
    trajectory: md.Trajectory | Iterable[md.Trajectory],
    *,
    ends: tuple[float, float] = PORE_ENDS_NM,
    levels: ArrayLike = DEFAULT_LEVELS_NM,
) -> Passages:
    """Count the waters and ions that pass the pore.

    Parameters
    ----------
    trajectory : mdtraj.Trajectory or iterable of mdtraj.Trajectory
        The channel whole and in one periodic cell, with water and ions in any periodic image;
        or such chunks in their order.
    ends : tuple of float, nm
        Heights in the pore frame between which the pore lies.
    levels : array_like of float, shape (n_levels,), nm
        Heights at which the lumen is measured.

    Returns
    -------
    passages : Passages
        Complete passages and, at each ring between the ends, crossings of its plane.

    Raises
    ------
    SelectionError
        If the topology holds no pore, or neither water nor ions.
    TrajectoryError
        If there is no frame.
    """
    counter = None
    for chunk, lumen in with_lumen(trajectory, levels):
        atoms, kinds = particles(chunk.topology)
        if counter is None:
            rings = pore_atoms(chunk.topology).rings
            heights = {ring: float(chunk.xyz[0, atoms, 2].mean()) for ring, atoms in rings.items()}
            counter = Passages(kinds, ends=ends, planes=ring_planes(heights, ends=ends))
        counter.add(chunk.xyz[:, atoms], time_ps=chunk.time, lumen=lumen)
    assert counter is not None
    return counter


def ring_planes(
    heights: Mapping[str, float], *, ends: tuple[float, float] = PORE_ENDS_NM
) -> dict[str, float]:
    """Name the planes of the rings between the ends of the pore.

    Parameters
    ----------
    heights : mapping of str to float, nm
        Height of each ring of `nmdasim.subunits.RING_NAMES` that is there.
    ends : tuple of float, nm

    Returns
    -------
    planes : dict of str to float, nm
        From the inside of the cell to the outside.
    """
    low, high = checked_ends(ends)
    return {
        f"{ring} ring": heights[ring]
        for ring in RING_NAMES
        if ring in heights and low < heights[ring] < high
    }
