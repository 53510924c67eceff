"""What a campaign will cost: particles, hours and disk, from runs that were measured."""

import math
import os
import statistics
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nmdasim.campaign.planning import PlannedRun
from nmdasim.campaign.settings import Campaign
from nmdasim.errors import NmdasimError
from nmdasim.rundir import SEGMENTS, read_inputs, read_json, segment_file
from nmdasim.system import find_protocol

#: Measured on 50 ps of S-ketamine in the receptor and protocol that ship: particles, bytes of a
#: frame, bytes of everything else once the report is written.
_SHIPPED = {("7eu8", "vestibule"): (6539, 23_760, 12_300_000)}
#: For what was never measured: as the shipped one of the same size.
_BYTES_PER_PARTICLE, _OTHER_BYTES_PER_PARTICLE = 23_760 / 6539, 12_300_000 / 6539
_SAMPLE = 5
_XTC_HEADER = struct.Struct(">ii")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What was measured on one run."""

    folder: Path
    """Folder of the run."""
    receptor: str
    """Receptor of the run."""
    protocol: str
    """Protocol of the run."""
    n_particles: int
    """Simulated atoms."""
    bytes_per_frame: float
    """Bytes of one committed frame."""
    ns_per_day: float
    """Speed of the newest segment."""
    engine: str
    """Platform and device that it ran on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the runs of one receptor and protocol cost."""

    receptor: str
    """Receptor of the runs."""
    protocol: str
    """Protocol of the runs."""
    n_runs: int
    """Number of runs."""
    n_particles: int
    """Simulated atoms of one of them."""
    particles_source: str
    """measured, shipped or estimated."""
    ns: float
    """Length of all of them together, ns."""
    ns_per_day: float
    """Speed of one run; nan where none was measured or given."""
    speed_source: str
    """Where the speed comes from, or what to do where there is none."""
    node_hours: float
    """Time that tasks occupy their resources, h; runs that share a card share it. nan: unknown."""
    gpu_hours: float
    """Hours of cards; 0 where the tasks ask for none."""
    cpu_hours: float
    """Hours of processor cores."""
    disk_bytes: float
    """Bytes of all folders once the runs are analysed."""


def read_calibrations(folders: Iterable[Path]) -> list[Calibration]:
    """Measure runs that have committed something; the others are passed over.

    Parameters
    ----------
    folders : iterable of Path
        Folders that may hold runs.

    Returns
    -------
    list of Calibration
        At most a handful for each receptor and protocol: runs of one kind hardly differ.
    """
    found: list[Calibration] = []
    for folder in folders:
        # A look costs microseconds; most of the folders of a new campaign do not exist.
        if not os.path.exists(f"{folder}/{SEGMENTS}/00000.json"):
            continue
        try:
            calibration = _measure(folder)
        except (NmdasimError, KeyError, OSError, struct.error):
            continue
        kind = (calibration.receptor, calibration.protocol)
        if sum((c.receptor, c.protocol) == kind for c in found) < _SAMPLE:
            found.append(calibration)
        elif len(found) >= _SAMPLE * 20:
            break
    return found


def _measure(folder: Path) -> Calibration:
    inputs = read_inputs(folder)
    manifest = read_json(folder / SEGMENTS / "00000.json")
    with segment_file(folder, 0, "xtc").open("rb") as file:
        _, n_particles = _XTC_HEADER.unpack(file.read(_XTC_HEADER.size))
    return Calibration(
        folder=folder,
        receptor=inputs["receptor"]["name"],
        protocol=inputs["protocol"]["name"],
        n_particles=n_particles,
        bytes_per_frame=manifest["xtc_bytes"] / manifest["n_frames"],
        ns_per_day=manifest["ns_per_day"],
        engine=" ".join(filter(None, (manifest["platform"], manifest["device"]))),
    )


def estimate_costs(
    campaign: Campaign,
    runs: Sequence[PlannedRun],
    *,
    calibrations: Sequence[Calibration] = (),
    ns_per_day: float | None = None,
) -> tuple[Cost, ...]:
    """Estimate what runs cost, for each receptor and protocol.

    Parameters
    ----------
    campaign : Campaign
        For what a task asks of Slurm.
    runs : sequence of PlannedRun
    calibrations : sequence of Calibration
        Measured runs.
    ns_per_day : float, optional
        Speed of one run, in place of what was measured.

    Returns
    -------
    tuple of Cost
    """
    kinds: dict[tuple[str, str], list[PlannedRun]] = {}
    for run in runs:
        kinds.setdefault((run.receptor, run.protocol), []).append(run)
    return tuple(
        _cost(
            campaign,
            kind,
            group,
            [c for c in calibrations if (c.receptor, c.protocol) == kind],
            ns_per_day,
        )
        for kind, group in kinds.items()
    )


def _cost(
    campaign: Campaign,
    kind: tuple[str, str],
    runs: Sequence[PlannedRun],
    measured: Sequence[Calibration],
    ns_per_day: float | None,
) -> Cost:
    receptor, protocol = kind
    n_particles, source, frame_bytes, other_bytes = _sizes(kind, measured)
    speed, speed_source = _speed(measured, ns_per_day)
    ns = sum(run.production_ns for run in runs)
    frame_ns = find_protocol(protocol).frame_interval_ps / 1000
    n_frames = sum(math.ceil(run.production_ns / frame_ns - 1e-9) for run in runs)
    hours = ns / speed * 24 / campaign.slurm.runs_at_once
    return Cost(
        receptor=receptor,
        protocol=protocol,
        n_runs=len(runs),
        n_particles=n_particles,
        particles_source=source,
        ns=ns,
        ns_per_day=speed,
        speed_source=speed_source,
        node_hours=hours,
        gpu_hours=_count_gpus(campaign.slurm.gres) * hours,
        cpu_hours=campaign.slurm.cpus * hours,
        disk_bytes=n_frames * frame_bytes + len(runs) * other_bytes,
    )


def _sizes(kind: tuple[str, str], measured: Sequence[Calibration]) -> tuple[int, str, float, float]:
    """Give particles, where they come from, bytes of a frame and bytes of all else."""
    if measured:
        n_particles = round(statistics.median(c.n_particles for c in measured))
        frame = statistics.median(c.bytes_per_frame for c in measured)
        return n_particles, "measured", frame, n_particles * _OTHER_BYTES_PER_PARTICLE
    if kind in _SHIPPED:
        n_particles, frame, other = _SHIPPED[kind]
        return n_particles, "shipped", frame, other
    n_particles = next(iter(_SHIPPED.values()))[0]
    frame = n_particles * _BYTES_PER_PARTICLE
    return n_particles, "estimated", frame, n_particles * _OTHER_BYTES_PER_PARTICLE


def _speed(measured: Sequence[Calibration], given: float | None) -> tuple[float, str]:
    if given is not None:
        return given, "given"
    if measured:
        engines = ", ".join(sorted({c.engine for c in measured}))
        middle = statistics.median(c.ns_per_day for c in measured)
        return middle, f"measured on {len(measured)} runs ({engines})"
    return math.nan, "unknown: start one run, or give --ns-per-day or --calibrate"


def _count_gpus(gres: str) -> int:
    """Count the cards that a task asks for, from words such as ``gpu:h100:2``."""
    count = 0
    for item in gres.split(","):
        name, *rest = item.split(":")
        if name.split("/")[-1] == "gpu":
            count += int(rest[-1]) if rest and rest[-1].isdigit() else 1
    return count
