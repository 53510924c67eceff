"""A tiny real system for tests of runs: a box of water, one oxygen held in place.

Also a program: ``python tiny_run.py FOLDER`` simulates a built run, so that tests can kill it, and
``python tiny_run.py --nursery`` starts many such processes quickly, each with a fault of its own.
"""

import json
import os
import resource
import signal
import sys
import time
import traceback
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


def water_system(
    protocol: Protocol, *, length_nm: float = LENGTH_NM, nonbonded: object = app.PME
) -> System:
    """Build TIP3P water in a cube, its first oxygen restrained to where it starts."""
    force_field = app.ForceField("amber14/tip3p.xml")
    modeller = app.Modeller(app.Topology(), [])
    modeller.addSolvent(force_field, boxSize=openmm.Vec3(1, 1, 1) * length_nm * unit.nanometer)
    topology = modeller.topology
    system = force_field.createSystem(
        topology,
        nonbondedMethod=nonbonded,
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


def build(folder, *, protocol=None, production_ns=0.0012, seed=7, extend=False, **box):
    """Make the folder of a run of the tiny system."""
    from nmdasim.simulation import create_run, run_inputs

    protocol = protocol or Protocol()
    receptor = folder.parent / "receptor.cif"
    receptor.write_text("data_none\n")
    inputs = run_inputs(
        protocol,
        ligand={"name": "water", "smiles": "O", "charge": 0},
        receptor={"name": "none"},
        production_ns=production_ns,
        seed=seed,
    )
    return create_run(
        water_system(protocol, **box),
        folder,
        inputs=inputs,
        receptor_file=receptor,
        ligand_sdf="",
        extend=extend,
    )


def frames(folder):
    """Return all frames as the bytes of their files, joined, each with its time and number."""
    from nmdasim.rundir import read_segments

    return b"".join(segment.trajectory.read_bytes() for segment in read_segments(folder))


def final_state(folder):
    """Return the last state of a run, with every digit."""
    from nmdasim.rundir import read_segments, segment_file
    from nmdasim.simulation.dynamics import unpack_xml

    state = unpack_xml(segment_file(folder, len(read_segments(folder)) - 1, "state.xml.gz"))
    return openmm.XmlSerializer.serialize(state)


# --- processes with faults ---------------------------------------------------------------

#: What Python does to files, as it tells audit hooks before it does it.
CHANGES = ("os.rename", "os.remove", "os.link", "os.mkdir")
WRITING = os.O_WRONLY | os.O_RDWR


class Faults:
    """Meets the operating system before the program does: kills or refuses at the n-th step.

    Steps are what happens to files under a folder. A hook that raises makes the call fail with
    that error, and nothing of it is done; our own code runs as it is.
    """

    def __init__(self, folder, *, step=0, code=0, lasting=False):
        self.folder, self.step, self.code, self.lasting = str(folder), step, code, lasting
        self.names = []

    def install(self):
        sys.addaudithook(self.meet)
        flush = os.fsync

        def fsync(descriptor):
            self.count(f"fsync {os.readlink(f'/proc/self/fd/{descriptor}')}")
            flush(descriptor)

        os.fsync = fsync

    def meet(self, event, arguments):
        if event not in (*CHANGES, "open") or not isinstance(arguments[0], str):
            return
        if event != "open" or arguments[2] & WRITING:
            path = arguments[1] if event in ("os.rename", "os.link") else arguments[0]
            self.count(f"{event} {path}")

    def count(self, name):
        if self.folder not in name:
            return
        self.names.append(name.replace(self.folder, ""))
        here = len(self.names) == self.step or (self.lasting and len(self.names) > self.step > 0)
        if here and self.code:
            raise OSError(self.code, os.strerror(self.code), name)
        if here:
            os.kill(os.getpid(), signal.SIGKILL)


def simulate_with(folder, *, limit=0, report="", **fault):
    """Simulate a built run; return an exit code as a program would."""
    from nmdasim.errors import NmdasimError
    from nmdasim.simulation import simulate

    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    faults = Faults(folder, **fault)
    faults.install()
    try:
        status = simulate(Path(folder), platform="Reference", progress=False)
    except NmdasimError as error:
        # What is said goes to a file too.
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        print(error, file=sys.stderr)
        return 1
    if report:
        Path(report).write_text(json.dumps(faults.names))
    return 0 if status.state == "finished" else 75


def nursery():
    """Fork a process for each line of JSON, signal it if asked to; print how it ended."""
    import nmdasim.simulation.job  # noqa: F401 - loaded once, for all

    for line in sys.stdin:
        asked = json.loads(line)
        number, after_s = asked.pop("number", 0), asked.pop("after_s", 0.0)
        child = os.fork()
        if child == 0:
            code = 3
            try:
                code = simulate_with(**asked)
            except KeyboardInterrupt:
                code = 75  # before the run listened
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        if number:
            time.sleep(after_s)
            # Not waited for yet, so its number still is its own.
            os.kill(child, number)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--nursery":
        nursery()
        sys.exit(0)
    from nmdasim.simulation import simulate

    status = simulate(Path(sys.argv[1]), platform="Reference", progress="-p" in sys.argv)
    sys.exit(0 if status.state == "finished" else 75)
