"""A tiny real system for tests of runs: a box of water, one oxygen held in place.

Also a program: ``python tiny_run.py FOLDER`` simulates a built run, so that tests can kill it.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

LENGTH_NM = 1.3


@dataclass(frozen=True, kw_only=True)
class Stage:
    name: str
    ps: float
    timestep_fs: float
    restraint_extra: float
    barostat: bool


@dataclass(frozen=True, kw_only=True)
class Protocol:
    name: str = "tiny"
    temperature_k: float = 300.0
    friction_per_ps: float = 1.0
    timestep_fs: float = 2.0
    cutoff_nm: float = 0.6
    hydrogen_mass_da: float = 2.0
    pressure_bar: float = 1.0
    ionic_strength_m: float = 0.0
    frame_interval_ps: float = 0.02
    segment_ps: float = 0.1
    minimise_tolerance: float = 50.0
    minimise_max_iterations: int = 100
    equilibration: tuple[Stage, ...] = (
        Stage(name="warm", ps=0.05, timestep_fs=1.0, restraint_extra=500.0, barostat=False),
        Stage(name="press", ps=0.06, timestep_fs=2.0, restraint_extra=50.0, barostat=True),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class System:
    topology: app.Topology
    positions: np.ndarray
    box_vectors: np.ndarray
    openmm_system: openmm.System
    protocol: Protocol
    methods: tuple[str, ...] = ("A box of TIP3P water.",)


def water_system(protocol: Protocol, *, length_nm: float = LENGTH_NM) -> System:
    """Build TIP3P water with PME in a cube, its first oxygen restrained to where it starts."""
    force_field = app.ForceField("amber14/tip3p.xml")
    modeller = app.Modeller(app.Topology(), [])
    modeller.addSolvent(force_field, boxSize=openmm.Vec3(1, 1, 1) * length_nm * unit.nanometer)
    topology = modeller.topology
    system = force_field.createSystem(
        topology,
        nonbondedMethod=app.PME,
        nonbondedCutoff=protocol.cutoff_nm,
        hydrogenMass=protocol.hydrogen_mass_da * unit.dalton,
    )
    positions = np.array(modeller.positions.value_in_unit(unit.nanometer))
    restraint = openmm.CustomExternalForce(
        "0.5*(restraint_scale*k+restraint_extra*e)*periodicdistance(x,y,z,x0,y0,z0)^2"
    )
    restraint.addGlobalParameter("restraint_scale", 1.0)
    restraint.addGlobalParameter("restraint_extra", 0.0)
    for name in ("k", "e", "x0", "y0", "z0"):
        restraint.addPerParticleParameter(name)
    restraint.addParticle(0, [100.0, 1.0, *positions[0]])
    system.addForce(restraint)
    return System(
        topology=topology,
        positions=positions,
        box_vectors=np.eye(3) * length_nm,
        openmm_system=system,
        protocol=protocol,
    )


if __name__ == "__main__":
    from nmdasim.simulation import simulate

    status = simulate(Path(sys.argv[1]), platform="Reference", progress="-p" in sys.argv)
    sys.exit(0 if status.state == "finished" else 75)
