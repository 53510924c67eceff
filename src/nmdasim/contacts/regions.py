"""Where on the channel a residue lies, and where else than in the pore the ligand is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import mdtraj as md
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from nmdasim.contacts.model import ContactSeries
from nmdasim.contacts.tables import NearestSeries, any_contact, folded_label
from nmdasim.errors import SelectionError
from nmdasim.pore import radii_of
from nmdasim.statistics import estimate_occupancy
from nmdasim.subunits import ONE_LETTER, subunits

#: Regions of the membrane domain, from the axis outwards.
REGIONS = ("pore-lining", "fenestration", "interior", "membrane-facing", "water-facing")

# A sphere of this radius (a water) finds the surface that a ligand could touch.
_PROBE_NM = 0.14
_GRID_NM = 0.1
# Clearance is not told beyond this; all of the solvent is at least so far from atoms somewhere.
_FAR_NM = 0.6
_STEP_NM = 0.02
# The lumen is sought this near to the axis.
_LUMEN_NM = 0.5
# The pore is followed this far beyond the upper ends of the outer helices.
_GATE_NM = 1.5
# Sites on the grid that a residue must line to count: fewer are a crack.
_LEAST = 3
# The helices whose other side is the membrane, and the share that must be in the system.
_HELICES, _COMPLETE = ("m1", "m3", "m4"), 0.8
_HIDDEN = "not in this system: too little of M1, M3 and M4 to tell what faces the membrane"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResidueRegions:
    """Region of each residue of the channel in one structure."""

    region_of: Mapping[tuple[str, int], str]
    """One of `REGIONS` by chain letter and number. Without the outer helices only those that
    line the pore are in it."""
    complete: bool
    """Whether the outer helices are there, so that all regions can be told."""


def residue_regions(
    topology: md.Topology, xyz: ArrayLike, *, subunit_of: Mapping[str, str]
) -> ResidueRegions:
    """Tell which residues line the pore, which face the membrane, and which lie between.

    Parameters
    ----------
    topology : mdtraj.Topology
        Residue numbers are UniProt's. Only amino acids are looked at: neither ligand nor water.
    xyz : array_like of float, shape (n_atoms, 3), nm
        One structure in the pore frame.
    subunit_of : mapping of str to str
        Subunit of each chain letter.

    Returns
    -------
    regions : ResidueRegions

    Raises
    ------
    SelectionError
        If there is no residue of a known subunit.

    Notes
    -----
    In every plane across the pore, 0.1 nm apart, a sphere of 0.14 nm (a water) is moved through
    what the heavy atoms leave free. Where it cannot come from the axis to the outside, it lines
    two separate spaces: residues that it touches from the axis are *pore-lining*, from outside
    *membrane-facing*. Where it can, the opening is a *fenestration*: a larger sphere is found
    that does not pass, and the residues around the place where the two spaces then meet line the
    fenestration. Where the pore is closed to the sphere, residues around the widest place near
    the axis are pore-lining. A residue on both sides belongs to the one that it lines more; one
    that lines neither is *interior*. Beyond the ends of M1, M3 and M4 (mean heights of their last
    CA atoms) outer residues are *water-facing*.

    The rule knows one structure: a fenestration that opens later is not seen, nor one whose way
    climbs steeply along the axis. Side chains that were not observed decide as much as others.
    """
    places = np.asarray(xyz, dtype=np.float64)
    residues = [
        r
        for r in topology.residues
        if r.name in ONE_LETTER and subunit_of.get(str(r.chain.chain_id)) in subunits()
    ]
    if not residues:
        raise SelectionError(
            "found no residue of GluN1, GluN2A or GluN2B to place around the pore: give the "
            "channel's chains and the subunit of each chain letter"
        )
    ends = _helix_ends(residues, places, subunit_of)
    atoms = [
        (atom.index, row, atom.element.symbol)
        for row, residue in enumerate(residues)
        for atom in residue.atoms
        if atom.element is not None and atom.element.symbol != "H"
    ]
    index, owner = (np.array([a[i] for a in atoms], dtype=np.intp) for i in (0, 1))
    radii = radii_of([a[2] for a in atoms])
    lined = _lined(places[index], radii, owner, len(residues), ends)
    centres = np.array([places[index[owner == row], 2].mean() for row in range(len(residues))])
    regions = {
        (str(residue.chain.chain_id), residue.resSeq): region
        for row, residue in enumerate(residues)
        if (region := _region(lined[row], centres[row], ends)) is not None
    }
    return ResidueRegions(region_of=regions, complete=ends is not None)


def _helix_ends(
    residues: list[md.core.topology.Residue],
    xyz: NDArray[np.float64],
    subunit_of: Mapping[str, str],
) -> tuple[float, float] | None:
    """Mean heights of the lower and upper ends of the outer helices; None without them."""
    heights: dict[tuple[str, str], list[float]] = {}
    wanted = 0
    for chain in {str(r.chain.chain_id) for r in residues}:
        segments = subunits()[subunit_of[chain]].segments
        wanted += sum(len(segments[name]) for name in _HELICES)
    for residue in residues:
        chain = str(residue.chain.chain_id)
        segments = subunits()[subunit_of[chain]].segments
        for name in _HELICES:
            alpha = [a.index for a in residue.atoms if a.name == "CA"]
            if residue.resSeq in segments[name] and alpha:
                heights.setdefault((chain, name), []).append(float(xyz[alpha[0], 2]))
    if sum(map(len, heights.values())) < _COMPLETE * wanted:
        return None
    low = float(np.mean([min(z) for z in heights.values()]))
    return low, float(np.mean([max(z) for z in heights.values()]))


def _lined(
    xyz: NDArray[np.float64],
    radii: NDArray[np.float64],
    owner: NDArray[np.intp],
    n_residues: int,
    ends: tuple[float, float] | None,
) -> NDArray[np.intp]:
    """Count the sites of pore, fenestrations and outside that each residue lines.

    Returns
    -------
    lined : ndarray of int, shape (n_residues, 3)
    """
    low, high = np.min(xyz, axis=0) - 1.0, np.max(xyz, axis=0) + 1.0
    if ends is not None:
        # The gate stands above the membrane.
        low[2], high[2] = ends[0], ends[1] + _GATE_NM
    axes = [np.arange(a, b, _GRID_NM) for a, b in zip(low, high, strict=True)]
    clearance, nearest = _clearance(xyz, radii, owner, axes)
    lined = np.zeros((n_residues, 3), dtype=np.intp)
    near_axis = np.hypot(axes[0][:, None], axes[1][None, :]) <= _LUMEN_NM
    for k in range(len(axes[2])):
        plane, owners = clearance[:, :, k], nearest[:, :, k]
        spaces = _spaces(plane, near_axis)
        touching = plane < _PROBE_NM + _GRID_NM
        for column, space in enumerate(spaces):
            np.add.at(lined[:, column], owners[space & touching & (owners >= 0)], 1)
        if plane[near_axis].max() < _PROBE_NM:
            # Closed to the probe: what holds the widest place near the axis.
            widest = np.where(near_axis, plane, -np.inf).argmax()
            i, j = np.unravel_index(widest, plane.shape)
            centre = np.array([axes[0][i], axes[1][j], axes[2][k]])
            gaps = np.linalg.norm(xyz - centre, axis=1) - radii
            lined[np.unique(owner[gaps <= max(plane[i, j], 0.0) + _GRID_NM]), 0] += _LEAST
    return lined


def _clearance(
    xyz: NDArray[np.float64],
    radii: NDArray[np.float64],
    owner: NDArray[np.intp],
    axes: list[NDArray[np.float64]],
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Radius of the largest free sphere at each site of a grid, and whose atom bounds it."""
    shape = tuple(len(axis) for axis in axes)
    clearance = np.full(shape, _FAR_NM)
    nearest = np.full(shape, -1, dtype=np.intp)
    for place, radius, residue in zip(xyz, radii, owner, strict=True):
        reach = radius + _FAR_NM
        box = tuple(
            slice(*np.searchsorted(axis, [place[d] - reach, place[d] + reach]))
            for d, axis in enumerate(axes)
        )
        x, y, z = (
            (axis[s] - place[d]) ** 2 for d, (axis, s) in enumerate(zip(axes, box, strict=True))
        )
        gap = np.sqrt(x[:, None, None] + y[:, None] + z) - radius
        closer = gap < clearance[box]
        clearance[box][closer] = gap[closer]
        nearest[box][closer] = residue
    return clearance, nearest


def _spaces(
    plane: NDArray[np.float64], near_axis: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Split what is free to the probe in one plane: lumen, its openings, and the outside."""
    nothing = np.zeros(plane.shape, dtype=bool)
    seed = np.unravel_index(np.where(near_axis, plane, -np.inf).argmax(), plane.shape)
    sphere = _PROBE_NM
    while True:
        labels, _ = ndimage.label(plane >= sphere)
        edge = np.unique(np.concatenate([labels[[0, -1]].ravel(), labels[:, [0, -1]].ravel()]))
        outside = np.isin(labels, edge[edge > 0])
        lumen = (labels == labels[seed]) & (labels > 0)
        if not lumen.any() or not (lumen & outside).any():
            break
        sphere += _STEP_NM
    if not lumen.any():
        # Closed, or open to all sides: then there is no lumen to speak of.
        labels, _ = ndimage.label(plane >= _PROBE_NM)
        return nothing, nothing, (labels > 0) & (labels == labels[0, 0])
    while sphere > _PROBE_NM + 1e-9:
        sphere -= _STEP_NM
        free = plane >= sphere
        lumen = ndimage.binary_propagation(lumen, mask=free & ~outside)
        outside = ndimage.binary_propagation(outside, mask=free & ~lumen)
    meeting = (ndimage.binary_dilation(lumen) & outside) | (
        ndimage.binary_dilation(outside) & lumen
    )
    # The rim of an opening is a site away from where the two spaces meet.
    opening = ndimage.binary_dilation(meeting, iterations=2) & (lumen | outside)
    return lumen & ~opening, opening, outside & ~opening


def _region(lined: NDArray[np.intp], height: float, ends: tuple[float, float] | None) -> str | None:
    pore, opening, outer = (int(n) if n >= _LEAST else 0 for n in lined)
    if ends is None:
        return "pore-lining" if pore and pore >= outer else None
    if not ends[0] <= height <= ends[1]:
        return "pore-lining" if pore > outer else "water-facing"
    if opening and opening >= min(pore, outer):
        return "fenestration"
    if not pore and not outer:
        return "interior"
    return "pore-lining" if pore >= outer else "membrane-facing"


def regions_table(
    interactions: ContactSeries, *, regions: ResidueRegions, subunit_of: Mapping[str, str]
) -> dict[str, list[object]]:
    """Close contacts by region as columns, ready for `pyarrow.table`.

    Parameters
    ----------
    interactions : Interactions or StoredInteractions
        Residue numbers are UniProt's.
    regions : ResidueRegions
    subunit_of : mapping of str to str
        Subunit of each chain letter.

    Returns
    -------
    columns : dict of str to list
        region, n_residues, n_touched, occupancy (share of the frames in close contact with any
        residue of the region), occupancy_error, residues (those touched, most often first), note.
        None in regions that are not in this system.
    """
    close = interactions.types.index("close contact")
    touched: dict[str, list[tuple[int, int]]] = {region: [] for region in REGIONS}
    for place, kind in interactions.occurring():
        residue = interactions.residues[place]
        region = regions.region_of.get((residue.chain, residue.number))
        if kind == close and region is not None and residue.name in ONE_LETTER:
            # Those touched most often come first, then in the order of the residues.
            touched[region].append((-len(interactions.contact(place, kind)[0]), place))
    nearest = NearestSeries(interactions)
    counts = list(regions.region_of.values())
    rows: list[tuple[object, ...]] = []
    for region in REGIONS:
        if not regions.complete and region != "pore-lining":
            rows.append((region, None, None, None, None, "", _HIDDEN))
            continue
        members = [place for _, place in sorted(touched[region])]
        estimate = estimate_occupancy(
            any_contact(interactions, members, close),
            name=region,
            inefficiency=nearest.inefficiency(members) if members else math.nan,
        )
        names = [_name(interactions, place, subunit_of) for place in members]
        rows.append(
            (
                region, counts.count(region), len(members), estimate.mean, estimate.error,
                ", ".join(names), estimate.note,
            )
        )  # fmt: skip
    columns = (
        "region", "n_residues", "n_touched", "occupancy", "occupancy_error", "residues", "note",
    )  # fmt: skip
    return {
        name: list(values) for name, values in zip(columns, zip(*rows, strict=True), strict=True)
    }


def _name(interactions: ContactSeries, place: int, subunit_of: Mapping[str, str]) -> str:
    residue = interactions.residues[place]
    return f"{folded_label(subunit_of[residue.chain], residue)} {residue.chain}"
