"""Simulate and analyse how ketamine and its relatives block the NMDA receptor channel.

Everything a user needs is importable from here; each name loads its module on first use, so
that importing `nmdasim` costs nothing and the reading half needs no force field.
"""

import importlib

_HOMES = {
    "errors": ["Check", "NmdasimError"],
    "ligand": ["ChargeState", "Ligand", "load_ligand", "state_of"],
    "receptor": ["Receptor", "load_receptor"],
    "receptor.prepare": ["prepare_receptor"],
    "pose": ["Pose", "StartPose", "list_poses", "place_ligand"],
    "system": ["Protocol", "System", "build_system", "find_protocol"],
    "simulation": ["create_run", "run_inputs", "simulate"],
    "trajectory": ["Run", "open_run", "open_trajectory"],
    "pore": [
        "ConductionThresholds", "PoreFrame", "PoreProfile", "conduction", "cross_section",
        "lumen_volume", "radii_of", "radius_at_rings", "radius_profile", "radius_profile_past",
    ],
    "channel_block": [
        "BlockStates", "BlockThresholds", "Blockade", "Dwell", "Lifetime", "block_states",
        "blockade", "dwell_times", "lifetime", "pore_frame", "pore_profile",
    ],
    "permeation": [
        "Passage", "PassageRate", "Passages", "PoreDensity", "WaterPaths", "count_passages",
        "particle_density", "water_paths",
    ],
    "contacts": [
        "ContactLifetime", "InteractionThresholds", "Interactions",
        "contact_lifetimes", "interactions",
    ],
    "statistics": [
        "Answer", "ColumnMeans", "Difference", "Estimate", "RunningMeans", "block_error",
        "bootstrap_means", "combine_replicas", "compare_estimates", "compare_shares",
        "confidence_interval", "correlation_time", "detect_equilibration", "estimate_mean",
        "estimate_occupancy", "poisson_interval", "statistical_inefficiency",
    ],
    "analysis": ["analyse_run", "summarise"],
    "report": ["write_figures", "write_report"],
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> object:
    """Import the module that holds a public name and return the name."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'nmdasim' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"nmdasim.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
