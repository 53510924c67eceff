"""How a ligand sits in the pore, what passage it leaves and how long, frame by frame.

The package is not called after its main function: `nmdasim.blockade` is the function.
"""

from nmdasim.channel_block.measure import (
    FILTER_NM,
    GATE_PAIRS,
    GATE_RINGS,
    Blockade,
    BlockadeSites,
    GatePair,
    blockade,
    blockade_sites,
    measure_blockade,
    merge_blockades,
    pore_profile,
)
from nmdasim.channel_block.states import (
    BLOCK_STATES,
    GATE_STATES,
    PATH_NAMES,
    BlockStates,
    BlockThresholds,
    Dwell,
    Lifetime,
    block_states,
    dwell_times,
    dwell_times_table,
    lifetime,
    states_table,
)
from nmdasim.trajectory import pore_frame

__all__ = [
    "BLOCK_STATES",
    "FILTER_NM",
    "GATE_PAIRS",
    "GATE_RINGS",
    "GATE_STATES",
    "PATH_NAMES",
    "BlockStates",
    "BlockThresholds",
    "Blockade",
    "BlockadeSites",
    "Dwell",
    "GatePair",
    "Lifetime",
    "block_states",
    "blockade",
    "blockade_sites",
    "dwell_times",
    "dwell_times_table",
    "lifetime",
    "measure_blockade",
    "merge_blockades",
    "pore_frame",
    "pore_profile",
    "states_table",
]
