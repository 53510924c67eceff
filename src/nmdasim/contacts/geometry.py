"""Contacts of chunks of frames: the compiled loop's input and output, and how chunks join."""

from array import array
from collections.abc import Iterable

import mdtraj as md
import numpy as np
from numpy.typing import ArrayLike, NDArray
from rdkit import Chem

from nmdasim.contacts.chemistry import interaction_sites
from nmdasim.contacts.kernel import Limits, measure
from nmdasim.contacts.model import (
    INTERACTION_TYPES,
    PLIP,
    ContactResidue,
    Indices,
    Interactions,
    InteractionSites,
    InteractionThresholds,
)
from nmdasim.errors import TrajectoryError
from nmdasim.trajectory.names import water_oxygens

# Two rings of 0.14 nm radius can be this much farther apart atom to atom than centre to centre.
_GROUP_MARGIN_NM = 0.15
# Contacts and neighbours that a frame is expected to have; more only cost a second pass.
_ROOM = 64
_NOTHING = np.empty(0, dtype=np.float32)

_Frames = NDArray[np.float32]


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
    out of the result's `types`. Water bridges need these and the water of the trajectory, each
    molecule at the image nearest to the ligand. All other types use heavy atoms only. A residue
    may hold several types at once: nothing is removed because another type explains it.
    """
    chunks = [trajectory] if isinstance(trajectory, md.Trajectory) else trajectory
    builder = InteractionsBuilder()
    sites: InteractionSites | None = None
    for chunk in chunks:
        if sites is None:
            sites = interaction_sites(
                chunk.topology,
                ligand=ligand,
                ligand_atoms=ligand_atoms,
                protein=protein,
                thresholds=thresholds,
            )
            oxygens, hydrogens = _waters(chunk.topology)
        if not chunk.n_frames:
            continue
        # Frames with other atoms are refused below: their waters cannot be picked.
        fits = chunk.n_atoms == sites.n_atoms
        builder.add(
            find_interactions(
                chunk,
                sites=sites,
                water=chunk.xyz[:, oxygens] if fits else None,
                water_hydrogens=chunk.xyz[:, hydrogens] if fits and len(hydrogens) else None,
            )
        )
    return builder.result()


def _waters(topology: md.Topology) -> tuple[Indices, Indices]:
    """Oxygens of the waters and, where each water has them, their two hydrogens."""
    oxygens = water_oxygens(topology)
    pairs = [
        [a.index for a in topology.atom(i).residue.atoms if a.name.upper().startswith("H")]
        for i in oxygens
    ]
    whole = all(len(pair) == 2 for pair in pairs)
    return oxygens, np.array(pairs if whole else [], dtype=np.int64).reshape(-1, 2)


def find_interactions(
    trajectory: md.Trajectory,
    *,
    sites: InteractionSites,
    water: ArrayLike | None = None,
    water_hydrogens: ArrayLike | None = None,
) -> Interactions:
    """Measure the contacts in one chunk of frames.

    Parameters
    ----------
    trajectory : mdtraj.Trajectory
        Imaged frames with the atoms that `sites` was made for.
    sites : InteractionSites
        From `interaction_sites`.
    water : array_like of float, shape (n_frames, n_waters, 3), optional
        Oxygen of each water in the same frame of reference, nm, such as `Chunk.water`. Without
        it, or with no water in it, water bridges are not told.
    water_hydrogens : array_like of float, shape (n_frames, n_waters, 2, 3), optional
        Hydrogens of each water, nm. Only ProLIF's rules look at them; without them a water is
        taken to turn its hydrogens to where they are needed.

    Returns
    -------
    interactions : Interactions
        Frames are counted from the start of this chunk.

    Raises
    ------
    TrajectoryError
        If there is no frame, the number of atoms differs, the water has other frames, or the
        ligand has coordinates that are not finite.
    """
    xyz = trajectory.xyz
    if xyz.shape[1] != sites.n_atoms or not len(xyz):
        raise TrajectoryError(
            f"got {len(xyz)} frames of {xyz.shape[1]} atoms; need at least one frame of "
            f"{sites.n_atoms} atoms: give the trajectory that fits the topology"
        )
    finite = np.isfinite(xyz[:, sites.heavy]).all(axis=(1, 2))
    if not finite.all():
        raise TrajectoryError(
            f"the ligand's coordinates are not finite in frame {int(np.argmin(finite))}: "
            "the simulation or the file is damaged there"
        )
    oxygens, hydrogens = _checked_water(len(xyz), sites, water, water_hydrogens)
    types = [kind for kind in sites.types if kind != "water bridge" or oxygens.shape[1]]
    contact, distance, neighbour, nearest = _measured(xyz, sites, oxygens, hydrogens)
    used, place = np.unique(np.concatenate([contact[:, 1], neighbour[:, 1]]), return_inverse=True)
    kinds = np.array([types.index(k) if k in types else -1 for k in INTERACTION_TYPES])
    return _frozen(
        residues=tuple(sites.residues[i] for i in used),
        types=tuple(types),
        thresholds=sites.thresholds,
        n_frames=len(xyz),
        frame=contact[:, 0].astype(np.int32),
        residue=place[: len(contact)].astype(np.uint16),
        type=kinds[contact[:, 2]].astype(np.int8),
        distance=distance,
        neighbours_of=np.searchsorted(neighbour[:, 0], np.arange(len(xyz) + 1)),
        neighbour=place[len(contact) :].astype(np.uint16),
        neighbour_distance=nearest,
    )


def _measured(
    xyz: _Frames, sites: InteractionSites, water: _Frames, hydrogens: _Frames
) -> tuple[Indices, _Frames, Indices, _Frames]:
    """Run the compiled loop, once more where the first guess of the room was too small."""
    limits = _limits(sites.thresholds)
    room = [_ROOM * len(xyz)] * 2
    while True:
        contact, distance = np.empty((room[0], 3), np.int64), np.empty(room[0], np.float32)
        neighbour, nearest = np.empty((room[1], 2), np.int64), np.empty(room[1], np.float32)
        found = measure(
            np.ascontiguousarray(xyz, dtype=np.float32), water, hydrogens,
            sites.typed, sites.anchors, limits, "hydrogen bond" in sites.types,
            contact, distance, neighbour, nearest,
        )  # fmt: skip
        if found[0] <= room[0] and found[1] <= room[1]:
            n_contacts, n_neighbours = found
            return (
                contact[:n_contacts], distance[:n_contacts].copy(),
                neighbour[:n_neighbours], nearest[:n_neighbours].copy(),
            )  # fmt: skip
        room = list(found)


def _checked_water(
    n_frames: int,
    sites: InteractionSites,
    water: ArrayLike | None,
    hydrogens: ArrayLike | None,
) -> tuple[_Frames, _Frames]:
    """Bring the water into the shape of the compiled loop; empty where it is not looked at."""
    oxygens = np.empty((n_frames, 0, 3), dtype=np.float32)
    own = np.empty((n_frames, 0, 2, 3), dtype=np.float32)
    if water is None or "water bridge" not in sites.types:
        return oxygens, own
    oxygens = np.ascontiguousarray(water, dtype=np.float32)
    if hydrogens is not None and sites.thresholds.atom_rules == "prolif":
        own = np.ascontiguousarray(hydrogens, dtype=np.float32)
    n_waters = oxygens.shape[1] if oxygens.ndim == 3 else 0
    if oxygens.shape != (n_frames, n_waters, 3) or own.shape not in (
        (n_frames, 0, 2, 3),
        (n_frames, n_waters, 2, 3),
    ):
        raise TrajectoryError(
            f"got water of the shape {oxygens.shape} with hydrogens of the shape {own.shape} for "
            f"{n_frames} frames; need ({n_frames}, n_waters, 3) and ({n_frames}, n_waters, 2, 3)"
        )
    return oxygens, own


def _limits(thresholds: InteractionThresholds) -> Limits:
    """Hand the thresholds to the compiled loop."""
    t = thresholds
    return Limits(
        reach=_reach(t),
        nearest=t.nearest_nm,
        close=t.close_contact_nm,
        hydrophobic=t.hydrophobic_nm,
        hydrogen=t.hydrogen_bond_nm,
        hydrogen_angle=t.hydrogen_bond_angle_deg,
        salt=t.salt_bridge_nm,
        metal=t.metal_nm,
        cation_pi=t.cation_pi_nm,
        cation_pi_offset=t.cation_pi_offset_nm,
        cation_pi_tilt=t.cation_pi_tilt_deg,
        face=t.pi_face_nm,
        face_plane=t.pi_face_plane_deg,
        face_tilt=t.pi_face_tilt_deg,
        edge=t.pi_edge_nm,
        edge_plane=t.pi_edge_plane_deg,
        edge_tilt=t.pi_edge_tilt_deg,
        edge_intersect=t.pi_edge_intersect_nm,
        pi_offset=t.pi_offset_nm,
        halogen=t.halogen_nm,
        halogen_donor_low=t.halogen_donor_deg[0],
        halogen_donor_high=t.halogen_donor_deg[1],
        halogen_acceptor_low=t.halogen_acceptor_deg[0],
        halogen_acceptor_high=t.halogen_acceptor_deg[1],
        bridge_low=t.water_bridge_nm[0],
        bridge_high=t.water_bridge_nm[1],
        bridge_angle=t.water_bridge_donor_deg,
        bridge_omega_low=t.water_bridge_omega_deg[0],
        bridge_omega_high=t.water_bridge_omega_deg[1],
        bridge_mixed=t.atom_rules == "plip",
        bridges_per_water=t.bridges_per_water,
    )


class InteractionsBuilder:
    """Joins the contacts of consecutive chunks as they come; only contacts are held.

    Chunks are added in the order of their frames, from one thread.
    """

    def __init__(self) -> None:
        self._first: Interactions | None = None
        self._number: dict[ContactResidue, int] = {}
        self._n_frames = 0
        # These grow in place, so that no second copy is made when all is joined.
        self._frame, self._residue = array("i"), array("H")
        self._type, self._distance = array("b"), array("f")
        self._count, self._neighbour, self._nearest = array("q", [0]), array("H"), array("f")

    def add(self, chunk: Interactions) -> None:
        """Append a chunk.

        Parameters
        ----------
        chunk : Interactions
            The frames that follow those added before, from the same `InteractionSites`.

        Raises
        ------
        SelectionError
            If the chunk differs from those before in its types or thresholds.
        """
        first = self._first = self._first or chunk
        first.check_same_sites(chunk)
        numbers = np.array(
            [self._number.setdefault(r, len(self._number)) for r in chunk.residues], np.uint16
        )
        for growing, values in (
            (self._frame, chunk.frame + np.int32(self._n_frames)),
            (self._residue, numbers[chunk.residue]),
            (self._type, chunk.type),
            (self._distance, chunk.distance),
            (self._count, chunk.neighbours_of[1:] + len(self._neighbour)),
            (self._neighbour, numbers[chunk.neighbour]),
            (self._nearest, chunk.neighbour_distance),
        ):
            growing.frombytes(np.ascontiguousarray(values).tobytes())
        self._n_frames += chunk.n_frames

    def result(self) -> Interactions:
        """Give the contacts of all frames; the builder must not be used after it.

        Returns
        -------
        interactions : Interactions
            The same as if all frames had been measured at once.

        Raises
        ------
        TrajectoryError
            If no chunk was added.
        """
        if self._first is None:
            raise TrajectoryError("there are no frames: give at least one chunk of a trajectory")
        residues = tuple(sorted(self._number))
        place = np.empty(len(residues), dtype=np.uint16)
        place[[self._number[residue] for residue in residues]] = np.arange(len(residues))
        return _frozen(
            residues=residues,
            types=self._first.types,
            thresholds=self._first.thresholds,
            n_frames=self._n_frames,
            frame=np.frombuffer(self._frame, np.int32),
            residue=place[np.frombuffer(self._residue, np.uint16)],
            type=np.frombuffer(self._type, np.int8),
            distance=np.frombuffer(self._distance, np.float32),
            neighbours_of=np.frombuffer(self._count, np.int64),
            neighbour=place[np.frombuffer(self._neighbour, np.uint16)],
            neighbour_distance=np.frombuffer(self._nearest, np.float32),
        )


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
    builder = InteractionsBuilder()
    for chunk in chunks:
        builder.add(chunk)
    return builder.result()


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
        thresholds.metal_nm,
        thresholds.close_contact_nm,
        thresholds.nearest_nm,
        2.0 * thresholds.water_bridge_nm[1],
    )
    return max(limits)


def _frozen(**fields: object) -> Interactions:
    """Make the result with read-only arrays."""
    for value in fields.values():
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
    return Interactions(**fields)  # type: ignore[arg-type]
