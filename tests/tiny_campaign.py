"""Campaigns whose runs are real and small: the prepared channel with springs for forces.

Structure, ligand, folders and commands are those of `nmdasim run`; only the forces are made up,
so that the Reference platform, which repeats itself bit for bit, takes seconds.
"""

import atexit
import functools
import gzip
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openmm
from channel_run import BOX, build_channel
from mdtraj.formats import XTCTrajectoryFile
from openmm import app, unit

from nmdasim.campaign import plan_runs, read_campaign
from nmdasim.ligand import load_ligand, state_of
from nmdasim.receptor import receptor_file
from nmdasim.rundir import EQUILIBRATION, START, read_segments, segment_file, sha256_of
from nmdasim.simulation import create_run, run_inputs, simulate
from nmdasim.system import Protocol, find_protocol

SETTINGS = """\
name = "tiny"
seed = 11
production_ns = {production_ns}
ligands = ["S-ketamine"]
replicas = {replicas}
platform = "Reference"
"""

#: The first equilibrated run.
_begun: list[Path] = []


@dataclass(frozen=True, kw_only=True, eq=False)
class System:
    topology: app.Topology
    positions: np.ndarray
    box_vectors: np.ndarray
    openmm_system: openmm.System
    protocol: Protocol
    methods: tuple[str, ...] = ("Springs.",)


def write_campaign(folder, *, replicas=2, production_ns=0.02, more=""):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "campaign.toml"
    path.write_text(SETTINGS.format(replicas=replicas, production_ns=production_ns) + more)
    return read_campaign(path)


def build_runs(campaign, *, only=lambda run: True):
    """Make the run folders of a campaign as its commands would, with springs for forces.

    The first is equilibrated and lends the others its state: production is what tests are about.
    """
    runs = plan_runs(campaign)
    state = state_of(load_ligand("S-ketamine"))
    receptor = receptor_file("7eu8")
    protocol = find_protocol("vestibule")
    for run in filter(only, runs):
        system, sdf = spring_system(protocol, campaign.path.parent)
        inputs = run_inputs(
            protocol,
            ligand={
                "name": run.ligand, "smiles": state.smiles, "charge": 1, "pose": run.pose,
            },
            receptor={"name": run.receptor, "sha256": sha256_of(receptor)},
            production_ns=run.production_ns,
            seed=run.seed,
            replica=run.replica,
        )  # fmt: skip
        create_run(system, run.folder, inputs=inputs, receptor_file=receptor, ligand_sdf=sdf)
        if not _begun:
            _begun.append(equilibrated(run.folder))
        for name in (START, EQUILIBRATION):
            shutil.copy(_begun[0] / name, run.folder / name)
    return runs


def equilibrated(built):
    """Take a copy of a built run through its equilibration, once for all campaigns."""
    folder = Path(tempfile.mkdtemp()) / "run"
    atexit.register(shutil.rmtree, folder.parent)
    shutil.copytree(built, folder)
    simulate(folder, platform="Reference", progress=False)
    return folder


def undisturbed(runs, place):
    """Simulate copies of built runs from start to end; give the frames that must come out."""
    expected = {}
    for run in runs:
        copy = shutil.copytree(run.folder, place / run.name)
        assert simulate(copy, platform="Reference", progress=False).state == "finished"
        expected[run.name] = frames_of(copy)
    return expected


def frames_of(folder):
    """All frames, numbers beside them, and the state at the end, as they are on the disk."""
    segments = read_segments(folder)
    xyz = []
    for segment in segments:
        with XTCTrajectoryFile(str(segment.trajectory)) as file:
            xyz.append(file.read()[0])
    times = [time for s in segments for time in s.manifest["time_ps"]]
    energies = [e for s in segments for e in s.manifest["potential_kj_mol"]]
    last = gzip.decompress(segment_file(folder, segments[-1].index, "state.xml.gz").read_bytes())
    return np.concatenate(xyz), times, energies, last


def assert_same_frames(runs, expected):
    """Every frame is there once, and every bit of it as in the undisturbed run."""
    for run in runs:
        xyz, times, energies, last = frames_of(run.folder)
        whole = expected[run.name]
        assert times == whole[1], "frames are missing or doubled"
        np.testing.assert_array_equal(xyz, whole[0])
        assert energies == whole[2]
        assert last == whole[3]


@functools.cache
def spring_system(protocol, folder):
    """The ligand's atoms on springs in the made-up channel; all others have no mass and stay."""
    sdf = folder / "ligand.sdf"
    channel = build_channel(receptor_file("7eu8"), sdf)
    channel.topology.setPeriodicBoxVectors(BOX * unit.nanometer)
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors(*(openmm.Vec3(*row) for row in BOX))
    spring = openmm.CustomExternalForce(
        "0.5*(k*restraint_scale+restraint_extra)*periodicdistance(x,y,z,x0,y0,z0)^2"
    )
    spring.addGlobalParameter("restraint_scale", 1.0)
    spring.addGlobalParameter("restraint_extra", 0.0)
    spring.addGlobalParameter("k", 2000.0)
    for name in ("x0", "y0", "z0"):
        spring.addPerParticleParameter(name)
    moving = set(channel.ligand.tolist())
    for index, place in enumerate(channel.positions):
        system.addParticle(12.0 if index in moving else 0.0)
        if index in moving:
            spring.addParticle(index, place)
    system.addForce(spring)
    return (
        System(
            topology=channel.topology,
            positions=channel.positions,
            box_vectors=BOX,
            openmm_system=system,
            protocol=protocol,
        ),
        sdf.read_text(),
    )
