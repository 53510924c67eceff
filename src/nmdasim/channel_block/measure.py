"""Where the ligand is, how the gate stands and what passage is left, frame by frame."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import mdtraj as md
import numpy as np
from numpy.typing import ArrayLike, NDArray
from rdkit import Chem

from nmdasim.errors import SelectionError, TrajectoryError
from nmdasim.permeation import (
    find_water_paths,
    heavy_atoms,
    imaged_solvent,
    narrowest_radius,
    pore_walls,
)
from nmdasim.pore import (
    DEFAULT_LEVELS_NM,
    PoreProfile,
    cross_section,
    lumen_volume,
    radius_at_rings,
    radius_profile,
    radius_profile_past,
)
from nmdasim.subunits import RING_NAMES
from nmdasim.trajectory import in_pore_frame, pore_atoms
from nmdasim.trajectory.names import water_oxygens

#: Rings of the gate, from the lower end of SYTANLAAF to above it.
GATE_RINGS = ("threonine", "a652", "vivi")
#: Opposite residues that a distance across the gate is measured between, by ring and subunit.
GATE_PAIRS = tuple(f"{ring}_{subunit}" for ring in GATE_RINGS for subunit in ("glun1", "glun2"))
#: The filter's radius is the least one this near to the CA of the asparagine ring.
FILTER_NM = 0.4

#: Grid on which the vestibule's volume is counted. In the vestibule of 7EU8 it gives 9 % less than
#: a grid of 0.02 nm, as against 7 % less with 0.05 nm, in less time than the latter.
VOLUME_SPACING_NM = 0.08

# An ammonium group, or the amine that becomes one; amides, anilines and sulfonamides do not.
_BASIC = ("[NX4+;!$(N-*=O)]", "[NX3;!$(N-[C,S]=[O,S,N]);!$(N-a);!$(N=*);!$(N-[!#6;!#1])]")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GatePair:
    """Opposite residues of one ring."""

    ca: NDArray[np.intp]
    """Their CA atoms, shape (2,)."""
    heavy: tuple[NDArray[np.intp], NDArray[np.intp]]
    """Heavy atoms of each."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockadeSites:
    """Atoms that the measurements look at, picked once for all frames."""

    protein: NDArray[np.intp]
    """Heavy atoms of amino acids and caps, shape (n_protein,)."""
    protein_radii: NDArray[np.float64]
    """Their radii, nm."""
    ligand: NDArray[np.intp]
    """Heavy atoms of the ligand, shape (n_heavy,)."""
    ligand_radii: NDArray[np.float64]
    """Their radii, nm."""
    amine: NDArray[np.intp]
    """The basic nitrogen; empty when the ligand has none."""
    amine_hydrogens: NDArray[np.intp]
    """Hydrogens of the charged nitrogen; empty when it has none or is neutral."""
    amine_neighbours: NDArray[np.intp]
    """What a neutral nitrogen is bound to, opposite its lone pair; empty otherwise."""
    aryl: NDArray[np.intp]
    """Atoms of the ligand's aromatic rings; empty when it has none."""
    rings: Mapping[str, NDArray[np.intp]]
    """CA atoms of each complete ring of the pore, by its name."""
    gate: Mapping[str, GatePair]
    """Opposite residues of the complete rings of the gate, by name as in `GATE_PAIRS`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blockade:
    """Where the ligand is and what it leaves open, in each frame."""

    depth: NDArray[np.float64]
    """Height of the centroid of the ligand's heavy atoms in the pore frame, (n_frames,), nm."""
    ammonium_depth: NDArray[np.float64]
    """Height of the basic nitrogen, (n_frames,), nm; nan when there is none."""
    ammonium_above_ring: NDArray[np.float64]
    """Height of the basic nitrogen above the CA centroid of the asparagine ring as it is in
    the frame, (n_frames,), nm."""
    ammonium_angle: NDArray[np.float64]
    """Angle between +z and the mean direction of the N-H bonds of the ammonium, or the lone
    pair of the neutral amine, (n_frames,), rad; nan without either."""
    offset: NDArray[np.float64]
    """Distance of the centroid from the axis, (n_frames,), nm."""
    tilt: NDArray[np.float64]
    """Angle between +z and the line from the basic nitrogen to the centroid of the aromatic
    ring, (n_frames,), rad; nan when one of them is missing."""
    rmsd: NDArray[np.float64]
    """Of the ligand's heavy atoms from the reference pose, the pore superposed, (n_frames,),
    nm. A flipped ring counts as motion."""
    radius_at: NDArray[np.float64]
    """Radius of the pore at the ligand's depth, the ligand not counted, (n_frames,), nm; nan
    when the ligand is outside the levels."""
    radius_past: NDArray[np.float64]
    """Least radius over the levels that the ligand spans, the ligand counted, (n_frames,), nm;
    of an ion at the level next to it. nan outside the levels."""
    filled_share: NDArray[np.float64]
    """Share of the lumen's cross-section that the ligand fills at the level nearest to its
    depth, (n_frames,); nan outside the levels and where not even a water fits."""
    levels: NDArray[np.float64]
    """Levels of the profiles, (n_levels,), nm."""
    radius_open: NDArray[np.float32]
    """Radius of the pore, the ligand not counted, (n_frames, n_levels), nm."""
    radius_ligand: NDArray[np.float32]
    """Radius of the pore, the ligand counted as wall, (n_frames, n_levels), nm."""
    centre_open: NDArray[np.float32]
    """Centre of the lumen, the ligand not counted, (n_frames, n_levels, 2), nm."""
    ring_heights: NDArray[np.float64]
    """Height of the CA centroid of each ring of `RING_NAMES`, (n_frames, 6), nm; nan for a
    ring that is not complete."""
    ring_radii: NDArray[np.float64]
    """Least open radius within 0.15 nm of each ring of `RING_NAMES`, (n_frames, 6), nm."""
    lumen_area: NDArray[np.float64]
    """Area of the lumen's cross-section that `filled_share` is a share of, (n_frames,), nm^2."""
    vestibule_volume: NDArray[np.float64]
    """Volume of the lumen between the asparagine and the threonine ring, the ligand not
    counted, (n_frames,), nm^3; nan where the levels do not reach the rings."""
    vestibule_filled: NDArray[np.float64]
    """Share of that volume within the ligand's van der Waals spheres, (n_frames,)."""
    filter_radius: NDArray[np.float64]
    """Least open radius within 0.4 nm of the asparagine ring, (n_frames,), nm."""
    gate_radius: NDArray[np.float64]
    """Least open radius from the threonine ring to the uppermost ring of the gate that is
    there, vivi or a652, (n_frames,), nm; nan when neither is."""
    gate_ca: NDArray[np.float64]
    """Distance between the CA of each pair of `GATE_PAIRS`, (n_frames, 6), nm."""
    gate_heavy: NDArray[np.float64]
    """Distance between the nearest heavy atoms of each pair, (n_frames, 6), nm."""
    path_radius: NDArray[np.float64]
    """Least radius of the whole pore, the ligand counted, (n_frames,), nm."""
    water_path: NDArray[np.float64]
    """1 where a chain of waters leads through the pore, else 0, (n_frames,); nan without
    water. See `nmdasim.permeation.find_water_paths`."""
    water_path_past: NDArray[np.float64]
    """The same from below to above the ligand."""
    water_from_inside: NDArray[np.float64]
    """How far up waters are joined with those inside the cell, (n_frames,), nm."""
    water_from_outside: NDArray[np.float64]
    """How far down waters are joined with those outside the cell, (n_frames,), nm."""

    def __post_init__(self) -> None:
        for field in fields(self):
            getattr(self, field.name).flags.writeable = False

    def to_columns(self) -> dict[str, NDArray[np.float64]]:
        """Give the series of single numbers as columns for any table library.

        Returns
        -------
        columns : dict of str to ndarray, shape (n_frames,)
            Units in the names; angles in degrees. Paths of water are 0 or 1.
        """
        pairs = [
            (f"gate_{pair}_{kind}_nm", distance[:, column])
            for kind, distance in (("ca", self.gate_ca), ("heavy", self.gate_heavy))
            for column, pair in enumerate(GATE_PAIRS)
        ]
        return {
            "ligand_depth_nm": self.depth,
            "ammonium_depth_nm": self.ammonium_depth,
            "ammonium_above_ring_nm": self.ammonium_above_ring,
            "ammonium_angle_deg": np.degrees(self.ammonium_angle),
            "ligand_offset_nm": self.offset,
            "ligand_tilt_deg": np.degrees(self.tilt),
            "ligand_rmsd_nm": self.rmsd,
            "radius_at_ligand_nm": self.radius_at,
            "radius_past_ligand_nm": self.radius_past,
            "filled_share": self.filled_share,
            "lumen_area_nm2": self.lumen_area,
            "vestibule_volume_nm3": self.vestibule_volume,
            "vestibule_filled_share": self.vestibule_filled,
            **{
                f"radius_{ring}_nm": self.ring_radii[:, column]
                for column, ring in enumerate(RING_NAMES)
            },
            "filter_radius_nm": self.filter_radius,
            "gate_radius_nm": self.gate_radius,
            **dict(pairs),
            "path_radius_nm": self.path_radius,
            "water_path": self.water_path,
            "water_path_past_ligand": self.water_path_past,
            "water_from_inside_nm": self.water_from_inside,
            "water_from_outside_nm": self.water_from_outside,
        }

    def open_lumen(self) -> PoreProfile:
        """Give the profile without the ligand, in which particles are followed.

        Returns
        -------
        lumen : PoreProfile
        """
        return PoreProfile(
            levels=self.levels,
            radius=self.radius_open.astype(np.float64),
            centre=self.centre_open.astype(np.float64),
        )


def blockade(
    trajectory: md.Trajectory | Iterable[md.Trajectory],
    *,
    ligand: Chem.Mol,
    ligand_atoms: ArrayLike,
    levels: ArrayLike = DEFAULT_LEVELS_NM,
) -> Blockade:
    """Measure where a ligand sits in the pore and what it leaves open.

    Parameters
    ----------
    trajectory : mdtraj.Trajectory or iterable of mdtraj.Trajectory
        Imaged frames (channel and ligand whole and in one periodic cell), or such chunks in
        their order. They need not be fitted: each frame is turned into the pore frame. Water
        may lie in any periodic image; without water its paths are nan.
    ligand : rdkit.Chem.Mol
        The ligand as it was simulated. Its conformer is not used.
    ligand_atoms : array_like of int, shape (n_ligand,)
        Atom of the topology for each atom of `ligand`, in the molecule's order.
    levels : array_like of float, shape (n_levels,), nm
        Heights at which the pore's radius is measured.

    Returns
    -------
    blockade : Blockade
        RMSDs are from the first frame.

    Raises
    ------
    SelectionError
        If molecule and atoms do not match, or the topology holds no pore.
    TrajectoryError
        If there is no frame.
    """
    parts: list[Blockade] = []
    for chunk in in_pore_frame(imaged_solvent(trajectory)):
        if not parts:
            sites = blockade_sites(chunk.topology, ligand=ligand, ligand_atoms=ligand_atoms)
            reference = chunk.xyz[0, sites.ligand]
            water = water_oxygens(chunk.topology)
        parts.append(
            measure_blockade(
                chunk.xyz,
                sites=sites,
                reference=reference,
                levels=levels,
                water=chunk.xyz[:, water],
            )
        )
    return merge_blockades(parts)


def pore_profile(
    trajectory: md.Trajectory | Iterable[md.Trajectory],
    *,
    blocker: ArrayLike | None = None,
    levels: ArrayLike = DEFAULT_LEVELS_NM,
) -> PoreProfile:
    """Measure the radius of the pore along its axis in each frame.

    Parameters
    ----------
    trajectory : mdtraj.Trajectory or iterable of mdtraj.Trajectory
        Imaged frames, or such chunks in their order; each is turned into the pore frame.
    blocker : array_like of int, optional
        Atoms of a ligand that count as wall; without them only the protein counts.
    levels : array_like of float, shape (n_levels,), nm

    Returns
    -------
    profile : PoreProfile
        See `nmdasim.pore.radius_profile`.

    Raises
    ------
    SelectionError
        If the topology holds no pore.
    TrajectoryError
        If there is no frame.
    """
    profiles = []
    for chunk in in_pore_frame(trajectory):
        protein, radii = pore_walls(chunk.topology)
        walls = chunk.xyz[:, protein]
        profile = radius_profile(walls, radii=radii, levels=levels)
        if blocker is not None:
            atoms, sizes = heavy_atoms(chunk.topology, np.asarray(blocker, dtype=np.intp))
            profile = radius_profile_past(
                profile, walls, radii=radii, blocker=chunk.xyz[:, atoms], blocker_radii=sizes
            )
        profiles.append(profile)
    return PoreProfile(
        levels=profiles[0].levels,
        radius=np.concatenate([profile.radius for profile in profiles]),
        centre=np.concatenate([profile.centre for profile in profiles]),
    )


def blockade_sites(
    topology: md.Topology,
    *,
    ligand: Chem.Mol,
    ligand_atoms: ArrayLike,
    subunit_of: Mapping[str, str] | None = None,
) -> BlockadeSites:
    """Pick once the atoms that `measure_blockade` looks at.

    Parameters
    ----------
    topology : mdtraj.Topology
    ligand : rdkit.Chem.Mol
        The ligand as it was simulated.
    ligand_atoms : array_like of int, shape (n_ligand,)
        Atom of the topology for each atom of `ligand`, in the molecule's order.
    subunit_of : mapping of str to str, optional
        Subunit of each chain letter; without it chains are recognised by their sequence.

    Returns
    -------
    sites : BlockadeSites

    Raises
    ------
    SelectionError
        If molecule and atoms do not match or the topology holds no pore.
    """
    atoms = np.asarray(ligand_atoms, dtype=np.intp)
    if atoms.shape != (ligand.GetNumAtoms(),):
        raise SelectionError(
            f"the molecule has {ligand.GetNumAtoms()} atoms and the selection {atoms.size}; both "
            "must list the same atoms in the same order: add or remove explicit hydrogens"
        )
    protein, protein_radii = pore_walls(topology)
    heavy, radii = heavy_atoms(topology, atoms)
    if not len(protein) or not len(heavy):
        raise SelectionError(
            f"found {len(protein)} heavy atoms of protein and {len(heavy)} of the ligand; "
            "need both: check the topology and the selection of the ligand"
        )
    aromatic = [atom.GetIdx() for atom in ligand.GetAtoms() if atom.GetIsAromatic()]
    amine = _basic_nitrogen(ligand)
    hydrogens, neighbours = _around(ligand, amine)
    pore = pore_atoms(topology, subunit_of=subunit_of)
    return BlockadeSites(
        protein=protein,
        protein_radii=protein_radii,
        ligand=heavy,
        ligand_radii=radii,
        amine=atoms[amine],
        amine_hydrogens=atoms[hydrogens],
        amine_neighbours=atoms[neighbours],
        aryl=atoms[np.array(aromatic, dtype=np.intp)],
        rings=pore.rings,
        gate=_gate_pairs(topology, pore.rings, np.concatenate(pore.glun1)),
    )


def measure_blockade(
    coordinates: ArrayLike,
    *,
    sites: BlockadeSites,
    reference: ArrayLike,
    levels: ArrayLike = DEFAULT_LEVELS_NM,
    water: ArrayLike | None = None,
) -> Blockade:
    """Measure one chunk of frames that lie in the pore frame.

    Parameters
    ----------
    coordinates : array_like of float, shape (n_frames, n_atoms, 3), nm
        In the pore frame.
    sites : BlockadeSites
        From `blockade_sites`.
    reference : array_like of float, shape (n_heavy, 3), nm
        Heavy atoms of the ligand in the pose that RMSDs are measured from.
    levels : array_like of float, shape (n_levels,), nm
    water : array_like of float, shape (n_frames, n_waters, 3), nm, optional
        Oxygens of the water in the pore frame, each at its image nearest to the pore.

    Returns
    -------
    blockade : Blockade
    """
    frames = np.asarray(coordinates)
    guest = frames[:, sites.ligand].astype(np.float64)
    centroid = guest.mean(axis=1)
    amine = _mean_of(frames, sites.amine)
    # The frames go whole to the pore's functions: nan marks what is no wall.
    radii = np.full(frames.shape[1], np.nan)
    radii[sites.protein] = sites.protein_radii
    pore = radius_profile(frames, radii=radii, levels=levels)
    past = radius_profile_past(
        pore, frames, radii=radii, blocker=guest, blocker_radii=sites.ligand_radii
    )
    span = np.stack([guest[..., 2].min(axis=1), guest[..., 2].max(axis=1)], axis=1)
    heights = _ring_heights(frames, sites)
    area, share = _cross_section(pore, frames, radii, guest, sites)
    volume, taken = _vestibule(pore, frames, radii, guest, sites, heights)
    paths = find_water_paths(
        np.empty((len(frames), 0, 3)) if water is None else water, lumen=pore, guest=span
    )
    return Blockade(
        depth=centroid[:, 2].copy(),
        ammonium_depth=amine[:, 2].copy(),
        ammonium_above_ring=amine[:, 2] - heights[:, RING_NAMES.index("asparagine")],
        ammonium_angle=_angle_to_axis(_amine_direction(frames, sites)),
        offset=np.hypot(centroid[:, 0], centroid[:, 1]),
        tilt=_angle_to_axis(_mean_of(frames, sites.aryl) - amine),
        rmsd=np.sqrt(((guest - np.asarray(reference, float)) ** 2).sum(-1).mean(-1)),
        radius_at=_radius_at(pore, centroid[:, 2]),
        radius_past=_radius_beside(past, span),
        filled_share=share,
        lumen_area=area,
        vestibule_volume=volume,
        vestibule_filled=taken,
        levels=pore.levels.copy(),
        radius_open=pore.radius.astype(np.float32),
        radius_ligand=past.radius.astype(np.float32),
        centre_open=pore.centre.astype(np.float32),
        path_radius=narrowest_radius(past),
        water_path=paths.through.copy(),
        water_path_past=paths.past.copy(),
        water_from_inside=paths.from_inside.copy(),
        water_from_outside=paths.from_outside.copy(),
        **_measure_gate(frames, sites, pore, heights),
    )


def merge_blockades(parts: Sequence[Blockade]) -> Blockade:
    """Join the measurements of consecutive chunks.

    Parameters
    ----------
    parts : sequence of Blockade
        In the order of their frames, all on the same levels.

    Returns
    -------
    blockade : Blockade

    Raises
    ------
    TrajectoryError
        If there is no part.
    """
    if not parts:
        raise TrajectoryError("there are no frames; give at least one")
    joined = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(Blockade)
        if field.name != "levels"
    }
    return Blockade(levels=parts[0].levels.copy(), **joined)


def _basic_nitrogen(ligand: Chem.Mol) -> NDArray[np.intp]:
    """Index the nitrogen that carries the charge, or would; empty when there is none."""
    for pattern in _BASIC:
        matches = ligand.GetSubstructMatches(Chem.MolFromSmarts(pattern))
        if matches:
            return np.array(matches[0], dtype=np.intp)
    return np.empty(0, dtype=np.intp)


def _around(ligand: Chem.Mol, amine: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Hydrogens of a charged nitrogen, or else the neighbours that its lone pair faces away from.

    A charged nitrogen whose hydrogens are not in the molecule points away from its neighbours,
    too; one with four neighbours points nowhere.
    """
    if not len(amine):
        return amine, amine
    nitrogen = ligand.GetAtomWithIdx(int(amine[0]))
    bound = nitrogen.GetNeighbors()
    hydrogens = [atom.GetIdx() for atom in bound if atom.GetAtomicNum() == 1]
    if nitrogen.GetFormalCharge() > 0 and hydrogens:
        return np.array(hydrogens, dtype=np.intp), np.empty(0, dtype=np.intp)
    neighbours = [atom.GetIdx() for atom in bound] if len(bound) < 4 else []
    return np.empty(0, dtype=np.intp), np.array(neighbours, dtype=np.intp)


def _gate_pairs(
    topology: md.Topology, rings: Mapping[str, NDArray[np.intp]], glun1: NDArray[np.intp]
) -> dict[str, GatePair]:
    """Pair the residues of each ring of the gate with their opposite, of the same subunit."""
    pairs = {}
    for ring in GATE_RINGS:
        atoms = rings.get(ring, np.empty(0, dtype=np.intp))
        first = np.isin(atoms, glun1)
        for subunit, ca in (("glun1", atoms[first]), ("glun2", atoms[~first])):
            if len(ca) == 2:
                one, other = (
                    heavy_atoms(
                        topology,
                        np.array(
                            [a.index for a in topology.atom(int(atom)).residue.atoms], np.intp
                        ),
                    )[0]
                    for atom in ca
                )
                pairs[f"{ring}_{subunit}"] = GatePair(ca=ca, heavy=(one, other))
    return pairs


def _mean_of(frames: NDArray[np.floating], atoms: NDArray[np.intp]) -> NDArray[np.float64]:
    """Centroid of the atoms in each frame, (n_frames, 3); nan when there are none."""
    if not len(atoms):
        return np.full((len(frames), 3), np.nan)
    return frames[:, atoms].mean(axis=1, dtype=np.float64)


def _ring_heights(frames: NDArray[np.floating], sites: BlockadeSites) -> NDArray[np.float64]:
    none = np.empty(0, dtype=np.intp)
    heights = [_mean_of(frames, sites.rings.get(ring, none))[:, 2] for ring in RING_NAMES]
    return np.stack(heights, axis=1)


def _amine_direction(frames: NDArray[np.floating], sites: BlockadeSites) -> NDArray[np.float64]:
    """Sum of unit vectors towards hydrogens and away from neighbours, (n_frames, 3)."""
    if not len(sites.amine) or not len(sites.amine_hydrogens) + len(sites.amine_neighbours):
        return np.full((len(frames), 3), np.nan)
    nitrogen = frames[:, sites.amine].astype(np.float64)
    towards, away = (
        (bonds / np.linalg.norm(bonds, axis=2, keepdims=True)).sum(axis=1)
        for bonds in (
            frames[:, sites.amine_hydrogens] - nitrogen,
            frames[:, sites.amine_neighbours] - nitrogen,
        )
    )
    return towards - away


def _measure_gate(
    frames: NDArray[np.floating],
    sites: BlockadeSites,
    pore: PoreProfile,
    heights: NDArray[np.float64],
) -> dict[str, NDArray[np.float64]]:
    """Fields of `Blockade` that tell how the gate and the filter stand."""
    at = dict(zip(RING_NAMES, heights.T, strict=True))
    apart = np.full((2, len(frames), len(GATE_PAIRS)), np.nan)
    for column, name in enumerate(GATE_PAIRS):
        if name not in sites.gate:
            continue
        pair = sites.gate[name]
        one, other = (frames[:, atoms].astype(np.float64) for atoms in pair.heavy)
        ca = frames[:, pair.ca].astype(np.float64)
        apart[0, :, column] = np.linalg.norm(ca[:, 0] - ca[:, 1], axis=1)
        between = np.linalg.norm(one[:, :, None] - other[:, None], axis=-1)
        apart[1, :, column] = between.min(axis=(1, 2))
    filter_ = at["asparagine"]
    # A cut-out of the pore may end within the gate.
    top = np.where(np.isnan(at["vivi"]), at["a652"], at["vivi"])
    return {
        "ring_heights": heights,
        "ring_radii": radius_at_rings(pore, heights=heights),
        "filter_radius": _least_radius(pore, filter_ - FILTER_NM, filter_ + FILTER_NM),
        "gate_radius": _least_radius(pore, at["threonine"], top),
        "gate_ca": apart[0].copy(),
        "gate_heavy": apart[1].copy(),
    }


def _angle_to_axis(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.arctan2(np.hypot(vectors[:, 0], vectors[:, 1]), vectors[:, 2])


def _radius_at(pore: PoreProfile, depth: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array(
        [
            np.interp(height, pore.levels, radius, left=np.nan, right=np.nan)
            for height, radius in zip(depth, pore.radius, strict=True)
        ]
    )


def _radius_beside(past: PoreProfile, span: NDArray[np.float64]) -> NDArray[np.float64]:
    # An ion is a point between two levels: the nearer one stands for it.
    half = 0.5 * float(np.diff(past.levels).max(initial=0.0))
    middle = span.mean(axis=1)
    return _least_radius(
        past, np.minimum(span[:, 0], middle - half), np.maximum(span[:, 1], middle + half)
    )


def _least_radius(
    past: PoreProfile, low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Least radius from `low` to `high`; nan where no level with walls lies between."""
    spanned = (past.levels >= low[:, None]) & (past.levels <= high[:, None])
    radius = np.where(spanned & np.isfinite(past.radius), past.radius, np.inf).min(axis=1)
    return np.where(np.isfinite(radius), radius, np.nan)


def _cross_section(
    pore: PoreProfile,
    frames: NDArray[np.floating],
    radii: NDArray[np.float64],
    guest: NDArray[np.float64],
    sites: BlockadeSites,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Area of the lumen at the ligand's level, and the share that the ligand fills."""
    depth = guest[..., 2].mean(axis=1)
    nearest = np.abs(pore.levels - depth[:, None]).argmin(axis=1)
    inside = (depth >= pore.levels[0]) & (depth <= pore.levels[-1])
    return cross_section(
        frames,
        radii=radii,
        blocker=guest,
        blocker_radii=sites.ligand_radii,
        level=np.where(inside, pore.levels[nearest], np.nan),
        centre=pore.centre[np.arange(len(frames)), nearest],
    )


def _vestibule(
    pore: PoreProfile,
    frames: NDArray[np.floating],
    radii: NDArray[np.float64],
    guest: NDArray[np.float64],
    sites: BlockadeSites,
    heights: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Volume of the lumen between the rings, and the share that the ligand fills."""
    low, high = (heights[:, RING_NAMES.index(ring)] for ring in ("asparagine", "threonine"))
    reached = (low >= pore.levels[0]) & (low < high) & (high <= pore.levels[-1])
    volume, share = np.full((2, len(frames)), np.nan)
    if reached.any():
        # Usually all frames, which are then not copied.
        some = slice(None) if reached.all() else reached
        volume[reached], share[reached] = lumen_volume(
            PoreProfile(levels=pore.levels, radius=pore.radius[some], centre=pore.centre[some]),
            frames[some],
            radii=radii,
            low=low[reached],
            high=high[reached],
            blocker=guest[reached],
            blocker_radii=sites.ligand_radii,
            spacing=VOLUME_SPACING_NM,
        )
    return volume.copy(), share.copy()
