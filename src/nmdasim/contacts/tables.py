"""Contacts as occupancies with errors, folded by the two-fold symmetry, and as tables."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nmdasim.contacts.model import (
    ContactOccupancy,
    ContactResidue,
    ContactSeries,
    Interactions,
    RingOccupancy,
)
from nmdasim.statistics import estimate_occupancy, statistical_inefficiency
from nmdasim.subunits import ONE_LETTER, ring_of, subunits


def contact_occupancies(interactions: ContactSeries) -> tuple[ContactOccupancy, ...]:
    """Tell how often each residue has each type of contact.

    Parameters
    ----------
    interactions : Interactions or StoredInteractions

    Returns
    -------
    occupancies : tuple of ContactOccupancy
        One for each residue and type that were in contact in at least one frame; residues in
        topology order, types in the order of `interactions.types`.

    Notes
    -----
    Contacts flicker at their threshold much faster than the ligand moves. The number of
    effective samples is therefore the smaller of that of the contact and that of the residue's
    nearest distance (capped at `thresholds.nearest_nm`), which also serves contacts that are
    there in every frame (see `nmdasim.statistics.estimate_occupancy`).
    """
    nearest = NearestSeries(interactions)
    result = []
    for place, kind in interactions.occurring():
        frames, distances = interactions.contact(place, kind)
        occupied = np.zeros(interactions.n_frames, dtype=bool)
        occupied[frames] = True
        residue, name = interactions.residues[place], interactions.types[kind]
        estimate = estimate_occupancy(
            occupied,
            name=f"{name} with {residue.chain} {residue.name}{residue.number}",
            inefficiency=nearest.inefficiency([place]),
        )
        result.append(
            ContactOccupancy(
                residue=residue,
                type=name,
                estimate=estimate,
                mean_distance_nm=float(distances.mean(dtype=np.float64)),
                min_distance_nm=float(distances.min()),
            )
        )
    return tuple(result)


def ring_occupancies(
    interactions: ContactSeries, *, subunit_of: Mapping[str, str]
) -> tuple[RingOccupancy, ...]:
    """Fold contacts by the channel's two-fold symmetry.

    A folded contact is there in a frame when any of the equivalent residues has it.

    Parameters
    ----------
    interactions : Interactions or StoredInteractions
        Residue numbers are UniProt's.
    subunit_of : mapping of str to str
        Subunit (GluN1, GluN2A, GluN2B) of each chain letter. Chains that are missing here are
        left out.

    Returns
    -------
    occupancies : tuple of RingOccupancy
        Ordered by subunit, residue number and type.
    """
    copies: dict[tuple[str, int, str, int], list[int]] = {}
    for place, kind in interactions.occurring():
        residue = interactions.residues[place]
        subunit = subunit_of.get(residue.chain)
        if subunit is not None:
            key = (subunit, residue.number, folded_label(subunit, residue), kind)
            copies.setdefault(key, []).append(place)
    nearest = NearestSeries(interactions)
    result = []
    for (subunit, number, label, kind), members in sorted(copies.items()):
        occupied = any_contact(interactions, members, kind)
        result.append(
            RingOccupancy(
                ring=ring_of_residue(subunit, number),
                label=label,
                type=interactions.types[kind],
                estimate=estimate_occupancy(
                    occupied,
                    name=f"{interactions.types[kind]} with {label}",
                    inefficiency=nearest.inefficiency(members),
                ),
            )
        )
    return tuple(result)


def contacts_table(
    interactions: ContactSeries,
    *,
    subunit_of: Mapping[str, str],
    status_of: Mapping[tuple[str, int], str] | None = None,
    region_of: Mapping[tuple[str, int], str] | None = None,
) -> dict[str, list[object]]:
    """Occupancies as columns, ready for `pyarrow.table`.

    Parameters
    ----------
    interactions : Interactions or StoredInteractions
        Residue numbers are UniProt's.
    subunit_of : mapping of str to str
        Subunit of each chain letter.
    status_of : mapping of (str, int) to str, optional
        How sure the coordinates of a residue (chain, number) are: "observed",
        "side chain rebuilt", "rebuilt" or "cap".
    region_of : mapping of (str, int) to str, optional
        Region of a residue, from `residue_regions`.

    Returns
    -------
    columns : dict of str to list
        chain, subunit, number, residue, ring, region, status, type, occupancy, occupancy_error,
        mean_distance_nm, min_distance_nm; None where something is not known, an error without
        enough data is nan.
    """
    status_of, region_of = status_of or {}, region_of or {}
    rows = contact_occupancies(interactions)
    return {
        "chain": [row.residue.chain for row in rows],
        "subunit": [subunit_of.get(row.residue.chain) for row in rows],
        "number": [row.residue.number for row in rows],
        "residue": [row.residue.name for row in rows],
        "ring": [
            ring_of_residue(subunit_of.get(row.residue.chain), row.residue.number) for row in rows
        ],
        "region": [region_of.get((row.residue.chain, row.residue.number)) for row in rows],
        "status": [status_of.get((row.residue.chain, row.residue.number)) for row in rows],
        "type": [row.type for row in rows],
        "occupancy": [row.estimate.mean for row in rows],
        "occupancy_error": [row.estimate.error for row in rows],
        "mean_distance_nm": [row.mean_distance_nm for row in rows],
        "min_distance_nm": [row.min_distance_nm for row in rows],
    }


def ring_contacts_table(
    interactions: ContactSeries, *, subunit_of: Mapping[str, str]
) -> dict[str, list[object]]:
    """Folded occupancies as columns, ready for `pyarrow.table`.

    Parameters
    ----------
    interactions : Interactions or StoredInteractions
        Residue numbers are UniProt's.
    subunit_of : mapping of str to str
        Subunit of each chain letter.

    Returns
    -------
    columns : dict of str to list
        ring (None outside the rings), residue ("GluN1 V644"), type, occupancy, occupancy_error.
    """
    rows = ring_occupancies(interactions, subunit_of=subunit_of)
    return {
        "ring": [row.ring for row in rows],
        "residue": [row.label for row in rows],
        "type": [row.type for row in rows],
        "occupancy": [row.estimate.mean for row in rows],
        "occupancy_error": [row.estimate.error for row in rows],
    }


def contacts_by_frame_table(
    interactions: Interactions, *, first_frame: int = 0
) -> dict[str, NDArray[np.generic]]:
    """Each contact of each frame as columns, ready for `pyarrow.table`.

    Parameters
    ----------
    interactions : Interactions
        Of the whole trajectory or of one chunk.
    first_frame : int
        Number of the chunk's first frame in the trajectory.

    Returns
    -------
    columns : dict of str to ndarray, shape (n_contacts,)
        frame (int32), chain, number (int32), type, distance_nm (float32), ascending by frame.
        Chains and types are few words over and over: store them as dictionaries.
    """
    chains = np.array([residue.chain for residue in interactions.residues], dtype=object)
    numbers = np.array([residue.number for residue in interactions.residues], dtype=np.int32)
    types = np.array(interactions.types, dtype=object)
    return {
        "frame": interactions.frame + np.int32(first_frame),
        "chain": chains[interactions.residue],
        "number": numbers[interactions.residue],
        "type": types[interactions.type],
        "distance_nm": interactions.distance,
    }


def any_contact(interactions: ContactSeries, places: Sequence[int], kind: int) -> NDArray[np.bool_]:
    """Tell in each frame whether any of some residues has one type of contact, (n_frames,)."""
    occupied = np.zeros(interactions.n_frames, dtype=bool)
    for place in places:
        occupied[interactions.contact(place, kind)[0]] = True
    return occupied


class NearestSeries:
    """Distances of single residues as series, without one array for all of them."""

    def __init__(self, interactions: ContactSeries) -> None:
        self._interactions = interactions
        self._known: dict[tuple[int, ...], float] = {}

    def inefficiency(self, places: Sequence[int]) -> float:
        """Tell that of the distance to the nearest of some residues; nan when it is constant."""
        # One residue has contacts of several types.
        wanted = tuple(sorted(places))
        if wanted not in self._known:
            self._known[wanted] = statistical_inefficiency(self._series(wanted))
        return self._known[wanted]

    def _series(self, places: Sequence[int]) -> NDArray[np.float32]:
        found = self._interactions
        series = np.full(found.n_frames, found.thresholds.nearest_nm, dtype=np.float32)
        for place in places:
            frames, distances = found.nearest_of(place)
            series[frames] = np.minimum(series[frames], distances)
        return series


def folded_label(subunit: str, residue: ContactResidue) -> str:
    """Name a residue and its copies: "GluN1 V644"; caps and others keep their whole name."""
    letter = ONE_LETTER.get(residue.name.upper(), residue.name)
    return f"{subunit} {letter}{residue.number}"


def ring_of_residue(subunit: str | None, number: int) -> str | None:
    """Ring of a residue; None for chains that are no subunit."""
    return ring_of(subunit, number) if subunit is not None and subunit in subunits() else None
