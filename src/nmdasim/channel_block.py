"""How a ligand sits in the pore and what passage it leaves, frame by frame.

The module is not called after its main function: `nmdasim.blockade` is the function.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import mdtraj as md
import numpy as np
from numpy.typing import ArrayLike, NDArray
from rdkit import Chem

from nmdasim.errors import SelectionError, TrajectoryError
from nmdasim.pore import (
    DEFAULT_LEVELS_NM,
    PoreProfile,
    cross_section,
    radii_of,
    radius_profile,
    radius_profile_past,
)
from nmdasim.subunits import ONE_LETTER
from nmdasim.trajectory import CAPS, in_pore_frame, pore_frame

__all__ = [
    "Blockade",
    "BlockadeSites",
    "blockade",
    "blockade_sites",
    "measure_blockade",
    "merge_blockades",
    "pore_frame",
    "pore_profile",
]

# An ammonium group, or the amine that becomes one; amides, anilines and sulfonamides do not.
_BASIC = ("[NX4+;!$(N-*=O)]", "[NX3;!$(N-[C,S]=[O,S,N]);!$(N-a);!$(N=*);!$(N-[!#6;!#1])]")


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
    aryl: NDArray[np.intp]
    """Atoms of the ligand's aromatic rings; empty when it has none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blockade:
    """Where the ligand is and what it leaves open, in each frame."""

    depth: NDArray[np.float64]
    """Height of the centroid of the ligand's heavy atoms in the pore frame, (n_frames,), nm."""
    ammonium_depth: NDArray[np.float64]
    """Height of the basic nitrogen, (n_frames,), nm; nan when there is none."""
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
    """Least radius over the levels that the ligand spans, the ligand counted, (n_frames,),
    nm; nan when it spans none."""
    filled_share: NDArray[np.float64]
    """Share of the lumen's cross-section that the ligand fills at the level nearest to its
    depth, (n_frames,); nan outside the levels and where not even a water fits."""
    levels: NDArray[np.float64]
    """Levels of the profiles, (n_levels,), nm."""
    radius_open: NDArray[np.float32]
    """Radius of the pore, the ligand not counted, (n_frames, n_levels), nm."""
    radius_ligand: NDArray[np.float32]
    """Radius of the pore, the ligand counted as wall, (n_frames, n_levels), nm."""

    def __post_init__(self) -> None:
        for field in fields(self):
            getattr(self, field.name).flags.writeable = False

    def to_columns(self) -> dict[str, NDArray[np.float64]]:
        """Give the series of single numbers as columns for any table library.

        Returns
        -------
        columns : dict of str to ndarray, shape (n_frames,)
            Units in the names; the tilt in degrees.
        """
        return {
            "ligand_depth_nm": self.depth,
            "ammonium_depth_nm": self.ammonium_depth,
            "ligand_offset_nm": self.offset,
            "ligand_tilt_deg": np.degrees(self.tilt),
            "ligand_rmsd_nm": self.rmsd,
            "radius_at_ligand_nm": self.radius_at,
            "radius_past_ligand_nm": self.radius_past,
            "filled_share": self.filled_share,
        }


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
        their order. They need not be fitted: each frame is turned into the pore frame.
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
    for chunk in in_pore_frame(trajectory):
        if not parts:
            sites = blockade_sites(chunk.topology, ligand=ligand, ligand_atoms=ligand_atoms)
            reference = chunk.xyz[0, sites.ligand]
        parts.append(measure_blockade(chunk.xyz, sites=sites, reference=reference, levels=levels))
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
        protein, radii = _heavy(chunk.topology, _amino_acids(chunk.topology))
        walls = chunk.xyz[:, protein]
        profile = radius_profile(walls, radii=radii, levels=levels)
        if blocker is not None:
            atoms, sizes = _heavy(chunk.topology, np.asarray(blocker, dtype=np.intp))
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
    topology: md.Topology, *, ligand: Chem.Mol, ligand_atoms: ArrayLike
) -> BlockadeSites:
    """Pick once the atoms that `measure_blockade` looks at.

    Parameters
    ----------
    topology : mdtraj.Topology
    ligand : rdkit.Chem.Mol
        The ligand as it was simulated.
    ligand_atoms : array_like of int, shape (n_ligand,)
        Atom of the topology for each atom of `ligand`, in the molecule's order.

    Returns
    -------
    sites : BlockadeSites

    Raises
    ------
    SelectionError
        If molecule and atoms do not match or there is no protein.
    """
    atoms = np.asarray(ligand_atoms, dtype=np.intp)
    if atoms.shape != (ligand.GetNumAtoms(),):
        raise SelectionError(
            f"the molecule has {ligand.GetNumAtoms()} atoms and the selection {atoms.size}; both "
            "must list the same atoms in the same order: add or remove explicit hydrogens"
        )
    protein, protein_radii = _heavy(topology, _amino_acids(topology))
    heavy, radii = _heavy(topology, atoms)
    if not len(protein) or not len(heavy):
        raise SelectionError(
            f"found {len(protein)} heavy atoms of protein and {len(heavy)} of the ligand; "
            "need both: check the topology and the selection of the ligand"
        )
    aromatic = [atom.GetIdx() for atom in ligand.GetAtoms() if atom.GetIsAromatic()]
    return BlockadeSites(
        protein=protein,
        protein_radii=protein_radii,
        ligand=heavy,
        ligand_radii=radii,
        amine=atoms[_basic_nitrogen(ligand)],
        aryl=atoms[np.array(aromatic, dtype=np.intp)],
    )


def measure_blockade(
    coordinates: ArrayLike,
    *,
    sites: BlockadeSites,
    reference: ArrayLike,
    levels: ArrayLike = DEFAULT_LEVELS_NM,
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

    Returns
    -------
    blockade : Blockade
    """
    frames = np.asarray(coordinates)
    walls = frames[:, sites.protein].astype(np.float64)
    guest = frames[:, sites.ligand].astype(np.float64)
    centroid = guest.mean(axis=1)
    amine = _mean_of(frames, sites.amine)
    pore = radius_profile(walls, radii=sites.protein_radii, levels=levels)
    past = radius_profile_past(
        pore, walls, radii=sites.protein_radii, blocker=guest, blocker_radii=sites.ligand_radii
    )
    return Blockade(
        depth=centroid[:, 2].copy(),
        ammonium_depth=amine[:, 2].copy(),
        offset=np.hypot(centroid[:, 0], centroid[:, 1]),
        tilt=_angle_to_axis(_mean_of(frames, sites.aryl) - amine),
        rmsd=np.sqrt(((guest - np.asarray(reference, float)) ** 2).sum(-1).mean(-1)),
        radius_at=_radius_at(pore, centroid[:, 2]),
        radius_past=_least_radius(past, guest[..., 2].min(axis=1), guest[..., 2].max(axis=1)),
        filled_share=_filled_share(pore, walls, guest, sites),
        levels=pore.levels.copy(),
        radius_open=pore.radius.astype(np.float32),
        radius_ligand=past.radius.astype(np.float32),
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


def _amino_acids(topology: md.Topology) -> NDArray[np.intp]:
    names = ONE_LETTER.keys() | set(CAPS)
    return np.array([a.index for a in topology.atoms if a.residue.name in names], dtype=np.intp)


def _heavy(
    topology: md.Topology, atoms: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Those of the atoms that are no hydrogens, and their radii."""
    if not len(atoms):
        return atoms, np.empty(0)
    radii = radii_of([topology.atom(int(index)).element.symbol for index in atoms])
    return atoms[np.isfinite(radii)], radii[np.isfinite(radii)]


def _basic_nitrogen(ligand: Chem.Mol) -> NDArray[np.intp]:
    """Index the nitrogen that carries the charge, or would; empty when there is none."""
    for pattern in _BASIC:
        matches = ligand.GetSubstructMatches(Chem.MolFromSmarts(pattern))
        if matches:
            return np.array(matches[0], dtype=np.intp)
    return np.empty(0, dtype=np.intp)


def _mean_of(frames: NDArray[np.floating], atoms: NDArray[np.intp]) -> NDArray[np.float64]:
    """Centroid of the atoms in each frame, (n_frames, 3); nan when there are none."""
    if not len(atoms):
        return np.full((len(frames), 3), np.nan)
    return frames[:, atoms].mean(axis=1, dtype=np.float64)


def _angle_to_axis(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.arctan2(np.hypot(vectors[:, 0], vectors[:, 1]), vectors[:, 2])


def _radius_at(pore: PoreProfile, depth: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array(
        [
            np.interp(height, pore.levels, radius, left=np.nan, right=np.nan)
            for height, radius in zip(depth, pore.radius, strict=True)
        ]
    )


def _least_radius(
    past: PoreProfile, low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    spanned = (past.levels >= low[:, None]) & (past.levels <= high[:, None])
    radius = np.where(spanned & np.isfinite(past.radius), past.radius, np.inf).min(axis=1)
    return np.where(np.isfinite(radius), radius, np.nan)


def _filled_share(
    pore: PoreProfile,
    walls: NDArray[np.float64],
    guest: NDArray[np.float64],
    sites: BlockadeSites,
) -> NDArray[np.float64]:
    depth = guest[..., 2].mean(axis=1)
    share = np.full(len(walls), np.nan)
    inside = (depth >= pore.levels[0]) & (depth <= pore.levels[-1])
    for frame in np.flatnonzero(inside):
        level = np.abs(pore.levels - depth[frame]).argmin()
        _, share[frame] = cross_section(
            walls[frame],
            radii=sites.protein_radii,
            blocker=guest[frame],
            blocker_radii=sites.ligand_radii,
            level=pore.levels[level],
            centre=pore.centre[frame, level],
        )
    return share
