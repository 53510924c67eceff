"""Periodic images: molecules made whole, brought together and turned into the pore frame.

Which image of a molecule belongs to the channel is told from contacts. In a structure where
everything is in place, each molecule is linked to an earlier one by their nearest pair of atoms,
beginning with the largest. In a frame, each molecule is moved by whole box vectors until the
atoms of its link are as near as they can be. A contact stays far below half a box however the
complex tumbles, so that this needs no orientation.
"""

import math
from dataclasses import dataclass

import mdtraj as md
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from nmdasim.compiled import kernel
from nmdasim.subunits import ONE_LETTER
from nmdasim.trajectory.model import CAPS, LIGAND_NAME

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
# A peptide bond is 0.133 nm long; residues further apart than this are separate pieces.
_BONDED_NM = 0.2
# Smaller molecules, such as water, are linked to the large ones only.
_LARGE = 10
# Half of the neighbouring cells: the others are their opposites.
_NEIGHBOURS = np.array(
    [
        (i, j, k)
        for i in (0, 1)
        for j in (-1, 0, 1)
        for k in (-1, 0, 1)
        if (i, j, k) > (0, 0, 0)
    ],
    dtype=np.float64,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Links:
    """How the atoms of a system hang together, as the kernels need it."""

    parents: Indices
    """Bonds to be mended: atom and its bonded atom, parents first, shape (n_bonds, 2)."""
    pairs: Indices
    """One row for each molecule but the first: its number, its atom, the atom of an earlier
    molecule that is nearest; in the order in which they are placed, shape (n, 3)."""
    members: Indices
    """Atoms sorted by molecule, shape (n_atoms,)."""
    starts: Indices
    """Where each molecule begins in `members`, and the end, shape (n_molecules + 1,)."""


def molecules_of(topology: md.Topology, start: ArrayLike) -> Indices:
    """Give each molecule of a topology a number, in the order of the file.

    Residues of one chain belong to one molecule where a peptide bond joins them in the
    starting structure; every other residue is a molecule of its own.

    Parameters
    ----------
    topology : mdtraj.Topology
    start : array_like of float, shape (n_atoms, 3), nm
        A structure in which the molecules are whole.

    Returns
    -------
    molecules : ndarray of int, shape (n_atoms,)
        Rising from 0.
    """
    places = np.asarray(start, dtype=np.float64)
    molecules = np.empty(topology.n_atoms, dtype=np.intp)
    number, tail = -1, None
    for residue in topology.residues:
        named = {atom.name: atom.index for atom in residue.atoms}
        head = named.get("N")
        joined = tail is not None and head is not None and residue.name != LIGAND_NAME
        if not joined or math.dist(places[head], places[tail]) > _BONDED_NM:
            number += 1
        tail = named.get("C") if residue.name in ONE_LETTER or residue.name in CAPS else None
        molecules[[atom.index for atom in residue.atoms]] = number
    return molecules


def link_molecules(
    reference: ArrayLike, molecules: ArrayLike, *, parents: ArrayLike | None = None
) -> Links:
    """Link each molecule to an earlier one by their nearest pair of atoms.

    Parameters
    ----------
    reference : array_like of float, shape (n_atoms, 3), nm
        Every molecule whole and in its place.
    molecules : array_like of int, shape (n_atoms,)
        Number of the molecule of each atom, from 0 without gaps, in any order.
    parents : array_like of int, shape (n_bonds, 2), optional
        See `Links.parents`; without them molecules are taken to be whole in every frame.

    Returns
    -------
    links : Links
    """
    places = np.asarray(reference, dtype=np.float64)
    numbers = np.asarray(molecules, dtype=np.intp)
    members = np.argsort(numbers, kind="stable")
    sizes = np.bincount(numbers)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    large = (sizes >= _LARGE) | (np.arange(len(sizes)) == sizes.argmax())
    atoms = np.flatnonzero(large[numbers])
    pairs = _span(places, numbers, atoms, int(sizes.argmax()))
    small = np.flatnonzero(~large[numbers])
    if len(small):
        distance, nearest = cKDTree(places[atoms]).query(places[small])
        order = np.lexsort((distance, numbers[small]))
        first = order[np.unique(numbers[small][order], return_index=True)[1]]
        pairs += zip(numbers[small[first]], small[first], atoms[nearest[first]], strict=True)
    bonds = np.empty((0, 2)) if parents is None else parents
    return Links(
        parents=np.asarray(bonds, dtype=np.intp).reshape(-1, 2),
        pairs=np.array(pairs, dtype=np.intp).reshape(-1, 3),
        members=members,
        starts=starts.astype(np.intp),
    )


def _span(
    places: Floats, numbers: Indices, atoms: Indices, first: int
) -> list[tuple[int, int, int]]:
    """Grow a tree over the molecules of `atoms`, always by the nearest molecule that is left."""
    gap = np.full(len(atoms), np.inf)
    partner = np.zeros(len(atoms), dtype=np.intp)
    left = np.ones(len(atoms), dtype=bool)
    pairs: list[tuple[int, int, int]] = []
    newest = first
    while True:
        own = atoms[numbers[atoms] == newest]
        left &= numbers[atoms] != newest
        if not left.any():
            return pairs
        rest = np.flatnonzero(left)
        distance, nearest = cKDTree(places[own]).query(places[atoms[rest]])
        closer = rest[distance < gap[rest]]
        partner[closer] = own[nearest[distance < gap[rest]]]
        gap[rest] = np.minimum(gap[rest], distance)
        best = rest[gap[rest].argmin()]
        newest = int(numbers[atoms[best]])
        pairs.append((newest, int(atoms[best]), int(partner[best])))


def nearest_images(
    xyz: ArrayLike, box: ArrayLike | None, *, reference: ArrayLike, molecules: ArrayLike
) -> NDArray[np.floating]:
    """Bring each molecule to its periodic image that lies as in the reference.

    The largest molecule stays. Every other one is moved by whole box vectors so that it
    comes nearest to the molecule that it touches in the reference, atom to atom.

    Parameters
    ----------
    xyz : array_like of float, shape (n_frames, n_atoms, 3), nm
        Each molecule whole.
    box : array_like of float, shape (n_frames, 3, 3), nm, or None
        Box vectors as rows, of any shape; None or zeros: nothing is periodic and nothing is
        moved.
    reference : array_like of float, shape (n_atoms, 3), nm
    molecules : array_like of int, shape (n_atoms,)
        From `molecules_of`.

    Returns
    -------
    imaged : ndarray of float, shape (n_frames, n_atoms, 3), nm
        Of the same precision as `xyz`.
    """
    frames = np.array(xyz, dtype=None if isinstance(xyz, np.ndarray) else np.float64)
    if box is not None:
        bring_together(frames, np.asarray(box, np.float64), link_molecules(reference, molecules))
    return frames


def bring_together(frames: NDArray[np.floating], box: Floats, links: Links) -> Floats:
    """Make molecules whole and bring them to one cell, in place.

    Parameters
    ----------
    frames : ndarray of float, shape (n_frames, n_atoms, 3), nm
        Changed in place.
    box : ndarray of float64, shape (n_frames, 3, 3), nm
        Frames whose box is zero are left alone.
    links : Links

    Returns
    -------
    longest : ndarray of float64, shape (n_frames,), nm
        Longest of the bonds in `links.parents` afterwards.
    """
    return _bring_together(frames, box, links.parents, links.pairs, links.members, links.starts)


def inner_radius(box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the distance from a point within which no other periodic image is nearer to it.

    Parameters
    ----------
    box : ndarray of float64, shape (n_frames, 3, 3), nm

    Returns
    -------
    radius : ndarray of float64, shape (n_frames,), nm
        Half the shortest lattice vector; infinite without a box.
    """
    vectors, inverse = np.empty(_NEIGHBOURS.shape), np.empty(len(_NEIGHBOURS))
    return np.sqrt([_lattice(cell, vectors, inverse) for cell in box])


@kernel
def _lattice(box: Floats, vectors: Floats, inverse: Floats) -> float:
    """Fill in the vectors to the neighbouring cells and the inverse squares of their lengths.

    Gives the square of half the shortest.

    Within that distance there is nothing nearer; without a box that is everywhere.

    The basis is reduced first, because only then do the neighbours hold every vector whose
    half-way plane bounds the cell of nearest images.
    """
    volume = 0.0
    for k in range(3):
        m, n = (k + 1) % 3, (k + 2) % 3
        volume += box[0, k] * (box[1, m] * box[2, n] - box[1, n] * box[2, m])
    if volume == 0.0:
        return np.inf
    basis = box.copy()
    changed = True
    while changed:
        changed = False
        for i in range(3):
            for j in range(3):
                own = 0.0
                both = 0.0
                for k in range(3):
                    own += basis[i, k] * basis[i, k]
                    both += basis[i, k] * basis[j, k]
                if i != j and own > 0.0 and abs(both) > (0.5 + 1e-9) * own:
                    basis[j] -= np.rint(both / own) * basis[i]
                    changed = True
        # With all three to one side, their sum may be shorter than the longest of them.
        for n in range(4):
            first = -1.0 if n & 1 else 1.0
            second = -1.0 if n & 2 else 1.0
            total = 0.0
            squares = np.zeros(3)
            for k in range(3):
                value = first * basis[0, k] + second * basis[1, k] + basis[2, k]
                total += value * value
                for i in range(3):
                    squares[i] += basis[i, k] * basis[i, k]
            worst = squares.argmax()
            if total < squares[worst] * (1.0 - 1e-9):
                basis[worst] = first * basis[0] + second * basis[1] + basis[2]
                changed = True
    shortest = np.inf
    for n in range(len(_NEIGHBOURS)):
        length = 0.0
        for k in range(3):
            value = 0.0
            for i in range(3):
                value += _NEIGHBOURS[n, i] * basis[i, k]
            vectors[n, k] = value
            length += value * value
        inverse[n] = 1.0 / length
        shortest = min(shortest, length)
    return 0.25 * shortest


@kernel
def _nearest(
    x: float, y: float, z: float, vectors: Floats, inverse: Floats, safe: float
) -> tuple[float, float, float]:
    """Shorten a vector by whole box vectors as far as that goes."""
    moved = True
    while moved and x * x + y * y + z * z > safe:
        moved = False
        for n in range(vectors.shape[0]):
            share = (x * vectors[n, 0] + y * vectors[n, 1] + z * vectors[n, 2]) * inverse[n]
            # The margin keeps a point half-way between two images from going to and fro.
            if abs(share) > 0.5 + 1e-9:
                cells = np.rint(share)
                x -= cells * vectors[n, 0]
                y -= cells * vectors[n, 1]
                z -= cells * vectors[n, 2]
                moved = True
    return x, y, z


@kernel
def _bring_together(
    frames: NDArray[np.floating], box: Floats, parents: Indices, pairs: Indices,
    members: Indices, starts: Indices,
) -> Floats:  # fmt: skip
    longest = np.zeros(frames.shape[0])
    vectors = np.empty(_NEIGHBOURS.shape)
    inverse = np.empty(len(_NEIGHBOURS))
    for f in range(frames.shape[0]):
        xyz = frames[f]
        safe = _lattice(box[f], vectors, inverse)
        for n in range(parents.shape[0]):
            i, j = parents[n]
            x, y, z = _nearest(
                float(xyz[i, 0]) - xyz[j, 0], float(xyz[i, 1]) - xyz[j, 1],
                float(xyz[i, 2]) - xyz[j, 2], vectors, inverse, safe,
            )  # fmt: skip
            longest[f] = max(longest[f], x * x + y * y + z * z)
            xyz[i, 0] = xyz[j, 0] + x
            xyz[i, 1] = xyz[j, 1] + y
            xyz[i, 2] = xyz[j, 2] + z
        for n in range(pairs.shape[0]):
            number, i, j = pairs[n]
            x = float(xyz[i, 0]) - xyz[j, 0]
            y = float(xyz[i, 1]) - xyz[j, 1]
            z = float(xyz[i, 2]) - xyz[j, 2]
            a, b, c = _nearest(x, y, z, vectors, inverse, safe)
            if a != x or b != y or c != z:
                for m in range(starts[number], starts[number + 1]):
                    atom = members[m]
                    xyz[atom, 0] += a - x
                    xyz[atom, 1] += b - y
                    xyz[atom, 2] += c - z
    return np.sqrt(longest)


@kernel
def nearest_points(
    xyz: NDArray[np.float32], box: Floats, points: Indices, centre: Floats
) -> NDArray[np.float32]:
    """Give each of some atoms at its periodic image nearest to a point.

    Parameters
    ----------
    xyz : ndarray of float32, shape (n_frames, n_atoms, 3), nm
    box : ndarray of float64, shape (n_frames, 3, 3), nm
        Frames whose box is zero are left alone.
    points : ndarray of int, shape (n_points,)
    centre : ndarray of float64, shape (n_frames, 3), nm

    Returns
    -------
    nearest : ndarray of float32, shape (n_frames, n_points, 3), nm
    """
    out = np.empty((xyz.shape[0], points.shape[0], 3), dtype=np.float32)
    vectors = np.empty(_NEIGHBOURS.shape)
    inverse = np.empty(len(_NEIGHBOURS))
    for f in range(xyz.shape[0]):
        safe = _lattice(box[f], vectors, inverse)
        for n in range(points.shape[0]):
            i = points[n]
            x, y, z = _nearest(
                xyz[f, i, 0] - centre[f, 0], xyz[f, i, 1] - centre[f, 1],
                xyz[f, i, 2] - centre[f, 2], vectors, inverse, safe,
            )  # fmt: skip
            out[f, n, 0] = x + centre[f, 0]
            out[f, n, 1] = y + centre[f, 1]
            out[f, n, 2] = z + centre[f, 2]
    return out


@kernel
def turn(frames: NDArray[np.float32], rotation: Floats, centroid: Floats, target: Floats) -> None:
    """Turn each frame about its centroid and move that onto a target, in place.

    Parameters
    ----------
    frames : ndarray of float32, shape (n_frames, n_atoms, 3), nm
    rotation : ndarray of float64, shape (n_frames, 3, 3)
        Applied from the right.
    centroid : ndarray of float64, shape (n_frames, 3), nm
    target : ndarray of float64, shape (3,), nm
    """
    for f in range(frames.shape[0]):
        for n in range(frames.shape[1]):
            x = frames[f, n, 0] - centroid[f, 0]
            y = frames[f, n, 1] - centroid[f, 1]
            z = frames[f, n, 2] - centroid[f, 2]
            for k in range(3):
                frames[f, n, k] = (
                    x * rotation[f, 0, k] + y * rotation[f, 1, k] + z * rotation[f, 2, k]
                    + target[k]
                )  # fmt: skip


@kernel
def close_pairs(
    xyz: Floats, box: Floats, reach: Floats, hydrogen: NDArray[np.bool_], window: int
) -> Indices:
    """List pairs of atoms that are bonded by their distance, images regarded.

    Parameters
    ----------
    xyz : ndarray of float64, shape (n_atoms, 3), nm
    box : ndarray of float64, shape (3, 3), nm
    reach : ndarray of float64, shape (n_atoms,), nm
        Two atoms are bonded that are nearer than the sum of their reaches.
    hydrogen : ndarray of bool, shape (n_atoms,)
        Two hydrogens are never bonded.
    window : int
        Atoms further apart than this in the file are not looked at.

    Returns
    -------
    pairs : ndarray of int, shape (n_pairs, 2)
    """
    vectors = np.empty(_NEIGHBOURS.shape)
    inverse = np.empty(len(_NEIGHBOURS))
    safe = _lattice(box, vectors, inverse)
    found = [(0, 0) for _ in range(0)]
    for i in range(len(xyz)):
        for j in range(max(0, i - window), i):
            if hydrogen[i] and hydrogen[j]:
                continue
            x, y, z = _nearest(
                xyz[i, 0] - xyz[j, 0], xyz[i, 1] - xyz[j, 1], xyz[i, 2] - xyz[j, 2],
                vectors, inverse, safe,
            )  # fmt: skip
            limit = reach[i] + reach[j]
            if x * x + y * y + z * z < limit * limit:
                found.append((j, i))
    pairs = np.empty((len(found), 2), dtype=np.intp)
    for n in range(len(found)):
        pairs[n, 0], pairs[n, 1] = found[n]
    return pairs
