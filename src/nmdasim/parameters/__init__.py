"""Force-field parameters of a ligand: shipped, from the cache, or generated.

Bonded and Lennard-Jones terms are those of OpenFF Sage, charges are AM1-BCC. The result is
one OpenMM force-field file that needs nothing but OpenMM, beside Amber's proteins and water.
"""

from nmdasim.parameters.generate import (
    FORCE_FIELD,
    MAX_SQM_S,
    METHOD_VERSION,
    generate_parameters,
    interchange_system,
)
from nmdasim.parameters.model import Parameters, read_parameters, write_parameters
from nmdasim.parameters.store import (
    cache_file,
    cache_folder,
    check_parameters,
    load_parameters,
    ships,
)

__all__ = [
    "FORCE_FIELD",
    "MAX_SQM_S",
    "METHOD_VERSION",
    "Parameters",
    "cache_file",
    "cache_folder",
    "check_parameters",
    "generate_parameters",
    "interchange_system",
    "load_parameters",
    "read_parameters",
    "ships",
    "write_parameters",
]
