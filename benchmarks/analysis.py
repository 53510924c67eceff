"""Cost of the whole standard analysis beside that of only reading the trajectory.

    python benchmarks/analysis.py RUN [--rounds N] [--repeat K] [--memory N [N ...]]

Run it with OMP_NUM_THREADS=1; RUN is the folder of a run. Everything is timed in one process on
the same files, after one round that compiles and fills the disk's cache. Reading is
`mdtraj.iterload` over all segments, and the bare XTC reader for comparison. Times are of the
processor, because wall-clock times mean little on a busy machine; those of several cores are
wall-clock times, beside that of one core. What does not grow with the number of frames counts
too: with --repeat the frames come so many times over, as in a longer run.

With --memory the analysis runs over so many generated frames, each count in a process of its own:
the frames of RUN come again and again with times that go on, so that nothing is stored. What the
process holds at most is printed; it is flat if it does not grow with the number of frames.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import mdtraj as md
import numpy as np
from mdtraj.formats import XTCTrajectoryFile

from nmdasim.analysis import analyse_run
from nmdasim.channel_block import blockade_sites, measure_blockade
from nmdasim.contacts import find_interactions, interaction_sites
from nmdasim.trajectory import Piece, open_run, read_frames, usable_cores


def read_with_iterload(run):
    """Read everything as mdtraj's users do."""
    for piece in run.pieces:
        for _ in md.iterload(str(piece.path), top=run.topology, chunk=50):
            pass


def read_with_reader(run):
    """Read everything and do nothing."""
    for piece in run.pieces:
        with XTCTrajectoryFile(str(piece.path)) as file:
            while len(file.read(n_frames=50)[0]):
                pass


def measure_contacts(run, chunks, sites):
    """Find typed contacts in frames that are in memory."""
    for chunk in chunks:
        find_interactions(chunk.trajectory, sites=sites)


def measure_block(run, chunks, sites, start):
    """Measure blockade and profile in frames that are in memory."""
    for chunk in chunks:
        measure_blockade(
            chunk.trajectory.xyz, sites=sites, reference=start[sites.ligand], water=chunk.water
        )


def processor_ms(function, run, rounds, *arguments):
    """Least processor time of some rounds, ms a frame."""
    spent = []
    for _ in range(rounds):
        before = time.process_time()
        function(run, *arguments)
        spent.append(time.process_time() - before)
    return 1e3 * min(spent) / run.n_frames


def analyse(run, cores=1):
    """Run the standard analysis into a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        analyse_run(replace(run, folder=Path(folder), inputs={}), cores=cores)


def generated(run, n_frames):
    """Let the frames of a run come again until there are enough."""
    interval = float(np.median(np.diff(run.pieces[0].time_ps)))
    pieces, done = [], 0
    while done < n_frames:
        piece = run.pieces[len(pieces) % len(run.pieces)]
        count = min(piece.n_frames, n_frames - done)
        times = interval * (1.0 + done + np.arange(count))
        pieces.append(Piece(path=piece.path, first_frame=done, n_frames=count, time_ps=times))
        done += count
    return replace(run, pieces=tuple(pieces), records={})


def print_speed(run, rounds):
    """Time reading, stages and the whole, side by side."""
    analyse(run)
    reading = processor_ms(read_with_iterload, run, rounds)
    bare = processor_ms(read_with_reader, run, rounds)
    placing = processor_ms(lambda run: list(read_frames(run)), run, rounds)
    chunks = list(read_frames(run))
    solute, start = run.topology.subset(run.solute), run.start[run.solute]
    picked = {"ligand": run.ligand, "ligand_atoms": np.searchsorted(run.solute, run.ligand_atoms)}
    contacts = interaction_sites(solute, **picked)
    block = blockade_sites(solute, subunit_of=run.subunit_of, **picked)
    touching = processor_ms(measure_contacts, run, rounds, chunks, contacts)
    blocking = processor_ms(measure_block, run, rounds, chunks, block, start)
    whole = processor_ms(analyse, run, rounds)
    print(f"{run.n_frames} frames of {run.topology.n_atoms} atoms, processor time a frame")
    for name, value in [
        ("reading alone, mdtraj.iterload", reading),
        ("reading alone, bare XTC reader", bare),
        ("images, fit, water and ions", placing - bare),
        ("typed contacts", touching),
        ("profile, blockade, water path", blocking),
        ("all else: crossings, densities, statistics, tables",
         whole - placing - touching - blocking),
        ("the whole standard analysis", whole),
    ]:  # fmt: skip
        print(f"  {name:52s} {value:8.3f} ms")
    ratios = f"{whole / reading:.1f}, to the bare reader {whole / bare:.1f}"
    print(f"  ratio to iterload {ratios} (limit 10)")
    walls = {}
    for cores in sorted({1, 2, usable_cores()}):
        before = time.perf_counter()
        analyse(run, cores)
        walls[cores] = time.perf_counter() - before
        wall = 1e3 * walls[cores] / run.n_frames
        gain = walls[1] / walls[cores]
        print(f"  {cores} cores: {wall:8.3f} ms of wall clock a frame, gain {gain:.2f}")


def print_memory(folder, counts):
    """Measure each count of frames in a process of its own."""
    for count in counts:
        words = [sys.executable, __file__, str(folder), "--one", str(count)]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout)
        print(f"{count:8d} generated frames: {found['peak_mb']:8.0f} MB at most, "
              f"{found['cpu_ms']:.3f} ms of processor a frame")  # fmt: skip


def main():
    """Read the words and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=1, help="frames come so many times over")
    parser.add_argument("--memory", type=int, nargs="+", default=[])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    run = open_run(asked.run)
    if asked.one:
        before = time.process_time()
        analyse(generated(run, asked.one), cores=1)
        spent = time.process_time() - before
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"peak_mb": peak, "cpu_ms": 1e3 * spent / asked.one}))
        return
    print_memory(asked.run, asked.memory)
    if not asked.memory:
        print_speed(generated(run, asked.repeat * run.n_frames), asked.rounds)


if __name__ == "__main__":
    main()
