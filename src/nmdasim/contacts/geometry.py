"""Contacts of a chunk of frames: pair distances first, angles only where the distance allows."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import mdtraj as md
import numpy as np
from numpy.typing import ArrayLike, NDArray
from rdkit import Chem

from nmdasim.contacts.chemistry import interaction_sites
from nmdasim.contacts.model import (
    INTERACTION_TYPES,
    PLIP,
    Indices,
    Interactions,
    InteractionSites,
    InteractionThresholds,
)
from nmdasim.errors import SelectionError, TrajectoryError

_TYPE = {name: place for place, name in enumerate(INTERACTION_TYPES)}

# Frames that are measured at once: their pair distances stay in the processor's cache.
_BLOCK = 32
# No heavy atom of an amino acid is farther from its CA: 0.75 nm in a stretched arginine.
_RESIDUE_NM = 1.0
# Two rings of 0.14 nm radius can be this much farther apart atom to atom than centre to centre.
_GROUP_MARGIN_NM = 0.15

_Frames = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Near:
    """A block of frames and the residues that are near the ligand in any of them."""

    xyz: _Frames
    """All coordinates, shape (n_block, n_atoms, 3), nm."""
    squared: _Frames
    """Squared distances, shape (n_block, n_ligand_heavy, n_rows), nm2."""
    rows: Indices
    """Heavy atoms of the protein side that are kept, shape (n_rows,)."""
    column: Indices
    """Place in `rows` of each heavy atom of the protein side; -1 where it is not kept."""
    residues: Indices
    """Residues that are kept, shape (n_near,)."""
    place: Indices
    """Place in `residues` of each residue of the sites; -1 where it is not kept."""
    best: _Frames
    """Shortest distance by type, shape (n_block, n_near, n_types), nm; inf where absent."""


def interactions(
    trajectory: md.Trajectory | Iterable[md.Trajectory],
    *,
    ligand: Chem.Mol,
    ligand_atoms: ArrayLike,
    protein: ArrayLike | None = None,
    thresholds: InteractionThresholds = PLIP,
) -> Interactions:
    """Find every typed contact of the ligand in every frame.

    Parameters
    ----------
    trajectory : mdtraj.Trajectory or iterable of mdtraj.Trajectory
        Imaged frames (ligand and protein whole and in one periodic cell), or such chunks in
        their order; all with one topology. Coordinates are taken as they are, without periodic
        images.
    ligand : rdkit.Chem.Mol
        The ligand as it was simulated, with explicit hydrogens where the frames have them.
    ligand_atoms : array_like of int, shape (n_ligand,)
        Atom of the topology for each atom of `ligand`, in the molecule's order.
    protein : array_like of int, optional
        Atoms whose residues are looked at; every amino acid and cap by default.
    thresholds : InteractionThresholds
        When a geometry counts.

    Returns
    -------
    interactions : Interactions

    Raises
    ------
    SelectionError
        If molecule and atoms do not match or there is no residue to look at.
    TrajectoryError
        If there is no frame, chunks differ in their atoms, or the ligand has no coordinates.

    Notes
    -----
    Hydrogen bonds need the polar hydrogens of ligand and protein; without them the type is left
    out of the result's `types`. All other types use heavy atoms only. Water bridges are not
    told. A residue may hold several types at once: nothing is removed because another type
    explains it.
    """
    chunks = [trajectory] if isinstance(trajectory, md.Trajectory) else trajectory
    sites: InteractionSites | None = None

    def measured() -> Iterable[Interactions]:
        nonlocal sites
        for chunk in chunks:
            if sites is None:
                sites = interaction_sites(
                    chunk.topology,
                    ligand=ligand,
                    ligand_atoms=ligand_atoms,
                    protein=protein,
                    thresholds=thresholds,
                )
            yield find_interactions(chunk, sites=sites)

    return merge_interactions(measured())


def find_interactions(trajectory: md.Trajectory, *, sites: InteractionSites) -> Interactions:
    """Measure the contacts in one chunk of frames.

    Parameters
    ----------
    trajectory : mdtraj.Trajectory
        Imaged frames with the atoms that `sites` was made for.
    sites : InteractionSites
        From `interaction_sites`.

    Returns
    -------
    interactions : Interactions
        Frames are counted from the start of this chunk.

    Raises
    ------
    TrajectoryError
        If there is no frame, the number of atoms differs, or the ligand has coordinates that
        are not finite.
    """
    xyz = trajectory.xyz
    if xyz.shape[1] != sites.n_atoms or not len(xyz):
        raise TrajectoryError(
            f"got {len(xyz)} frames of {xyz.shape[1]} atoms; need at least one frame of "
            f"{sites.n_atoms} atoms: give the trajectory that fits the topology"
        )
    finite = np.isfinite(xyz[:, sites.ligand.heavy]).all(axis=(1, 2))
    if not finite.all():
        raise TrajectoryError(
            f"the ligand's coordinates are not finite in frame {int(np.argmin(finite))}: "
            "the simulation or the file is damaged there"
        )
    owner = np.full(sites.n_atoms, -1, dtype=np.intp)
    owner[sites.protein.heavy] = sites.protein.owner
    parts = []
    for start in range(0, len(xyz), _BLOCK):
        near = _near(xyz[start : start + _BLOCK], sites)
        if len(near.residues):
            _measure(near, sites, owner)
        parts.append((start, near))
    return _assemble(parts, sites, n_frames=len(xyz))


def merge_interactions(chunks: Iterable[Interactions]) -> Interactions:
    """Join the contacts of consecutive chunks into those of the whole.

    Parameters
    ----------
    chunks : iterable of Interactions
        In the order of their frames, all from the same `InteractionSites`. A generator keeps
        memory flat: only contacts are held, never coordinates.

    Returns
    -------
    interactions : Interactions
        The same as if all frames had been measured at once.

    Raises
    ------
    TrajectoryError
        If there is no chunk.
    SelectionError
        If chunks differ in their types or thresholds.
    """
    parts = list(chunks)
    if not parts:
        raise TrajectoryError("there are no frames: give at least one chunk of a trajectory")
    first = parts[0]
    if any(p.types != first.types or p.thresholds != first.thresholds for p in parts):
        raise SelectionError(
            "chunks differ in their types or thresholds; all must come from the same sites: "
            "call interaction_sites once"
        )
    residues = tuple(sorted({residue for part in parts for residue in part.residues}))
    place = {residue: i for i, residue in enumerate(residues)}
    n_frames = sum(part.n_frames for part in parts)
    nearest = np.full((n_frames, len(residues)), np.nan, dtype=np.float32)
    frames, owners, start = [], [], 0
    for part in parts:
        where = np.array([place[residue] for residue in part.residues], dtype=np.int32)
        nearest[start : start + part.n_frames, where] = part.nearest
        frames.append(part.frame + np.int32(start))
        owners.append(where[part.residue])
        start += part.n_frames
    return _frozen(
        residues=residues,
        types=first.types,
        thresholds=first.thresholds,
        n_frames=n_frames,
        frame=np.concatenate(frames),
        residue=np.concatenate(owners),
        type=np.concatenate([part.type for part in parts]),
        distance=np.concatenate([part.distance for part in parts]),
        nearest=nearest,
    )


def _near(xyz: _Frames, sites: InteractionSites) -> _Near:
    """Find the residues that come near the ligand in a block, and their pair distances."""
    ligand, protein = sites.ligand, sites.protein
    small = xyz[:, ligand.heavy]
    centre = small.mean(axis=1, keepdims=True)
    small = small - centre
    reach = _reach(sites.thresholds) + np.sqrt((small**2).sum(axis=-1).max(axis=1))
    mask = _screened(xyz, sites, centre, reach + np.float32(_RESIDUE_NM))
    rows = np.flatnonzero(mask[protein.owner])
    large = xyz[:, protein.heavy[rows]] - centre
    from_centre = np.einsum("fai,fai->fa", large, large)
    mask[:] = False
    mask[protein.owner[rows[(from_centre <= (reach**2)[:, None]).any(axis=0)]]] = True
    kept = mask[protein.owner[rows]]
    rows, large, from_centre = rows[kept], large[:, kept], from_centre[:, kept]
    residues = np.flatnonzero(mask)
    # Both sides are relative to the ligand's centre, so that the squares stay small and
    # float32 keeps distances to 1e-6 nm.
    squared = np.matmul(small * np.float32(-2.0), large.transpose(0, 2, 1))
    squared += from_centre[:, None]
    squared += (small**2).sum(axis=-1)[:, :, None]
    np.maximum(squared, 0.0, out=squared)
    return _Near(
        xyz=xyz,
        squared=squared,
        rows=rows,
        column=_inverse(rows, len(protein.heavy)),
        residues=residues,
        place=_inverse(residues, len(sites.residues)),
        best=np.full((len(xyz), len(residues), len(INTERACTION_TYPES)), np.inf, np.float32),
    )


def _screened(
    xyz: _Frames, sites: InteractionSites, centre: _Frames, within: _Frames
) -> NDArray[np.bool_]:
    """Tell which residues may be near, by one atom of each; shape (n_residues,)."""
    mask = np.ones(len(sites.residues), dtype=bool)
    known = np.flatnonzero(sites.anchors >= 0)
    line = xyz[:, sites.anchors[known]] - centre
    mask[known] = (np.einsum("fai,fai->fa", line, line) <= (within**2)[:, None]).any(axis=0)
    return mask


def _reach(thresholds: InteractionThresholds) -> float:
    """How far from the ligand's heavy atoms a contact of any type can be."""
    limits = (
        thresholds.hydrogen_bond_nm,
        thresholds.salt_bridge_nm + _GROUP_MARGIN_NM,
        thresholds.cation_pi_nm + _GROUP_MARGIN_NM,
        thresholds.pi_face_nm + _GROUP_MARGIN_NM,
        thresholds.pi_edge_nm + _GROUP_MARGIN_NM,
        thresholds.hydrophobic_nm,
        thresholds.halogen_nm,
        thresholds.close_contact_nm,
        thresholds.nearest_nm,
    )
    return max(limits)


def _measure(near: _Near, sites: InteractionSites, owner: Indices) -> None:
    """Fill the shortest distances of every type of a block."""
    _close_and_hydrophobic(near, sites)
    _hydrogen_bonds(near, sites)
    _halogen_bonds(near, sites)
    protein, ligand = sites.protein, sites.ligand
    cutoff = sites.thresholds.salt_bridge_nm
    for ours, theirs in ((ligand.cations, protein.anions), (ligand.anions, protein.cations)):
        _salt_bridges(near, ours, _kept(theirs, owner, near), cutoff)
    _ring_contacts(near, sites, owner)


def _close_and_hydrophobic(near: _Near, sites: InteractionSites) -> None:
    """Contacts that need nothing but the distance of two atoms."""
    thresholds, ligand, protein = sites.thresholds, sites.ligand, sites.protein
    owners = near.place[protein.owner[near.rows]]
    shortest = np.sqrt(_by_owner(near.squared.min(axis=1), owners, len(near.residues)))
    near.best[..., _TYPE["close contact"]] = shortest
    columns = near.column[protein.hydrophobic]
    columns = columns[columns >= 0]
    if len(columns) and len(ligand.hydrophobic):
        squared = near.squared[:, ligand.hydrophobic].min(axis=1)[:, columns]
        shortest = np.sqrt(_by_owner(squared, owners[columns], len(near.residues)))
        shortest[shortest > np.float32(thresholds.hydrophobic_nm)] = np.inf
        near.best[..., _TYPE["hydrophobic"]] = shortest


def _by_owner(values: _Frames, owners: Indices, n_residues: int) -> _Frames:
    """Smallest value of each residue; `owners` ascends. Shape (n_block, n_residues)."""
    smallest = np.full((len(values), n_residues), np.inf, dtype=np.float32)
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    smallest[:, owners[starts]] = np.minimum.reduceat(values, starts, axis=1)
    return smallest


def _hydrogen_bonds(near: _Near, sites: InteractionSites) -> None:
    """Donor and hydrogen on either side, acceptor on the other."""
    if "hydrogen bond" not in sites.types:
        return
    ligand, protein, thresholds = sites.ligand, sites.protein, sites.thresholds
    kept = protein.donors[near.column[protein.donors[:, 0]] >= 0]
    accepting = protein.acceptors[near.column[protein.acceptors] >= 0]
    least = math.cos(math.radians(thresholds.hydrogen_bond_angle_deg))
    for rows, columns, hydrogens, giving in (
        (ligand.donors[:, 0], accepting, ligand.donors[:, 1], True),
        (ligand.acceptors, kept[:, 0], kept[:, 1], False),
    ):
        frame, i, j, distance = _pairs(near, rows, columns, thresholds.hydrogen_bond_nm)
        small, large = ligand.heavy[rows[i]], protein.heavy[columns[j]]
        donor, acceptor = (small, large) if giving else (large, small)
        hydrogen = hydrogens[i] if giving else hydrogens[j]
        cosine = _cosine(near.xyz, frame, donor, hydrogen, acceptor)
        bonded = cosine <= least + 1e-6
        _keep(
            near,
            "hydrogen bond",
            frame[bonded],
            near.place[protein.owner[columns[j]]][bonded],
            distance[bonded],
        )


def _halogen_bonds(near: _Near, sites: InteractionSites) -> None:
    """Halogen of the ligand before an acceptor of the protein."""
    ligand, protein, thresholds = sites.ligand, sites.protein, sites.thresholds
    acceptors = protein.halogen_acceptors
    acceptors = acceptors[near.column[acceptors[:, 0]] >= 0]
    rows, carbons = ligand.halogens.T
    frame, i, j, distance = _pairs(near, rows, acceptors[:, 0], thresholds.halogen_nm)
    halogen, acceptor = ligand.heavy[rows[i]], protein.heavy[acceptors[j, 0]]
    at_halogen = _angle(near.xyz, frame, carbons[i], halogen, acceptor)
    at_acceptor = _angle(near.xyz, frame, halogen, acceptor, acceptors[j, 1])
    bonded = _within(at_halogen, thresholds.halogen_donor_deg)
    bonded &= _within(at_acceptor, thresholds.halogen_acceptor_deg)
    _keep(
        near,
        "halogen",
        frame[bonded],
        near.place[protein.owner[acceptors[j, 0]]][bonded],
        distance[bonded],
    )


def _pairs(
    near: _Near, rows: Indices, columns: Indices, cutoff: float
) -> tuple[Indices, Indices, Indices, _Frames]:
    """Frame, place in `rows`, place in `columns` and distance of the pairs within a cutoff."""
    squared = near.squared[:, rows[:, None], near.column[columns][None, :]]
    frame, i, j = np.nonzero(squared <= np.float32(cutoff) ** 2)
    return frame, i, j, np.sqrt(squared[frame, i, j])


def _keep(
    near: _Near, kind: str, frame: Indices, place: Indices, distance: NDArray[np.floating]
) -> None:
    """Note contacts, the shortest where a residue has several."""
    np.minimum.at(near.best[..., _TYPE[kind]], (frame, place), distance.astype(np.float32))


def _cosine(
    xyz: _Frames, frame: Indices, first: Indices, vertex: Indices, last: Indices
) -> NDArray[np.float64]:
    """Cosine of the angle at `vertex`, shape (n_pairs,)."""
    middle = xyz[frame, vertex].astype(np.float64)
    a, b = xyz[frame, first] - middle, xyz[frame, last] - middle
    return _cosine_between(a, b)


def _cosine_between(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine of the angle between vectors on the last axis; 0 where one has no length."""
    lengths = np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))
    return (a * b).sum(axis=-1) / np.where(lengths > 0.0, lengths, 1.0)


def _angle(
    xyz: _Frames, frame: Indices, first: Indices, vertex: Indices, last: Indices
) -> NDArray[np.float64]:
    """Angle at `vertex` in degrees, shape (n_pairs,)."""
    return np.degrees(np.arccos(np.clip(_cosine(xyz, frame, first, vertex, last), -1.0, 1.0)))


def _within(angle: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.bool_]:
    return (angle >= limits[0] - 1e-4) & (angle <= limits[1] + 1e-4)


def _kept(groups: Sequence[Indices], owner: Indices, near: _Near) -> list[tuple[int, Indices]]:
    """Pick the groups of the protein whose residue is near, with the place of that residue."""
    places = ((int(near.place[owner[group[0]]]), group) for group in groups)
    return [(place, group) for place, group in places if place >= 0]


def _centres(xyz: _Frames, groups: Sequence[Indices]) -> NDArray[np.float64]:
    """Average each group, shape (n_groups, n_block, 3), nm."""
    sizes = np.array([len(group) for group in groups])
    starts = np.cumsum(sizes) - sizes
    sums = np.add.reduceat(xyz[:, np.concatenate(groups)].astype(np.float64), starts, axis=1)
    return (sums / sizes[:, None]).transpose(1, 0, 2)


def _rings_of(
    xyz: _Frames, rings: Sequence[Indices]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find centres and unit normals of rings, shape (n_rings, n_block, 3) each.

    The normal is that of the area vector over all atoms, steadier than that of two of them.
    """
    centres = _centres(xyz, rings)
    sizes = np.array([len(ring) for ring in rings])
    starts = np.cumsum(sizes) - sizes
    here = np.concatenate(rings)
    following = np.concatenate([np.roll(ring, -1) for ring in rings])
    middle = np.repeat(centres.transpose(1, 0, 2), sizes, axis=1)
    spokes = xyz[:, here] - middle
    areas = np.add.reduceat(_cross(spokes, xyz[:, following] - middle), starts, axis=1)
    normals = areas / np.linalg.norm(areas, axis=-1, keepdims=True)
    return centres, normals.transpose(1, 0, 2)


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply vectors on the last axis; numpy's own is slow on many short arrays."""
    (ax, ay, az), (bx, by, bz) = np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0)
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


def _salt_bridges(
    near: _Near,
    ours: Sequence[Indices],
    theirs: Sequence[tuple[int, Indices]],
    cutoff: float,
) -> None:
    """Opposite charges within reach."""
    if not ours or not theirs:
        return
    small = _centres(near.xyz, ours)
    large = _centres(near.xyz, [group for _, group in theirs])
    distance = np.linalg.norm(small[:, None] - large[None], axis=-1)
    _keep_groups(near, "salt bridge", distance, distance <= cutoff + 1e-6, theirs)


def _keep_groups(
    near: _Near,
    kind: str,
    distance: NDArray[np.float64],
    held: NDArray[np.bool_],
    theirs: Sequence[tuple[int, Indices]],
) -> None:
    """Note contacts of groups; arrays have the shape (n_ours, n_theirs, n_block)."""
    places = np.array([place for place, _ in theirs], dtype=np.intp)
    _, group, frame = np.nonzero(held)
    _keep(near, kind, frame, places[group], distance[held])


def _ring_contacts(near: _Near, sites: InteractionSites, owner: Indices) -> None:
    """Cation-pi in both directions, and stacking."""
    ligand, protein, thresholds = sites.ligand, sites.protein, sites.thresholds
    rings = _kept(protein.rings, owner, near)
    if rings and ligand.cations:
        centres, normals = _rings_of(near.xyz, [group for _, group in rings])
        charges = _centres(near.xyz, ligand.cations)
        distance, held = _cation_pi(charges[:, None], centres[None], normals[None], thresholds)
        _keep_groups(near, "cation-pi", distance, held, rings)
    cations = _kept(protein.cations, owner, near)
    if cations and ligand.rings:
        centres, normals = _rings_of(near.xyz, ligand.rings)
        charges = _centres(near.xyz, [group for _, group in cations])
        distance, held = _cation_pi(charges[None], centres[:, None], normals[:, None], thresholds)
        _keep_groups(near, "cation-pi", distance, held, cations)
    if rings and ligand.rings:
        ours = [array[:, None] for array in _rings_of(near.xyz, ligand.rings)]
        theirs = [array[None] for array in _rings_of(near.xyz, [group for _, group in rings])]
        distance, held = _stacking(*ours, *theirs, thresholds=thresholds)
        _keep_groups(near, "pi-stacking", distance, held, rings)


def _cation_pi(
    charges: NDArray[np.float64],
    centres: NDArray[np.float64],
    normals: NDArray[np.float64],
    thresholds: InteractionThresholds,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Distance of charges from ring centres and whether the charge lies over the ring."""
    line = charges - centres
    distance = np.linalg.norm(line, axis=-1)
    tilt, offset = _tilt_and_offset(line, normals)
    held = distance <= thresholds.cation_pi_nm + 1e-6
    held &= tilt <= thresholds.cation_pi_tilt_deg + 1e-4
    held &= offset <= thresholds.cation_pi_offset_nm + 1e-6
    return distance, held


def _tilt_and_offset(
    line: NDArray[np.float64], normal: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split a line by a unit normal: their angle, 0 to 90 degrees, and the in-plane part, nm."""
    along = np.abs((line * normal).sum(axis=-1))
    squared = (line * line).sum(axis=-1)
    offset = np.sqrt(np.maximum(squared - along**2, 0.0))
    return np.degrees(np.arctan2(offset, along)), offset


def _stacking(
    centre: NDArray[np.float64],
    normal: NDArray[np.float64],
    other_centre: NDArray[np.float64],
    other_normal: NDArray[np.float64],
    *,
    thresholds: InteractionThresholds,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Distance of ring centres and whether the rings stack, face to face or edge to face."""
    line = other_centre - centre
    distance = np.linalg.norm(line, axis=-1)
    cosine = np.abs((normal * other_normal).sum(axis=-1))
    plane = np.degrees(np.arccos(np.clip(cosine, 0.0, 1.0)))
    tilt, offset = (
        np.minimum(one, two)
        for one, two in zip(
            _tilt_and_offset(line, normal), _tilt_and_offset(line, other_normal), strict=True
        )
    )
    face = distance <= thresholds.pi_face_nm + 1e-6
    face &= plane <= thresholds.pi_face_plane_deg + 1e-4
    face &= tilt <= thresholds.pi_face_tilt_deg + 1e-4
    edge = distance <= thresholds.pi_edge_nm + 1e-6
    edge &= plane >= thresholds.pi_edge_plane_deg - 1e-4
    edge &= tilt <= thresholds.pi_edge_tilt_deg + 1e-4
    if edge.any() and math.isfinite(thresholds.pi_edge_intersect_nm):
        meeting = _meeting_line(centre, normal, other_centre, other_normal)
        edge &= meeting <= thresholds.pi_edge_intersect_nm + 1e-6
    return distance, (face | edge) & (offset <= thresholds.pi_offset_nm + 1e-6)


def _meeting_line(
    centre: NDArray[np.float64],
    normal: NDArray[np.float64],
    other_centre: NDArray[np.float64],
    other_normal: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Distance of the nearer ring centre from where the planes meet, nm; inf when parallel.

    The point on the meeting line is the one nearest to the first ring's centre.
    """
    direction = _cross(normal, other_normal)
    squared = (direction * direction).sum(axis=-1)
    parallel = squared < 1e-12
    height = ((other_centre - centre) * other_normal).sum(axis=-1)
    # Within the first plane, move from its centre towards the second plane.
    step = _cross(direction, normal)
    scale = np.where(parallel, 0.0, height / np.where(parallel, 1.0, squared))
    point = centre + scale[..., None] * step
    to_first = np.linalg.norm(point - centre, axis=-1)
    to_other = np.linalg.norm(point - other_centre, axis=-1)
    return np.where(parallel, np.inf, np.minimum(to_first, to_other))


def _assemble(
    parts: Sequence[tuple[int, _Near]], sites: InteractionSites, *, n_frames: int
) -> Interactions:
    """Join the blocks of a chunk, leaving out residues that were never near."""
    limit = np.float32(sites.thresholds.close_contact_nm)
    horizon = np.float32(sites.thresholds.nearest_nm)
    nearest = np.full((n_frames, len(sites.residues)), np.nan, dtype=np.float32)
    found: list[tuple[NDArray[np.generic], ...]] = []
    for start, near in parts:
        close = near.best[..., _TYPE["close contact"]]
        nearest[start : start + len(close), near.residues] = np.where(
            close <= horizon, close, np.nan
        )
        close[close > limit] = np.inf
        frame, residue, kind = np.nonzero(np.isfinite(near.best))
        found.append((frame + start, near.residues[residue], kind, near.best[frame, residue, kind]))
    frame, residue, kind, distance = (np.concatenate(column) for column in zip(*found, strict=True))
    used = np.asarray(np.isfinite(nearest).any(axis=0))
    used[residue] = True
    renumber = _inverse(np.flatnonzero(used), len(used))
    # Types that cannot be told are left out in front (see InteractionSites.types).
    first = len(INTERACTION_TYPES) - len(sites.types)
    return _frozen(
        residues=tuple(sites.residues[i] for i in np.flatnonzero(used)),
        types=sites.types,
        thresholds=sites.thresholds,
        n_frames=n_frames,
        frame=frame.astype(np.int32),
        residue=renumber[residue].astype(np.int32),
        type=(kind - first).astype(np.int8),
        distance=distance.astype(np.float32),
        nearest=nearest[:, used],
    )


def _inverse(kept: Indices, length: int) -> Indices:
    """Place in `kept` of each number below `length`; -1 where it is not kept."""
    inverse = np.full(length, -1, dtype=np.intp)
    inverse[kept] = np.arange(len(kept))
    return inverse


def _frozen(**fields: object) -> Interactions:
    """Make the result with read-only arrays."""
    for value in fields.values():
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
    return Interactions(**fields)  # type: ignore[arg-type]
