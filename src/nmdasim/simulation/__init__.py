"""Minimise, equilibrate, produce in immutable segments, and resume exactly."""

from nmdasim.rundir import EXIT_RESUMABLE
from nmdasim.simulation.job import create_run, run_inputs, simulate, simulation_methods
from nmdasim.simulation.platforms import PlatformChoice, choose_platform, present_platforms

__all__ = [
    "EXIT_RESUMABLE",
    "PlatformChoice",
    "choose_platform",
    "create_run",
    "present_platforms",
    "run_inputs",
    "simulate",
    "simulation_methods",
]
