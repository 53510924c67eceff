"""Where the ligand starts, and how it is relaxed against the receptor.

The deposited blocker keeps its place; its relatives are laid over the scaffold they share with
it; other molecules are docked. Every pose is checked for plausibility.
"""

import itertools
from dataclasses import replace

import numpy as np
from rdkit import Chem

from nmdasim.errors import PoseError
from nmdasim.ligand import ChargeState
from nmdasim.parameters import check_parameters, load_parameters
from nmdasim.pose.checks import (
    check_pose,
    closest,
    geometry_checks,
    residue_label,
    strain_check,
)
from nmdasim.pose.docking import (
    Docked,
    dock,
    read_poses,
    score_in_place,
    symmetric_rmsd,
    write_poses,
)
from nmdasim.pose.model import (
    DEPOSITED,
    DOCKED,
    HYDRATED_ION,
    ION,
    SCAFFOLD,
    Pose,
    StartPose,
    origin_sentence,
)
from nmdasim.pose.relax import (
    PROTEIN_FORCE_FIELD,
    as_started,
    complex_force_field,
    ligand_topology,
    nm,
    relaxed,
)
from nmdasim.pose.scaffold import heavy_atoms
from nmdasim.pose.starts import start_poses
from nmdasim.receptor import Receptor

__all__ = [
    "DEPOSITED",
    "DOCKED",
    "HYDRATED_ION",
    "ION",
    "PROTEIN_FORCE_FIELD",
    "SCAFFOLD",
    "Docked",
    "Pose",
    "StartPose",
    "complex_force_field",
    "dock",
    "geometry_checks",
    "ligand_topology",
    "list_poses",
    "origin_sentence",
    "place_ligand",
    "read_poses",
    "score_in_place",
    "symmetric_rmsd",
    "with_strain",
    "write_poses",
]


def place_ligand(receptor: Receptor, state: ChargeState, *, pose: int = 1) -> Pose:
    """Place a ligand in the channel and relax its clashes.

    The deposited blocker is matched by its graph of elements and bonds, whatever its residue is
    called, and keeps its heavy atoms' coordinates. A relative, its mirror image included, keeps
    the places of aryl ring and ammonium. Other molecules start from docked poses. Ligand and
    side chains around it are minimised with their heavy atoms held weakly. A map of this
    resolution does not tell oxygen from nitrogen in an amide: each asparagine and glutamine near
    the ligand is also tried the other way round, and the lower energy is kept.

    Parameters
    ----------
    receptor : Receptor
    state : ChargeState
        Charge state to place.
    pose : int
        Which of the start poses that `list_poses` gives, from 1.

    Returns
    -------
    pose : Pose

    Raises
    ------
    ParametersError
        If the molecule is new, and the `parameters` extra is not installed or cannot describe it.
    PoseError
        If there is no such start pose, or no way to place this molecule in this receptor.
    """
    # Docking a new molecule takes minutes, which would be lost without its parameters.
    check_parameters(state)
    start = _chosen(receptor, state, pose)
    parameters = load_parameters(state)
    unrelaxed = nm(start.mol)
    if start.method == HYDRATED_ION:
        # Without the water around it, which comes later, the ion would jump to the wall.
        result = as_started(receptor, start.mol)
    else:
        result = relaxed(receptor, start.mol, parameters)
    mol = Chem.Mol(start.mol)
    mol.GetConformer().SetPositions(10 * result.positions)
    heavy = heavy_atoms(mol)
    moved = (result.positions - unrelaxed)[heavy]
    shift = float(np.sqrt((moved**2).sum(axis=1).mean()))
    return Pose(
        receptor=receptor,
        receptor_positions=result.receptor_positions,
        ligand=replace(state, mol=mol),
        parameters=parameters,
        start=start,
        positions=result.positions,
        unrelaxed=unrelaxed,
        shift_nm=shift,
        closest_nm=closest(receptor, result.receptor_positions, mol)[0],
        turned_amides=tuple(residue_label(receptor, index) for index in result.turned_amides),
        checks=check_pose(
            receptor,
            start=start.mol,
            relaxed=mol,
            receptor_positions=result.receptor_positions,
            shift_nm=shift,
        ),
    )


def with_strain(pose: Pose) -> Pose:
    """Add the strain of the ligand to a pose: a number, and a check of it.

    Parameters
    ----------
    pose : Pose

    Returns
    -------
    pose : Pose
        The same with `strain` and one more check.

    Notes
    -----
    Searching the conformers of a charge state takes some seconds; within one process it is
    done once for all poses of the state.
    """
    found, check = strain_check(pose.ligand.mol)
    return replace(pose, strain=found, checks=(*pose.checks, check))


def list_poses(receptor: Receptor, state: ChargeState) -> tuple[StartPose, ...]:
    """List the places where a charge state may start, in the order of their numbers.

    Parameters
    ----------
    receptor : Receptor
    state : ChargeState

    Returns
    -------
    starts : tuple of StartPose
        Not relaxed; `place_ligand` relaxes one of them.

    Raises
    ------
    PoseError
        If there is no way to place this molecule in this receptor.
    """
    return tuple(start_poses(receptor, state))


def _chosen(receptor: Receptor, state: ChargeState, number: int) -> StartPose:
    if number < 1:
        raise PoseError(f"there is no start pose {number}: they are numbered from 1")
    starts = start_poses(receptor, state)
    reached = list(itertools.islice(starts, number))
    if len(reached) < number:
        raise PoseError(
            f"{state.name} has no start pose {number} in {receptor.name}: choose one from 1 to "
            f"{len(reached)} (`nmdasim poses` lists them)"
        )
    return reached[-1]
