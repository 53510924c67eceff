"""What a contact is: types, thresholds of the named conventions, and the results."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from nmdasim.contacts.kernel import HEAVY, Typed
from nmdasim.contacts.kernel import Ints as Indices
from nmdasim.errors import SelectionError
from nmdasim.statistics import Estimate

#: Types of contact, in the order of every array of this module.
INTERACTION_TYPES = (
    "hydrogen bond",
    "water bridge",
    "salt bridge",
    "metal coordination",
    "cation-pi",
    "pi-stacking",
    "hydrophobic",
    "halogen",
    "close contact",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InteractionThresholds:
    """When a geometry counts as an interaction. Distances up to a limit count, limit included.

    See Also
    --------
    PLIP, PROLIF : the two published conventions.
    """

    name: str
    """What to call these thresholds in a report."""
    atom_rules: Literal["plip", "prolif"]
    """Whose rules pick the atoms. "plip": hydrophobic carbons are those bonded to carbon and
    hydrogen only, methyls included; charges sit at the centre of their group; a water bridge
    joins a donor with an acceptor. "prolif": methyl carbons and aliphatic ring CH2 are not
    hydrophobic, aromatic ring atoms accept halogen bonds, each charged atom counts by itself, a
    water bridges any two polar atoms, and the water's hydrogens count where they are given."""
    hydrogen_bond_nm: float
    """Donor to acceptor."""
    hydrogen_bond_angle_deg: float
    """Least angle donor-hydrogen-acceptor."""
    salt_bridge_nm: float
    """Between opposite charges."""
    cation_pi_nm: float
    """Charge to ring centre."""
    cation_pi_offset_nm: float
    """Largest distance from the ring centre to the charge projected on the ring plane."""
    cation_pi_tilt_deg: float
    """Largest angle between the ring normal and the line from ring centre to charge."""
    pi_face_nm: float
    """Between ring centres, rings face to face."""
    pi_face_plane_deg: float
    """Largest angle between the planes, face to face."""
    pi_face_tilt_deg: float
    """Largest angle between one of the normals and the line of centres, face to face."""
    pi_edge_nm: float
    """Between ring centres, edge to face."""
    pi_edge_plane_deg: float
    """Least angle between the planes, edge to face."""
    pi_edge_tilt_deg: float
    """Largest angle between one of the normals and the line of centres, edge to face."""
    pi_edge_intersect_nm: float
    """Largest distance from a ring centre to the line where the planes meet, edge to face."""
    pi_offset_nm: float
    """Largest in-plane offset of one ring centre from the other, face and edge."""
    hydrophobic_nm: float
    """Between two hydrophobic atoms."""
    halogen_nm: float
    """Halogen to acceptor."""
    halogen_donor_deg: tuple[float, float]
    """Allowed angle carbon-halogen-acceptor."""
    halogen_acceptor_deg: tuple[float, float]
    """Allowed angle halogen-acceptor-antecedent."""
    metal_nm: float
    """Metal ion to the atom that holds it."""
    water_bridge_nm: tuple[float, float]
    """Allowed distance from the water's oxygen to the polar atom on either side."""
    water_bridge_donor_deg: float
    """Least angle donor-hydrogen-acceptor of a hydrogen bond with the water."""
    water_bridge_omega_deg: tuple[float, float]
    """Allowed angle at the water between the acceptor and the hydrogen that it takes."""
    bridges_per_water: int
    """Bridges that one water makes at most, the best by its angle; 0 for any number."""
    close_contact_nm: float = 0.45
    """Nearest pair of heavy atoms."""
    nearest_nm: float = 0.8
    """How far the nearest heavy-atom distance of a residue is recorded."""


PLIP = InteractionThresholds(
    name="PLIP",
    atom_rules="plip",
    hydrogen_bond_nm=0.41,
    hydrogen_bond_angle_deg=100.0,
    salt_bridge_nm=0.55,
    cation_pi_nm=0.60,
    cation_pi_offset_nm=0.20,
    cation_pi_tilt_deg=90.0,
    pi_face_nm=0.55,
    pi_face_plane_deg=30.0,
    pi_face_tilt_deg=90.0,
    pi_edge_nm=0.55,
    pi_edge_plane_deg=60.0,
    pi_edge_tilt_deg=90.0,
    pi_edge_intersect_nm=math.inf,
    pi_offset_nm=0.20,
    hydrophobic_nm=0.40,
    halogen_nm=0.40,
    halogen_donor_deg=(135.0, 180.0),
    halogen_acceptor_deg=(90.0, 150.0),
    metal_nm=0.30,
    water_bridge_nm=(0.25, 0.41),
    water_bridge_donor_deg=100.0,
    water_bridge_omega_deg=(71.0, 140.0),
    bridges_per_water=2,
)
"""Thresholds of PLIP 3.0 (Salentin et al. 2015, doi:10.1093/nar/gkv315; Adasme et al. 2021,
doi:10.1093/nar/gkab294)."""

PROLIF = InteractionThresholds(
    name="ProLIF",
    atom_rules="prolif",
    hydrogen_bond_nm=0.35,
    hydrogen_bond_angle_deg=130.0,
    salt_bridge_nm=0.45,
    cation_pi_nm=0.45,
    cation_pi_offset_nm=math.inf,
    cation_pi_tilt_deg=30.0,
    pi_face_nm=0.55,
    pi_face_plane_deg=35.0,
    pi_face_tilt_deg=33.0,
    pi_edge_nm=0.65,
    pi_edge_plane_deg=50.0,
    pi_edge_tilt_deg=30.0,
    pi_edge_intersect_nm=0.15,
    pi_offset_nm=math.inf,
    hydrophobic_nm=0.45,
    halogen_nm=0.35,
    halogen_donor_deg=(130.0, 180.0),
    halogen_acceptor_deg=(80.0, 140.0),
    metal_nm=0.28,
    water_bridge_nm=(0.0, 0.35),
    water_bridge_donor_deg=130.0,
    water_bridge_omega_deg=(0.0, 180.0),
    bridges_per_water=0,
)
"""Thresholds of ProLIF 2.2 (Bouysset, Fiorucci 2021, doi:10.1186/s13321-021-00548-6)."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ContactResidue:
    """A residue that the ligand may touch."""

    index: int
    """Place among the residues of the topology; orders residues as the file does."""
    chain: str
    """Chain letter of the topology; where it has none, the place of the chain: A, B, C..."""
    number: int
    """Residue number of the topology."""
    name: str
    """Residue name of the topology, such as VAL or ACE."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InteractionSites:
    """Topology and chemistry of ligand and surroundings, read once for all frames."""

    residues: tuple[ContactResidue, ...]
    """All residues that are looked at."""
    types: tuple[str, ...]
    """Types that can be told: all of `INTERACTION_TYPES`, without "hydrogen bond" and "water
    bridge" where ligand or protein come without hydrogens, and without "metal coordination"
    where the ligand is no metal ion."""
    thresholds: InteractionThresholds
    """When a geometry counts."""
    n_atoms: int
    """Atoms of the topology."""
    anchors: Indices
    """CA of each residue, shape (n_residues,); -1 where the residue's size is not known."""
    typed: Typed
    """Typed atoms of the residues and of the ligand."""

    @property
    def heavy(self) -> Indices:
        """Heavy atoms of the ligand, shape (n_heavy,)."""
        first, last = self.typed.of[HEAVY, -2:]
        return self.typed.table[first:last, 0]


class ContactSeries(Protocol):
    """What the tables ask of contacts, whether they are in memory or on disk.

    See Also
    --------
    Interactions, StoredInteractions : the two kinds.
    """

    @property
    def residues(self) -> tuple[ContactResidue, ...]:
        """Residues that come within `nearest_nm` in any of the frames, in topology order."""

    @property
    def types(self) -> tuple[str, ...]:
        """Types that could be told."""

    @property
    def thresholds(self) -> InteractionThresholds:
        """What counted as a contact."""

    @property
    def n_frames(self) -> int:
        """Frames that were measured."""

    def occurring(self) -> Sequence[tuple[int, int]]:
        """Place in `residues` and in `types` of each contact that occurs, residue by residue."""

    def contact(self, place: int, kind: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Frames of one contact, ascending, and its distance in each, nm."""

    def nearest_of(self, place: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Frames in which one residue is near, ascending, and how near in each, nm."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Interactions:
    """Contacts of the ligand in a number of frames, stored sparsely."""

    residues: tuple[ContactResidue, ...]
    """Residues that come within `nearest_nm` in any of the frames, in topology order."""
    types: tuple[str, ...]
    """Types that could be told (see `InteractionSites.types`); without "water bridge" where no
    water was given."""
    thresholds: InteractionThresholds
    """What counted as a contact."""
    n_frames: int
    """Frames that were measured."""
    frame: NDArray[np.int32]
    """Frame of each contact, shape (n_contacts,), ascending."""
    residue: NDArray[np.uint16]
    """Place in `residues` of each contact, shape (n_contacts,)."""
    type: NDArray[np.int8]
    """Place in `types` of each contact, shape (n_contacts,)."""
    distance: NDArray[np.float32]
    """Shortest distance of that type, residue and frame, shape (n_contacts,), nm. Donor to
    acceptor, charge to charge or ring centre, centre to centre, atom to atom; for a water
    bridge the sum of its two legs."""
    neighbours_of: NDArray[np.int64]
    """Where the neighbours of each frame begin, shape (n_frames + 1,)."""
    neighbour: NDArray[np.uint16]
    """Place in `residues` of each residue within `thresholds.nearest_nm`, frame by frame, shape
    (n_neighbours,)."""
    neighbour_distance: NDArray[np.float32]
    """Distance of its nearest heavy-atom pair, shape (n_neighbours,), nm."""

    @property
    def nearest(self) -> NDArray[np.float32]:
        """Distance of the nearest heavy-atom pair, shape (n_frames, n_residues), nm.

        It is nan beyond `thresholds.nearest_nm`. The array is dense: for long trajectories
        read the neighbours themselves.
        """
        dense = np.full((self.n_frames, len(self.residues)), np.nan, dtype=np.float32)
        frame = np.repeat(np.arange(self.n_frames), np.diff(self.neighbours_of))
        dense[frame, self.neighbour] = self.neighbour_distance
        return dense

    @property
    def occupied(self) -> NDArray[np.bool_]:
        """Whether each contact is there, shape (n_frames, n_residues, n_types); dense."""
        return ~np.isnan(self.distances)

    @property
    def distances(self) -> NDArray[np.float32]:
        """Shortest distance of each contact, nm, nan where absent; dense, as `occupied`."""
        dense = np.full((self.n_frames, len(self.residues), len(self.types)), np.nan, np.float32)
        dense[self.frame, self.residue, self.type] = self.distance
        return dense

    def check_same_sites(self, other: "Interactions") -> None:
        """Refuse to be joined with another chunk that was measured in another way.

        Parameters
        ----------
        other : Interactions

        Raises
        ------
        SelectionError
            If it differs in its types or thresholds.
        """
        if other.types != self.types or other.thresholds != self.thresholds:
            raise SelectionError(
                "chunks differ in their types or thresholds; all must come from the same sites: "
                "call interaction_sites once, and give water with every chunk or with none"
            )

    def occurring(self) -> list[tuple[int, int]]:
        """List the contacts that occur.

        Returns
        -------
        pairs : list of (int, int)
            Place in `residues` and in `types`, residue by residue.
        """
        key = self.residue * np.uint32(len(self.types)) + self.type.astype(np.uint32)
        return [divmod(int(k), len(self.types)) for k in np.unique(key)]

    def contact(self, place: int, kind: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Pick one contact.

        Parameters
        ----------
        place, kind : int
            Its place in `residues` and in `types`.

        Returns
        -------
        frames : ndarray of int32, ascending
        distances : ndarray of float32, nm
        """
        mine = np.flatnonzero((self.residue == place) & (self.type == kind))
        return self.frame[mine], self.distance[mine]

    def nearest_of(self, place: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Pick the frames in which one residue is within `thresholds.nearest_nm`.

        Parameters
        ----------
        place : int
            Its place in `residues`.

        Returns
        -------
        frames : ndarray of int32, ascending
        distances : ndarray of float32, nm
        """
        mine = np.flatnonzero(self.neighbour == place)
        frames = np.searchsorted(self.neighbours_of, mine, side="right") - 1
        return frames.astype(np.int32), self.neighbour_distance[mine]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactOccupancy:
    """How often one residue has one type of contact."""

    residue: ContactResidue
    """The residue."""
    type: str
    """One of `INTERACTION_TYPES`."""
    estimate: Estimate
    """Share of the frames, with its error."""
    mean_distance_nm: float
    """Mean over the frames in contact."""
    min_distance_nm: float
    """Shortest over all frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RingOccupancy:
    """How often any of the two-fold equivalent copies of a residue has one type of contact."""

    ring: str | None
    """Ring of the pore, one of `nmdasim.subunits.RING_NAMES`; None outside the rings."""
    label: str
    """Residue under which the copies are folded, such as "GluN1 V644"."""
    type: str
    """One of `INTERACTION_TYPES`."""
    estimate: Estimate
    """Share of the frames in which at least one copy is in contact, with its error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactLifetime:
    """How long one type of contact lasts, with a residue, its folded copies or a ring."""

    level: str
    """"residue", "folded" or "ring"."""
    residue: ContactResidue | None
    """The residue; None at the other levels."""
    label: str | None
    """Name of the residue, "GluN1 V644" for folded copies, None for a ring."""
    subunit: str | None
    """GluN1, GluN2A or GluN2B; None for a ring, or where it is not known."""
    ring: str | None
    """Ring of the pore, one of `nmdasim.subunits.RING_NAMES`; None outside the rings."""
    type: str
    """One of `INTERACTION_TYPES`."""
    occupancy: float
    """Share of the frames in contact."""
    n_episodes: int
    """Times without interruption, those cut off by the trajectory's ends included."""
    n_breaks: int
    """Episodes whose end was seen."""
    lifetime_ps: float
    """Mean lifetime of an episode; nan when none was seen to break."""
    low_ps: float
    """Lower end of its 95 % interval."""
    high_ps: float
    """Upper end of its 95 % interval; infinite when no episode was seen to break."""
    longest_ps: float
    """Longest episode, each frame counted as one spacing."""
    note: str = ""
    """Why there is no estimate, or what to know about it; empty when there is nothing to say."""
