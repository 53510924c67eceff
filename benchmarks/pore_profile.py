"""Speed of the pore's radius profile, side by side with HOLE on the same frames.

    python benchmarks/pore_profile.py [--frames N] [--hole PATH] [--hole-frames N] [--threads N]

Frames are the shipped 7EU8 membrane domain with Gaussian noise of 0.01 nm on every atom, heavy
atoms only, levels every 0.025 nm. HOLE is optional: a binary `hole` on the PATH, the one inside
the package PoreAnalyser (`pip install poreanalyser`), or the one given. Without it only nmdasim
is timed, and the output says so. HOLE's time is that of its process, reading its PDB file
included (nmdasim's frames are in memory). Wall-clock times mean little on a busy machine: look
at the processor time. What is measured beside it (past a ligand, cross-section, volume) takes a
ball of 16 carbons for the ligand. The last lines time the profile on several threads.
"""

import argparse
import importlib.util
import os
import resource
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np

from nmdasim.pore import (
    DEFAULT_LEVELS_NM,
    RADII_NM,
    REACH_NM,
    cross_section,
    lumen_volume,
    radii_of,
    radius_profile,
    radius_profile_past,
)
from nmdasim.structures import structures_folder

RECEPTOR = structures_folder() / "receptors" / "7eu8" / "receptor.cif"
SEED = 20240607
NOISE_NM = 0.01
OTHER_NM = 0.02


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What some frames took."""

    wall_s: float
    cpu_s: float
    n_frames: int

    def line(self, name):
        """Give one line of the printed table."""
        return (
            f"{name:14s} {self.n_frames:5d} frames {1e3 * self.wall_s / self.n_frames:8.2f} ms wall"
            f"{1e3 * self.cpu_s / self.n_frames:8.2f} ms CPU a frame"
            f"  {self.n_frames / self.cpu_s:8.1f} frames/s of CPU"
        )


def read_heavy(path):
    """Read coordinates in nm and elements of the heavy atoms."""
    structure = gemmi.read_structure(str(path))
    heavy = [site.atom for site in structure[0].all() if not site.atom.is_hydrogen()]
    places = np.array([atom.pos.tolist() for atom in heavy]) / 10
    return places, [atom.element.name for atom in heavy]


def timed(measure, n_frames):
    """Measure once to compile, then again; the time and the result."""
    measure()
    wall, cpu = time.perf_counter(), time.process_time()
    result = measure()
    timing = Timing(
        wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu, n_frames=n_frames
    )
    return timing, result


def time_ours(frames, radii):
    """Profile all frames and measure what goes with it; the profile and its time."""
    started = time.process_time()
    radius_profile(frames[:1], radii=radii)
    print(f"first call: {time.process_time() - started:.1f} s CPU (compiles where nothing is kept)")
    timing, profile = timed(lambda: radius_profile(frames, radii=radii), len(frames))
    print(timing.line("nmdasim"))
    ball = np.random.default_rng(SEED).normal(scale=0.12, size=(len(frames), 16, 3))
    ball[..., 2] += 0.9
    level = np.abs(profile.levels - 0.9).argmin()
    past = {"radii": radii, "blocker": ball, "blocker_radii": np.full(16, RADII_NM["C"])}
    at = {"level": profile.levels[level], "centre": profile.centre[:, level]}
    for name, measure in (
        ("past a ligand", lambda: radius_profile_past(profile, frames, **past)),
        ("cross-section", lambda: cross_section(frames, **past, **at)),
        ("volume", lambda: lumen_volume(profile, frames, **past, low=0.0, high=1.5)),
    ):
        print(timed(measure, len(frames))[0].line(name))
    return timing, profile


def time_threads(frames, radii, n_threads):
    """Say what threads gain in wall-clock time, and that they change nothing."""
    one, alone = timed(lambda: radius_profile(frames, radii=radii), len(frames))
    many, shared = timed(
        lambda: radius_profile(frames, radii=radii, n_threads=n_threads), len(frames)
    )
    same = np.array_equal(alone.radius, shared.radius, equal_nan=True)
    print(
        f"{n_threads} threads: {one.wall_s / many.wall_s:.2f} times as fast as one on the clock, "
        f"radii {'equal to the last bit' if same else 'DIFFERENT'}"
    )


def find_hole(given):
    """Find a HOLE binary, or None."""
    if given:
        return Path(given)
    found = shutil.which("hole")
    spec = importlib.util.find_spec("PoreAnalyser")
    if not found and spec and spec.submodule_search_locations:
        inside = Path(spec.submodule_search_locations[0]) / "hole2" / "hole"
        found = inside if inside.is_file() else None
    return Path(found) if found else None


def time_hole(hole, frames, elements):
    """Run HOLE on each frame; its time, and its spheres (n, 4) of each frame in nm."""
    profiles = []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        radii = [f"VDWR {element}??? ??? {10 * r:.2f}" for element, r in RADII_NM.items()
                 if len(element) == 1]  # fmt: skip
        (folder / "rad").write_text("\n".join([*radii, "BOND ???? 0.85", ""]))
        card = (
            "coord in.pdb\nradius rad\nsphpdb out.sph\ncvect 0 0 1\ncpoint 0 0 7.5\n"
            f"sample 0.25\nendrad 15\nraseed {SEED}\n"
        )
        for places in frames:
            write_pdb(folder / "in.pdb", places, elements)
            start = time.perf_counter()
            subprocess.run(
                [hole], input=card, capture_output=True, text=True, cwd=folder, check=True
            )
            wall += time.perf_counter() - start
            profiles.append(read_spheres(folder / "out.sph"))
            (folder / "out.sph").unlink()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Timing(wall_s=wall, cpu_s=cpu, n_frames=len(frames)), profiles


def write_pdb(path, places, elements):
    """Write atoms under their elements as names, which is all that HOLE's radii need."""
    lines = [
        f"ATOM  {i % 99999 + 1:5d}  {element:<3s} ALA A{i % 9999 + 1:4d}    "
        f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00"
        for i, (element, (x, y, z)) in enumerate(
            zip(elements, 10 * places.astype(float), strict=True)
        )
    ]
    path.write_text("\n".join([*lines, "END", ""]))


def read_spheres(path):
    """Centres and radii (n, 4) in nm of the spheres that HOLE wrote, rising."""
    spheres = np.array(
        [
            [float(line[a:b]) for a, b in ((30, 38), (38, 46), (46, 54), (54, 60))]
            for line in path.read_text().splitlines()
            if line.startswith("ATOM")
        ]
    )
    return spheres[np.argsort(spheres[:, 2])] / 10


def compare(spheres, levels, radius):
    """Say how the radii differ, level by level, and where each program went another way."""
    inside = (spheres[:, 2] > levels[0]) & (spheres[:, 2] < levels[-1])
    x, y, z, theirs = spheres[inside].T
    apart = np.interp(z, levels, radius) - theirs
    slid = np.hypot(x, y) > REACH_NM
    other = ~slid & (np.abs(apart) > OTHER_NM)
    return apart, slid, other


def main():
    """Time both and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--hole")
    parser.add_argument("--hole-frames", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    places, elements = read_heavy(RECEPTOR)
    noise = np.random.default_rng(SEED).normal(scale=NOISE_NM, size=(options.frames, *places.shape))
    frames = (places + noise).round(4).astype(np.float32)
    print(f"{len(places)} heavy atoms, {len(DEFAULT_LEVELS_NM)} levels")
    ours, profile = time_ours(frames, radii_of(elements))
    time_threads(frames, radii_of(elements), options.threads)
    hole = find_hole(options.hole)
    if hole is None:
        print("HOLE     not here: no rival was timed (pip install poreanalyser, or --hole PATH)")
        return
    theirs, profiles = time_hole(hole, frames[: options.hole_frames], elements)
    print(theirs.line("HOLE"))
    ratio = (theirs.cpu_s / theirs.n_frames) / (ours.cpu_s / ours.n_frames)
    print(f"nmdasim / HOLE: {ratio:.1f} times the frames per second of processor time")
    parts = [
        compare(spheres, profile.levels, radius)
        for spheres, radius in zip(profiles, profile.radius, strict=False)
    ]
    apart, slid, other = (np.concatenate(column) for column in zip(*parts, strict=True))
    same = ~slid & ~other
    print(
        f"{len(apart)} levels: HOLE beyond {REACH_NM} nm from the axis at {slid.sum()}; within it "
        f"another way by more than {OTHER_NM} nm at {other.sum()}, nmdasim's the wider at "
        f"{(apart[other] > 0).sum()}; elsewhere RMS {np.sqrt((apart[same] ** 2).mean()):.4f} nm"
    )


if __name__ == "__main__":
    main()
