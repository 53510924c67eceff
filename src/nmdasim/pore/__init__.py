"""The pore: its frame, its radius along the axis and what fills its cross-section.

Plain geometry of points and spheres, used by both halves of nmdasim. Lengths are in nm.
Levels and profiles are meant in the pore frame, whose z axis runs along the pore.
"""

from nmdasim.pore.frame import (
    PoreFrame,
    best_rotation,
    fit_pore_frame,
    from_pore,
    superpose,
    to_pore,
)
from nmdasim.pore.kernels import MAX_RADIUS_NM
from nmdasim.pore.lumen import PROBE_NM, cross_section, lumen_volume
from nmdasim.pore.passage import (
    CONDUCTION,
    HYDROPHOBIC,
    POLAR,
    RING_WINDOW_NM,
    ConductionThresholds,
    conduction,
    radius_at_rings,
)
from nmdasim.pore.profile import (
    DEFAULT_LEVELS_NM,
    REACH_NM,
    REACH_PAST_NM,
    PoreProfile,
    radius_profile,
    radius_profile_past,
)
from nmdasim.pore.spheres import RADII_NM, clearance, radii_of

__all__ = [
    "CONDUCTION",
    "DEFAULT_LEVELS_NM",
    "HYDROPHOBIC",
    "MAX_RADIUS_NM",
    "POLAR",
    "PROBE_NM",
    "RADII_NM",
    "REACH_NM",
    "REACH_PAST_NM",
    "RING_WINDOW_NM",
    "ConductionThresholds",
    "PoreFrame",
    "PoreProfile",
    "best_rotation",
    "clearance",
    "conduction",
    "cross_section",
    "fit_pore_frame",
    "from_pore",
    "lumen_volume",
    "radii_of",
    "radius_at_rings",
    "radius_profile",
    "radius_profile_past",
    "superpose",
    "to_pore",
]
