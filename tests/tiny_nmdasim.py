"""The program as users start it, except that it simulates a small box of water.

``python tiny_nmdasim.py run S-ketamine --protocol tiny ...`` goes through the words, the inputs,
the lock, the signals and Slurm as ever. Only what is built and what is read at the end are
replaced, so that a run takes seconds on the Reference platform, where it is exact in every bit.
"""

import sys
from pathlib import Path

from tiny_run import Protocol, water_system

from nmdasim import cli, system


def build_water(folder, asked, ligand, pose, protocol, receptor, inputs):
    from nmdasim.simulation import create_run

    create_run(water_system(protocol), folder, inputs=inputs, receptor_file=receptor, ligand_sdf="")


def read_nothing(folder, asked):
    print(f"run     {folder}")
    return 0


def install():
    """Let the program know the tiny protocol, and build and read a box of water."""
    system.PROTOCOLS["tiny"] = Protocol()
    cli._build, cli._read_run = build_water, read_nothing


def write_command(folder: Path) -> Path:
    """Write a program `nmdasim` that is this one into a folder for PATH."""
    path = folder / "nmdasim"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" "$@"\n')
    path.chmod(0o755)
    return path


if __name__ == "__main__":
    install()
    sys.exit(cli.main())
