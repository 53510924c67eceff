"""What passes the pore: chains of water, ways for an ion, complete passages, densities.

Positions are those of water oxygens and ions in the pore frame, each at its periodic image
nearest to the pore. The *lumen* is a `PoreProfile` without the ligand: a particle is in it when
it lies within the profile's radius and `LUMEN_MARGIN_NM` of the profile's centre.
"""

from nmdasim.permeation.density import (
    BULK_CLEAR_NM,
    SLICE_NM,
    PoreDensity,
    bulk_density,
    particle_density,
)
from nmdasim.permeation.lumen import (
    LUMEN_MARGIN_NM,
    PORE_ENDS_NM,
    heavy_atoms,
    imaged_solvent,
    pore_walls,
)
from nmdasim.permeation.passages import (
    CREVICE_NM,
    MAX_STEP_NM,
    Passage,
    PassageRate,
    Passages,
    count_passages,
    ring_planes,
)
from nmdasim.permeation.path import (
    EDGE_NM,
    WaterPaths,
    find_water_paths,
    narrowest_radius,
    water_paths,
)

__all__ = [
    "BULK_CLEAR_NM",
    "CREVICE_NM",
    "EDGE_NM",
    "LUMEN_MARGIN_NM",
    "MAX_STEP_NM",
    "PORE_ENDS_NM",
    "SLICE_NM",
    "Passage",
    "PassageRate",
    "Passages",
    "PoreDensity",
    "WaterPaths",
    "bulk_density",
    "count_passages",
    "find_water_paths",
    "heavy_atoms",
    "imaged_solvent",
    "narrowest_radius",
    "particle_density",
    "pore_walls",
    "ring_planes",
    "water_paths",
]
