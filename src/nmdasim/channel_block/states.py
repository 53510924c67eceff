"""Whether the channel is blocked, how the gate stands, and how long each state lasts."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmdasim.channel_block.measure import Blockade
from nmdasim.errors import TrajectoryError
from nmdasim.pore import CONDUCTION, PROBE_NM, conduction
from nmdasim.statistics import Estimate, estimate_occupancy, poisson_interval
from nmdasim.statistics import statistical_inefficiency as inefficiency_of
from nmdasim.subunits import RING_NAMES

#: How far the ligand keeps the channel closed, from most to least.
BLOCK_STATES = ("blocked", "partial", "unblocked", "left")
#: How the gate stands: closed or open, above a ligand in the vestibule or not.
GATE_STATES = ("trapped", "foot in the door", "closed", "open")
#: Columns that are 0, 1, or nan where they are not defined.
PATH_NAMES = (
    "water_path",
    "water_path_past_ligand",
    "hydrated_ion_path",
    "hydrated_ion_past_ligand",
    "bare_ion_path",
    "bare_ion_past_ligand",
)
_UNKNOWN = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockThresholds:
    """Where one state ends and the next begins."""

    water_nm: float = PROBE_NM
    """A gap of at least this radius lets a water through, nm: the usual probe."""
    bare_ion_nm: float = 0.102
    """The same for a sodium ion without its water: the effective ionic radius at six
    neighbours of Shannon (1976), doi:10.1107/S0567739476001551."""
    hydrated_ion_nm: float = 0.358
    """The same for a sodium ion with its water: the effective radius of Nightingale (1959),
    doi:10.1021/j150579a011, Table III."""
    unblocked_nm: float = 0.275
    """A gap of at least this radius does not block: it is as wide as the channel's own narrow
    portion, which has a mean diameter of 0.55 nm by the largest cations that permeate
    (Villarroel, Burnashev, Sakmann 1995, doi:10.1016/S0006-3495(95)80263-8)."""
    gate_open_nm: float = 0.275
    """The gate is open when it is at least as wide as that narrow portion, nm."""
    site_margin_nm: float = 0.3
    """The ligand's centroid may be so far below the asparagine ring or above the threonine
    ring and still be in the vestibule, nm; our choice, about a carbon's diameter."""
    site_offset_nm: float = 1.0
    """The same for the distance from the axis, nm: the vestibule's widest radius with its
    crevices; our choice."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockStates:
    """State of the channel in each frame."""

    block: NDArray[np.int8]
    """Index into `BLOCK_STATES`, -1 where it cannot be told, (n_frames,)."""
    gate: NDArray[np.int8]
    """Index into `GATE_STATES`, -1 where the gate has no walls, (n_frames,)."""
    in_site: NDArray[np.bool_]
    """Whether the ligand is in the vestibule, (n_frames,)."""
    conduction: NDArray[np.int8]
    """What the narrowest place of the whole pore lets pass, ligand counted: index into
    `nmdasim.pore.CONDUCTION`, -1 where it has no walls, (n_frames,)."""
    paths: Mapping[str, NDArray[np.floating]]
    """By the names of `PATH_NAMES`: 1, 0, or nan where not defined, (n_frames,)."""
    thresholds: BlockThresholds
    """What the states were told by."""

    def __post_init__(self) -> None:
        for array in (self.block, self.gate, self.in_site, self.conduction, *self.paths.values()):
            array.flags.writeable = False

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Give the states as columns for any table library.

        Returns
        -------
        columns : dict of str to ndarray, shape (n_frames,)
            Paths as 0, 1 or nan; `conduction`, `state` and `gate_state` as words or None.
        """
        return {
            **self.paths,
            "conduction": _words(self.conduction, CONDUCTION),
            "state": _words(self.block, BLOCK_STATES),
            "gate_state": _words(self.gate, GATE_STATES),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Dwell:
    """One visit to a state."""

    state: str
    """Name of the state."""
    start_ps: float
    """Time of its first frame, ps."""
    duration_ps: float
    """Until the first frame of the next state, or the last frame, ps."""
    censored_left: bool
    """Whether it had begun before the frames did, so that it lasted longer."""
    censored_right: bool
    """Whether its end was not seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetime:
    """How long a state lasts, from visits that may be cut off at both ends."""

    n_visits: int
    """Visits that were seen, cut off or not."""
    n_exits: int
    """Those whose end was seen."""
    time_ps: float
    """Time spent in the state, ps."""
    mean_ps: float
    """Mean lifetime, ps; nan when no end was seen or the state was never visited."""
    low_ps: float
    """Lower end of the exact 95 % interval; a lower bound when no end was seen."""
    high_ps: float
    """Upper end; infinite when no end was seen."""
    note: str
    """What to know about it; empty when there is nothing to say."""


def block_states(measured: Blockade, *, thresholds: BlockThresholds | None = None) -> BlockStates:
    """Tell in each frame whether the channel is blocked and how the gate stands.

    Parameters
    ----------
    measured : Blockade
    thresholds : BlockThresholds, optional

    Returns
    -------
    states : BlockStates

    Notes
    -----
    *left*: the ligand's centroid is outside the vestibule. Otherwise *unblocked* when the gap
    beside the ligand is at least `unblocked_nm`, *blocked* when not even a water fits through it
    and no chain of waters leads past the ligand, *partial* between. The gap counts alone when
    there is no water. *trapped*: the ligand is in the vestibule and the gate closed; *foot in the
    door*: the ligand is in the vestibule and the gate open.
    """
    limits = thresholds or BlockThresholds()
    height = dict(zip(RING_NAMES, measured.ring_heights.T, strict=True))
    in_site = (
        (measured.depth >= height["asparagine"] - limits.site_margin_nm)
        & (measured.depth <= height["threonine"] + limits.site_margin_nm)
        & (measured.offset <= limits.site_offset_nm)
    )
    gap = measured.radius_past
    tight = (gap < limits.water_nm) & (np.nan_to_num(measured.water_path_past) == 0.0)
    block = np.select(
        [~in_site, np.isnan(gap), gap >= limits.unblocked_nm, tight],
        [_at("left"), _UNKNOWN, _at("unblocked"), _at("blocked")],
        default=_at("partial"),
    )
    opened = measured.gate_radius >= limits.gate_open_nm
    gate = np.where(in_site, opened.astype(int), 2 + opened)
    gate[np.isnan(measured.gate_radius)] = _UNKNOWN
    wide = {
        f"{ion}_ion_{where}": np.where(np.isnan(radius), np.nan, radius >= limit)
        for ion, limit in (("hydrated", limits.hydrated_ion_nm), ("bare", limits.bare_ion_nm))
        for where, radius in (("path", measured.path_radius), ("past_ligand", gap))
    }
    return BlockStates(
        block=block.astype(np.int8),
        gate=gate.astype(np.int8),
        in_site=in_site,
        conduction=conduction(measured.path_radius).astype(np.int8),
        paths={
            "water_path": measured.water_path.copy(),
            "water_path_past_ligand": measured.water_path_past.copy(),
            **wide,
        },
        thresholds=limits,
    )


def dwell_times(labels: ArrayLike, time_ps: ArrayLike) -> tuple[Dwell, ...]:
    """Cut a series of states into visits.

    Parameters
    ----------
    labels : array_like of str or None, shape (n_frames,)
        State in each frame; None where it is not known, which cuts visits off.
    time_ps : array_like of float, shape (n_frames,), ps

    Returns
    -------
    visits : tuple of Dwell
        In order; frames of unknown state belong to none.

    Raises
    ------
    TrajectoryError
        If the numbers of states and times differ or the times do not rise.

    Notes
    -----
    A state that changes between two frames is taken to last until the later one, so that all
    visits add up to the time that was watched. Shorter visits than a frame's interval are not
    seen, which makes the others too long.

    Examples
    --------
    >>> for visit in dwell_times(["blocked", "blocked", "left"], [0.0, 1.0, 2.0]):
    ...     print(visit.state, visit.duration_ps, visit.censored_left, visit.censored_right)
    blocked 2.0 True False
    left 0.0 False True
    """
    states = np.asarray(labels, dtype=object)
    times = np.asarray(time_ps, dtype=np.float64)
    visits = _visits(states, times, known=np.array([state is not None for state in states]))
    return tuple(
        Dwell(
            state=states[start],
            start_ps=float(times[start]),
            duration_ps=float(duration),
            censored_left=bool(left),
            censored_right=bool(right),
        )
        for start, duration, left, right in zip(*visits, strict=True)
    )


_Visits = tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]


def _visits(states: NDArray[Any], times: NDArray[np.float64], known: NDArray[np.bool_]) -> _Visits:
    """First frame of each visit, its duration, and whether either end was not seen."""
    if times.shape != states.shape or (np.diff(times) <= 0.0).any():
        raise TrajectoryError(
            f"got {len(states)} states and {times.size} times; need one rising time for each frame"
        )
    last = len(states) - 1
    starts = np.flatnonzero(np.append(last >= 0, (states[1:] != states[:-1]).astype(bool)))
    stops = np.append(starts[1:], last + 1)
    visited = known[starts] if last >= 0 else np.empty(0, dtype=bool)
    starts, stops = starts[visited], stops[visited]
    return (
        starts,
        times[np.minimum(stops, last)] - times[starts],
        (starts == 0) | ~known[starts - 1],
        (stops > last) | ~known[np.minimum(stops, last)],
    )


def lifetime(visits: tuple[Dwell, ...], state: str) -> Lifetime:
    r"""Estimate how long a state lasts from visits of which some are cut off.

    Parameters
    ----------
    visits : tuple of Dwell
        From `dwell_times`.
    state : str

    Returns
    -------
    lifetime : Lifetime
        Without an exit the mean is nan and the lower end of the interval is a bound.

    Notes
    -----
    Exits that come by chance at a constant rate have the likelihood
    :math:`\tau^{-n} e^{-T / \tau}`, with T the time spent in the state, cut off or not, and n the
    exits that were seen; it is largest at :math:`\hat\tau = T / n`. The interval is T divided by
    the exact one of the count [1]_.

    References
    ----------
    .. [1] F. Garwood, Biometrika 28, 437 (1936), doi:10.1093/biomet/28.3-4.437

    Examples
    --------
    >>> stay = lifetime(dwell_times(["in", "in", "in"], [0.0, 50.0, 100.0]), "in")
    >>> stay.mean_ps, round(stay.low_ps, 1), stay.high_ps
    (nan, 27.1, inf)
    """
    mine = [visit for visit in visits if visit.state == state]
    return _stay(
        n_visits=len(mine),
        n_exits=sum(not visit.censored_right for visit in mine),
        time_ps=sum(visit.duration_ps for visit in mine),
    )


def _stay(*, n_visits: int, n_exits: int, time_ps: float) -> Lifetime:
    few, many = poisson_interval(n_exits)
    note = ""
    if not n_visits:
        note = "never visited"
    elif not n_exits:
        note = "not enough data: no end was seen, only a lower bound is known"
    return Lifetime(
        n_visits=n_visits,
        n_exits=n_exits,
        time_ps=time_ps,
        mean_ps=time_ps / n_exits if n_exits else math.nan,
        low_ps=time_ps / many if n_visits else math.nan,
        high_ps=(time_ps / few if few else math.inf) if n_visits else math.nan,
        note=note,
    )


# --------------------------------------------------------------------------------- tables


# What fluctuates while a state stays the same, and so tells the independent samples.
_RELATED = {
    "block": "radius_past_ligand_nm",
    "gate": "gate_radius_nm",
    "site": "ligand_depth_nm",
    "path": "radius_past_ligand_nm",
    "water_path": "water_from_inside_nm",
    "hydrated_ion_path": "path_radius_nm",
    "bare_ion_path": "path_radius_nm",
}


def states_table(
    measured: Blockade | Mapping[str, ArrayLike], states: BlockStates, time_ps: ArrayLike
) -> dict[str, list[object]]:
    """Give the share of time of every state and path, and how long each lasts.

    Parameters
    ----------
    measured : Blockade, or mapping of str to array_like of float, shape (n_frames,)
        The measurements or their columns, of which one at a time is looked at.
    states : BlockStates
        Of the same frames.
    time_ps : array_like of float, shape (n_frames,), ps

    Returns
    -------
    columns : dict of str to list
        One row for each state of block and gate, the ligand's stay in the site, and each path.
        Frames in which a state is not known are left out and counted in the note.
    """
    columns = measured.to_columns() if isinstance(measured, Blockade) else measured
    times = np.asarray(time_ps, dtype=np.float64)
    rows = []
    for group, name, known, present in _series(states):
        codes = np.where(known, present.astype(np.int8), np.int8(_UNKNOWN))
        starts, duration, _, cut = _visits(codes, times, known)
        mine = present[starts]
        stay = _stay(
            n_visits=int(mine.sum()),
            n_exits=int((mine & ~cut).sum()),
            time_ps=float(duration[mine].sum()),
        )
        beside = np.asarray(columns[_RELATED.get(name, _RELATED[group])])
        rows.append(_row(group, name, known, present, beside, stay))
    return {key: [row[key] for row in rows] for key in rows[0]}


def dwell_times_table(states: BlockStates, time_ps: ArrayLike) -> dict[str, NDArray[Any]]:
    """Give every visit to a state of block, gate and site.

    Parameters
    ----------
    states : BlockStates
    time_ps : array_like of float, shape (n_frames,), ps

    Returns
    -------
    columns : dict of str to ndarray, shape (n_visits,)
        group, state, start_ps, duration_ps, censored_left and censored_right; groups one after
        the other, the visits of each in their order.
    """
    times = np.asarray(time_ps, dtype=np.float64)
    parts = []
    for group, names, codes in _groups(states):
        starts, *rest = _visits(codes, times, codes != _UNKNOWN)
        words = _words(codes[starts], names)
        parts.append((np.full(len(starts), group, dtype=object), words, times[starts], *rest))
    names = ("group", "state", "start_ps", "duration_ps", "censored_left", "censored_right")
    return {
        name: np.concatenate(columns)
        for name, columns in zip(names, zip(*parts, strict=True), strict=True)
    }


def _groups(states: BlockStates) -> list[tuple[str, tuple[str, ...], NDArray[np.int8]]]:
    """Group, its states, and the one of each frame."""
    return [
        ("block", BLOCK_STATES, states.block),
        ("gate", GATE_STATES, states.gate),
        ("site", ("outside", "in the site"), states.in_site.astype(np.int8)),
    ]


def _series(
    states: BlockStates,
) -> Iterator[tuple[str, str, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Group, name, whether it is known in each frame, and whether it holds."""
    for group, names, codes in _groups(states):
        for code, name in enumerate(names):
            if name != "outside":
                yield group, name, codes != _UNKNOWN, codes == code
    for name in PATH_NAMES:
        path = states.paths[name]
        yield "path", name, ~np.isnan(path), path == 1.0


def _row(
    group: str,
    name: str,
    known: NDArray[np.bool_],
    present: NDArray[np.bool_],
    related: NDArray[np.floating],
    stay: Lifetime,
) -> dict[str, object]:
    share = _share(name, present[known], related[known])
    missing = int((~known).sum())
    unknown = f"not known in {missing} of {len(known)} frames, which are left out"
    notes = (share.note, stay.note, unknown if missing else "")
    return {
        "group": group,
        "state": name,
        "share": share.mean,
        "share_error": share.error,
        "n_frames": share.n_frames,
        "n_effective": share.n_effective,
        "n_visits": stay.n_visits,
        "n_exits": stay.n_exits,
        "lifetime_ns": stay.mean_ps / 1000.0,
        "lifetime_low_ns": stay.low_ps / 1000.0,
        "lifetime_high_ns": stay.high_ps / 1000.0,
        "note": "; ".join(filter(None, notes)),
    }


def _share(name: str, present: NDArray[np.bool_], related: NDArray[np.floating]) -> Estimate:
    """Share of the frames; what fluctuates although the state does not tells the samples."""
    defined = related[np.isfinite(related)]
    inefficiency = inefficiency_of(defined) if len(defined) > 1 else math.nan
    return estimate_occupancy(present, name=name, inefficiency=inefficiency)


def _at(state: str) -> int:
    return BLOCK_STATES.index(state)


def _words(codes: NDArray[np.int8], names: tuple[str, ...]) -> NDArray[Any]:
    # The last one stands for -1, which is not known.
    return np.array([*names, None], dtype=object)[codes]
