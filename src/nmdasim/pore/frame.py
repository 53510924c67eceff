"""The pore frame, and superposition of frames."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmdasim.errors import PoreError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoreFrame:
    """Where the pore lies and how it is oriented in the coordinates it was fitted to."""

    origin: NDArray[np.float64]
    """Centroid of the asparagine ring, shape (3,), nm."""
    rotation: NDArray[np.float64]
    """Unit axes x, y and z of the pore as rows, shape (3, 3)."""

    def __post_init__(self) -> None:
        for name, shape in (("origin", (3,)), ("rotation", (3, 3))):
            object.__setattr__(self, name, _read_only(getattr(self, name), shape, name))


def fit_pore_frame(
    *, n_site_ca: ArrayLike, threonine_ca: ArrayLike, glun1_direction: ArrayLike
) -> PoreFrame:
    """Fit the pore frame to the rings of the pore.

    Parameters
    ----------
    n_site_ca : array_like of float, shape (4, 3), nm
        CA atoms of the asparagine ring; their centroid is the origin.
    threonine_ca : array_like of float, shape (4, 3), nm
        CA atoms of the threonine ring; +z runs from the origin to their centroid,
        that is towards the outside of the cell.
    glun1_direction : array_like of float, shape (3,)
        From the second GluN1 chain to the first; its part across z is +x.

    Returns
    -------
    frame : PoreFrame

    Raises
    ------
    PoreError
        If the two rings coincide or `glun1_direction` runs along the pore.

    Examples
    --------
    >>> square = np.array([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
    >>> frame = fit_pore_frame(
    ...     n_site_ca=square, threonine_ca=square + [0, 0, 1.5], glun1_direction=[1, 0, 0]
    ... )
    >>> frame.rotation.round(3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    lower = _read_only(n_site_ca, (4, 3), "asparagine ring")
    upper = _read_only(threonine_ca, (4, 3), "threonine ring")
    direction = _read_only(glun1_direction, (3,), "GluN1 direction")
    origin = lower.mean(axis=0)
    z = _unit(upper.mean(axis=0) - origin, "the asparagine and the threonine ring coincide")
    x = _unit(direction - (direction @ z) * z, "the GluN1 chains lie above each other on the axis")
    return PoreFrame(origin=origin, rotation=np.array([x, np.cross(z, x), z]))


def to_pore(frame: PoreFrame, coordinates: ArrayLike) -> NDArray[np.float64]:
    """Move coordinates into the pore frame.

    Parameters
    ----------
    frame : PoreFrame
    coordinates : array_like of float, shape (..., 3), nm

    Returns
    -------
    in_pore : ndarray of float64, shape (..., 3), nm
    """
    return (np.asarray(coordinates, dtype=np.float64) - frame.origin) @ frame.rotation.T


def from_pore(frame: PoreFrame, in_pore: ArrayLike) -> NDArray[np.float64]:
    """Move coordinates out of the pore frame, undoing `to_pore`.

    Parameters
    ----------
    frame : PoreFrame
    in_pore : array_like of float, shape (..., 3), nm

    Returns
    -------
    coordinates : ndarray of float64, shape (..., 3), nm
    """
    return np.asarray(in_pore, dtype=np.float64) @ frame.rotation + frame.origin


def superpose(
    coordinates: ArrayLike, *, reference: ArrayLike, fit: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Superpose each frame on a reference by the atoms that `fit` picks.

    Parameters
    ----------
    coordinates : array_like of float, shape (n_frames, n_atoms, 3), nm
    reference : array_like of float, shape (n_atoms, 3), nm
    fit : array_like of int, shape (n_fit,)
        Atoms to superpose, at least three; all atoms are moved.

    Returns
    -------
    fitted : ndarray of float64, shape (n_frames, n_atoms, 3), nm
    rmsd : ndarray of float64, shape (n_frames,), nm
        Of the atoms in `fit`, after the fit.

    Raises
    ------
    PoreError
        If fewer than three atoms are picked or the shapes do not agree.

    References
    ----------
    .. [1] W. Kabsch, Acta Cryst. A 32, 922 (1976), doi:10.1107/S0567739476001873
    """
    moving = np.asarray(coordinates, dtype=np.float64)
    fixed = np.asarray(reference, dtype=np.float64)
    fit = np.asarray(fit, dtype=np.intp)
    if moving.ndim != 3 or moving.shape[1:] != fixed.shape or fit.size < 3:
        raise PoreError(
            f"got frames of shape {moving.shape}, a reference of shape {fixed.shape} and "
            f"{fit.size} atoms to fit; need (n_frames, n_atoms, 3), (n_atoms, 3) and at least 3"
        )
    target = fixed[fit].mean(axis=0)
    centroid = moving[:, fit].mean(axis=1, keepdims=True)
    rotation, rmsd = best_rotation(moving[:, fit] - centroid, fixed[fit] - target)
    return (moving - centroid) @ rotation + target, rmsd


def best_rotation(
    moving: ArrayLike, fixed: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find the rotation of each frame that brings its points nearest to fixed ones.

    Parameters
    ----------
    moving : array_like of float, shape (n_frames, n_points, 3), nm
        About their centroid.
    fixed : array_like of float, shape (n_points, 3), nm
        About their centroid.

    Returns
    -------
    rotation : ndarray of float64, shape (n_frames, 3, 3)
        To be multiplied from the right: `moving @ rotation`.
    rmsd : ndarray of float64, shape (n_frames,), nm
        What remains.
    """
    points = np.asarray(moving, dtype=np.float64)
    goal = np.asarray(fixed, dtype=np.float64)
    left, _, right = np.linalg.svd(np.swapaxes(points, 1, 2) @ goal)
    handed = np.ones((len(points), 3))
    handed[:, 2] = np.sign(np.linalg.det(left @ right))
    rotation = left * handed[:, None] @ right
    shift = points @ rotation - goal
    return rotation, np.sqrt((shift**2).sum(axis=-1).mean(axis=-1))


def _unit(vector: NDArray[np.float64], problem: str) -> NDArray[np.float64]:
    length = np.linalg.norm(vector)
    if length < 1e-6:
        raise PoreError(f"{problem}: give the CA atoms of one tetramer of the receptor")
    return vector / length


def _read_only(values: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    array = np.array(values, dtype=np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise PoreError(f"got {name} of shape {array.shape}; need finite numbers of shape {shape}")
    array.flags.writeable = False
    return array
