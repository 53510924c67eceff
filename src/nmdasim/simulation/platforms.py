"""Which OpenMM platform computes the forces, chosen by a test and not by its name."""

import itertools
from dataclasses import dataclass

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import unit

from nmdasim.errors import PlatformError

ORDER = ("CUDA", "HIP", "OpenCL", "CPU")
"""Platforms that are tried without being asked for, the fastest first."""

FORCE_TOLERANCE = 5e-4
"""Largest error of the forces against the Reference platform that passes, relative and RMS.

Single precision with PME gives about 1e-5; a miscompiled kernel or an unsound driver gives
values of the order of one.
"""

_GPU = ("CUDA", "HIP", "OpenCL")
_EXTRAS = (
    'pip install "nmdasim[cuda12]" or "nmdasim[cuda13]" for NVIDIA, "nmdasim[hip6]" for AMD cards'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformChoice:
    """An OpenMM platform that passed its test, and why others were not taken."""

    name: str
    """Name as OpenMM writes it: CUDA, HIP, OpenCL, CPU or Reference."""
    properties: tuple[tuple[str, str], ...]
    """Properties for the context; mixed precision on GPUs."""
    device: str
    """Name of the card, or the number of threads of the CPU platform."""
    force_error: float
    """Error of the test forces against Reference, relative and RMS; zero for Reference."""
    notes: tuple[str, ...]
    """One sentence for each faster platform that was not taken."""

    @property
    def precision(self) -> str:
        """Precision of the arithmetic: ``mixed``, ``single`` or ``double``."""
        by_platform = {"CPU": "single", "Reference": "double"}
        return dict(self.properties).get("Precision", by_platform.get(self.name, ""))


def choose_platform(name: str | None = None) -> PlatformChoice:
    """Choose the platform to simulate on.

    Each candidate computes the forces in a small periodic box of water with PME and takes
    some steps there; the forces are held against the Reference platform.

    Parameters
    ----------
    name : str, optional
        Platform to use, in any case; without it the first of `ORDER` that passes.

    Returns
    -------
    PlatformChoice

    Raises
    ------
    PlatformError
        If the named platform is absent or fails, or if none passes.

    Notes
    -----
    Reference is exact, reproducible bit for bit and very slow, so it is used only when it
    is asked for. The CPU platform takes as many threads as there are cores, or as
    OPENMM_CPU_THREADS says; its sums, like those on GPUs, depend on the order in which
    threads finish, so that two runs with the same seed agree statistically and not in
    every digit.
    """
    present = present_platforms()
    if name is not None:
        return _test(_match(name, present), ())
    notes: list[str] = []
    for candidate in ORDER:
        if candidate not in present:
            notes.append(f"{candidate} is not installed")
            continue
        try:
            return _test(candidate, tuple(notes))
        except PlatformError as error:
            notes.append(str(error))
    raise PlatformError(
        f"no platform of OpenMM is usable ({'; '.join(notes)}): reinstall openmm, or ask for "
        "Reference, which is very slow"
    )


def present_platforms() -> tuple[str, ...]:
    """List the platforms that this installation of OpenMM loaded."""
    n_platforms = openmm.Platform.getNumPlatforms()
    return tuple(openmm.Platform.getPlatform(i).getName() for i in range(n_platforms))


def _match(name: str, present: tuple[str, ...]) -> str:
    for known in present:
        if known.lower() == name.lower():
            return known
    raise PlatformError(
        f"the platform {name!r} is not here; present are {', '.join(sorted(present))}; "
        f"to get more: {_EXTRAS}"
    )


def _test(name: str, notes: tuple[str, ...]) -> PlatformChoice:
    if name == "Reference":
        # It is what the others are held against.
        return PlatformChoice(
            name=name, properties=(), device="1 thread", force_error=0.0, notes=notes
        )
    properties = (("Precision", "mixed"),) if name in _GPU else ()
    system, positions = _water_box()
    try:
        forces, device = _forces(system, positions, name, dict(properties))
        reference, _ = _forces(system, positions, "Reference", {})
    except openmm.OpenMMException as error:
        raise PlatformError(f"{name} is installed but does not work here: {error}") from error
    deviation = float(np.linalg.norm(forces - reference) / np.linalg.norm(reference))
    if not deviation <= FORCE_TOLERANCE:
        raise PlatformError(
            f"{name} computes wrong forces here: relative error {deviation:.1e}, at most "
            f"{FORCE_TOLERANCE:.0e} is allowed; update its driver or choose another platform"
        )
    return PlatformChoice(
        name=name, properties=properties, device=device, force_error=deviation, notes=notes
    )


def _forces(
    system: openmm.System, positions: NDArray[np.float64], name: str, properties: dict[str, str]
) -> tuple[NDArray[np.float64], str]:
    """Compute forces (n, 3) in kJ/mol/nm, then see that a few steps stay finite."""
    platform = openmm.Platform.getPlatformByName(name)
    integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.001)
    context = openmm.Context(system, integrator, platform, properties)
    context.setPositions(positions)
    state = context.getState(forces=True)
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
    if name != "Reference":
        integrator.step(5)
        energy = context.getState(energy=True).getPotentialEnergy()
        if not np.isfinite(energy.value_in_unit(unit.kilojoule_per_mole)):
            raise openmm.OpenMMException("the energy is not finite after five steps")
    return np.array(forces, dtype=float), _device(platform, context)


def _device(platform: openmm.Platform, context: openmm.Context) -> str:
    names = platform.getPropertyNames()
    if "DeviceName" in names:
        return str(platform.getPropertyValue(context, "DeviceName"))
    if "Threads" in names:
        return f"{platform.getPropertyValue(context, 'Threads')} threads"
    return "1 thread"


def _water_box() -> tuple[openmm.System, NDArray[np.float64]]:
    """Build 216 TIP3P-like waters, turned at random on a lattice, with tight PME."""
    spacing, side = 0.3105, 6
    system = openmm.System()
    length = spacing * side
    system.setDefaultPeriodicBoxVectors(
        openmm.Vec3(length, 0, 0), openmm.Vec3(0, length, 0), openmm.Vec3(0, 0, length)
    )
    nonbonded = openmm.NonbondedForce()
    nonbonded.setNonbondedMethod(openmm.NonbondedForce.PME)
    nonbonded.setCutoffDistance(0.8)
    nonbonded.setEwaldErrorTolerance(1e-5)
    water = np.array([[0.0, 0.0, 0.0], [0.09572, 0.0, 0.0], [-0.024, 0.092663, 0.0]])
    random = np.random.default_rng(20)
    positions = []
    for cell in itertools.product(range(side), repeat=3):
        first = system.getNumParticles()
        for mass, charge, epsilon in ((16.0, -0.834, 0.6364), (1.0, 0.417, 0), (1.0, 0.417, 0)):
            system.addParticle(mass)
            nonbonded.addParticle(charge, 0.31507, epsilon)
        for i, j in ((0, 1), (0, 2), (1, 2)):
            system.addConstraint(first + i, first + j, float(np.linalg.norm(water[i] - water[j])))
            nonbonded.addException(first + i, first + j, 0.0, 1.0, 0.0)
        turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
        positions.append(water @ turn + (np.array(cell) + 0.5) * spacing)
    system.addForce(nonbonded)
    return system, np.concatenate(positions)
