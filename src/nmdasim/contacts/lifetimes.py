"""How long contacts last: episodes, their breaks, and what the trajectory's ends hide."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmdasim.contacts.model import ContactLifetime, ContactResidue, ContactSeries
from nmdasim.contacts.tables import any_contact, folded_label, ring_of_residue
from nmdasim.errors import StatisticsError
from nmdasim.statistics import poisson_interval
from nmdasim.subunits import RING_NAMES


def contact_lifetimes(
    interactions: ContactSeries,
    *,
    spacing_ps: float,
    subunit_of: Mapping[str, str] | None = None,
    gap_frames: int = 0,
) -> tuple[ContactLifetime, ...]:
    r"""Tell how long contacts last once they are made.

    Parameters
    ----------
    interactions : Interactions or StoredInteractions
        All frames of one trajectory, equally spaced in time.
    spacing_ps : float
        Time between frames.
    subunit_of : mapping of str to str, optional
        Subunit of each chain letter; residue numbers are then UniProt's, and contacts are told
        folded by the two-fold symmetry and by ring as well.
    gap_frames : int
        Absences of up to this many frames do not end an episode ("intermittent" lifetimes).
        None are overlooked by default, so that a contact that flickers at its threshold is
        short-lived.

    Returns
    -------
    lifetimes : tuple of ContactLifetime
        Of each residue and type in topology order, then of the folded residues, then of the
        rings. A folded contact, or that of a ring, is there while any of its residues has it.

    Raises
    ------
    StatisticsError
        If the spacing is not positive or the gap negative.

    Notes
    -----
    .. math:: \tau = \frac{\Delta t}{n} \sum_i s_i

    with the n breaks that were seen and the number of steps :math:`s_i` from one frame to the
    next during which episode i was watched. It is the maximum-likelihood estimate for
    exponential lifetimes that are censored [1]_: an episode that the trajectory's start or end
    cuts off adds the time for which it was watched and, at the end, no break, so that long
    contacts are not counted as short. The interval is exact for breaks that are independent
    (`nmdasim.statistics.poisson_interval`). Without a break there is no estimate, only the
    lower end.

    Contacts that break and form again between two frames are taken to have lasted: lifetimes
    near the spacing of the frames are upper bounds, and the note says so. Where several
    processes break a contact (rattling, the ligand's leaving) the lifetime is mostly that of
    the fastest; `gap_frames` looks past it.

    References
    ----------
    .. [1] J. F. Lawless, Statistical Models and Methods for Lifetime Data, 2nd ed.,
       Wiley 2003, ISBN 978-0-471-37215-8
    """
    if not spacing_ps > 0.0 or gap_frames < 0:
        raise StatisticsError(
            f"got a spacing of {spacing_ps} ps and gaps of {gap_frames} frames; the time between "
            "frames must be positive and gaps cannot be negative"
        )
    return tuple(
        _lifetime(frames, about, interactions.n_frames, spacing_ps, gap_frames)
        for frames, about in _groups(interactions, subunit_of or {})
    )


_About = dict[str, Any]
_Members = tuple[list[int], _About]


def _groups(
    interactions: ContactSeries, subunit_of: Mapping[str, str]
) -> Iterator[tuple[NDArray[np.int32], _About]]:
    """Frames of each contact by residue, by folded residue and by ring, with what it is."""
    folded: dict[tuple[Any, ...], _Members] = {}
    rings: dict[tuple[Any, ...], _Members] = {}
    for place, kind in interactions.occurring():
        residue = interactions.residues[place]
        subunit = subunit_of.get(residue.chain)
        ring = ring_of_residue(subunit, residue.number)
        about = {"subunit": subunit, "ring": ring, "type": interactions.types[kind]}
        own = {"level": "residue", "residue": residue, "label": residue.name, **about}
        yield interactions.contact(place, kind)[0], own
        if subunit is not None:
            label = folded_label(subunit, residue)
            own = {"level": "folded", "residue": None, "label": label, **about}
            folded.setdefault((subunit, residue.number, label, kind), ([], own))[0].append(place)
        if ring is not None:
            own = {"level": "ring", "residue": None, "label": None, **about, "subunit": None}
            rings.setdefault((RING_NAMES.index(ring), kind), ([], own))[0].append(place)
    for groups in (folded, rings):
        for (*_, kind), (members, entry) in sorted(groups.items(), key=lambda item: item[0]):
            occupied = any_contact(interactions, members, kind)
            yield np.flatnonzero(occupied).astype(np.int32), entry


def _lifetime(
    frames: NDArray[np.int32],
    about: Mapping[str, Any],
    n_frames: int,
    spacing: float,
    gap: int,
) -> ContactLifetime:
    first = np.flatnonzero(np.diff(frames, prepend=-gap - 2) > gap + 1)
    starts, ends = frames[first], frames[np.append(first[1:], len(frames)) - 1]
    # The last episode has ended only if the absence after it is longer than a gap.
    n_breaks = len(starts) - int(n_frames - 1 - ends[-1] <= gap)
    watched = (int((ends - starts).sum()) + n_breaks) * spacing
    low, high = poisson_interval(n_breaks)
    lifetime = watched / n_breaks if n_breaks else float("nan")
    note = ""
    if not n_breaks:
        note = (
            f"never seen to break: longer than {watched / high:.3g} ps with 97.5 % confidence"
            if watched
            else "not enough data: it was there in the last frame alone"
        )
    elif lifetime < 2.0 * spacing:
        note = f"an upper bound: the frames are {spacing:g} ps apart"
    return ContactLifetime(
        **about,
        occupancy=len(frames) / n_frames,
        n_episodes=len(starts),
        n_breaks=n_breaks,
        lifetime_ps=lifetime,
        low_ps=watched / high,
        high_ps=watched / low if low else float("inf"),
        longest_ps=float((ends - starts).max() + 1) * spacing,
        note=note,
    )


def contact_lifetimes_table(
    interactions: ContactSeries,
    *,
    spacing_ps: float,
    subunit_of: Mapping[str, str],
    gap_frames: int = 0,
) -> dict[str, list[object]]:
    """Lifetimes as columns, ready for `pyarrow.table`.

    Parameters
    ----------
    interactions : Interactions or StoredInteractions
        Residue numbers are UniProt's.
    spacing_ps : float
        Time between frames.
    subunit_of : mapping of str to str
        Subunit of each chain letter.
    gap_frames : int
        Absences of up to this many frames do not end an episode.

    Returns
    -------
    columns : dict of str to list
        level, chain, number, subunit, residue, ring, type, occupancy, n_episodes, n_breaks,
        lifetime_ps, lifetime_low_ps, lifetime_high_ps, longest_ps, note; None where something
        does not apply.
    """
    rows = contact_lifetimes(
        interactions, spacing_ps=spacing_ps, subunit_of=subunit_of, gap_frames=gap_frames
    )
    return {
        "level": [row.level for row in rows],
        "chain": [_of(row.residue, "chain") for row in rows],
        "number": [_of(row.residue, "number") for row in rows],
        "subunit": [row.subunit for row in rows],
        "residue": [row.label for row in rows],
        "ring": [row.ring for row in rows],
        "type": [row.type for row in rows],
        "occupancy": [row.occupancy for row in rows],
        "n_episodes": [row.n_episodes for row in rows],
        "n_breaks": [row.n_breaks for row in rows],
        "lifetime_ps": [row.lifetime_ps for row in rows],
        "lifetime_low_ps": [row.low_ps for row in rows],
        "lifetime_high_ps": [row.high_ps for row in rows],
        "longest_ps": [row.longest_ps for row in rows],
        "note": [row.note for row in rows],
    }


def _of(residue: ContactResidue | None, field: str) -> object:
    return None if residue is None else getattr(residue, field)
